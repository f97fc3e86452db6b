// Package prices is what surrounds price lists at the leader: slots of dynamic
// prices as people and devices push them (ParseSlots), a loop that reads them by
// HTTP (Loop), a what-if of a price list (Simulate) and the import of OpenCost's
// custom pricing (ImportOpenCost).
//
// It rates nothing itself (processors/rating does) and stores nothing but slots, in
// the registry.
package prices
