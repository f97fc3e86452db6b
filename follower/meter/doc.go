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
// It does not decide whether a clock can be trusted, does not retry by itself
// and starts no goroutine: its caller's loop calls Add and Settle.
package meter
