package dashboards

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
)

// Query is one query of a board, with its variables.
type Query struct {
	Board, Panel string
	Text         string
}

// board is the part of a dashboard object that holds queries.
type board struct {
	Title      string `json:"title"`
	Templating struct {
		List []struct {
			Name  string `json:"name"`
			Type  string `json:"type"`
			Query string `json:"query"`
		} `json:"list"`
	} `json:"templating"`
	Panels []struct {
		Title   string `json:"title"`
		Targets []struct {
			Query string `json:"query"`
		} `json:"targets"`
	} `json:"panels"`
}

// Queries are the queries of all boards and of their variables, so that a store
// can be asked whether it answers them.
func Queries() ([]Query, error) {
	files, err := fs.Glob(FS, "*.json")
	if err != nil {
		return nil, fmt.Errorf("list boards: %w", err)
	}
	var queries []Query
	for _, name := range files {
		text, err := FS.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read board %s: %w", name, err)
		}
		var b board
		if err := json.Unmarshal(text, &b); err != nil {
			return nil, fmt.Errorf("read board %s: %w", name, err)
		}
		for _, variable := range b.Templating.List {
			if variable.Type == "query" {
				queries = append(queries, Query{b.Title, "variable " + variable.Name, variable.Query})
			}
		}
		for _, panel := range b.Panels {
			for _, target := range panel.Targets {
				queries = append(queries, Query{b.Title, panel.Title, target.Query})
			}
		}
	}
	return queries, nil
}

var variable = regexp.MustCompile(`\$\{\w+:regex\}`)

// Fill puts values into the query as Grafana does: every variable is All, the
// time filter is the one that is given (an InfluxQL condition), the interval is
// five minutes.
func (q Query) Fill(timeFilter string) string {
	text := variable.ReplaceAllString(q.Text, ".*")
	text = strings.ReplaceAll(text, "$timeFilter", timeFilter)
	return strings.ReplaceAll(text, "$__interval", "5m")
}
