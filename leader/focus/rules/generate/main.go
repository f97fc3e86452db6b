// generate makes the rule package's testdata of the published models:
//
//	go run ./leader/focus/rules/generate -out leader/focus/rules/testdata -v12 model-1.2.json -v14 model-1.4.json
//
// -v12 is rules/model-1.2.json of the FOCUS validator; -v14 lists the columns of
// FOCUS 1.4 as the specification's pages have them. The ids and the words of the
// rules stay as published.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/accumulus-metering/accumulus/leader/focus/rules"
)

const licence = "Rules and their words: FOCUS Specification, © FinOps Foundation and contributors, CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). " +
	"Their machine-readable form: focus_validator, © FinOps Foundation and contributors, MIT. Changed: reduced to what a check needs, other names of fields."

func main() {
	out := flag.String("out", "testdata", "directory to write to")
	v12 := flag.String("v12", "", "the validator's model of 1.2")
	v14 := flag.String("v14", "", "the columns of 1.4")
	flag.Parse()
	for _, job := range []struct {
		from, to string
		make     func([]byte) (any, error)
	}{{*v12, "focus-1.2.json", model12}, {*v14, "focus-1.4.json", model14}} {
		if err := generate(job.from, filepath.Join(*out, job.to), job.make); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func generate(from, to string, convert func([]byte) (any, error)) error {
	if from == "" {
		return fmt.Errorf("name the published model of which %s is made", to)
	}
	published, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("read the published model: %w", err)
	}
	made, err := convert(published)
	if err != nil {
		return fmt.Errorf("read %s: %w", from, err)
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(made); err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	return os.WriteFile(to, text.Bytes(), 0o644)
}

// published is the validator's model.
type published struct {
	ApplicabilityCriteria map[string]struct{ Description string }
	CheckFunctions        map[string]struct{ FormatAttributes []string }
	ModelDatasets         map[string]struct{ ModelRules []string }
	ModelRules            map[string]struct {
		Function, Type        string
		ApplicabilityCriteria []string
		ValidationCriteria    struct {
			MustSatisfy, Keyword   string
			Requirement, Condition check
		}
	}
}

type check struct {
	CheckFunction, ColumnName, CheckCondition  string
	ColumnAName, ColumnBName, ResultColumnName string
	ModelRuleID                                string          `json:"ModelRuleId"`
	Value                                      json.RawMessage `json:"Value"`
	ExpectedCount                              int
	Items                                      []check
}

func model12(text []byte) (any, error) {
	var p published
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, err
	}
	set, ok := p.ModelDatasets["CostAndUsage"]
	if !ok || len(set.ModelRules) != 1 {
		return nil, fmt.Errorf("the data set CostAndUsage does not hang from one rule")
	}
	m := rules.Model{Source: "focus_validator, rules/model-1.2.json", Licence: licence, Root: set.ModelRules[0],
		Criteria: make(map[string]string), Attributes: make(map[string][]string), Rules: make(map[string]rules.Rule)}
	for name, criterion := range p.ApplicabilityCriteria {
		m.Criteria[name] = criterion.Description
	}
	for name, function := range p.CheckFunctions {
		m.Attributes[name] = function.FormatAttributes
	}
	for id, r := range p.ModelRules {
		v := r.ValidationCriteria
		rule := rules.Rule{Text: v.MustSatisfy, Keyword: v.Keyword, Kind: r.Function, Static: r.Type == "Static", Criteria: r.ApplicabilityCriteria, Requirement: convert(v.Requirement)}
		if v.Condition.CheckFunction != "" {
			condition := convert(v.Condition)
			rule.Condition = &condition
		}
		m.Rules[id] = rule
	}
	return m, nil
}

// convert takes CheckCondition, which two rules have, for ColumnName.
func convert(c check) rules.Check {
	made := rules.Check{Function: c.CheckFunction, Column: c.ColumnName + c.CheckCondition, A: c.ColumnAName, B: c.ColumnBName,
		Result: c.ResultColumnName, Rule: c.ModelRuleID, Count: c.ExpectedCount}
	if c.Value != nil {
		made.Value = &rules.Literal{Null: string(c.Value) == "null"}
		if !made.Value.Null {
			made.Value.Text = strings.Trim(string(c.Value), `"`)
		}
	}
	for _, item := range c.Items {
		made.Items = append(made.Items, convert(item))
	}
	return made
}

// model14 keeps the two data sets that are written.
func model14(text []byte) (any, error) {
	var p struct {
		Datasets map[string]struct {
			Columns map[string]struct {
				AllowedValues []string `json:"allowed_values"`
				AllowsNulls   bool     `json:"allows_nulls"`
				Condition     string   `json:"condition"`
				DataType      string   `json:"data_type"`
				Feature       string   `json:"feature_level"`
				Format        string   `json:"value_format"`
			} `json:"columns"`
		} `json:"datasets"`
		Source  string            `json:"source"`
		Parents map[string]string `json:"service_subcategory_parents"`
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, err
	}
	m := rules.Columns{Source: p.Source, Licence: licence, Parents: p.Parents, Datasets: make(map[string]map[string]rules.Expected)}
	for _, name := range []string{"Cost and Usage", "Billing Period"} {
		set := make(map[string]rules.Expected)
		for column, c := range p.Datasets[name].Columns {
			set[column] = rules.Expected{Type: c.DataType, Null: c.AllowsNulls, Allowed: c.AllowedValues, Feature: c.Feature, Condition: c.Condition, Format: c.Format}
		}
		m.Datasets[name] = set
	}
	return m, nil
}
