// Package processors turns settled quantities into energy and money. Each
// processor is a pure function of one scope and one quarter: Power of a box
// with all its nodes, Cost of a cluster. A processor reads what it is given,
// never asks for the time, reads no store and writes none; the same input in
// another order gives the same result, bit by bit.
//
// # Energy
//
// Units are integer millijoules (models count in microjoules). In each minute
//
//	measured part + open part + gaps = Σ rows (active + idle + overhead)
//	Σ rows' measured part            = the growth of the box's meters in it
//	Σ rows' modelled                 = what the model alone says
//
// and over a meter interval (two readings of one counter at least MinSteps of
// its steps apart)
//
//	Σ minutes' measured part = the counter's growth
//
// exactly, because the energy at a minute's edge is one function of the edge:
// X(e) = v0 + ⌊(v1-v0)·(M(e)-M(t0))/(M(t1)-M(t0))⌋ with M the model's
// cumulative energy of the box. Two quarters that share an interval therefore
// agree on their common edge.
//
// A row's joules are its active part and its share of idle and of overhead.
// __idle__, __overhead__ and __unattributed__ hold only what no pod carries,
// so nothing is in two rows.
//
// # Money
//
// A line's cost is quantity · price, computed in exact decimals and rounded
// once (Rate). Showback rows of one resource and price add up to the cost of
// their summed quantity, to the nano of the currency (Cost). No bill is made
// of showback rows.
//
// What it does not do: learn models (they are an input), choose prices, decide
// what is due, or store.
package processors
