package work

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
)

// TestMetered: the meter shows 120 W where the model says 60: idle stays, the
// rest is shared by CPU time. The quarter stays due until its last interval has
// closed, which takes one reading more.
func TestMetered(t *testing.T) {
	w := newWorld(t, Config{}, append(rackedFleet(), meterObject())...)
	w.settle("a", "n1", minutes(0, 15), twoPods...)
	w.clk.Set(at(15))
	w.meter("rack", "plug", minutes(0, 14), 7_200_000, 1000)
	w.tick()
	if got := w.due()[registry.ProcessorPower]; got != 1 {
		t.Fatalf("%d boxes due with an open interval, want 1", got)
	}
	box := w.rows(schema.BoxQuarter, schema.BoxCluster, minutes(0, 15))
	if open := total(box, schema.Provisional); open != 3_600_000 {
		t.Errorf("provisional: %d mJ, want the model's last minute", open)
	}
	before := w.written()
	w.tick()
	if diff := cmp.Diff(before, w.written()); diff != "" {
		t.Errorf("while it waits it writes:\n%s", diff)
	}
	w.clk.Set(at(17))
	w.meter("rack", "plug", minutes(14, 17), 7_200_000, 1000)
	w.tick()
	if due := w.due(); len(due) != 0 {
		t.Errorf("due after the interval has closed: %v", due)
	}
	rows := w.rows(schema.EnergyMinute, "a", minutes(0, 15))
	want := map[string]int64{"p1": 15 * 2_200_000, "p2": 15 * 4_400_000}
	if got := sumBy(rows, schema.Pod, schema.EnergyActive); !maps.Equal(got, want) {
		t.Errorf("active: %v, want %v", got, want)
	}
	if got, want := total(rows, schema.EnergyMeasured), int64(15*7_200_000); got != want || total(rows, energyFields...) != want {
		t.Errorf("Σ pods = %d measured of %d, want the meter's %d", got, total(rows, energyFields...), want)
	}
}

// TestNeverClosing: a meter that fell silent keeps its quarter due for an hour,
// and no longer; a reading that comes then corrects it with the next quarter.
func TestNeverClosing(t *testing.T) {
	w := newWorld(t, Config{}, append(rackedFleet(), meterObject())...)
	w.settle("a", "n1", minutes(0, 15), twoPods...)
	w.meter("rack", "plug", minutes(0, 10), 7_200_000, 1000)
	w.clk.Set(at(74))
	w.tick()
	if got := w.due()[registry.ProcessorPower]; got != 1 {
		t.Errorf("%d due after 59 minutes, want 1", got)
	}
	w.clk.Set(at(75))
	w.tick()
	if due := w.due(); len(due) != 0 {
		t.Errorf("due after the hour: %v", due)
	}
	w.meter("rack", "plug", minutes(76, 80), 7_200_000, 1000)
	w.settle("a", "n1", minutes(15, 80), twoPods...)
	w.clk.Set(at(81))
	w.tick()
	if got, want := total(w.rows(schema.EnergyMinute, "a", minutes(0, 15)), schema.EnergyMeasured), int64(15*7_200_000); got != want {
		t.Errorf("measured after the reading came: %d, want %d", got, want)
	}
	if got := total(w.rows(schema.BoxQuarter, schema.BoxCluster, minutes(0, 15)), schema.Provisional); got != 0 {
		t.Errorf("still provisional: %d mJ", got)
	}
}

// TestCoarseMeter: a meter of 10.8 kJ steps closes an interval in 30 minutes at
// 120 W. When it closes, the quarters before are corrected, and over the closed
// part Σ rows is the meter's growth.
func TestCoarseMeter(t *testing.T) {
	const step, perMinute = 10_800_000, 7_200_000
	w := newWorld(t, Config{}, append(rackedFleet(), meterObject())...)
	for now := 10; now <= 120; now += 10 {
		w.clk.Set(at(now))
		w.settle("a", "n1", minutes(now-10, now), twoPods...)
		w.meter("rack", "plug", minutes(now-10, now), perMinute, step)
		w.tick()
		rows := w.rows(schema.EnergyMinute, "a", minutes(0, 120))
		box := w.rows(schema.BoxMinute, schema.BoxCluster, minutes(0, 120))
		if got, want := total(rows, energyFields...), total(box, schema.EnergyMeasured, schema.Provisional, schema.EstimatedEnergy); got != want {
			t.Fatalf("minute %d: Σ rows = %d, box %d", now, got, want)
		}
		if got, want := total(rows, schema.EnergyMeasured), total(box, schema.EnergyMeasured); got != want {
			t.Fatalf("minute %d: Σ measured rows = %d, box %d", now, got, want)
		}
	}
	rows := w.rows(schema.EnergyMinute, "a", minutes(0, 120))
	measured := total(rows, schema.EnergyMeasured)
	if measured < 60*perMinute {
		t.Fatalf("measured %d mJ in two hours: no interval closed", measured)
	}
	minutesClosed := 0
	for _, row := range w.rows(schema.BoxMinute, schema.BoxCluster, minutes(0, 120)) {
		if quality, _ := row.Field(schema.Quality); quality.Str() == schema.Measured {
			minutesClosed++
		}
	}
	if want := int64(minutesClosed) * perMinute; measured != want {
		t.Errorf("measured %d mJ in %d closed minutes, want %d", measured, minutesClosed, want)
	}
}

// sharedFleet is the box rack with a node of cluster a and one of cluster b.
func sharedFleet() []fleet.Object {
	return append(rackedFleet(), meterObject(), fleet.NewObject("b", fleet.Cluster{URL: "http://127.0.0.1:3"}),
		fleet.NewObject("b.n2", fleet.Node{Cluster: "b", Node: "n2", Box: "rack", Hardware: "server"}))
}

// TestTwoClusters: the sum over both is the meter; each has the box under an id
// of its own.
func TestTwoClusters(t *testing.T) {
	w := newWorld(t, Config{}, sharedFleet()...)
	w.settle("a", "n1", minutes(0, 15), twoPods...)
	w.settle("b", "n2", minutes(0, 15), pod{"web", "p3", 300, 60})
	w.clk.Set(at(17))
	w.meter("rack", "plug", minutes(0, 17), 14_400_000, 1000)
	w.tick()
	a, b := w.rows(schema.EnergyMinute, "a", minutes(0, 15)), w.rows(schema.EnergyMinute, "b", minutes(0, 15))
	if got, want := total(append(a, b...), schema.EnergyMeasured), int64(15*14_400_000); got != want {
		t.Errorf("Σ over both clusters = %d mJ, want the meter's %d", got, want)
	}
	if got, want := total(b, schema.EnergyActive), int64(15*6_600_000); got != want {
		t.Errorf("b's active: %d mJ, want %d", got, want)
	}
	if x, y := a[0].Tag(schema.Box), b[0].Tag(schema.Box); x == y || x == "rack" || y == "rack" {
		t.Errorf("the box is %q in a and %q in b", x, y)
	}
}

// TestSlowCluster: the box waits for its slowest cluster until the deadline,
// is then estimated, and corrected when the rest comes.
func TestSlowCluster(t *testing.T) {
	w := newWorld(t, Config{Deadline: 20 * time.Minute}, sharedFleet()...)
	w.settle("a", "n1", minutes(0, 15), twoPods...)
	w.settle("b", "n2", minutes(0, 5), pod{"web", "p3", 300, 60})
	w.clk.Set(at(17))
	w.meter("rack", "plug", minutes(0, 17), 14_400_000, 1000)
	w.tick()
	if got := len(w.rows(schema.BoxMinute, schema.BoxCluster, minutes(5, 15))); got != 0 {
		t.Errorf("%d minutes were computed before the slow cluster has delivered them", got)
	}
	if got := w.due()[registry.ProcessorPower]; got != 1 {
		t.Errorf("%d boxes wait, want 1", got)
	}
	w.clk.Set(at(36))
	w.tick()
	late := w.rows(schema.BoxMinute, schema.BoxCluster, minutes(5, 15))
	if len(late) != 10 {
		t.Fatalf("%d minutes after the deadline, want 10", len(late))
	}
	for _, row := range late {
		if quality, _ := row.Field(schema.Quality); quality.Str() != schema.Estimated {
			t.Errorf("%s without the slow cluster is %q", row.Time, quality.Str())
		}
	}
	w.settle("b", "n2", minutes(5, 15), pod{"web", "p3", 300, 60})
	w.tick()
	b := w.rows(schema.EnergyMinute, "b", minutes(0, 15))
	if got, want := total(b, schema.EnergyActive), int64(15*6_600_000); got != want {
		t.Errorf("b's active after it came: %d mJ, want %d", got, want)
	}
	for _, row := range w.rows(schema.BoxMinute, schema.BoxCluster, minutes(5, 15)) {
		if quality, _ := row.Field(schema.Quality); quality.Str() != schema.Measured {
			t.Errorf("%s after correction is %q", row.Time, quality.Str())
		}
	}
	if due := w.due(); len(due) != 0 {
		t.Errorf("due at the end: %v", due)
	}
}

// TestNodeLeavesBox: a corrected fact, the only node of cluster a never stood in
// the box. What was attributed to a there becomes zero; nothing is in two boxes.
func TestNodeLeavesBox(t *testing.T) {
	for name, objects := range map[string][]fleet.Object{"shared": sharedFleet(), "alone": rackedFleet()} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{}, append(objects, fleet.NewObject("shelf", fleet.Box{}))...)
			w.settle("a", "n1", minutes(0, 15), twoPods...)
			if name == "shared" {
				w.settle("b", "n2", minutes(0, 15), pod{"web", "p3", 300, 60})
			}
			w.clk.Set(at(40))
			w.tick()
			w.apply(fleet.NewObject("a.n1", fleet.Node{Cluster: "a", Node: "n1", Box: "shelf", Hardware: "server"}).Since(at(-60)))
			w.tick()
			rows := w.rows(schema.EnergyMinute, "a", minutes(0, 15))
			boxes := sumBy(rows, schema.Box, energyFields...)
			if len(boxes) != 1 || total(rows, energyFields...) != 54_000_000 {
				t.Errorf("energy by box %v, want 54,000,000 mJ in one", boxes)
			}
			if got := total(w.rows(schema.UsageQuarter, "a", minutes(0, 15)), energyFields...); got != 54_000_000 {
				t.Errorf("energy in usage: %d, want 54,000,000", got)
			}
			want := map[string]int64{"shelf": 54_000_000}
			if name == "shared" {
				want["rack"] = 54_000_000 // of b
			}
			if got := sumBy(w.rows(schema.BoxQuarter, schema.BoxCluster, minutes(0, 15)), schema.Box, schema.EnergyModelled); !maps.Equal(got, want) {
				t.Errorf("modelled by box: %v, want %v", got, want)
			}
		})
	}
}

// TestUndescribedNode: a node that no object describes is a scope of its own, by
// a prior; once it is described, its former rows become zero.
func TestUndescribedNode(t *testing.T) {
	w := newWorld(t, Config{}, rackedFleet()...)
	w.settle("a", "n9", minutes(0, 15), twoPods...)
	w.clk.Set(at(40))
	w.tick()
	// 10 cores of 0.74 W idle and 3.5 W at most, half of it used: 21.2 W.
	rows := w.rows(schema.EnergyMinute, "a", minutes(0, 15))
	if got, want := total(rows, energyFields...), int64(15*1_272_000); got != want {
		t.Errorf("energy of a loose node: %d mJ, want %d", got, want)
	}
	w.apply(fleet.NewObject("a.n9", fleet.Node{Cluster: "a", Node: "n9", Box: "rack", Hardware: "server"}))
	w.tick()
	rows = w.rows(schema.EnergyMinute, "a", minutes(0, 15))
	boxes := sumBy(rows, schema.Box, energyFields...)
	if len(boxes) != 1 || total(rows, energyFields...) != 54_000_000 {
		t.Errorf("energy by box %v, want 54,000,000 mJ in one", boxes)
	}
	if got := total(w.rows(schema.UsageQuarter, "a", minutes(0, 15)), energyFields...); got != 54_000_000 {
		t.Errorf("energy in usage: %d, want 54,000,000", got)
	}
	// And back: what is removed from now on keeps what it had.
	if _, err := w.books.Remove(t.Context(), fleet.KindNode, "a.n9", "test"); err != nil {
		t.Fatal(err)
	}
	w.tick()
	if got := total(w.rows(schema.EnergyMinute, "a", minutes(0, 15)), energyFields...); got != 54_000_000 {
		t.Errorf("energy after the node was removed: %d, want 54,000,000", got)
	}
}

// TestPartialQuarter: nothing is attributed before the first minute that was
// metered.
func TestPartialQuarter(t *testing.T) {
	w := newWorld(t, Config{}, append(rackedFleet(), fleet.NewObject("lonely", fleet.Box{OverheadWatts: 100}))...)
	w.settle("a", "n1", minutes(4, 9), twoPods...)
	w.clk.Set(at(9))
	w.tick()
	if got, want := total(w.rows(schema.EnergyMinute, "a", minutes(0, 15)), energyFields...), int64(5*3_600_000); got != want {
		t.Errorf("energy: %d mJ, want five minutes' %d", got, want)
	}
	if got := w.due()[registry.ProcessorPower]; got != 1 {
		t.Errorf("%d running quarters due, want 1", got)
	}
	if err := w.books.AddDue(t.Context(), registry.Due{Processor: registry.ProcessorPower, Scope: "lonely", Quarter: start, Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	w.tick()
	if got := len(w.rows(schema.BoxMinute, schema.BoxCluster, minutes(0, 15))); got != 5 {
		t.Errorf("%d rows of boxes, want none of the box without nodes", got-5)
	}
}

// ticking is a clock on which each look takes a second.
type ticking struct{ now time.Time }

func (c *ticking) Now() time.Time {
	c.now = c.now.Add(time.Second)
	return c.now
}

func (c *ticking) Sleep(ctx context.Context, d time.Duration) error {
	c.now = c.now.Add(d)
	return ctx.Err()
}

// TestBudget: a backlog ends the pass early, keeps no processor from its work,
// and is done in the end.
func TestBudget(t *testing.T) {
	w := newWorld(t, Config{Budget: 30 * time.Second}, rackedFleet()...)
	w.settle("a", "n1", minutes(0, 15*8), twoPods...)
	w.clk.Set(at(15 * 12))
	w.pullAll()
	w.Worker.clock = &ticking{now: at(15 * 12)}
	before := w.due()
	if err := w.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := w.due()[registry.ProcessorPower]; left == 0 || left == before[registry.ProcessorPower] {
		t.Errorf("%d of %d boxes left after one pass, want some", left, before[registry.ProcessorPower])
	}
	if got := len(w.rows(schema.UsageQuarter, "a", minutes(0, 15*8))); got == 0 {
		t.Error("a backlog of power kept usage from its work")
	}
	passes := 1
	for ; len(w.due()) > 0 && passes < 50; passes++ {
		if err := w.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := total(w.rows(schema.EnergyMinute, "a", minutes(0, 15*8)), energyFields...); got != 8*54_000_000 {
		t.Errorf("energy after %d passes: %d, want %d", passes, got, 8*54_000_000)
	}
}

// TestFiveDaysLate: a box with nodes in clusters of three customers. One of them
// comes five days late: until the deadline the box waits, then it is estimated, and
// when the rows come it is computed again; Σ over the three is the meter all along.
func TestFiveDaysLate(t *testing.T) {
	const days, perMinute = 5, 21_600_000
	objects := append(sharedFleet(), fleet.NewObject("c", fleet.Cluster{URL: "http://127.0.0.1:4", Customer: "carol"}),
		fleet.NewObject("carol", fleet.Customer{}), fleet.NewObject("c.n3", fleet.Node{Cluster: "c", Node: "n3", Box: "rack", Hardware: "server"}))
	w := newWorld(t, Config{}, objects...)
	w.settle("a", "n1", minutes(0, 15), twoPods...)
	w.settle("b", "n2", minutes(0, 15), pod{"web", "p3", 300, 60})
	w.clk.Set(at(16))
	w.meter("rack", "plug", minutes(0, 17), perMinute, 1000)
	w.tick()
	if got := len(w.rows(schema.EnergyMinute, "a", minutes(5, 15))); got != 0 {
		t.Errorf("%d rows before cluster c has come or the deadline has passed", got)
	}
	sum := func() (all, measured int64) {
		for _, cluster := range []string{"a", "b", "c", schema.BoxCluster} {
			rows := w.rows(schema.EnergyMinute, cluster, minutes(0, 15))
			all += total(rows, energyFields...)
			measured += total(rows, schema.EnergyMeasured)
		}
		return all, measured
	}
	w.clk.Set(at(60))
	w.tick()
	if all, measured := sum(); all != 15*perMinute || measured != all {
		t.Errorf("Σ without cluster c = %d, measured %d, want the meter's %d", all, measured, 15*perMinute)
	}
	early := total(w.rows(schema.EnergyMinute, "a", minutes(0, 15)), energyFields...)
	for _, row := range w.rows(schema.EnergyMinute, "a", minutes(0, 15)) {
		if quality, _ := row.Field(schema.Quality); quality.Str() != schema.Estimated {
			t.Fatalf("without cluster c a row of a is %q", quality.Str())
		}
	}
	w.clk.Set(at(60 + days*24*60))
	w.settle("c", "n3", minutes(0, 15), pod{"web", "p4", 300, 60})
	w.tick()
	if all, measured := sum(); all != 15*perMinute || measured != all {
		t.Errorf("Σ with cluster c = %d, measured %d, want the meter's %d", all, measured, 15*perMinute)
	}
	late := total(w.rows(schema.EnergyMinute, "c", minutes(0, 15)), energyFields...)
	now := total(w.rows(schema.EnergyMinute, "a", minutes(0, 15)), energyFields...)
	if late != now || 3*now != 15*perMinute || now >= early {
		t.Errorf("c got %d, a %d (before c came %d), want a third of the meter each", late, now, early)
	}
	for _, cluster := range []string{"a", "b", "c"} {
		for _, row := range w.rows(schema.EnergyMinute, cluster, minutes(0, 15)) {
			if quality, _ := row.Field(schema.Quality); quality.Str() != schema.Measured {
				t.Fatalf("at the end a row of %s is %q", cluster, quality.Str())
			}
		}
	}
	if due := w.due(); len(due) != 0 {
		t.Errorf("due at the end: %v", due)
	}
}
