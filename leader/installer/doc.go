// Package installer brings the follower into each cluster of the fleet and keeps
// it as it is wanted: one row per cluster in the registry says what is wanted and
// how far it is, and a loop (Run) visits those whose time has come.
//
//	access ─► namespace ─► lease ─► owner ─► tokens ─► seed ─► release ─► health
//	access ─► lease ─► last-pull ─► release ─► leftovers                (removal)
//
// What it guarantees:
//
//   - Each step may be repeated. Whatever a leader that was killed left behind,
//     in the registry or in the cluster, the next start completes.
//   - One cluster is acted on by one goroutine of one leader: a mutex here, a
//     Lease there. A release of another leader is left alone.
//   - A cluster that hangs or fails delays no other: visits are bounded in number
//     and in time, and those that failed share a part of the places.
//   - Removal first pulls what is settled; while that fails nothing is removed
//     unless the operator says so.
//   - Upgrades of many clusters go in waves; their plan is in the registry.
//
// Health is looked at, never waited for. It computes nothing and meters nothing.
package installer
