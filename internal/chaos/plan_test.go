package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// cluster is the one that is pulled; others' rows must not arrive.
const (
	cluster = "edge"
	foreign = "other"
)

// leastRows is how many rows the tables of a schedule have at least.
const leastRows = 500

// plan is a schedule: all that its seed decides before it runs.
type plan struct {
	seed    uint64
	start   time.Time // of window 0
	windows int
	// loose: a row's versions have different fields; else a row has the same ones
	// in each.
	loose    bool
	parallel int // parts of a table that are copied side by side; 0 is one
	tables   []*table
	steps    []step
}

// table is a random table and its series.
type table struct {
	schema.Table
	series   []series
	exact    bool   // rows stand at their windows' starts; else anywhere in them
	conflict string // a field that has another type in the centre, on the first day; "" is none
}

// mends says whether a centre can take a field away from a row of the table: it
// deletes by tags, and by fields that it can describe.
func (t *table) mends() bool {
	return t.conflict == "" && !slices.ContainsFunc(t.Fields, func(f schema.Field) bool { return slices.Contains(t.Tags, f.Name) })
}

// series has rows in the windows [from, to).
type series struct {
	tags     map[string]string
	from, to int
}

// What a step does.
type kind string

const (
	write           kind = "write"
	settle          kind = "settle"
	pulling         kind = "pull"
	restartLeader   kind = "restart leader"
	restartFollower kind = "restart follower"
	backUp          kind = "back up"
	emptyVolume     kind = "empty volume"
	restore         kind = "yesterday's copy"
)

// step is one thing that happens. Time passes before it.
type step struct {
	kind    kind
	pause   time.Duration
	table   int
	rows    []influxsync.Point // of write, in their order
	windows []int              // of settle
	weather weather            // of pull
	during  []during           // of pull: what the follower does meanwhile
}

// weather is what a pull meets: how many of a thousand requests meet a fault,
// and the bounds of one call of Sync.
type weather struct {
	source, sink int
	limit        int
	span         time.Duration
}

// during is a step that happens when the source gets its n-th request about the
// step's table, or after the pull.
type during struct {
	nth  int
	step step
}

func (p *plan) window(i int) schema.Window {
	from := p.start.Add(time.Duration(i) * schema.Minute)
	return schema.Window{From: from, To: from.Add(schema.Minute)}
}

func (p *plan) index(t time.Time) int { return int(t.Sub(p.start) / schema.Minute) }

// newPlan makes the schedule of a seed.
func newPlan(seed uint64) *plan {
	r := rand.New(rand.NewPCG(seed, 0xC4A05))
	midnight := time.Date(2026, 3, 1+r.IntN(300), 0, 0, 0, 0, time.UTC)
	p := &plan{seed: seed, start: midnight.Add(-time.Duration(3+r.IntN(20)) * schema.Minute), windows: 29 + r.IntN(5), loose: r.IntN(4) == 0}
	for p.rowCount() < leastRows {
		p.tables = nil
		p.windows += 2
		p.makeTables(r)
	}
	p.makeSteps(r)
	return p
}

func (p *plan) rowCount() int {
	n := 0
	for _, t := range p.tables {
		for _, s := range t.series {
			n += s.to - s.from
		}
	}
	return n
}

// makeTables makes three tables that the registry knows by name, and mostly one
// more: of events, or with an awkward name.
func (p *plan) makeTables(r *rand.Rand) {
	for _, known := range []schema.Table{schema.NodeMinute, schema.PodMinute, schema.ContainerMinute} {
		p.tables = append(p.tables, p.makeTable(r, known))
	}
	switch r.IntN(3) {
	case 0:
		p.tables = append(p.tables, p.makeTable(r, schema.Run))
	case 1:
		p.tables = append(p.tables, p.makeTable(r, schema.Table{Name: pick(r, tableNames), DB: schema.MinuteDB}))
	}
	if r.IntN(4) == 0 {
		t := p.tables[r.IntN(3)]
		t.conflict = "conflicting"
		t.Fields = append(t.Fields, schema.Field{Name: t.conflict, Type: schema.Integer, Optional: true})
	}
}

func (p *plan) makeTable(r *rand.Rand, known schema.Table) *table {
	t := &table{Table: schema.Table{Name: known.Name, DB: known.DB, Grain: schema.Minute, Tags: []string{schema.Cluster}}, exact: known.Grain > 0}
	t.exact = t.exact && known.Name != schema.Run.Name
	names := shuffled(r, fieldNames)
	textless := r.IntN(2) == 0 // then a short window is asked for flat
	for i := range 3 + r.IntN(4) {
		kind := schema.Type(r.IntN(4))
		if textless && kind == schema.String {
			kind = schema.Integer
		}
		t.Fields = append(t.Fields, schema.Field{Name: names[i], Type: kind, Optional: true})
	}
	tags := shuffled(r, tagNames)[:1+r.IntN(3)]
	if r.IntN(3) == 0 {
		tags[0] = t.Fields[0].Name // a tag and a field of one name
	}
	t.Tags = append(t.Tags, tags...)
	count := 5 + r.IntN(4)
	seen := make(map[string]bool)
	for len(t.series) < count {
		s := series{tags: map[string]string{schema.Cluster: cluster}, to: p.windows}
		if len(t.series) == count-1 && r.IntN(4) == 0 {
			s.tags[schema.Cluster] = foreign
		}
		for _, tag := range tags {
			if value := pick(r, tagValues); value != "" { // "" is a row without the tag
				s.tags[tag] = value
			}
		}
		if r.IntN(3) == 0 {
			s.from = r.IntN(p.windows / 2)
		}
		if r.IntN(3) == 0 {
			s.to = s.from + 1 + r.IntN(p.windows-s.from)
		}
		if text := fmt.Sprint(s.tags); !seen[text] {
			seen[text] = true
			t.series = append(t.series, s)
		}
	}
	return t
}

// row is a version of the row that a series has in a window. What it holds is
// new.
func (p *plan) row(r *rand.Rand, table, series, window int) influxsync.Point {
	t := p.tables[table]
	fixed := rand.New(rand.NewPCG(p.seed, uint64(table)<<40|uint64(series)<<20|uint64(window)))
	at := p.window(window).From
	if !t.exact {
		at = at.Add(time.Duration(fixed.Int64N(int64(schema.Minute))))
	}
	zero := r.IntN(6) == 0
	fields := make(map[string]influxsync.Value)
	for i, field := range t.Fields {
		has := fixed.IntN(4) > 0
		if field.Name == t.conflict {
			has = fixed.IntN(10) == 0
		}
		if p.loose && field.Name != t.conflict {
			has = r.IntN(4) > 0
		}
		if has || len(fields) == 0 && i == len(t.Fields)-1 {
			fields[field.Name] = value(r, field.Type, zero)
		}
	}
	return influxsync.NewPoint(t.Name, t.series[series].tags, fields, at)
}

// rows are versions of the rows of a window.
func (p *plan) rows(r *rand.Rand, table, window int) []influxsync.Point {
	var rows []influxsync.Point
	for i, s := range p.tables[table].series {
		if s.from <= window && window < s.to {
			rows = append(rows, p.row(r, table, i, window))
		}
	}
	return rows
}

// String is every decision of the plan.
func (p *plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "schedule %d: %d windows from %s, loose %t\n", p.seed, p.windows, p.start.Format(time.RFC3339), p.loose)
	for i, t := range p.tables {
		fmt.Fprintf(&b, "table %d %q in %s, tags %q, conflict %q, fields %v\n", i, t.Name, t.DB, t.Tags, t.conflict, t.Fields)
		for _, s := range t.series {
			fmt.Fprintf(&b, "  %q in [%d, %d)\n", s.tags, s.from, s.to)
		}
	}
	for i, s := range p.steps {
		fmt.Fprintf(&b, "%d: %s\n", i, s)
	}
	return b.String()
}

// String is the step in one line.
func (s step) String() string {
	text := fmt.Sprintf("+%s %s", s.pause, s.kind)
	switch s.kind {
	case write:
		var digest influxsync.Digest
		for _, row := range s.rows {
			digest = digest*31 + influxsync.Digest(row.Hash())
		}
		text += fmt.Sprintf(" table %d, %d rows %016x", s.table, len(s.rows), uint64(digest))
	case settle:
		text += fmt.Sprintf(" table %d, windows %v", s.table, s.windows)
	case pulling:
		text += fmt.Sprintf(" %+v", s.weather)
		for _, d := range s.during {
			text += fmt.Sprintf("; at request %d {%s}", d.nth, d.step)
		}
	}
	return text
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func shuffled[T any](r *rand.Rand, list []T) []T {
	list = slices.Clone(list)
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}
