// Package follower is the part of Accumulus that stands in a cluster: it reads
// what the cluster's nodes and pods used, settles minutes, and answers for
// them on one port.
//
//	kubelet or host ── bodies ──► meter ──► raw, minute + journal ─┐
//	watch log ── pods, nodes ─────┤  └────► facts + journal ───────┤
//	seed ── tagger ── facts ──────┘         results ◄── the leader ┤
//	                                                               ▼
//	                                 port: health, status, query, write
//
// One goroutine owns all of it: a loop in slots of wall-clock time. In each it
// reads the source (for at most the slot's length), makes the readings
// durable, stores what the watch told, and settles what is due, if the clock
// can be trusted. A missed slot loses nothing: the next reading's counters hold
// it all. Whoever starts a goroutine waits for it.
//
// The store is InfluxDB 1.x: the embedded engine in the follower's directory,
// or an external server. Several followers may run in one process, each with
// its own directory, registry and logger.
package follower
