package rules

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Model is the validator's model of a version, as testdata has it.
type Model struct {
	Source, Licence string
	Root            string              // the rule that all others hang from
	Criteria        map[string]string   // what an applicability criterion means
	Attributes      map[string][]string // by check function: the attribute's rule that it stands for
	Rules           map[string]Rule
}

// Rule is one published rule.
type Rule struct {
	Text        string // in the specification's words
	Keyword     string // MUST, MUST NOT, SHOULD, …
	Kind        string // Presence, Type, Format, Nullability, Validation or Composite
	Static      bool   // a program can check it
	Criteria    []string
	Requirement Check
	Condition   *Check // nil is always
}

// Check is a check function with its arguments.
type Check struct {
	Function string
	Column   string   `json:",omitempty"`
	A, B     string   `json:",omitempty"` // columns that are compared
	Result   string   `json:",omitempty"`
	Rule     string   `json:",omitempty"`
	Value    *Literal `json:",omitempty"` // nil: the function has none
	Count    int      `json:",omitempty"`
	Items    []Check  `json:",omitempty"`
}

// Literal is a value that a check names: text, or null.
type Literal struct {
	Null bool   `json:",omitempty"`
	Text string `json:",omitempty"`
}

// Parse reads a model.
func Parse(text []byte) (Model, error) {
	var m Model
	if err := json.Unmarshal(text, &m); err != nil {
		return Model{}, fmt.Errorf("read rules: %w", err)
	}
	if _, ok := m.Rules[m.Root]; !ok {
		return Model{}, fmt.Errorf("read rules: there is no rule %q, from which all others hang", m.Root)
	}
	return m, nil
}

// must says whether a rule is one that has to be kept.
func (r Rule) must() bool { return r.Keyword == "MUST" || r.Keyword == "MUST NOT" }

// children are the rules that a composite is made of.
func (c Check) children() []string {
	var all []string
	if c.Rule != "" {
		all = append(all, c.Rule)
	}
	for _, item := range c.Items {
		all = append(all, item.children()...)
	}
	return all
}

// Column is a column of a file, and what the file says of its type.
type Column struct {
	Name string
	Type string // text, integer, decimal, datetime; "" where a CSV has no value to tell by
	// Typed says that the file's own schema has the type, as Parquet's does.
	Typed bool
}

// Cell is a value as text; "" may be a value.
type Cell struct {
	Text string
	Null bool
}

// Table is a file as it was read.
type Table struct {
	Columns []Column
	Rows    [][]Cell
}

// index is a column's place.
func (t Table) index(name string) (int, bool) {
	i := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name })
	return i, i >= 0
}

// Result is what came of one rule.
type Result struct {
	Rule    string
	Text    string
	Skipped string // why it did not run; "" where it did
	Broken  string // how it is broken, with the first row; "" where it is kept
}

// Report is what came of all rules of a model.
type Report struct {
	Results []Result // by rule
}

// Ran are the rules that ran.
func (r Report) Ran() []Result {
	return slices.DeleteFunc(slices.Clone(r.Results), func(one Result) bool { return one.Skipped != "" })
}

// Skipped are those that did not, and why.
func (r Report) Skipped() []Result {
	return slices.DeleteFunc(slices.Clone(r.Results), func(one Result) bool { return one.Skipped == "" })
}

// Broken are the rules that are broken.
func (r Report) Broken() []Result {
	return slices.DeleteFunc(slices.Clone(r.Results), func(one Result) bool { return one.Broken == "" })
}

// Breaks says whether a rule is broken.
func (r Report) Breaks(rule string) bool {
	return slices.ContainsFunc(r.Broken(), func(one Result) bool { return one.Rule == rule })
}

func (r Result) String() string {
	return strings.TrimSpace(r.Rule + ": " + r.Skipped + r.Broken + " (" + r.Text + ")")
}
