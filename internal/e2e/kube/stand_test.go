package kube

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

const (
	// readEach is the follower's default.
	readEach = 15 * time.Second
	// quiet is how long before and after the edges of what is compared nothing
	// runs: a reading and the age of its samples.
	quiet = readEach + 4*time.Second
	// counts is how old the samples of a kubelet of the lab are at most, which counts
	// each second.
	counts = 3 * time.Second
)

// stand is a node of a cluster of the test's own, under a follower.
type stand struct {
	t           *testing.T
	space       space
	node        kubetest.Node
	meter       *meter
	whole, kube *trace
	pods        *podTraces
	clock       clock.Clock
	quiet       time.Duration
	from        time.Time // of what is compared: a minute
}

// newStand follows a node of a cluster and starts its follower.
func newStand(t *testing.T, cluster *kubetest.Cluster, node, port int) *stand {
	t.Helper()
	s := watchNode(t, cluster, node)
	s.meter = startMeter(t, s.space, &cluster.Standing, port, "--scrape-interval", readEach.String(), "--facts-deadline", "15s")
	s.compare(quiet)
	return s
}

// watchNode follows a node of a cluster that nobody meters yet.
func watchNode(t *testing.T, cluster *kubetest.Cluster, node int) *stand {
	t.Helper()
	client, err := kubernetes.NewForConfig(cluster.Config())
	if err != nil {
		t.Fatal(err)
	}
	s := &stand{t: t, space: space{client, "default"}, node: cluster.Nodes[node], clock: clock.System()}
	s.whole, s.kube, s.pods = follow(t, s.node.Cgroup), follow(t, s.node.Cgroup+"/kubepods"), followPods(t, s.node)
	return s
}

// compare says from when what is metered is compared: from the next minute whose
// beginning the follower will have read.
func (s *stand) compare(quiet time.Duration) {
	s.quiet, s.from = quiet, s.clock.Now().Add(quiet).Truncate(time.Minute).Add(time.Minute)
}

// begin returns when the nodes have been read for a while and idle. A kubelet that does
// not answer meanwhile is waited for: what is used after the first edge would be spread
// over it.
func (s *stand) begin() {
	s.t.Helper()
	s.sleepUntil(s.from.Add(s.quiet))
	s.readSince(s.from.Add(counts))
}

func (s *stand) sleep(d time.Duration) {
	s.t.Helper()
	s.sleepUntil(s.clock.Now().Add(d))
}

func (s *stand) sleepUntil(at time.Time) {
	s.t.Helper()
	if err := clock.At(s.t.Context(), s.clock, at); err != nil {
		s.t.Fatal(err)
	}
}

// sums are what the meter says of the node.
type sums struct {
	schema.Window
	pods  map[string]int64 // core-µs by UID, with the rests
	whole int64
}

// sums is from the stand's begin until a minute after which nothing ran; it
// waits until that has settled. It ends after a reading of what no longer runs, as begin.
func (s *stand) sums() sums {
	s.t.Helper()
	s.readSince(s.clock.Now().Add(counts))
	to := s.clock.Now().Add(s.quiet).Truncate(time.Minute).Add(time.Minute)
	s.sleepUntil(to.Add(s.quiet + 2*traceEach))
	s.meter.until(to)
	eventually(s.t, "rows that have their facts", s.meter.factual)
	u := sums{Window: schema.Window{From: s.from, To: to}}
	var err error
	if u.pods, u.whole, err = s.meter.cpuOf(s.t.Context(), s.node.Name, u.Window); err != nil {
		s.t.Fatal(err)
	}
	return u
}

// adds checks that what the meter says adds up to what the kernel counted.
func (s *stand) adds(u sums) {
	s.t.Helper()
	var sum int64
	for _, cpu := range u.pods {
		sum += cpu
	}
	if sum != u.whole {
		s.t.Errorf("Σ pods, unattributed and system is %d core-µs, the node's rows say %d", sum, u.whole)
	}
	s.grew("the node", s.whole, u, u.whole)
	s.grew("kubepods", s.kube, u, sum-u.pods[schema.SystemNamespace])
}

// grew checks an amount against the growth of a counter in the window. At its
// edges the meter's is on a line between two readings, each at most quiet away.
func (s *stand) grew(what string, counter *trace, u sums, amount int64) {
	s.t.Helper()
	s.between(what, counter, amount, u.From, u.To.Add(-s.quiet), u.To.Add(s.quiet))
}

// between checks an amount against the growth of a counter from about a moment
// to between two others.
func (s *stand) between(what string, counter *trace, amount int64, from, early, late time.Time) {
	s.t.Helper()
	var low, high [4]int64
	for i, at := range []time.Time{from.Add(-s.quiet), from.Add(s.quiet), early, late} {
		var ok bool
		if low[i], high[i], ok = counter.within(at); !ok {
			s.t.Fatalf("%s was not read around %s", what, at.Format(time.TimeOnly))
		}
	}
	least, most := low[2]-high[1], high[3]-low[0]
	text := fmt.Sprintf("%s: metered %s core-s, the kernel counted %s to %s", what, seconds(amount), seconds(least), seconds(most))
	if amount < least || amount > most {
		s.t.Error(text)
		return
	}
	s.t.Log(text)
}

// other is another node of the cluster under the same follower, from now on.
func (s *stand) other(node kubetest.Node) *stand {
	s.t.Helper()
	o := *s
	o.node, o.whole, o.kube, o.pods = node, follow(s.t, node.Cgroup), follow(s.t, node.Cgroup+"/kubepods"), followPods(s.t, node)
	return &o
}

// notNegative checks that no pod has less than nothing in any minute. The rests
// may: their parents are read at moments of their own.
func (s *stand) notNegative() {
	s.t.Helper()
	rows, err := s.meter.rows(s.t.Context(), schema.PodMinute.Name)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, row := range rows {
		if cpu, err := strconv.ParseInt(row[schema.CPU], 10, 64); err != nil || cpu < 0 && !strings.HasPrefix(row[schema.Namespace], "__") {
			s.t.Errorf("%s of %s/%s is %q, %v", row["time"], row[schema.Namespace], row[schema.Pod], row[schema.CPU], err)
		}
	}
}

// left checks how much is nobody's.
func (s *stand) left(u sums) {
	s.t.Helper()
	left := u.pods[schema.UnattributedNamespace]
	text := fmt.Sprintf("unattributed is %s core-s, %.3f %% of the node's %s", seconds(left), 100*float64(left)/float64(u.whole), seconds(u.whole))
	if left > u.whole/200 || left < -u.whole/200 {
		s.t.Error(text)
		return
	}
	s.t.Log(text)
}

// one runs a Job, alone in the readings.
func (s *stand) one(name string, length time.Duration) ended {
	s.t.Helper()
	s.space.stressJob(s.t, name, s.node.Name, length)
	var mine ended
	eventually(s.t, "end of "+name, func(context.Context) error {
		for _, job := range s.space.stressed(s.t, 0) {
			if job.job == name {
				mine = job
				return nil
			}
		}
		return fmt.Errorf("it has not ended")
	})
	s.sleep(readEach + 2*time.Second)
	return mine
}

func seconds(us int64) string { return strconv.FormatFloat(float64(us)/1e6, 'f', 3, 64) }

// off is a difference, in percent.
func off(got, want int64) float64 { return 100 * float64(got-want) / float64(want) }
