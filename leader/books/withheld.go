package books

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// Withheld is what of a line a correction does not give back: what was billed was given
// back before, by hand or for failed nodes, as far as it is not there any more.
type Withheld struct {
	Period    string `json:"period"`
	Statement int64  `json:"statement"` // of the period
	Rate      string `json:"rate"`
	Cost      string `json:"cost"` // above 0
	Currency  string `json:"currency"`
	Note      string `json:"note"` // what was given back
}

// String says it for people.
func (w Withheld) String() string {
	return fmt.Sprintf("%s %s of %s in period %s: %s", w.Cost, w.Currency, w.Rate, w.Period, w.Note)
}

// sameWithheld says whether two corrections withhold the same; how they say why may differ.
func sameWithheld(a, b []Withheld) bool {
	return slices.EqualFunc(a, b, func(x, y Withheld) bool {
		x.Note, y.Note = "", ""
		return x == y
	})
}

// sumWithheld is what is withheld in all.
func sumWithheld(all []Withheld) string {
	sum := "0"
	for _, one := range all {
		if more, err := plus(sum, one.Cost); err == nil { // amounts that were rated are decimals
			sum = more
		}
	}
	return sum
}

// withhold takes off a correction what it would give back though nothing that was billed is
// left of it: of the period, and of each resource in it, no more is given back by hand, for
// failed nodes and by corrections than was billed. rated is what the period comes to now:
// what is less than nothing by its prices is a credit, which is given whatever was billed.
func (b *Books) withhold(ctx context.Context, made *Correction, rated []Line) error {
	if !slices.ContainsFunc(made.Lines, func(l Line) bool { return below(l.Cost) }) {
		return nil
	}
	left, err := b.remainsOf(ctx, made.Customer, made.Statement)
	if err != nil {
		return err
	}
	rooms, err := left.resources(made.Lines, rated)
	if err != nil {
		return err
	}
	if err := left.account.corrected(made.Period, made.After, made.Lines); err != nil {
		return err
	}
	kept := []Line{}
	for _, line := range made.Lines {
		back, err := minus("0", line.Cost)
		if err != nil {
			return err
		}
		if !below(line.Cost) {
			kept = append(kept, line)
			continue
		}
		most := left.account.room(side{month: made.Period})
		if room := rooms[line.Resource]; less(room, most) {
			most = room
		}
		if below(most) {
			most = "0"
		}
		if less(most, back) {
			one := Withheld{Period: made.Period, Statement: made.Statement, Rate: line.Rate, Cost: mustMinus(back, most), Currency: line.Currency, Note: left.String()}
			made.Withheld = append(made.Withheld, one)
			if made.Total, err = plus(made.Total, one.Cost); err != nil {
				return err
			}
			if isZero(most) {
				continue
			}
			if line, err = line.scaled(most); err != nil {
				return err
			}
			line.Withheld = one.Cost
		}
		if rooms[line.Resource], err = plus(rooms[line.Resource], line.Cost); err != nil {
			return err
		}
		if err := left.account.takenOff(made.Period, line.Cost); err != nil {
			return err
		}
		kept = append(kept, line)
	}
	made.Lines = kept
	return nil
}

// resources is what a correction may give back of each resource: what was billed of it and
// not given back, what the correction bills of it, and where it is worth less than nothing
// now, that.
func (r *remaining) resources(correction, rated []Line) (map[string]string, error) {
	rooms, worth := make(map[string]string), make(map[string]string)
	var err error
	for id, amount := range r.lines {
		resource, _, _ := strings.Cut(id, keySeparator)
		if rooms[resource], err = plus(rooms[resource], amount); err != nil {
			return nil, err
		}
	}
	for _, l := range correction {
		if below(l.Cost) {
			continue
		}
		if rooms[l.Resource], err = plus(rooms[l.Resource], l.Cost); err != nil {
			return nil, err
		}
	}
	for _, l := range rated {
		if worth[l.Resource], err = plus(worth[l.Resource], l.Cost); err != nil {
			return nil, err
		}
	}
	for resource, amount := range worth {
		if !below(amount) {
			continue
		}
		if rooms[resource], err = minus(rooms[resource], amount); err != nil {
			return nil, err
		}
	}
	return rooms, nil
}

// corrected notes what a period is worth now, and what a correction of it bills.
func (a *account) corrected(month, worth string, correction []Line) error {
	value, ok := new(big.Rat).SetString(worth)
	if !ok {
		return fmt.Errorf("amount %q is no decimal", worth)
	}
	for _, l := range correction {
		if !below(l.Cost) {
			if err := a.count(0, l); err != nil {
				return err
			}
		}
	}
	a.worth[month], a.amounts = value, nil
	return nil
}

// takenOff notes what a correction gives back of a month; cost is below 0.
func (a *account) takenOff(month, cost string) error {
	value, ok := new(big.Rat).SetString(cost)
	if !ok {
		return fmt.Errorf("amount %q is no decimal", cost)
	}
	a.give(side{month: month}, value.Neg(value))
	return nil
}

// withheldAs is the line of a difference as far as another one, which was booked, gives it
// back.
func (l Line) withheldAs(booked Line) (Line, error) {
	if booked.Withheld == "" {
		return l, nil
	}
	cost, err := plus(l.Cost, booked.Withheld)
	if err != nil || !below(cost) {
		return l, err
	}
	back, err := minus("0", cost)
	if err != nil {
		return l, err
	}
	return l.scaled(back)
}
