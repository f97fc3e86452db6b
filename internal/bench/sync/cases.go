package main

import (
	"fmt"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Groups of cases: what is copied.
const (
	groupFull = "full" // a window of hours at once
	groupTick = "tick" // five minutes at a time into a sink that has the series
	groupWide = "wide" // the table of pods with all its columns
	groupLong = "long" // a longer window at once
)

var groups = []string{groupFull, groupTick, groupWide, groupLong}

// testcase is one line of the table.
type testcase struct {
	Name       string
	Group      string
	Kind       string
	Verify     string
	SideBySide int
	Parts      int
}

// writes says whether the case fills the sink.
func (c testcase) writes() bool { return c.Kind != kindRead }

// concurrency is how many tables, and parts of each, are copied at a time.
type concurrency struct{ tables, parts int }

func (c concurrency) String() string { return fmt.Sprintf("%dx%d", c.tables, c.parts) }

var (
	concurrencies = []concurrency{{1, 1}, {2, 2}, fastest}
	fastest       = concurrency{4, 4}
)

// cases are those of a group, the baselines first.
func cases(group string) []testcase {
	prefix := ""
	if group != groupFull {
		prefix = group + "-"
	}
	baseline := func(kind string, tables int) testcase {
		name := prefix + kind
		if tables > 1 {
			name = fmt.Sprintf("%s-%d", name, tables)
		}
		return testcase{Name: name, Group: group, Kind: kind, Verify: verifyNone, SideBySide: tables, Parts: 1}
	}
	sync := func(verify string, c concurrency) testcase {
		return testcase{Name: fmt.Sprintf("%ssync-%s-%s", prefix, verify, c), Group: group, Kind: kindSync, Verify: verify,
			SideBySide: c.tables, Parts: c.parts}
	}
	var all []testcase
	switch group {
	case groupFull:
		all = append(all, baseline(kindNaive, 1), baseline(kindNaiveChunked, 1))
		for _, c := range concurrencies {
			all = append(all, baseline(kindRead, c.tables), baseline(kindWrite, c.tables))
			for _, verify := range verifications {
				if verify == verifyNone && c != fastest {
					continue
				}
				all = append(all, sync(verify, c))
			}
		}
	case groupLong:
		for _, c := range []concurrency{{4, 1}, fastest} {
			all = append(all, sync(verifyReadBack, c))
		}
	case groupTick: // too short for parts
		all = append(all, baseline(kindNaive, 1))
		for _, c := range []concurrency{{1, 1}, {4, 1}} {
			all = append(all, baseline(kindRead, c.tables), baseline(kindWrite, c.tables))
			for _, verify := range verifications {
				all = append(all, sync(verify, c))
			}
		}
	case groupWide: // one table has no neighbours
		all = append(all, baseline(kindNaive, 1), baseline(kindRead, 1), baseline(kindWrite, 1))
		for _, c := range []concurrency{{1, 1}, {1, 4}} {
			for _, verify := range verifications {
				all = append(all, sync(verify, c))
			}
		}
	}
	return all
}

// stage is what the cases of a group share.
type stage struct {
	group    string
	set      dataset
	journals map[string][]influxsync.Entry
	from, to int    // the minutes that are copied
	before   int    // the sink holds the minutes [before, from) already
	step     int    // minutes at a time
	steps    []step // all of [from, to)
}

func (s stage) rows() int { return s.set.rows(s.from, s.to) }

// job is what a process has to do for the case.
func (s stage) job(c testcase, source, sink *server, store string) job {
	j := job{Name: c.Name, Kind: c.Kind, Source: source.url, Sink: sink.url, Database: s.set.name, Steps: s.steps,
		SideBySide: c.SideBySide, Parts: c.Parts, Verify: c.Verify, Marks: make(map[string]influxsync.Mark)}
	for _, t := range s.set.tables {
		j.Tables = append(j.Tables, t.Table)
		if s.from > 0 {
			e := s.journals[t.Name][s.from-1]
			j.Marks[t.Name] = influxsync.Mark{Store: store, Time: e.Time, Hash: e.Hash}
		}
	}
	return j
}

// split makes the steps of the stage, with their lines in files of dir.
func (s *stage) split(dir string) error {
	for from := s.from; from < s.to; from += s.step {
		to := min(from+s.step, s.to)
		files, err := s.set.lines(dir, from, to)
		if err != nil {
			return err
		}
		rows := make(map[string]int)
		for _, t := range s.set.tables {
			rows[t.Name] = len(t.keys) * (to - from)
		}
		s.steps = append(s.steps, step{Window: window(from, to), Rows: rows, Lines: files})
	}
	return nil
}

// sums is what a store holds of a table: how many values each field has, and
// the sum of those that are integers.
type sums map[string]sum

type sum struct{ Count, Sum int64 }

func (t *table) sums(from, to int) sums {
	all := make(sums)
	for f, field := range t.Fields {
		var s sum
		for series := range t.keys {
			for m := from; m < to; m++ {
				s.Count++
				if field.Type == schema.Integer {
					s.Sum += t.integer(series, m, f)
				}
			}
		}
		all[field.Name] = s
	}
	return all
}
