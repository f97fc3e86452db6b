package books

import (
	"cmp"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"

	"github.com/accumulus-metering/accumulus/processors"
)

// account is what a customer was billed in a currency, and what of it was given back or
// taken off. Each amount that is given back is one that was billed, once: a refund by hand
// is of what its statement billed of whatever month, a correction, or a refund for a failed
// node, of what was billed for its month in whatever statement. What may still be given
// back is what finds such an amount beside all that was given back before, each of which
// may stand for another one (a flow in a graph whose edges are the amounts). So the sum of
// all statements, credit notes and corrections is never below 0; but for months that are
// worth less than nothing by their prices, as those of a heat credit may be: these are a
// credit themselves.
type account struct {
	currency string
	billed   map[side]map[string]*big.Rat // by statement, by month
	given    map[side]*big.Rat            // what was given back
	worth    map[string]*big.Rat          // of months: what they came to, with corrections
	amounts  []*billedAmount              // nil until what was given back has found its amounts
}

// side is a statement, of which something is given back by hand, or a month, of which
// something is taken off. The statement 0 is what has no number yet: nothing of it is
// given back by hand.
type side struct {
	statement int64
	month     string
}

// billedAmount is what a statement billed of a month, and what of that was given back: by
// hand, and of the month.
type billedAmount struct {
	of    [2]side
	whole *big.Rat
	given [2]*big.Rat
}

func (b *billedAmount) free() *big.Rat {
	free := new(big.Rat).Sub(b.whole, b.given[0])
	return free.Sub(free, b.given[1])
}

// newAccount is an account of which nothing is known yet.
func newAccount(currency string) *account {
	return &account{currency: currency, billed: make(map[side]map[string]*big.Rat), given: make(map[side]*big.Rat), worth: make(map[string]*big.Rat)}
}

// count takes a line of a statement into account.
func (a *account) count(statement int64, line Line) error {
	if line.Currency != a.currency {
		return nil
	}
	cost, ok := new(big.Rat).SetString(line.Cost)
	if !ok {
		return fmt.Errorf("amount %q is no decimal", line.Cost)
	}
	if byHand(line) {
		a.give(side{statement: line.Statement}, cost.Neg(cost))
		return nil
	}
	if line.Kind != KindRefund {
		add(a.worth, line.ChargePeriod, cost)
	}
	if cost.Sign() < 0 {
		a.give(side{month: line.ChargePeriod}, cost.Neg(cost))
		return nil
	}
	a.bill(statement, line.ChargePeriod, cost)
	return nil
}

// bill notes what a statement billed of a month.
func (a *account) bill(statement int64, month string, amount *big.Rat) {
	at := side{statement: statement}
	if a.billed[at] == nil {
		a.billed[at] = make(map[string]*big.Rat)
	}
	add(a.billed[at], month, amount)
	a.amounts = nil
}

// give notes what was given back.
func (a *account) give(of side, amount *big.Rat) {
	add(a.given, of, amount)
	a.amounts = nil
}

func add[K comparable](to map[K]*big.Rat, key K, amount *big.Rat) {
	if to[key] == nil {
		to[key] = new(big.Rat)
	}
	to[key].Add(to[key], amount)
}

// room is what may still be given back of a statement by hand, or of a month, as a
// decimal of the currency.
func (a *account) room(of side) string {
	a.place()
	all, found := new(big.Rat), make([]*billedAmount, len(a.amounts))
	for i, one := range a.amounts {
		all.Add(all, one.whole)
		found[i] = &billedAmount{one.of, one.whole, [2]*big.Rat{new(big.Rat).Set(one.given[0]), new(big.Rat).Set(one.given[1])}}
	}
	places, _ := processors.CurrencyExponent(a.currency)
	return find(found, of, all).FloatString(int(places))
}

// place lets all that was given back find the amounts that it is of.
func (a *account) place() {
	if a.amounts != nil {
		return
	}
	a.amounts = []*billedAmount{}
	amount := func(at side, month string, whole *big.Rat) {
		a.amounts = append(a.amounts, &billedAmount{[2]side{at, {month: month}}, whole, [2]*big.Rat{new(big.Rat), new(big.Rat)}})
	}
	for _, at := range slices.SortedFunc(maps.Keys(a.billed), side.compare) {
		for _, month := range sortedKeys(a.billed[at]) {
			amount(at, month, a.billed[at][month])
		}
	}
	for _, month := range sortedKeys(a.worth) {
		if worth := a.worth[month]; worth.Sign() < 0 {
			amount(side{}, month, new(big.Rat).Neg(worth))
		}
	}
	for _, of := range slices.SortedFunc(maps.Keys(a.given), side.compare) {
		find(a.amounts, of, a.given[of])
	}
}

func (s side) compare(o side) int {
	return cmp.Or(cmp.Compare(s.statement, o.statement), strings.Compare(s.month, o.month))
}

// find gives back as much of an amount as finds what was billed, and says how much.
func find(among []*billedAmount, of side, amount *big.Rat) *big.Rat {
	found := new(big.Rat)
	for found.Cmp(amount) < 0 {
		step := augment(among, of, new(big.Rat).Sub(amount, found), make(map[side]bool))
		if step.Sign() == 0 {
			break
		}
		found.Add(found, step)
	}
	return found
}

// augment is a step of find along one path: an amount that has something free, or one that
// the other side may leave for another one. The flow is Ford's and Fulkerson's; as all
// amounts are whole cents it ends.
func augment(among []*billedAmount, of side, most *big.Rat, seen map[side]bool) *big.Rat {
	seen[of] = true
	for pass := range 2 {
		for _, one := range among {
			own := slices.Index(one.of[:], of)
			if own < 0 {
				continue
			}
			step, other := one.free(), one.of[1-own]
			if pass == 1 {
				step = one.given[1-own]
				if seen[other] || step.Sign() == 0 {
					continue
				}
				step = augment(among, other, least(most, step), seen)
				one.given[1-own].Sub(one.given[1-own], step)
			}
			if step = least(most, step); step.Sign() > 0 {
				one.given[own].Add(one.given[own], step)
				return step
			}
		}
	}
	return new(big.Rat)
}

func least(a, b *big.Rat) *big.Rat {
	if a.Cmp(b) < 0 {
		return new(big.Rat).Set(a)
	}
	return new(big.Rat).Set(b)
}
