package answers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/google/go-cmp/cmp"
)

var monday = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

// counted is a revision that the test sets.
type counted map[string]uint64

func (c counted) Revision(db, table string, day schema.Window) uint64 {
	return c[db+"/"+table+"/"+day.From.Format("02")]
}

func openStore(t *testing.T) *influxsync.Server {
	t.Helper()
	server := influxtest.New(t)
	if err := server.Create(t.Context(), schema.MinuteDB, schema.FactsDB, schema.ResultsDB); err != nil {
		t.Fatal(err)
	}
	return server
}

// put writes one row of each table, of a value.
func put(t *testing.T, server *influxsync.Server, at time.Time, namespace string, value int64) {
	t.Helper()
	tags := map[string]string{schema.Cluster: "edge", schema.Node: "n-" + namespace, schema.Namespace: namespace, schema.Pod: "p", schema.PodUID: "u",
		schema.Resource: "energy", schema.Currency: "EUR", schema.PriceKind: "sale", schema.WorkloadKind: "Job", schema.Workload: "w"}
	v := influxsync.Int(value)
	for db, rows := range map[string][]influxsync.Point{
		schema.MinuteDB: {influxsync.NewPoint("pod", tags, map[string]influxsync.Value{schema.CPU: v, schema.Uptime: influxsync.Int(60_000), schema.Coverage: influxsync.Int(60)}, at),
			influxsync.NewPoint("node", map[string]string{schema.Cluster: "edge", schema.Node: "n-" + namespace}, map[string]influxsync.Value{schema.Uptime: influxsync.Int(60_000)}, at)},
		schema.ResultsDB: {influxsync.NewPoint("energy", tags, map[string]influxsync.Value{schema.EnergyActive: v}, at),
			influxsync.NewPoint("cost", tags, map[string]influxsync.Value{schema.CostNanos: v}, at.Truncate(schema.Quarter))}} {
		if err := server.Database(db).Write(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
	}
}

func textOf(t *testing.T, answer UsageAnswer) string {
	t.Helper()
	text, err := json.MarshalIndent(answer, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDaysAreRememberedByRevision: the answer of a week is the same whether its
// days are remembered or read; a day is read again when its revision says so,
// and not before, which is the control that anything is remembered.
func TestDaysAreRememberedByRevision(t *testing.T) {
	server := openStore(t)
	for hour := range 24 * 6 {
		for i, namespace := range []string{"blog", "shop"} {
			put(t, server, monday.Add(time.Duration(hour)*time.Hour), namespace, int64(hour*(i+1)))
		}
	}
	settled := func() time.Time { return monday.Add(6*24*time.Hour - 90*time.Minute) }
	clk := clock.NewManual(monday.Add(6 * 24 * time.Hour))
	revisions := counted{}
	remembering := New(Config{Cluster: "edge"}, server, Plain{}, settled, revisions, clk)
	plain := New(Config{Cluster: "edge"}, server, Plain{}, settled, nil, clk)
	ask := func(e *Engine, keys ...usage.Key) string {
		t.Helper()
		answer, err := e.Usage(t.Context(), usage.Request{Window: "5d", Aggregate: keys}, Everything{})
		if err != nil {
			t.Fatal(err)
		}
		return textOf(t, answer)
	}
	for _, keys := range [][]usage.Key{nil, {usage.Namespace}, {usage.Namespace, usage.Workload}, {usage.Pod, usage.Node}} {
		want := ask(plain, keys...)
		for _, when := range []string{"first", "again"} {
			if diff := cmp.Diff(want, ask(remembering, keys...)); diff != "" {
				t.Errorf("%v, %s (-read +remembered):\n%s", keys, when, diff)
			}
		}
	}
	before := ask(remembering, usage.Namespace)
	put(t, server, monday.Add(50*time.Hour), "shop", 1_000_000_000)
	if ask(remembering, usage.Namespace) != before {
		t.Error("control: nothing was remembered")
	}
	for _, table := range []string{"minute/pod", "minute/node", "results/energy", "results/cost"} {
		revisions[table+"/25"]++
	}
	if diff := cmp.Diff(ask(plain, usage.Namespace), ask(remembering, usage.Namespace)); diff != "" {
		t.Errorf("after the day's revision (-read +remembered):\n%s", diff)
	}
}

// TestStepsAreRememberedByDay: steps that make up whole days are remembered and
// the answer is the same; others are read.
func TestStepsAreRememberedByDay(t *testing.T) {
	server := openStore(t)
	for hour := range 24 * 4 {
		put(t, server, monday.Add(time.Duration(hour)*time.Hour), "shop", int64(hour+1))
	}
	settled := func() time.Time { return monday.Add(4*24*time.Hour - 90*time.Minute) }
	clk := clock.NewManual(monday.Add(4 * 24 * time.Hour))
	for step, remembered := range map[time.Duration]bool{24 * time.Hour: true, 6 * time.Hour: true, time.Hour: true, 7 * time.Hour: false, 48 * time.Hour: false} {
		remembering := New(Config{Cluster: "edge"}, server, Plain{}, settled, counted{}, clk)
		plain := New(Config{Cluster: "edge"}, server, Plain{}, settled, nil, clk)
		request := usage.Request{Window: "3d", Step: step, Aggregate: []usage.Key{usage.Namespace}}
		want, err := plain.Usage(t.Context(), request, Everything{})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			got, err := remembering.Usage(t.Context(), request, Everything{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(textOf(t, want), textOf(t, got)); diff != "" {
				t.Errorf("step %s (-read +remembered):\n%s", step, diff)
			}
		}
		if held := len(remembering.days.held) > 0; held != remembered {
			t.Errorf("step %s: remembered: %t, want %t", step, held, remembered)
		}
	}
}

// ending is a context whose time is up when the test says so.
type ending struct {
	context.Context
	done chan struct{}
}

func (e ending) Done() <-chan struct{} { return e.done }

func (e ending) Err() error {
	select {
	case <-e.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// afterDays ends a context when a number of days was looked up.
type afterDays struct {
	counted
	left int
	done chan struct{}
}

func (a *afterDays) Revision(db, table string, day schema.Window) uint64 {
	if a.left--; a.left == 0 {
		close(a.done)
	}
	return a.counted.Revision(db, table, day)
}

// TestSlowQuestionGoesOn: a question whose time is up says how many days it has
// read, and asked again does not read them again, until it is answered.
func TestSlowQuestionGoesOn(t *testing.T) {
	server := openStore(t)
	for d := range 8 {
		put(t, server, monday.Add(time.Duration(d)*24*time.Hour+time.Hour), "shop", int64(d+1))
	}
	revisions := &afterDays{counted: counted{}}
	e := New(Config{Cluster: "edge"}, server, Plain{}, func() time.Time { return monday.Add(8 * 24 * time.Hour) }, revisions, clock.NewManual(monday.Add(8*24*time.Hour)))
	held := 0
	for attempt := 1; ; attempt++ {
		revisions.left, revisions.done = held+4, make(chan struct{})
		answer, err := e.Usage(ending{t.Context(), revisions.done}, usage.Request{Window: "8d"}, Everything{})
		var slow *SlowError
		if errors.As(err, &slow) {
			if slow.Days != 3 || len(e.days.held) != held+3 || !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("attempt %d: %v; %d days are held, %d before", attempt, err, len(e.days.held), held)
			}
			held = len(e.days.held)
			continue
		}
		if err != nil || attempt < 4 {
			t.Fatalf("attempt %d: %v", attempt, err)
		}
		if got := answer.Rows[0].CPUCoreSeconds.String(); got != "0.000036" {
			t.Errorf("%s core-seconds, want the sum of all days", got)
		}
		return
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	var d days
	points := make([]influxsync.Point, 100)
	for i := range 3 * maxGroups / len(points) {
		d.put(dayKey{"q", int64(i)}, daySums{1, points})
		d.put(dayKey{"q", int64(i)}, daySums{2, points})
	}
	if held := len(d.held) * len(points); held > maxGroups || d.groups != held {
		t.Errorf("%d groups are held, %d counted", held, d.groups)
	}
	if _, ok := d.get(dayKey{"q", int64(3*maxGroups/len(points) - 1)}, 2); !ok {
		t.Error("the newest is not held")
	}
}

// hidden sees the namespaces that it lists.
type hidden []string

func (hidden) All(context.Context) (bool, error) { return false, nil }
func (h hidden) Visible(_ context.Context, names []string) ([]string, error) {
	var seen []string
	for _, name := range names {
		for _, mine := range h {
			if name == mine {
				seen = append(seen, name)
			}
		}
	}
	return seen, nil
}

// reversed stores names backwards, as a pseudonym that is resolved here.
type reversed struct{}

func (reversed) Resolve(stored string) string {
	runes := []rune(stored)
	for i, j := 0, len(runes)-1; i < j; i, j = i+1, j-1 {
		runes[i], runes[j] = runes[j], runes[i]
	}
	return string(runes)
}

// TestPseudonymsAreResolved: rights and filters are of the names that people
// know, and so are the rows.
func TestPseudonymsAreResolved(t *testing.T) {
	server := openStore(t)
	at := monday.Add(time.Hour)
	put(t, server, at, "pohs", 7)
	put(t, server, at, "knab", 9)
	e := New(Config{Cluster: "edge"}, server, reversed{}, func() time.Time { return at.Add(time.Minute) }, nil, clock.NewManual(at.Add(time.Minute)))
	for _, filter := range [][]usage.Condition{nil, {{Key: usage.Namespace, Values: []string{"shop"}}}} {
		answer, err := e.Usage(t.Context(), usage.Request{Window: "1h", Aggregate: []usage.Key{usage.Namespace, usage.Node}, Filter: filter}, hidden{"shop"})
		if err != nil {
			t.Fatal(err)
		}
		if len(answer.Rows) != 1 || fmt.Sprint(answer.Rows[0].Key) != "map[namespace:shop node:shop-n]" || answer.Rows[0].CPUCoreSeconds.String() != "0.000007" {
			t.Errorf("filter %v: %+v", filter, answer.Rows)
		}
	}
	var forbidden *ForbiddenError
	_, err := e.Usage(t.Context(), usage.Request{Filter: []usage.Condition{{Key: usage.Namespace, Values: []string{"pohs"}}}}, hidden{"shop"})
	if !errors.As(err, &forbidden) {
		t.Errorf("a stored name is asked for: %v", err)
	}
}
