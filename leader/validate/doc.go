// Package validate holds the meter against the kernel on a customer's cluster:
// it runs loads of known sizes in a pod, takes what the container's own control
// group counted, minute by minute, and compares it with what the leader says of
// that pod for the same minutes.
//
// The pod tells its own counters (package stress), which share no code with the
// meter. Compared are whole minutes in which a load stood still, and for CPU and
// network the growth over the whole run.
package validate
