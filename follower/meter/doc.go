// Package meter turns what was read into settled quantities: readings → raw →
// minute + journal.
//
// Its guarantees, each with a test:
//
//   - Per series the sum of its windows is the growth of the counter, in exact
//     integers, over lost scrapes, resets, steps of clocks and kills at any moment.
//   - Per node and window Σ pods (the rests included) = node and Σ containers =
//     pod, for every additive field.
//   - A window is written whole, its rows first and its journal entry after
//     them; what comes later is a new revision of the whole window.
//   - What it holds in memory is a cache of the raw table: Restore reads it back.
//
// How a window is made. A counter's growth between two readings is spread over
// the time between them, so that the parts of one growth telescope in integers
// (series.go); a gauge is integrated between samples at most two intervals
// apart, each window floored by itself. kubepods and the node are series like
// the others, so what no pod carries is a difference at the same edges
// (rows.go); what a pod used unseen before its end comes from its node's balance
// (dead.go). What was decided once and cannot be read again from the readings
// (tags, what the watch told, shares of ended pods, the lane) stands in tables
// of the raw database (identity.go), durable before the first row that needs it.
//
// Trade-offs. A restart builds the last twenty minutes again, which also heals
// rows that a store lost; nothing is written where nothing differs. A counter
// that the node's bodies did not show for five minutes is seen anew when it
// returns. A failed write of readings is repeated before any other is taken, so
// gauges have a gap there and counters none. A lane that is filled from history
// needs a clock that its feeder moves along: deadlines are told by it.
//
// It does not decide whether a clock can be trusted, does not retry by itself
// and starts no goroutine: its caller's loop calls Add and Settle.
package meter
