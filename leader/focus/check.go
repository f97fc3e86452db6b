package focus

import (
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cockroachdb/apd/v3"
)

// RowError is a row that breaks a rule of the specification, and is not written.
type RowError struct {
	Row    int    // from 1
	Column string // the specification's name
	Rule   string // the published id where there is one, else what it is about
	Detail string
}

func (e *RowError) Error() string {
	return fmt.Sprintf("row %d, column %s breaks %s: %s", e.Row, e.Column, e.Rule, e.Detail)
}

// checker holds what rules over several rows have to remember.
type checker struct {
	version Version
	columns []column
	rows    int
	skus    map[string]string // SkuId by SkuPriceId
	service map[string]string // ServiceCategory by ServiceName
}

func newChecker(v Version) *checker {
	return &checker{version: v, columns: columns(v), skus: make(map[string]string), service: make(map[string]string)}
}

// check counts a row and returns its cells in the order of the columns.
func (c *checker) check(r *Row) ([]cell, error) {
	c.rows++
	cells := make([]cell, len(c.columns))
	for i, column := range c.columns {
		made, err := column.get(r)
		if err == nil {
			err = column.check(made)
		}
		if err != nil {
			rule := column.Name + " (value)"
			if made.null {
				rule = column.Name + " MUST NOT be null"
			}
			return nil, &RowError{c.rows, column.Name, rule, err.Error()}
		}
		cells[i] = made
	}
	for _, rule := range rowRules {
		if detail := rule.broken(r); detail != "" {
			return nil, &RowError{c.rows, rule.column, rule.id, detail}
		}
	}
	if c.version == V12 && !r.BilledCost.IsZero() && cellOf(cells, c.columns, "ProviderName").text != r.InvoiceIssuerName {
		return nil, &RowError{c.rows, "BilledCost", "BilledCost-C-005-C", "another party than the provider sends the invoice"}
	}
	return cells, c.across(r)
}

func cellOf(cells []cell, all []column, name string) cell {
	return cells[slices.IndexFunc(all, func(c column) bool { return c.Name == name })]
}

// across checks what must be the same in all rows.
func (c *checker) across(r *Row) error {
	if r.SkuPriceID.Valid {
		if sku, known := c.skus[r.SkuPriceID.Value]; known && sku != r.SkuID.Value {
			return &RowError{c.rows, "SkuPriceId", "SkuPriceId-C-008-M", fmt.Sprintf("%q is of SkuId %q here and of %q in another row", r.SkuPriceID.Value, r.SkuID.Value, sku)}
		}
		c.skus[r.SkuPriceID.Value] = r.SkuID.Value
	}
	if category, known := c.service[r.ServiceName]; known && category != r.ServiceCategory {
		return &RowError{c.rows, "ServiceName", "ServiceName-C-005-C", fmt.Sprintf("%q is in %q here and in %q in another row", r.ServiceName, r.ServiceCategory, category)}
	}
	c.service[r.ServiceName] = r.ServiceCategory
	return nil
}

// check is what a value must be by itself.
func (c column) check(v cell) error {
	if v.null {
		if c.NotNull {
			return fmt.Errorf("it is null")
		}
		return nil
	}
	switch c.Type {
	case Moment:
		if v.at.Nanosecond() != 0 || v.at.Year() < 1970 || v.at.Year() > 9999 {
			return fmt.Errorf("%s is not written as whole seconds in UTC", v.at.Format(time.RFC3339Nano))
		}
	case Decimal:
		return c.checkNumber(v.number)
	case JSON:
		if !utf8.ValidString(v.text) {
			return fmt.Errorf("it is no UTF-8")
		}
	case String:
		return c.checkText(v.text)
	}
	return nil
}

func (c column) checkNumber(d *apd.Decimal) error {
	n, ok := unscaled(d, c.Scale)
	if !ok {
		return fmt.Errorf("%s needs more than %d decimals, or is no finite number", d, c.Scale)
	}
	if digits := len(n.Text(10)); digits > precision {
		return fmt.Errorf("%s has more than %d digits with %d decimals", d, precision, c.Scale)
	}
	return nil
}

func (c column) checkText(value string) error {
	switch {
	case value == "":
		return fmt.Errorf("it is empty: a column is null or has a value")
	case value == "N/A" || strings.EqualFold(value, "<null>"):
		return fmt.Errorf("%q stands for null: write null", value)
	case !utf8.ValidString(value):
		return fmt.Errorf("it is no UTF-8")
	case c.Allowed != nil && !slices.Contains(c.Allowed, value):
		return fmt.Errorf("%q is none of %s", value, strings.Join(c.Allowed, ", "))
	case c.Format == currency && !currencyFormat.MatchString(value):
		return fmt.Errorf("%q is no currency of ISO 4217", value)
	case c.Format == unit:
		return CheckUnit(value)
	}
	return nil
}

var currencyFormat = regexp.MustCompile(`^[A-Z]{3}$`)

// The specification's unit format: "Requests", "Core-Hours", "GB/Hour", "1000
// Tokens", "Units/3 Months". Sizes of data are abbreviated; what is counted begins
// with a capital.
var (
	dataSize    = `(?:[KMGTPE]?[bB]|[KMGTPE]i[bB])`
	singularOf  = `(?:` + dataSize + `|[A-Z][a-z]+(?: [A-Z][a-z]+)*)`
	times1      = `(?:Year|Month|Day|Hour|Minute|Second)`
	countUnit   = `(?:` + dataSize + `|[A-Z][a-z]+(?: [A-Z][a-z]+)*s)`
	unitFormat  = regexp.MustCompile(`^(?:[1-9][0-9]* )?(?:` + countUnit + `|` + singularOf + `-` + times1 + `s|` + countUnit + `/` + times1 + `|` + countUnit + `/[1-9][0-9]* ` + times1 + `s)$`)
	ambiguousKB = regexp.MustCompile(`^(?:[1-9][0-9]* )?[a-z]`)
)

// CheckUnit says what is wrong with a unit of the specification's UnitFormat.
func CheckUnit(value string) error {
	if !unitFormat.MatchString(value) || ambiguousKB.MatchString(value) && !strings.HasPrefix(strings.TrimLeft(value, "0123456789 "), "b") {
		return fmt.Errorf(`%q is no unit such as "Core-Hours", "GB", "Requests" or "GB/Hour"`, value)
	}
	return nil
}

func ratOf(d *apd.Decimal) *big.Rat {
	r := new(big.Rat).SetInt(d.Coeff.MathBigInt())
	ten := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(d.Exponent, -d.Exponent))), nil))
	if d.Exponent < 0 {
		r.Quo(r, ten)
	} else {
		r.Mul(r, ten)
	}
	if d.Negative {
		r.Neg(r)
	}
	return r
}
