// Package meters reads the electricity meters of the boxes in a loop of its own
// and keeps every reading in the table meter of the database meters.
//
// A reading is an energy counter, brought to integer millijoules by exact
// decimal arithmetic from the number's text, and the power beside it where the
// device shows one. The counter is what counts: its differences conserve
// energy, whatever was missed between two readings.
//
// What it guarantees:
//
//   - Energy is neither lost nor invented by a bad answer. A reading that the
//     one before it cannot have led to (the counter went back, or it grew by
//     more than the box can draw) is kept with the reason in the field refused.
//     If the next reading continues it, the counter has begun a new life: the
//     refused reading becomes the first of a new epoch. If the next reading
//     continues what was before, it was a slip, and nothing was counted.
//   - A row is written again under its own key after an interrupted write: what
//     is known of a meter moves on only when its row is durable.
//   - One meter that hangs or fails delays no other.
//   - The quarters that a new reading reaches back to are made due after the
//     row is durable, and once more after a restart.
//
// It shares no energy out; see the processor power.
package meters
