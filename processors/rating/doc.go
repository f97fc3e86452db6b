// Package rating turns summed quantities into the lines of a bill by a price
// list.
//
// A List is what somebody wrote; Compile checks it and makes the Plan of one
// customer. The plan puts each quarter into a price slot (Plan.SlotAt), and whoever
// reads the usage sums it per slot. Plan.Charges then makes the lines:
//
//	list cost       = Σ quantity · list unit price
//	contracted cost = Σ quantity · contracted unit price   (after discounts)
//	operator's cost = Σ quantity · cost price
//
// each an exact rational until the line is made, where it is rounded once, half
// away from zero, to the currency's smallest unit. A line is split over its keys
// (namespaces, say) by largest remainders:
//
//	Σ shares of a line = the line, in quantity and in money, to the last unit
//	Σ lines of a rate  = the quantity that came in, to the last stored unit
//
// The result depends on the sums alone: not on the order in which usage comes nor
// on how it was cut into pieces.
//
// Tiers, minimum charges and flat fees are those of a billing period. PricesIn is
// for what has none (showback): the prices of a slot, without these three.
//
// What it does not do: read usage, choose a list, know which customer is whose,
// tell the time, or store. The operator's cost never reaches a customer: see
// Line.Public.
package rating
