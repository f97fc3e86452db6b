package rating

import (
	"cmp"
	"slices"

	"github.com/accumulus-metering/accumulus/processors"
)

// Carrier is who may carry a part of an idle or shared cost.
type Carrier struct {
	Key      string
	Alive    int64 // pod-milliseconds, of the policy equal
	Requests int64 // of the policy requests: the larger share of CPU or memory requested, say, in any one unit
	Used     int64 // of the policy usage
}

// Carried is a carrier's part, in the unit of the amount.
type Carried struct {
	Key    string
	Amount int64
}

// Pool is what is shared.
type Pool struct {
	Amount int64 // of money in its smallest unit, or of a stored quantity; may be below 0
	// Capacity, of the policy requests, is what could be requested, in the unit of
	// Carrier.Requests: what of it is not requested stays with nobody. 0 is what is
	// requested, so that all is carried.
	Capacity int64
	// Shared are the carriers whose cost is being shared, such as the namespaces
	// that serve all others: they carry nothing of it.
	Shared []string
}

// Distribute shares a pool over carriers by the policies that also share energy: equal,
// requests, usage, none. The parts and left add up to the amount; left is what
// nobody carries: all for none, and where no carrier has a weight.
func Distribute(policy processors.IdlePolicy, pool Pool, carriers []Carrier) (parts []Carried, left int64, err error) {
	weight, err := weightOf(policy)
	if err != nil {
		return nil, 0, err
	}
	sorted := slices.Clone(carriers)
	slices.SortFunc(sorted, func(a, b Carrier) int { return cmp.Compare(a.Key, b.Key) })
	var kept []string
	var weights []int64
	total := int64(0)
	for i, c := range sorted {
		if i > 0 && sorted[i-1].Key == c.Key {
			return nil, 0, bad("two carriers of the name %q: sum them first", c.Key)
		}
		if slices.Contains(pool.Shared, c.Key) {
			continue
		}
		w := max(0, weight(c))
		if total, err = sum(total, w); err != nil {
			return nil, 0, err
		}
		kept, weights = append(kept, c.Key), append(weights, w)
	}
	if total == 0 {
		return nil, pool.Amount, nil
	}
	rest := int64(0)
	if policy == processors.IdleRequests {
		rest = max(0, pool.Capacity-total)
	}
	if total, err = sum(total, rest); err != nil {
		return nil, 0, err
	}
	shares := apportion(pool.Amount, append(weights, rest), total)
	if shares == nil {
		return nil, 0, processors.ErrOverflow
	}
	for i, key := range kept {
		parts = append(parts, Carried{Key: key, Amount: shares[i]})
	}
	return parts, shares[len(kept)], nil
}

func weightOf(policy processors.IdlePolicy) (func(Carrier) int64, error) {
	switch policy {
	case processors.IdleEqual, "":
		return func(c Carrier) int64 { return c.Alive }, nil
	case processors.IdleRequests:
		return func(c Carrier) int64 { return c.Requests }, nil
	case processors.IdleUsage:
		return func(c Carrier) int64 { return c.Used }, nil
	case processors.IdleNone:
		return func(Carrier) int64 { return 0 }, nil
	}
	return nil, bad("policy %q is none of %s, %s, %s, %s", policy, processors.IdleEqual, processors.IdleRequests, processors.IdleUsage, processors.IdleNone)
}
