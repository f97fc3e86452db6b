// Package fleet holds the typed objects that describe what is metered and who
// pays for it: customers, clusters, boxes, nodes, hardware, electricity meters,
// assignments and price lists. It reads and writes them as YAML, finds
// everything that is wrong with a set of them, says how two sets differ, and
// answers look-ups on the objects valid at one moment (Fleet).
//
// It does no I/O, keeps no state and never asks for the time.
package fleet
