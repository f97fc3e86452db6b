package follower

import (
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/influxdata/influxql"
)

// readable are the databases that may be asked over the port: never raw.
var readable = []string{schema.MinuteDB, schema.FactsDB, schema.ResultsDB}

// Bounds of a statement: the store's work grows with the square of the depth.
const (
	maxStatement = 64 << 10 // bytes
	maxDepth     = 10       // subqueries in one another
	maxNames     = 1000     // tables and columns, over all statements
	maxOperators = 200      // operators and functions, over all statements: each is worked out for each series
	minInterval  = time.Second
)

// readOnly says why a text of InfluxQL may not be run on a database, or nil.
// Allowed are SELECT without INTO and those SHOW statements that tell of
// tables, all on the named database alone.
func readOnly(db, text string) error {
	if db != "" && !slices.Contains(readable, db) {
		return fmt.Errorf("database %q is not one of %q", db, readable)
	}
	if len(text) > maxStatement {
		return fmt.Errorf("the query is longer than %d bytes", maxStatement)
	}
	query, err := influxql.ParseQuery(text)
	if err != nil {
		return fmt.Errorf("parse query: %w", err)
	}
	if len(query.Statements) == 0 {
		return fmt.Errorf("parse query: no statement")
	}
	if err := bounded(query); err != nil {
		return err
	}
	for _, statement := range query.Statements {
		if err := allowed(db, statement, maxDepth); err != nil {
			return err
		}
	}
	return nil
}

// bounded refuses a text whose work is out of proportion to its length: one
// that names the same things over and over, or cuts time into dust.
func bounded(query *influxql.Query) error {
	names, operators := 0, 0
	var wrong error
	influxql.WalkFunc(query, func(node influxql.Node) {
		switch n := node.(type) {
		case *influxql.VarRef, *influxql.Measurement, *influxql.Wildcard:
			names++
		case *influxql.BinaryExpr, *influxql.Call:
			operators++
		case *influxql.SelectStatement:
			if interval, err := n.GroupByInterval(); err != nil {
				wrong = fmt.Errorf("parse query: %w", err)
			} else if interval > 0 && interval < minInterval {
				wrong = fmt.Errorf("GROUP BY time of less than %s is not allowed", minInterval)
			}
		}
	})
	if names > maxNames {
		return fmt.Errorf("the query names more than %d tables and columns", maxNames)
	}
	if operators > maxOperators {
		return fmt.Errorf("the query has more than %d operators and functions: ask in several queries", maxOperators)
	}
	return wrong
}

func allowed(db string, statement influxql.Statement, depth int) error {
	var on string
	var sources influxql.Sources
	switch s := statement.(type) {
	case *influxql.ShowDatabasesStatement:
		return nil
	case *influxql.SelectStatement:
		if s.Target != nil {
			return fmt.Errorf("SELECT … INTO is not allowed")
		}
		sources = s.Sources
	case *influxql.ShowMeasurementsStatement:
		on = s.Database
		if s.Source != nil {
			sources = influxql.Sources{s.Source}
		}
	case *influxql.ShowTagKeysStatement:
		on, sources = s.Database, s.Sources
	case *influxql.ShowTagValuesStatement:
		on, sources = s.Database, s.Sources
	case *influxql.ShowFieldKeysStatement:
		on, sources = s.Database, s.Sources
	case *influxql.ShowSeriesStatement:
		on, sources = s.Database, s.Sources
	case *influxql.ShowRetentionPoliciesStatement: // which Grafana's editor asks for
		on = s.Database
	default:
		return fmt.Errorf("only SELECT and SHOW of databases, retention policies, measurements, tag keys, tag values, field keys and series are allowed")
	}
	if db == "" || on != "" && on != db {
		return fmt.Errorf("a statement stays in the database of its request (db=), one of %q", readable)
	}
	return within(db, sources, depth)
}

// within says whether sources stay in the database, with at most depth
// subqueries in one another.
func within(db string, sources influxql.Sources, depth int) error {
	for _, source := range sources {
		switch s := source.(type) {
		case *influxql.Measurement:
			if s.Database != "" && s.Database != db {
				return fmt.Errorf("database %q is not that of the request", s.Database)
			}
		case *influxql.SubQuery:
			if depth == 0 {
				return fmt.Errorf("more than %d subqueries in one another", maxDepth)
			}
			if err := allowed(db, s.Statement, depth-1); err != nil {
				return err
			}
		default:
			return fmt.Errorf("source %s is not allowed", source)
		}
	}
	return nil
}
