// Package books keeps the books: what each customer used by day, what that costs by
// month, and what of it is final.
//
// A day is a customer's local one in one cluster: sums of the quarters by namespace,
// project, user, place, price list and price slot, kept with a fingerprint of all
// that they come from. A period is a calendar month in the customer's zone. It goes
// from open to draft, review and approved, and is closed with a statement: then its
// lines are links of the customer's chain,
//
//	hash = SHA-256(hash of the line before, line feed, text)
//
// each signed with the leader's key, and its days are sealed.
//
// What it guarantees:
//
//   - A closed line never changes; triggers of the store hold that, and Verify names
//     the first line that somebody has changed nevertheless.
//   - Money is made from the days' summed quantities by processors/rating and rounded
//     once, at the line: Σ lines = total, and Σ lines of a rate = Σ days.
//   - What comes later is a correction: the difference between what the closed
//     period's days say now and what was billed for it, in the open period. To apply
//     it again changes nothing.
//   - Who drafted a period does not approve it, and a period of which something is
//     missing is closed only with an estimate that says who, why and how.
//
// What it does not do: meter, choose who may do what (leader/api), or send anything.
package books
