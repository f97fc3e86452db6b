package rules

import (
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/accumulus-metering/accumulus/leader/focus"
)

// Formats as the validator has them, and where its are laxer than the text, the
// text's.
var (
	dateTime = regexp.MustCompile(`^[0-9]{4}-[0-1][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z$`)
	numeric  = regexp.MustCompile(`^-?([0-9]*[.])?[0-9]+([eE][+-]?[0-9]+)?$`)
	currency = regexp.MustCompile(`^[A-Z]{3}$`)
)

// Functions are the check functions that there are.
func Functions() []string {
	all := []string{"AND", "OR", "CheckModelRule", "ColumnPresent", "CheckDistinctCount"}
	for name := range valueChecks {
		all = append(all, name)
	}
	for name := range typeChecks {
		all = append(all, name)
	}
	for name := range rowChecks {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// typeChecks say whether a column may have a type.
var typeChecks = map[string]func(c Column) bool{
	"TypeString":   func(c Column) bool { return !c.Typed || c.Type == "text" },
	"TypeDecimal":  func(c Column) bool { return c.Type == "decimal" },
	"TypeDateTime": func(c Column) bool { return c.Type == "datetime" },
}

// valueChecks say what is wrong with a value that is not null.
var valueChecks = map[string]func(text string) bool{
	"FormatString":          func(text string) bool { return utf8.ValidString(text) && text != "" },
	"FormatNumeric":         numeric.MatchString,
	"FormatDateTime":        dateTime.MatchString,
	"FormatCurrency":        currency.MatchString,
	"CheckNationalCurrency": currency.MatchString,
	"CheckDecimalValue":     numeric.MatchString,
	"FormatUnit":            func(text string) bool { return focus.CheckUnit(text) == nil },
	"FormatKeyValue":        isKeyValue,
}

// isKeyValue says whether the text is a flat JSON object with keys that differ.
func isKeyValue(text string) bool {
	decoder := json.NewDecoder(strings.NewReader(text))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return false
	}
	seen := make(map[string]bool)
	for decoder.More() {
		token, err := decoder.Token()
		key, isKey := token.(string)
		if err != nil || !isKey || seen[key] {
			return false
		}
		seen[key] = true
		value, err := decoder.Token()
		if _, nested := value.(json.Delim); err != nil || nested {
			return false
		}
	}
	token, err := decoder.Token()
	return err == nil && token == json.Delim('}') && !decoder.More()
}

// rowChecks say whether a row keeps a check.
var rowChecks = map[string]func(r *run, c Check, row int) bool{
	"CheckValue": func(r *run, c Check, row int) bool {
		v, ok := r.value(c.Column, row)
		return !ok || c.Value.Null && v.Null || !c.Value.Null && (v.Null || equals(v.Text, c.Value.Text))
	},
	"CheckNotValue": func(r *run, c Check, row int) bool {
		v, ok := r.value(c.Column, row)
		return !ok || c.Value.Null && !v.Null || !c.Value.Null && (v.Null || !equals(v.Text, c.Value.Text))
	},
	"CheckSameValue": func(r *run, c Check, row int) bool {
		a, b, ok := r.pair(c, row)
		return !ok || a.Text == b.Text
	},
	"CheckNotSameValue": func(r *run, c Check, row int) bool {
		a, b, ok := r.pair(c, row)
		return !ok || a.Text != b.Text
	},
	"CheckGreaterOrEqualThanValue": func(r *run, c Check, row int) bool {
		v, ok := r.value(c.Column, row)
		if !ok || v.Null {
			return true
		}
		number, isNumber := rational(v.Text)
		least, _ := rational(c.Value.Text)
		return isNumber && number.Cmp(least) >= 0
	},
	"ColumnByColumnEqualsColumnValue": func(r *run, c Check, row int) bool {
		a, b, ok := r.pair(c, row)
		result, there := r.value(c.Result, row)
		if !ok || !there || result.Null {
			return true
		}
		x, okX := rational(a.Text)
		y, okY := rational(b.Text)
		z, okZ := rational(result.Text)
		return okX && okY && okZ && new(big.Rat).Mul(x, y).Cmp(z) == 0
	},
}

// check returns the rows that break a check of columns.
func (r *run) check(c Check, rows []int) ([]int, string) {
	if c.Function == "ColumnPresent" {
		if _, ok := r.table.index(c.Column); !ok {
			return ofTable, "there is no column " + c.Column
		}
		return nil, ""
	}
	for _, name := range c.columnsOf() {
		if _, ok := r.table.index(name); !ok {
			return nil, "" // ColumnPresent tells
		}
	}
	if right, ok := typeChecks[c.Function]; ok {
		i, _ := r.table.index(c.Column)
		if column := r.table.Columns[i]; column.Type != "" && !right(column) {
			return ofTable, fmt.Sprintf("%s is a column of %s", c.Column, column.Type)
		}
		return nil, ""
	}
	if c.Function == "CheckDistinctCount" {
		return r.distinct(c, rows)
	}
	var broken []int
	for _, row := range rows {
		if !r.keeps(c, row) {
			broken = append(broken, row)
		}
	}
	if len(broken) > 0 {
		return broken, c.Function + " of " + r.show(c.columnsOf(), broken[0])
	}
	return nil, ""
}

// keeps says whether a row keeps a check.
func (r *run) keeps(c Check, row int) bool {
	if right, ok := valueChecks[c.Function]; ok {
		v, there := r.value(c.Column, row)
		return !there || v.Null || right(v.Text)
	}
	if right, ok := rowChecks[c.Function]; ok {
		return right(r, c, row)
	}
	panic("check function " + c.Function + " is not known") // TestFunctions holds the model against Functions
}

// holds says whether a condition does: null is no value that it names.
func (r *run) holds(c Check, row int) bool {
	switch c.Function {
	case "AND":
		return !slices.ContainsFunc(c.Items, func(item Check) bool { return !r.holds(item, row) })
	case "OR":
		return slices.ContainsFunc(c.Items, func(item Check) bool { return r.holds(item, row) })
	case "CheckValue":
		v, ok := r.value(c.Column, row)
		return ok && (c.Value.Null && v.Null || !c.Value.Null && !v.Null && equals(v.Text, c.Value.Text))
	case "CheckNotSameValue":
		a, b, ok := r.pair(c, row)
		return ok && a.Text != b.Text
	}
	return r.keeps(c, row)
}

// distinct returns the rows whose A goes with another count of Bs.
func (r *run) distinct(c Check, rows []int) ([]int, string) {
	values := make(map[string]map[string]bool)
	for _, row := range rows {
		a, _ := r.value(c.A, row)
		b, _ := r.value(c.B, row)
		if a.Null {
			continue
		}
		if values[a.Text] == nil {
			values[a.Text] = make(map[string]bool)
		}
		if !b.Null {
			values[a.Text][b.Text] = true
		}
	}
	var broken []int
	how := ""
	for _, row := range rows {
		a, _ := r.value(c.A, row)
		if !a.Null && len(values[a.Text]) != c.Count {
			broken = append(broken, row)
			how = fmt.Sprintf("%s %q goes with %d values of %s, want %d", c.A, a.Text, len(values[a.Text]), c.B, c.Count)
		}
	}
	return broken, how
}

// value is a cell; false without the column.
func (r *run) value(column string, row int) (Cell, bool) {
	i, ok := r.table.index(column)
	if !ok {
		return Cell{Null: true}, false
	}
	return r.table.Rows[row][i], true
}

// pair are two cells, neither of them null.
func (r *run) pair(c Check, row int) (a, b Cell, ok bool) {
	a, okA := r.value(c.A, row)
	b, okB := r.value(c.B, row)
	return a, b, okA && okB && !a.Null && !b.Null
}

// columnsOf are the columns that a check reads.
func (c Check) columnsOf() []string {
	var all []string
	for _, name := range []string{c.Column, c.A, c.B, c.Result} {
		if name != "" {
			all = append(all, name)
		}
	}
	for _, item := range c.Items {
		all = append(all, item.columnsOf()...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// show is a row's values of some columns.
func (r *run) show(names []string, row int) string {
	if row < 0 {
		return "the table"
	}
	var all []string
	for _, name := range names {
		v, ok := r.value(name, row)
		text := strconv.Quote(v.Text)
		if !ok || v.Null {
			text = "null"
		}
		all = append(all, name+"="+text)
	}
	return strings.Join(all, " ")
}

// equals compares as numbers where both are.
func equals(a, b string) bool {
	if a == b {
		return true
	}
	x, okX := rational(a)
	y, okY := rational(b)
	return okX && okY && x.Cmp(y) == 0
}

func rational(text string) (*big.Rat, bool) {
	if !numeric.MatchString(text) || len(text) > 100 {
		return nil, false
	}
	return new(big.Rat).SetString(text)
}
