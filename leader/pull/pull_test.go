package pull

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/embedded"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/followertest"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
)

var start = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func minutes(from, to int) schema.Window {
	return schema.Window{From: start.Add(time.Duration(from) * time.Minute), To: start.Add(time.Duration(to) * time.Minute)}
}

// faulty is a transport that fails requests whose text holds what.
type faulty struct {
	http.RoundTripper
	what atomic.Value // string; "" is none
}

func (f *faulty) RoundTrip(request *http.Request) (*http.Response, error) {
	what, _ := f.what.Load().(string)
	text := request.URL.RawQuery
	if request.GetBody != nil {
		body, err := request.GetBody()
		if err != nil {
			return nil, err
		}
		all, err := io.ReadAll(body)
		if err != nil {
			return nil, err
		}
		text += string(all)
	}
	if plain, err := url.QueryUnescape(text); err == nil {
		text = plain
	}
	if what != "" && strings.Contains(text, what) {
		return nil, errors.New("cut off")
	}
	return f.RoundTripper.RoundTrip(request)
}

type centre struct {
	*Puller
	t      *testing.T
	clk    *clock.Manual
	engine *embedded.Server
	link   *faulty
	path   string // of the registry
	server *influxsync.Server
	books  *registry.Registry
}

func newCentre(t *testing.T, objects ...fleet.Object) *centre {
	t.Helper()
	c := &centre{t: t, clk: clock.NewManual(start.Add(time.Hour)), engine: influxtest.Open(t, t.TempDir())}
	c.link = &faulty{RoundTripper: c.engine.Transport()}
	var err error
	if c.server, err = influxsync.New(influxsync.Config{URL: "http://centre", Transport: c.link}); err != nil {
		t.Fatal(err)
	}
	if err := c.server.Create(t.Context(), schema.MinuteDB, schema.FactsDB); err != nil {
		t.Fatal(err)
	}
	c.path = filepath.Join(t.TempDir(), "registry.db")
	if c.books, err = registry.Open(t.Context(), c.path, c.clk); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.books.Close() })
	objects = append(objects, fleet.NewObject("a", fleet.Cluster{URL: "http://127.0.0.1:1"}))
	if _, err := c.books.Apply(t.Context(), objects, "test"); err != nil {
		t.Fatal(err)
	}
	c.Puller = New(c.books, c.server)
	return c
}

func (c *centre) rows(table schema.Table, cluster string) int {
	c.t.Helper()
	n := 0
	err := c.server.Database(table.DB).TimeQuery(c.t.Context(), table.Name, schema.Window{}, []influxsync.Condition{{Tag: schema.Cluster, Value: cluster}},
		func(influxsync.Point) error { n++; return nil })
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

func (c *centre) mark(table schema.Table) influxsync.Mark {
	c.t.Helper()
	mark, err := c.books.Mark(c.t.Context(), "a", table.Name)
	if err != nil {
		c.t.Fatal(err)
	}
	return mark
}

// scopes are what is due, "processor scope minute".
func (c *centre) scopes() []string {
	c.t.Helper()
	var found []string
	for _, processor := range []string{registry.ProcessorPower, registry.ProcessorUsage, registry.ProcessorCost} {
		list, err := c.books.Due(c.t.Context(), processor, 0)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, d := range list {
			found = append(found, processor+" "+d.Scope+" "+d.Quarter.Format("15:04"))
		}
	}
	slices.Sort(found)
	return found
}

func settle(f *followertest.Follower, cluster string, window schema.Window, nodes ...string) {
	for _, table := range []schema.Table{schema.NodeMinute, schema.PodMinute} {
		var rows []influxsync.Point
		for _, minute := range window.Split(schema.Minute) {
			for _, node := range nodes {
				tags := map[string]string{schema.Cluster: cluster, schema.Node: node}
				if table.Name == schema.PodMinute.Name {
					tags[schema.Pod] = "p"
				}
				rows = append(rows, followertest.Row(table, minute.From, tags, map[string]int64{schema.CPU: 5, schema.Uptime: 60_000, schema.Coverage: 60}))
			}
		}
		f.Settle(table, window, rows...)
	}
}

func (c *centre) pull(f *followertest.Follower) Result {
	c.t.Helper()
	result, err := c.Pull(c.t.Context(), "a", f.Store)
	if err != nil {
		c.t.Fatal(err)
	}
	return result
}

// TestDue: the boxes of the nodes, the node in no box, the cluster's sums, each
// quarter once; a node that moves within a quarter reaches both boxes.
func TestDue(t *testing.T) {
	moves := start.Add(20 * time.Minute)
	c := newCentre(t, fleet.NewObject("one", fleet.Box{}), fleet.NewObject("two", fleet.Box{}), fleet.NewObject("empty", fleet.Box{}),
		fleet.NewObject("a.n1", fleet.Node{Cluster: "a", Node: "n1", Box: "one"}).Until(moves),
		fleet.NewObject("a.n1", fleet.Node{Cluster: "a", Node: "n1", Box: "two"}).Since(moves))
	for _, processor := range c.scopes() {
		t.Errorf("due before anything came: %s", processor)
	}
	f := followertest.New(t, "a", c.clk)
	settle(f, "a", minutes(10, 18), "n1", "n9")
	result := c.pull(f)
	if result.Windows != 16 || result.Rows != 32 || result.Quarantined != 0 {
		t.Errorf("pulled %+v, want 16 windows with 32 rows", result)
	}
	want := []string{"power node:a/n9 10:00", "power node:a/n9 10:15", "power one 10:00", "power one 10:15", "power two 10:15",
		"usage a 10:00", "usage a 10:15"}
	if diff := cmp.Diff(want, c.scopes()); diff != "" {
		t.Errorf("due (-want +got):\n%s", diff)
	}
	if again := c.pull(f); again.Windows != 0 || again.Rows != 0 {
		t.Errorf("pulled again: %+v, want nothing", again)
	}
}

// TestObjects: arriving objects are in the registry.
func TestObjects(t *testing.T) {
	c := newCentre(t)
	f := followertest.New(t, "a", c.clk)
	row := followertest.Row(schema.Object, start, map[string]string{schema.Cluster: "a", schema.Kind: "Pod", schema.Namespace: "web", "name": "p", "uid": "u"},
		map[string]int64{"valid_from": start.UnixNano()})
	f.Settle(schema.Object, minutes(0, 1), row)
	c.pull(f)
	var names []string
	err := c.books.KubeObjects(t.Context(), "a", "Pod", minutes(0, 60), func(o registry.KubeObject) error {
		names = append(names, o.Namespace+"/"+o.Name)
		return nil
	})
	if err != nil || !slices.Equal(names, []string{"web/p"}) {
		t.Errorf("objects %v, %v", names, err)
	}
}

// TestQuarantine: rows that name another cluster are kept apart, its own arrive.
func TestQuarantine(t *testing.T) {
	c := newCentre(t)
	f := followertest.New(t, "a", c.clk)
	tags := func(cluster string) map[string]string {
		return map[string]string{schema.Cluster: cluster, schema.Node: "n1"}
	}
	f.Settle(schema.NodeMinute, minutes(0, 1), followertest.Row(schema.NodeMinute, start, tags("a"), nil), followertest.Row(schema.NodeMinute, start, tags("b"), nil))
	result := c.pull(f)
	if result.Quarantined != 1 || c.rows(schema.NodeMinute, "a") != 1 || c.rows(schema.NodeMinute, "b") != 0 {
		t.Errorf("%+v; %d rows of a, %d of b", result, c.rows(schema.NodeMinute, "a"), c.rows(schema.NodeMinute, "b"))
	}
	kept, err := c.books.Quarantined(t.Context(), registry.QuarantineFilter{Cluster: "a"}, 0, 10)
	if err != nil || len(kept) != 1 {
		t.Errorf("kept %v, %v", kept, err)
	}
}

// TestMarkAfterConfirmation: while the centre does not return the rows, the mark
// stands still and nothing is due; the next pull brings all.
func TestMarkAfterConfirmation(t *testing.T) {
	c := newCentre(t)
	f := followertest.New(t, "a", c.clk)
	settle(f, "a", minutes(0, 3), "n1")
	c.link.what.Store(`SELECT *::tag, *::field FROM "node"`) // what the sink is asked after the write
	if _, err := c.Pull(t.Context(), "a", f.Store); err == nil {
		t.Fatal("rows that the centre did not return count as pulled")
	}
	if got := c.mark(schema.NodeMinute); got != (influxsync.Mark{}) {
		t.Errorf("the mark is %+v before the centre has confirmed", got)
	}
	if got := c.mark(schema.PodMinute); got == (influxsync.Mark{}) {
		t.Error("one table's failure held another one")
	}
	c.link.what.Store("")
	if n := c.rows(schema.NodeMinute, "a"); n != 3 {
		t.Errorf("control: %d rows were written without a mark, want 3", n)
	}
	if result := c.pull(f); result.Windows != 3 || c.mark(schema.NodeMinute) == (influxsync.Mark{}) {
		t.Errorf("next pull: %+v", result)
	}
	ahead := func() influxsync.Mark {
		entries, err := influxsync.ReadJournal(t.Context(), f.Store.Database(schema.MinuteDB), "a", schema.NodeMinute.Name, time.Time{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		last := entries[len(entries)-1]
		mark := influxsync.Mark{Store: c.mark(schema.NodeMinute).Store, Time: last.Time, Hash: last.Hash, Era: c.mark(schema.NodeMinute).Era}
		if err := c.books.Received(t.Context(), "a", schema.NodeMinute.Name, registry.Receipt{Mark: mark}, nil); err != nil {
			t.Fatal(err)
		}
		return mark
	}
	// A mark past what the centre was meant to hold is noticed.
	settle(f, "a", minutes(3, 4), "n1")
	ahead()
	c.pull(f)
	if n := c.rows(schema.NodeMinute, "a"); n != 4 {
		t.Errorf("%d rows with the mark ahead of the copy, want all 4", n)
	}
	// Control: where the centre says that it holds them, the rows are lost.
	settle(f, "a", minutes(4, 5), "n1")
	mark := ahead()
	if err := influxsync.NoteReach(t.Context(), c.centre.Database(schema.MinuteDB), "a", schema.NodeMinute.Name, mark); err != nil {
		t.Fatal(err)
	}
	c.pull(f)
	if n := c.rows(schema.NodeMinute, "a"); n != 4 {
		t.Errorf("control: %d rows with mark and reach ahead of the copy, want the fifth lost", n)
	}
}

// TestNewEra: a follower with a new store is followed from its beginning; the
// centre keeps what it has.
func TestNewEra(t *testing.T) {
	c := newCentre(t)
	first := followertest.New(t, "a", c.clk)
	settle(first, "a", minutes(0, 3), "n1")
	c.pull(first)
	second := followertest.New(t, "a", c.clk)
	settle(second, "a", minutes(2, 5), "n1")
	result := c.pull(second)
	if diff := cmp.Diff([]string{schema.NodeMinute.Name, schema.PodMinute.Name, schema.ContainerMinute.Name, schema.VolumeMinute.Name}, result.Eras); diff != "" {
		t.Errorf("eras (-want +got):\n%s", diff)
	}
	if got := c.rows(schema.NodeMinute, "a"); got != 5 {
		t.Errorf("%d minutes in the centre, want 5", got)
	}
	if again := c.pull(second); len(again.Eras) != 0 || again.Windows != 0 {
		t.Errorf("pulled again: %+v", again)
	}
}

// TestBacklog: more entries than one step follows.
func TestBacklog(t *testing.T) {
	c := newCentre(t)
	f := followertest.New(t, "a", c.clk)
	settle(f, "a", minutes(0, 2*entriesAtOnce+10), "n1")
	if result := c.pull(f); result.Windows != 2*(2*entriesAtOnce+10) {
		t.Errorf("%d windows, want %d", result.Windows, 2*(2*entriesAtOnce+10))
	}
}

// TestPushedIsNotPulled: what a leader writes into a follower's results, or
// anything else that the follower does not settle itself, is refused, also
// where it has a journal.
func TestPushedIsNotPulled(t *testing.T) {
	c := newCentre(t)
	follower := influxtest.New(t)
	for _, table := range []schema.Table{schema.EnergyMinute, schema.CostQuarter, {Name: schema.PodMinute.Name, DB: schema.ResultsDB}, {Name: "fence", DB: schema.MinuteDB}} {
		if _, err := c.table(t.Context(), "alpha", table, follower); !errors.Is(err, ErrPushed) {
			t.Errorf("%s.%s: %v", table.DB, table.Name, err)
		}
		if err := c.Again(t.Context(), "alpha", table, follower, []schema.Window{minutes(0, 1)}); !errors.Is(err, ErrPushed) {
			t.Errorf("%s.%s again: %v", table.DB, table.Name, err)
		}
	}
	for _, table := range schema.Pulled {
		if table.DB == schema.ResultsDB || New(nil, nil).pulled("alpha", table) != nil {
			t.Errorf("%s.%s is not pulled", table.DB, table.Name)
		}
	}
}
