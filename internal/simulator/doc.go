// Package simulator is a fleet of clusters that knows the truth by formulas of
// its own: each pod's core-seconds, bytes and joules are closed forms of the
// time. It serves that truth through real endpoints, so that scraping, tagging,
// metering, sync and processing are tested as the code of production:
//
//   - an HTTPS kubelet per node (/metrics/cadvisor), with a bearer token;
//   - an HTTPS API server per cluster: list and watch of pods, nodes,
//     replicasets, jobs, for client-go's informers;
//   - an electricity meter per box in the shapes of Shelly's two generations;
//   - a clock, for sub-processes whose time a test drives.
//
// Guarantees: everything is a function of the fleet and of a moment, the same
// in each process and at each call; counters never shrink within an epoch; a
// parent's counter is never less than the sum of its parts read at the same
// moment. As in a real body, cgroups are sampled at moments of their own.
//
// It does not schedule: which pod runs where and when is written in the fleet.
package simulator
