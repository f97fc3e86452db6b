package simulator

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

var start = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)

func newSimulator(t testing.TB, fleet Fleet) *Simulator {
	t.Helper()
	s, err := New(fleet)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestGrownIsTheIntegralOfAt(t *testing.T) {
	for name, w := range map[string]Wave{
		"constant": Constant(0.7),
		"sine":     {Base: 1, Amplitude: 0.9, Period: 97 * time.Second, Phase: 31 * time.Second},
		"burst":    {Base: 0.1, Burst: 2, BurstPeriod: 60 * time.Second, BurstLength: 13 * time.Second},
		"all":      {Base: 1, Amplitude: 1, Period: 47 * time.Second, Phase: -7 * time.Second, Burst: 0.5, BurstPeriod: 11 * time.Second, BurstLength: 11 * time.Second},
	} {
		const step = 10 * time.Millisecond
		sum := 0.0
		for x := time.Duration(0); x < 10*time.Minute; x += step {
			sum += w.At(x+step/2) * step.Seconds()
			if x%(7*time.Second) == 0 {
				if got := w.Grown(x + step); math.Abs(got-sum) > 1e-5*(1+sum) {
					t.Fatalf("%s: grown %s = %v, summed %v", name, x+step, got, sum)
				}
			}
		}
	}
}

func TestMaxChangeIsReachedAndNotExceeded(t *testing.T) {
	w := Wave{Base: 1, Amplitude: 0.8, Period: 2 * time.Minute, Burst: 0.3, BurstPeriod: time.Minute, BurstLength: 20 * time.Second}
	for _, gap := range []time.Duration{time.Second, 23 * time.Second, time.Minute, time.Hour} {
		bound, most := w.MaxChange(gap), 0.0
		for x := time.Duration(0); x < 4*time.Minute; x += 500 * time.Millisecond {
			for d := time.Duration(0); d <= min(gap, 2*time.Minute); d += 500 * time.Millisecond {
				most = max(most, math.Abs(w.At(x+d)-w.At(x)))
			}
		}
		if most > bound+1e-9 || most < bound/2 {
			t.Errorf("gap %s: the rate changes by %v, bound %v", gap, most, bound)
		}
	}
}

// TestEndedPodsBelongToTheParent is the control of TestPartsAddUp: without the
// pods that ended, the parts do not add up.
func TestEndedPodsBelongToTheParent(t *testing.T) {
	s := newSimulator(t, Varying(start))
	from, to := start.Add(time.Minute), start.Add(time.Hour)
	living := int64(0)
	for _, i := range s.Instances("varying", to, to) {
		if i.Node == "n1" && i.alive(to) {
			living += s.CoreMicroseconds(i, from, to)
		}
	}
	if kubepods := s.KubepodsCoreMicroseconds("varying", "n1", from, to); kubepods < living+14*60e6 { // 14 runs of 75 s at 0.8 cores
		t.Errorf("kubepods %d, living pods %d", kubepods, living)
	}
}

// lifeSum is what every instance used in a window: the ended ones too.
func lifeSum(s *Simulator, cluster, node string, from, to time.Time) (sum int64, pods int) {
	for _, i := range s.Instances(cluster, from, to) {
		if i.Node == node {
			sum, pods = sum+s.CoreMicroseconds(i, from, to), pods+1
		}
	}
	return sum, pods
}

func TestPartsAddUp(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, fleet := range []Fleet{Steady(start), Varying(start), Shared(start), Demo(start.Add(25 * time.Hour))} {
		s := newSimulator(t, fleet)
		for _, cluster := range fleet.Clusters {
			for _, node := range cluster.Nodes {
				for range 20 {
					from := start.Add(time.Duration(random.Int64N(int64(24 * time.Hour))))
					to := from.Add(time.Duration(random.Int64N(int64(3 * time.Hour))))
					sum, pods := lifeSum(s, cluster.Name, node.Name, from, to)
					kubepods := s.KubepodsCoreMicroseconds(cluster.Name, node.Name, from, to)
					if off := kubepods - sum; off < -int64(pods) || off > int64(pods)+1 { // one µs for each counter's floor
						t.Errorf("%s.%s [%s, %s): kubepods %d, its %d pods %d", cluster.Name, node.Name, from, to, kubepods, pods, sum)
					}
					if whole := s.NodeCoreMicroseconds(cluster.Name, node.Name, from, to); whole < kubepods {
						t.Errorf("%s.%s: node %d less than kubepods %d", cluster.Name, node.Name, whole, kubepods)
					}
				}
			}
		}
	}
}

func TestTruthIsTheIntegralOfTheRate(t *testing.T) {
	s := newSimulator(t, Varying(start))
	from, to := start.Add(80*time.Minute), start.Add(100*time.Minute)
	for _, i := range s.Instances("varying", from, to) {
		sum := 0.0
		for at := from; at.Before(to); at = at.Add(100 * time.Millisecond) {
			if middle := at.Add(50 * time.Millisecond); i.alive(middle) {
				sum += i.pod.CPU.At(middle.Sub(i.Start)) * 0.1
			}
		}
		if got := float64(s.CoreMicroseconds(i, from, to)) / 1e6; math.Abs(got-sum) > 1e-4*(1+sum) {
			t.Errorf("%s: %v core-seconds, summed %v", i.Name, got, sum)
		}
	}
}

func TestEnergyIsTheIntegralOfTheWatts(t *testing.T) {
	fleet := Shared(start)
	fleet.Clusters[0].Nodes[0].WattsPerSquaredCore = 0.8
	s := newSimulator(t, fleet)
	from, to := start.Add(61*time.Minute), start.Add(75*time.Minute)
	for _, box := range fleet.Boxes {
		joules := 0.0
		for at := from; at.Before(to); at = at.Add(time.Second / 4) {
			joules += s.BoxWatts(box.Name, at.Add(time.Second/8)) / 4
		}
		if got := float64(s.BoxMillijoules(box.Name, from, to)) / 1000; math.Abs(got-joules) > 1e-4*joules {
			t.Errorf("%s: %v J, summed %v", box.Name, got, joules)
		}
	}
}

// TestPodsSystemAndOverheadAreTheBox: with pods on every node nothing else is left.
func TestPodsSystemAndOverheadAreTheBox(t *testing.T) {
	fleet := Shared(start)
	s := newSimulator(t, fleet)
	from, to := start.Add(2*time.Hour), start.Add(3*time.Hour)
	sum := 5.0 * to.Sub(from).Seconds() * 1000
	s.each("box-shared", func(cluster string, n *Node) {
		system := s.SystemMillijoules(cluster, n.Name, from, to)
		parts, whole := float64(system), s.NodeMillijoules(cluster, n.Name, from, to)
		sum += float64(system)
		for _, i := range s.Instances(cluster, from, to) {
			if i.Node == n.Name {
				energy := s.PodMillijoules(i, from, to)
				sum += float64(energy.Active + energy.Idle)
				parts += float64(energy.Active + energy.Idle)
			}
		}
		if off := float64(whole.Active+whole.Idle) - parts; math.Abs(off) > 10 {
			t.Errorf("%s: %v mJ more than its parts", n.Name, off)
		}
	})
	if got := float64(s.BoxMillijoules("box-shared", from, to)); math.Abs(got-sum) > 20 {
		t.Errorf("box %v mJ, its parts %v", got, sum)
	}
}

func TestMetersCountInSteps(t *testing.T) {
	fleet := Steady(start)
	reset := start.Add(time.Hour)
	fleet.Boxes[0].Meters = []Meter{{Name: "wh", Generation: 2, StepMillijoules: 3_600_000, Share: 0.5}, {Name: "reset", Generation: 1, Resets: []time.Time{reset}}}
	s := newSimulator(t, fleet)
	last := int64(0)
	for at := start; at.Before(start.Add(2 * time.Hour)); at = at.Add(13 * time.Second) {
		got := s.MeterMillijoules("box-a", "wh", at)
		truth := s.BoxMillijoules("box-a", start, at) / 2
		if got%3_600_000 != 0 || got < last || got > truth+1 || truth-got > 3_600_001 {
			t.Fatalf("%s: shows %d mJ, truth %d, before %d", at, got, truth, last)
		}
		last = got
	}
	if before, after := s.MeterMillijoules("box-a", "reset", reset.Add(-1)), s.MeterMillijoules("box-a", "reset", reset); before < 60_000 || after != 0 {
		t.Errorf("around its reset the meter shows %d and %d", before, after)
	}
}

func TestRunsOfACronJob(t *testing.T) {
	s := newSimulator(t, Varying(start))
	names, uids := make(map[string]bool), make(map[string]bool)
	count := 0
	for _, i := range s.Instances("varying", start, start.Add(2*time.Hour)) {
		if i.WorkloadKind != "CronJob" {
			continue
		}
		count++
		names[i.Name], uids[i.UID] = true, true
		if i.End.Sub(i.Start) != 75*time.Second || i.Start.Sub(start)%(4*time.Minute) != 0 || i.Workload != "batch" {
			t.Errorf("run %+v", i)
		}
	}
	if count != 30 || len(names) != count || len(uids) != count {
		t.Errorf("%d runs with %d names and %d UIDs, want 30 of each", count, len(names), len(uids))
	}
}

func TestWrongFleets(t *testing.T) {
	for name, spoil := range map[string]func(*Fleet){
		"pod on no node":      func(f *Fleet) { f.Clusters[0].Pods[0].Node = "x" },
		"negative wave":       func(f *Fleet) { f.Clusters[0].Pods[0].CPU.Amplitude = 9 },
		"overlapping runs":    func(f *Fleet) { f.Clusters[0].Pods[0].Every = time.Second },
		"too many containers": func(f *Fleet) { f.Clusters[0].Pods[0].Containers[0].Share = 1.5 },
		"no box":              func(f *Fleet) { f.Clusters[0].Nodes[0].Box = "x" },
		"pod twice":           func(f *Fleet) { f.Clusters[0].Pods[1] = f.Clusters[0].Pods[0] },
		"half seconds":        func(f *Fleet) { f.Clusters[0].Pods[0].Start = start.Add(time.Minute + 1) },
		"jitter":              func(f *Fleet) { f.Housekeeping.Jitter = time.Minute },
	} {
		fleet := Steady(start)
		spoil(&fleet)
		if _, err := New(fleet); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// values of one series in one body.
func find(bodies []reading.Body, node string, kind reading.Kind) (reading.Reading, bool) {
	for _, b := range bodies {
		for _, r := range b.Readings {
			if b.Node == node && r.Kind == kind {
				return r, true
			}
		}
	}
	return reading.Reading{}, false
}
