// Package allocation answers OpenCost's question GET /allocation: what each
// namespace, controller, pod, label … used and cost, with the parameters and the
// JSON of OpenCost and of Kubecost's filters and sharing, from leader/query.
//
// Money stays exact (big.Rat) until it is written, with nine decimals. What is
// idle is allocatable less the larger of requested and used, of each node; where
// that is below 0, and where costs and idle do not add up to what the nodes would
// cost at full use, the answer says so and by how much: nothing is cut off.
//
// A cluster is part of each thing's identity: a namespace of one name in two
// clusters is two, unless the caller leaves the cluster out of aggregate. Then
// properties.clusters names them, and a warning says so.
package allocation
