package rules

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/accumulus-metering/accumulus/leader/focus"
)

// Columns is what a version says of its data sets' columns, as testdata has it.
type Columns struct {
	Source, Licence string
	Datasets        map[string]map[string]Expected
	Parents         map[string]string // ServiceCategory by ServiceSubcategory
}

// Expected is what a column must be.
type Expected struct {
	Type      string
	Null      bool     // a cell may be null
	Allowed   []string `json:",omitempty"`
	Feature   string   // Mandatory, Recommended or Conditional
	Condition string
	Format    string
}

// ParseColumns reads the columns of a version.
func ParseColumns(text []byte) (Columns, error) {
	var c Columns
	if err := json.Unmarshal(text, &c); err != nil {
		return Columns{}, fmt.Errorf("read columns: %w", err)
	}
	return c, nil
}

// Kinds of what is said of a column; a rule's id is KIND:COLUMN.
const (
	KindPresent   = "present"
	KindType      = "type"
	KindNull      = "null"
	KindAllowed   = "allowed"
	KindRange     = "range"
	KindFormat    = "format"
	KindCondition = "condition"
	KindParent    = "parent"
	KindOwn       = "own"
)

// Run holds a table against a data set's columns. supported says which of the
// conditions of conditional columns hold; nil is all.
func (c Columns) Run(set string, table Table, supported func(condition string) bool) Report {
	var report Report
	add := func(kind, column, skipped, broken string) {
		report.Results = append(report.Results, Result{Rule: kind + ":" + column, Text: set + " " + column, Skipped: skipped, Broken: broken})
	}
	columns := c.Datasets[set]
	for _, name := range slices.Sorted(maps.Keys(columns)) {
		e := columns[name]
		i, there := table.index(name)
		switch {
		case e.Feature == "Mandatory":
			add(KindPresent, name, "", when(!there, "there is no such column"))
		case e.Feature == "Recommended":
			add(KindPresent, name, when(!there, "recommended, and not there"), "")
		case supported == nil || supported(e.Condition):
			add(KindCondition, name, "", when(!there, "there is no such column, and this holds: "+e.Condition))
		default:
			add(KindCondition, name, "does not hold: "+e.Condition, when(false, ""))
		}
		if there {
			e.values(name, table, i, add)
		}
	}
	if i, there := table.index("ServiceSubcategory"); there {
		add(KindParent, "ServiceSubcategory", "", c.parent(table, i))
	}
	for _, column := range table.Columns {
		if _, known := columns[column.Name]; !known {
			add(KindOwn, column.Name, "", when(!strings.HasPrefix(column.Name, "x_") || len(column.Name) > 50, "a column that is none of the specification's begins with x_ and has 50 characters at most"))
		}
	}
	return report
}

func when(cond bool, what string) string {
	if cond {
		return what
	}
	return ""
}

// values holds a column's cells against what is expected of them.
func (e Expected) values(name string, table Table, i int, add func(kind, column, skipped, broken string)) {
	column := table.Columns[i]
	check := map[string]string{"String": "TypeString", "Decimal": "TypeDecimal", "Date/Time": "TypeDateTime"}[e.Type]
	if check == "" {
		check = "TypeString" // JSON is text
	}
	switch {
	case column.Type == "":
		add(KindType, name, "no value to tell by", "")
	default:
		add(KindType, name, "", when(!typeChecks[check](column), "want "+e.Type+", it is "+column.Type))
	}
	if !e.Null {
		add(KindNull, name, "", first(table, i, func(c Cell) bool { return !c.Null }))
	}
	if e.Allowed != nil {
		add(KindAllowed, name, "", first(table, i, func(c Cell) bool { return c.Null || slices.Contains(e.Allowed, c.Text) }))
	}
	if strings.Contains(e.Format, "non-negative") {
		add(KindRange, name, "", first(table, i, func(c Cell) bool {
			number, isNumber := rational(c.Text)
			return c.Null || isNumber && number.Sign() >= 0
		}))
	}
	if format := e.format(); format != nil {
		add(KindFormat, name, "", first(table, i, func(c Cell) bool { return c.Null || format(c.Text) }))
	}
}

// format is the check of a value's format; nil where there is none.
func (e Expected) format() func(string) bool {
	switch {
	case strings.Contains(e.Format, "Unit"):
		return func(text string) bool { return focus.CheckUnit(text) == nil }
	case strings.Contains(e.Format, "Currency"):
		return currency.MatchString
	case strings.Contains(e.Format, "Key-Value"):
		return isKeyValue
	case strings.Contains(e.Format, "Date/Time"):
		return dateTime.MatchString
	case strings.HasPrefix(e.Format, "Decimal"):
		return numeric.MatchString
	case strings.Contains(e.Format, "JSON"):
		return func(text string) bool { return json.Valid([]byte(text)) && strings.HasPrefix(text, "{") }
	}
	return nil
}

// first is the first row whose cell does not keep a check.
func first(table Table, i int, keeps func(Cell) bool) string {
	for row, cells := range table.Rows {
		if c := cells[i]; !keeps(c) {
			if c.Null {
				return fmt.Sprintf("row %d is null", row+1)
			}
			return fmt.Sprintf("row %d has %q", row+1, c.Text)
		}
	}
	return ""
}

// parent holds each subcategory against its category.
func (c Columns) parent(table Table, i int) string {
	category, there := table.index("ServiceCategory")
	for row, cells := range table.Rows {
		if there && !cells[i].Null && c.Parents[cells[i].Text] != cells[category].Text {
			return fmt.Sprintf("row %d has %q in %q", row+1, cells[i].Text, cells[category].Text)
		}
	}
	return ""
}
