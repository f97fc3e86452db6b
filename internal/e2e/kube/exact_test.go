package kube

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/kubetest"
)

// The crowd of Jobs beside long pods; each can be set by a variable of that name.
// CONTRIBUTING.md names the whole of it: 200 Jobs in ten minutes.
var (
	crowdJobs    = setting("ACCUMULUS_CROWD_JOBS", 30)
	crowdSeconds = setting("ACCUMULUS_CROWD_SECONDS", 90) // in which they start, evenly
)

// Jobs shorter than the time between two readings, alone on an idle node, beside
// busy neighbours, and in a crowd beside long pods on all cores. What each used
// is known from its own control group.
func TestShortJobs(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Inside(t).NewCluster(t, "jobs", 1)
	s := newStand(t, cluster, 0, 18471)
	s.begin()
	lengths := []time.Duration{time.Second, 3 * time.Second, 7 * time.Second}
	var alone, beside []ended
	for _, length := range lengths {
		alone = append(alone, s.one("alone-"+length.String(), length))
	}
	long := map[string]string{}
	for _, name := range []string{"long-a", "long-b"} {
		long[name] = s.space.server(t, name, s.node.Name)
		s.space.ask(t, name, "stress/cpu/1")
	}
	neighbours := s.neighbours(long)
	s.sleep(readEach)
	for _, length := range lengths {
		beside = append(beside, s.one("beside-"+length.String(), length))
	}
	next := s.clock.Now()
	for i := range crowdJobs {
		s.space.stressJob(t, fmt.Sprintf("crowd-%d", i), s.node.Name, lengths[i%len(lengths)])
		next = next.Add(time.Duration(crowdSeconds) * time.Second / time.Duration(crowdJobs))
		s.sleepUntil(next)
	}
	all := s.space.stressed(t, crowdJobs+2*len(lengths))
	for name := range long {
		s.space.ask(t, name, "stress/cpu/0")
	}
	u := s.sums()
	s.adds(u)
	s.alone(alone, u)
	s.beside(beside, u, neighbours)
	s.crowded(all, long, u)
	s.notNegative()
	s.left(u)
}

// neighbours are the counters of pods.
func (s *stand) neighbours(pods map[string]string) []*trace {
	var all []*trace
	for _, uid := range pods {
		all = append(all, follow(s.t, s.node.Cgroup+"/kubepods/burstable/pod"+uid))
	}
	return all
}

// sandbox is what the pod used beside its container: the runtime's start and
// the pause program. Its container counts none of it.
func (s *stand) sandbox(job ended) int64 { return max(0, s.pods.of(job.uid)-job.own) }

// alone: within 5 % of what the Job measured of itself, and what its sandbox
// used. That nobody read the shorter ones is known: without shares of ended pods
// they are nothing, which fails here.
func (s *stand) alone(jobs []ended, u sums) {
	s.t.Helper()
	for _, job := range jobs {
		got, whole := u.pods[job.uid], s.pods.of(job.uid)
		s.t.Logf("%-10s own %s, its pod %s, metered %s: %+.2f %% of own, %+.2f %% of the pod's", job.job, seconds(job.own), seconds(whole), seconds(got),
			off(got, job.own), off(got, whole))
		if d := got - job.own; d < -job.own/20 || d > job.own/20+s.sandbox(job) {
			s.t.Errorf("%s: metered %s, it measured %s, its sandbox used %s", job.job, seconds(got), seconds(job.own), seconds(s.sandbox(job)))
		}
	}
}

// skew is how far apart the samples of one body of the kubelet are.
const skew = 3 * time.Second

// beside: off by what a neighbour's change of rate can hide at both ends of the
// slots, and never less than nothing or more than the node's cores gave.
func (s *stand) beside(jobs []ended, u sums, neighbours []*trace) {
	s.t.Helper()
	for _, job := range jobs {
		bound := job.own/20 + s.sandbox(job)
		for _, n := range neighbours {
			low, high := n.rates(job.from.Add(-readEach-skew), job.to.Add(readEach+skew))
			bound += int64(2 * (high - low) * skew.Seconds() * 1e6)
		}
		got := u.pods[job.uid]
		s.t.Logf("%-10s own %s, metered %s: %+.2f %%, bound %s", job.job, seconds(job.own), seconds(got), off(got, job.own), seconds(bound))
		if d := got - job.own; d < -bound || d > bound {
			s.t.Errorf("%s: metered %s, it measured %s, the bound is %s", job.job, seconds(got), seconds(job.own), seconds(bound))
		}
		if most := (job.to.Sub(job.from) + time.Second).Microseconds() * int64(runtime.NumCPU()); got < 0 || got > most {
			s.t.Errorf("%s: metered %s, of %s at most", job.job, seconds(got), seconds(most))
		}
	}
}

// idling is what a stress program without load uses in a minute, core-µs: it
// reads its counters each second.
const idling = 300_000

// crowded: the long pods have what they used, and the Jobs together too.
func (s *stand) crowded(jobs []ended, long map[string]string, u sums) {
	s.t.Helper()
	for name, uid := range long {
		truth, got := s.pods.of(uid), u.pods[uid]
		s.t.Logf("%-10s its pod %s, metered %s: %+.3f %%", name, seconds(truth), seconds(got), off(got, truth))
		if d := got - truth; d < -idling || d > idling { // since u.To it idled
			s.t.Errorf("%s: metered %s, its control group says %s", name, seconds(got), seconds(truth))
		}
	}
	var own, got, sandboxes int64
	for _, job := range jobs {
		own, got, sandboxes = own+job.own, got+u.pods[job.uid], sandboxes+s.sandbox(job)
	}
	text := fmt.Sprintf("%d Jobs: own %s, sandboxes %s, metered %s (%+.2f %% of both)", len(jobs), seconds(own), seconds(sandboxes), seconds(got), off(got, own+sandboxes))
	if d := off(got, own+sandboxes); d < -5 || d > 5 {
		s.t.Error(text)
		return
	}
	s.t.Log(text)
}
