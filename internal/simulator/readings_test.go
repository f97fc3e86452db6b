package simulator

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

// TestCountersNeverFallWithinAnEpoch reads a fleet with restarts, boots and
// jobs every 15 s for three hours.
func TestCountersNeverFallWithinAnEpoch(t *testing.T) {
	s := newSimulator(t, Varying(start))
	type key struct {
		reading.Series
		q reading.Quantity
	}
	last := make(map[key]reading.Reading)
	epochs := make(map[reading.Series]map[time.Time]bool)
	for at := start; at.Before(start.Add(3 * time.Hour)); at = at.Add(15 * time.Second) {
		for _, b := range s.Readings("varying", at) {
			for _, r := range b.Readings {
				if r.Time.After(at) || r.Epoch.After(r.Time) || at.Sub(r.Time) > Usual.MaxAge() {
					t.Fatalf("%s: sample of %s, epoch %s: %+v", at, r.Time, r.Epoch, r.Series)
				}
				if epochs[r.Series] == nil {
					epochs[r.Series] = make(map[time.Time]bool)
				}
				epochs[r.Series][r.Epoch] = true
				for q := reading.Quantity(0); q < reading.Counters; q++ {
					value, has := r.Values.Get(q)
					before, seen := last[key{r.Series, q}]
					if !has {
						continue
					}
					if old, _ := before.Values.Get(q); seen && before.Epoch.Equal(r.Epoch) && (value < old || r.Time.Before(before.Time)) {
						t.Fatalf("%+v fell from %d at %s to %d at %s", r.Series, old, before.Time, value, r.Time)
					}
					last[key{r.Series, q}] = r
				}
			}
		}
	}
	kinds := make(map[int]int)
	for series, seen := range epochs {
		if series.Kind == reading.Container || series.Kind == reading.Node {
			kinds[len(seen)]++
		}
	}
	if kinds[2] < 2 || kinds[4]+kinds[3] < 1 { // n2 booted; a container restarted twice
		t.Errorf("series by number of epochs: %v", kinds)
	}
}

func TestAMomentAddsUp(t *testing.T) {
	s := newSimulator(t, Varying(start))
	for at := start.Add(time.Minute); at.Before(start.Add(3 * time.Hour)); at = at.Add(97 * time.Second) {
		for _, b := range s.ReadingsAt("varying", at) {
			var node, kubepods, pods int64
			containers := make(map[string]int64)
			podCPU := make(map[string]int64)
			for _, r := range b.Readings {
				if !r.Time.Equal(at) {
					t.Fatalf("a sample at %s instead of %s", r.Time, at)
				}
				cpu, _ := r.Values.Get(reading.CPU)
				switch r.Kind {
				case reading.Node:
					node = cpu
				case reading.Kubepods:
					kubepods = cpu
				case reading.Pod:
					pods += cpu
					podCPU[r.PodUID] = cpu
				case reading.Container:
					containers[r.PodUID] += cpu
				}
			}
			if node < kubepods || kubepods < pods {
				t.Fatalf("%s %s: node %d, kubepods %d, living pods %d", b.Node, at, node, kubepods, pods)
			}
			for uid, sum := range containers {
				if sum > podCPU[uid] {
					t.Fatalf("%s %s: containers %d of a pod with %d", b.Node, at, sum, podCPU[uid])
				}
			}
		}
	}
}

// TestBodiesAreNoSnapshots: within one body the samples lie up to 23 s apart,
// and some pods are older than their parent.
func TestBodiesAreNoSnapshots(t *testing.T) {
	s := newSimulator(t, Varying(start))
	var most time.Duration
	for at := start.Add(time.Hour); at.Before(start.Add(2 * time.Hour)); at = at.Add(15 * time.Second) {
		parent, ok := find(s.Readings("varying", at), "n1", reading.Kubepods)
		if !ok {
			t.Fatal("no kubepods")
		}
		for _, b := range s.Readings("varying", at) {
			for _, r := range b.Readings {
				if b.Node == "n1" && r.Kind == reading.Pod {
					most = max(most, parent.Time.Sub(r.Time))
				}
			}
		}
	}
	if most < 12*time.Second || most > 23*time.Second {
		t.Errorf("pods up to %s older than their parent", most)
	}
	fleet := Varying(start)
	fleet.Housekeeping = Exact
	at := start.Add(time.Hour).Add(1234 * time.Millisecond)
	for _, b := range newSimulator(t, fleet).Readings("varying", at) {
		for _, r := range b.Readings {
			if !r.Time.Equal(at) {
				t.Errorf("exact: a sample at %s, scraped at %s", r.Time, at)
			}
		}
	}
}

// cpuAt is the line between the samples around t.
func cpuAt(samples []reading.Reading, t time.Time) float64 {
	for n := 1; n < len(samples); n++ {
		a, b := samples[n-1], samples[n]
		if b.Time.Before(t) {
			continue
		}
		x, _ := a.Values.Get(reading.CPU)
		y, _ := b.Values.Get(reading.CPU)
		return float64(x) + float64(y-x)*t.Sub(a.Time).Seconds()/b.Time.Sub(a.Time).Seconds()
	}
	return 0
}

// balance reads node n1 every 15 s for an hour and interpolates to edges: the
// most by which kubepods − Σ pods moves, and the longest time between two
// readings of a series. With scraped the samples' own times are ignored.
func balance(s *Simulator, cluster string, scraped bool) (most float64, gap time.Duration) {
	samples := make(map[reading.Series][]reading.Reading)
	for at := start.Add(time.Minute); at.Before(start.Add(time.Hour)); at = at.Add(15 * time.Second) {
		for _, r := range s.Readings(cluster, at)[0].Readings {
			if scraped {
				r.Time = at
			}
			known := samples[r.Series]
			if len(known) > 0 && !r.Time.After(known[len(known)-1].Time) {
				continue
			}
			if len(known) > 0 {
				gap = max(gap, r.Time.Sub(known[len(known)-1].Time))
			}
			samples[r.Series] = append(known, r)
		}
	}
	first := math.NaN()
	for at := start.Add(2 * time.Minute); at.Before(start.Add(58 * time.Minute)); at = at.Add(15 * time.Second) {
		now := 0.0
		for series, read := range samples {
			switch series.Kind {
			case reading.Kubepods:
				now += cpuAt(read, at)
			case reading.Pod:
				now -= cpuAt(read, at)
			}
		}
		if math.IsNaN(first) {
			first = now
		}
		most = max(most, math.Abs(now-first))
	}
	return most, gap
}

// TestTheBalanceStaysWithinItsBound, where pods stay and rates vary.
func TestTheBalanceStaysWithinItsBound(t *testing.T) {
	fleet := Varying(start)
	fleet.Clusters[0].Pods = fleet.Clusters[0].Pods[1:5]
	s := newSimulator(t, fleet)
	most, gap := balance(s, "varying", false)
	if limit := Usual.MaxGap(15 * time.Second); gap > limit || gap < limit/2 {
		t.Errorf("readings up to %s apart, limit %s", gap, limit)
	}
	bound := s.BalanceBound("varying", "n1", start, start.Add(time.Hour), gap)
	if most == 0 || most > bound {
		t.Errorf("balance up to %v core-µs, bound %v", most, bound)
	}
	t.Logf("balance up to %.0f core-µs, bound %.0f, gap %s", most, bound, gap)
}

// TestConstantRatesHaveNoBalance, but for a meter that takes a sample's time
// to be that of its scrape.
func TestConstantRatesHaveNoBalance(t *testing.T) {
	s := newSimulator(t, Steady(start))
	if bound := s.BalanceBound("steady", "n1", start, start.Add(time.Hour), time.Minute); bound != 0 {
		t.Errorf("bound %v", bound)
	}
	limit := 1e-6 * float64(s.NodeCoreMicroseconds("steady", "n1", start, start.Add(time.Hour)))
	if most, _ := balance(s, "steady", false); most > limit {
		t.Errorf("balance up to %v core-µs, limit %v", most, limit)
	}
	if control, _ := balance(s, "steady", true); control < 1000*limit {
		t.Errorf("control: without the samples' own times the balance is %v core-µs only", control)
	}
}

// TestTheDemo: about ten pods a cluster, nodes that can carry them, and the
// same fleet again from the same start.
func TestTheDemo(t *testing.T) {
	now := start.Add(23 * time.Minute)
	s, again := newSimulator(t, Demo(now)), newSimulator(t, DemoSince(Demo(now).Boxes[0].Since))
	for at := now.Add(-24 * time.Hour); at.Before(now); at = at.Add(7 * time.Minute) {
		for _, cluster := range s.Fleet().Clusters {
			alive := 0
			for _, i := range s.Instances(cluster.Name, at, at) {
				if i.alive(at) {
					alive++
				}
			}
			if alive < 8 || alive > 12 || len(cluster.Nodes) != 3 {
				t.Fatalf("%s: %d pods on %d nodes at %s", cluster.Name, alive, len(cluster.Nodes), at)
			}
			for n := range cluster.Nodes {
				if rate := s.rate(cluster.Name, &cluster.Nodes[n], at); rate > float64(cluster.Nodes[n].Cores) {
					t.Errorf("%s uses %v of %d cores", cluster.Nodes[n].Name, rate, cluster.Nodes[n].Cores)
				}
			}
			if diff := cmp.Diff(s.Readings(cluster.Name, at), again.Readings(cluster.Name, at), cmp.AllowUnexported(reading.Values{})); diff != "" {
				t.Fatalf("another fleet from the same start:\n%s", diff)
			}
		}
		for box, limits := range map[string][2]float64{"box-ams": {14, 36}, "box-ams-2": {13, 36}, "box-par": {110, 300}, "box-colo": {70, 180}} {
			if watts := s.BoxWatts(box, at); watts < limits[0] || watts > limits[1] {
				t.Errorf("%s draws %v W, not %v", box, watts, limits)
			}
		}
	}
}

func BenchmarkReadings(b *testing.B) {
	s := newSimulator(b, Demo(start))
	at := start.Add(-time.Hour)
	for b.Loop() {
		s.Readings("edge-ams", at)
		at = at.Add(time.Second)
	}
}
