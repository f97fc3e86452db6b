package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// run is a model while it is being run over a table.
type run struct {
	model   Model
	table   Table
	support map[string]bool // nil is every criterion
	results map[string]*Result
	all     []int // places of all rows
}

// Run runs every static rule over the table but those that MAY be kept. support are the applicability
// criteria that hold; nil is all. A rule hangs from the root or, of an attribute,
// from the check function that stands for it; those that are reached under an OR
// are alternatives, and told with it.
func (m Model) Run(table Table, support []string) Report {
	r := &run{model: m, table: table, results: make(map[string]*Result)}
	if support != nil {
		r.support = make(map[string]bool)
		for _, criterion := range support {
			r.support[criterion] = true
		}
	}
	for i := range table.Rows {
		r.all = append(r.all, i)
	}
	r.rule(m.Root, r.all, true)
	r.attributes()
	var report Report
	for _, id := range slices.Sorted(maps.Keys(m.Rules)) {
		result := r.results[id]
		if result == nil {
			result = &Result{Rule: id, Skipped: r.unreached(m.Rules[id])}
		}
		result.Text = m.Rules[id].Text
		report.Results = append(report.Results, *result)
	}
	return report
}

// unreached is why a rule was not come to.
func (r *run) unreached(rule Rule) string {
	switch {
	case !rule.Static:
		return "dynamic: no program can check it"
	case rule.Keyword == "MAY":
		return "MAY: it cannot be broken"
	}
	return "its parts are dynamic or of what does not apply"
}

// rule runs a rule over some rows and returns those that break it. told says
// whether its result counts by itself.
func (r *run) rule(id string, rows []int, told bool) (broken []int) {
	rule, known := r.model.Rules[id]
	if !known || !rule.Static {
		return nil
	}
	for _, criterion := range rule.Criteria {
		if r.support != nil && !r.support[criterion] {
			r.skipTree(id, "not applicable: "+strings.Join(rule.Criteria, ", "))
			return nil
		}
	}
	if rule.Condition != nil {
		rows = slices.DeleteFunc(slices.Clone(rows), func(row int) bool { return !r.holds(*rule.Condition, row) })
	}
	if rule.Keyword == "MAY" {
		return nil
	}
	broken, how := r.require(rule.Requirement, rows, told)
	if !rule.must() {
		defer func() { broken = nil }() // what holds it up is not broken by it
	}
	if !told {
		return broken
	}
	result := r.results[id]
	if result == nil {
		result = &Result{Rule: id}
		r.results[id] = result
	}
	if len(broken) > 0 && result.Broken == "" {
		where := ""
		if broken[0] >= 0 {
			where = fmt.Sprintf("row %d of %d that break it: ", broken[0]+1, len(broken))
		}
		result.Broken = where + how
	}
	return broken
}

// skipTree notes that a rule and what hangs from it does not apply.
func (r *run) skipTree(id, why string) {
	if r.results[id] != nil {
		return
	}
	rule := r.model.Rules[id]
	if !rule.Static {
		return
	}
	r.results[id] = &Result{Rule: id, Skipped: why}
	for _, child := range rule.Requirement.children() {
		r.skipTree(child, why)
	}
}

// ofTable is a break that no row has: -1.
var ofTable = []int{-1}

// require returns the rows that break a requirement, and how.
func (r *run) require(c Check, rows []int, told bool) ([]int, string) {
	switch c.Function {
	case "AND":
		var broken []int
		var hows []string
		for _, item := range c.Items {
			more, how := r.require(item, rows, told)
			if len(more) > 0 {
				hows = append(hows, how)
			}
			broken = append(broken, more...)
		}
		slices.Sort(broken)
		return slices.Compact(broken), strings.Join(hows, "; ")
	case "OR":
		return r.either(c, rows)
	case "CheckModelRule":
		return r.rule(c.Rule, rows, told), c.Rule
	}
	return r.check(c, rows)
}

// either returns the rows that break every alternative.
func (r *run) either(c Check, rows []int) ([]int, string) {
	broken := slices.Clone(rows)
	open := false // an alternative that is not one case of several
	for _, item := range c.Items {
		for _, id := range item.children() {
			r.alternative(id)
		}
		if r.guarded(item) {
			continue
		}
		open = true
		broken, _ = r.require(item, broken, false)
	}
	if !open {
		return nil, ""
	}
	values := c.columnsOf()
	if len(broken) > 0 {
		return broken, fmt.Sprintf("no alternative holds of %s", r.show(values, broken[0]))
	}
	return nil, ""
}

// guarded says whether the item is a rule with a condition of its own: it is one
// case of several and holds wherever its condition does not, so it is judged there
// alone, by the rule itself.
func (r *run) guarded(item Check) bool {
	if item.Function != "CheckModelRule" || r.model.Rules[item.Rule].Condition == nil {
		return false
	}
	r.results[item.Rule] = nil
	r.rule(item.Rule, r.all, true)
	return true
}

// alternative notes that a rule is one of several of which one must hold.
func (r *run) alternative(id string) {
	if r.results[id] == nil {
		r.results[id] = &Result{Rule: id, Skipped: "an alternative: told with the rule that names it"}
	}
}

// attributes tells the rules of attributes with the check functions that stand for
// them: those run on every column of the format.
func (r *run) attributes() {
	broken := make(map[string]string)
	ran := make(map[string]bool)
	for id, result := range r.results {
		if result == nil || result.Skipped != "" {
			continue
		}
		for _, attribute := range r.model.Attributes[r.model.Rules[id].Requirement.Function] {
			ran[attribute] = true
			if result.Broken != "" {
				broken[attribute] = id + ": " + result.Broken
			}
		}
	}
	for attribute := range ran {
		if r.model.Rules[attribute].Static {
			r.results[attribute] = &Result{Rule: attribute, Broken: broken[attribute]}
		}
	}
}
