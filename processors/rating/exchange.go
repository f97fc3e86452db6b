package rating

import (
	"fmt"
	"math/big"

	"github.com/accumulus-metering/accumulus/processors"
	"github.com/cockroachdb/apd/v3"
)

// Exchange is the rates of one month, fixed: how much of each currency one unit of
// Base is.
type Exchange struct {
	Month  string // 2026-11
	Base   string // ISO 4217
	Rates  map[string]*apd.Decimal
	Source string // who says so
}

// MissingExchangeError is a month without a rate between two currencies.
type MissingExchangeError struct{ Month, From, To string }

func (e *MissingExchangeError) Error() string {
	return fmt.Sprintf("no exchange rate from %s to %s for %s: apply an ExchangeRates object of that month that has both (accumulus prices apply -f FILE); docs/prices.md shows one",
		e.From, e.To, e.Month)
}

// Check refuses what are no rates.
func (x Exchange) Check() error {
	if _, ok := processors.CurrencyExponent(x.Base); !ok {
		return bad("base: %q is not three capital letters (ISO 4217)", x.Base)
	}
	for currency, rate := range x.Rates {
		if _, ok := processors.CurrencyExponent(currency); !ok {
			return bad("rates: %q is not three capital letters (ISO 4217)", currency)
		}
		if err := checkAmount(rate); err != nil {
			return about("rates."+currency, err)
		}
		if rate.IsZero() {
			return bad("rates.%s: is 0", currency)
		}
		if currency == x.Base && rate.Cmp(one) != 0 {
			return bad("rates.%s: is %s of itself: leave it out", currency, rate.Text('f'))
		}
	}
	return nil
}

// rate is how much of to one unit of from is.
func (x Exchange) rate(from, to string) (*big.Rat, bool) {
	of := func(currency string) *big.Rat {
		if currency == x.Base {
			return big.NewRat(1, 1)
		}
		if rate := x.Rates[currency]; rate != nil && !rate.IsZero() {
			return ratOf(rate)
		}
		return nil
	}
	a, b := of(from), of(to)
	if a == nil || b == nil {
		return nil, false
	}
	return b.Quo(b, a), true
}

// ratePlaces are the decimals of Exchanged.Rate.
const ratePlaces = 18

// exchange is the month's rate between two currencies, and who says so. Errors:
// *MissingExchangeError, ErrInput.
func exchange(from, to, month string, tables []Exchange) (*big.Rat, string, error) {
	for _, currency := range []string{from, to} {
		if _, ok := processors.CurrencyExponent(currency); !ok {
			return nil, "", bad("currency %q is not three capital letters (ISO 4217)", currency)
		}
	}
	if from == to {
		return big.NewRat(1, 1), "", nil
	}
	for _, table := range tables {
		if table.Month != month {
			continue
		}
		if rate, ok := table.rate(from, to); ok {
			return rate, table.Source, nil
		}
	}
	return nil, "", &MissingExchangeError{Month: month, From: from, To: to}
}

// Convert is an amount in another currency by the month's rates, rounded once, half
// away from zero, to its smallest unit. Errors: *MissingExchangeError, ErrInput.
func Convert(amount *apd.Decimal, from, to, month string, tables []Exchange) (apd.Decimal, error) {
	rate, _, err := exchange(from, to, month, tables)
	if err != nil {
		return apd.Decimal{}, err
	}
	places, _ := processors.CurrencyExponent(to)
	return decimal(rounded(new(big.Rat).Mul(rate, ratOf(amount)), places), places), nil
}

// ConvertLines is lines in another currency: each line is converted, and its shares
// add up to it. Unit prices and Parts stay in the list's currency, and Exchanged has
// the line's costs in it. Errors: as of Convert.
func ConvertLines(lines []Line, to, month string, tables []Exchange) ([]Line, error) {
	converted := make([]Line, len(lines))
	for i, line := range lines {
		rate, source, err := exchange(line.Currency, to, month, tables)
		if err != nil {
			return nil, about(line.Rate, err)
		}
		if converted[i], err = line.convert(to, rate); err != nil {
			return nil, about(line.Rate, err)
		}
		if line.Currency != to {
			shown := decimal(rounded(rate, ratePlaces), ratePlaces)
			shown.Reduce(&shown)
			converted[i].Exchanged = &Exchanged{Currency: line.Currency, ListCost: line.ListCost, ContractedCost: line.ContractedCost, Rate: shown, Month: month, Source: source}
		}
	}
	return converted, nil
}

func (l Line) convert(to string, rate *big.Rat) (Line, error) {
	out := l
	out.Currency = to
	out.Shares = make([]Share, len(l.Shares))
	for i, share := range l.Shares {
		out.Shares[i] = Share{Key: share.Key, Quantity: share.Quantity}
	}
	for _, amount := range []struct {
		from *apd.Decimal
		to   func(apd.Decimal)
		of   func(*Share) *apd.Decimal
		set  func(*Share, apd.Decimal)
	}{
		{&l.ListCost, func(d apd.Decimal) { out.ListCost = d }, func(s *Share) *apd.Decimal { return &s.ListCost }, func(s *Share, d apd.Decimal) { s.ListCost = d }},
		{&l.ContractedCost, func(d apd.Decimal) { out.ContractedCost = d }, func(s *Share) *apd.Decimal { return &s.ContractedCost }, func(s *Share, d apd.Decimal) { s.ContractedCost = d }},
		{l.OperatorCost, func(d apd.Decimal) { out.OperatorCost = &d }, func(s *Share) *apd.Decimal { return s.OperatorCost }, func(s *Share, d apd.Decimal) { s.OperatorCost = &d }},
	} {
		if amount.from == nil {
			continue
		}
		parts := make([]*apd.Decimal, len(l.Shares))
		for i := range l.Shares {
			parts[i] = amount.of(&l.Shares[i])
		}
		total, shares, err := convertAmounts(amount.from, parts, to, rate)
		if err != nil {
			return Line{}, err
		}
		amount.to(total)
		for i := range shares {
			amount.set(&out.Shares[i], shares[i])
		}
	}
	return out, nil
}

// convertAmounts converts a total and its parts, which add up to it.
func convertAmounts(from *apd.Decimal, parts []*apd.Decimal, to string, rate *big.Rat) (apd.Decimal, []apd.Decimal, error) {
	places, _ := processors.CurrencyExponent(to)
	total := rounded(new(big.Rat).Mul(rate, ratOf(from)), places)
	den := new(big.Int).Mul(rate.Denom(), pow10(maxDigits)) // parts have fewer decimals
	exact := make([]*big.Int, len(parts))
	for i, part := range parts {
		scaled := new(big.Rat).Mul(ratOf(part), new(big.Rat).SetInt(pow10(maxDigits+places)))
		exact[i] = new(big.Int).Quo(scaled.Num(), scaled.Denom())
		exact[i].Mul(exact[i], rate.Num())
	}
	if len(parts) == 0 {
		return decimal(total, places), nil, nil
	}
	shares := spread(total, exact, den)
	if shares == nil {
		return apd.Decimal{}, nil, processors.ErrOverflow
	}
	all := make([]apd.Decimal, len(shares))
	for i, share := range shares {
		all[i] = decimal(big.NewInt(share), places)
	}
	return decimal(total, places), all, nil
}
