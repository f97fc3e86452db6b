// Package query answers questions about usage, energy, cost and completeness
// from the centre's databases and the registry: what GET /api/v1/usage, boxes
// and export return.
//
// It guarantees that sums are exact: each is an int64 sum inside one cluster,
// made by the database, and is added further in Go with overflow checks. A long
// window takes whole quarters from the quarter tables and its ends from the
// minute tables, which gives the same integers. Cost is rated at the time of
// the question from summed quantities per price, in exact decimals, and rounded
// once per row.
//
// Relative windows end at the last settled minute: the newest minute that every
// selected cluster which is being pulled has delivered. A cluster that is behind
// by more than Config.MaxLag does not hold the others back; its rows then say so
// by their coverage.
//
// It writes nothing.
package query
