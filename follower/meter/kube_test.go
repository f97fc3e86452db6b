package meter

import (
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// sums are a field by minute over the rows of a table that ask wants.
func (s *stage) sums(table, field string, minutes int, wants func(tag func(string) string) bool) []int64 {
	sums := make([]int64, minutes)
	for id, p := range s.d.minute.rows[table] {
		if i := int((id.at - s.start.UnixNano()) / minute); i >= 0 && i < minutes && wants(p.Tag) {
			sums[i] += p.Int(field)
		}
	}
	return sums
}

func ofPod(tag func(string) string) bool { return tag(schema.PodUID) == "u" }

func (s *stage) ticks(from, to int) {
	s.t.Helper()
	for second := from; second <= to; second += 15 {
		s.tick(second, true)
	}
}

// A window has the requests that held in it, also when it is built again, and
// when the watch told of the resize after it had settled.
func TestResizedPod(t *testing.T) {
	for _, told := range []int{90, 180} {
		s := newStage(t)
		s.ticks(0, told)
		pod := &s.w.pods[0]
		pod.Past = []reading.PastRequests{{Until: s.start.Add(90 * time.Second), Containers: slices.Clone(pod.Containers)}}
		pod.Containers = []reading.ContainerInfo{{Name: "c", RequestMillicores: 1500, RequestMemoryBytes: 1 << 20}, {Name: schema.PodRest, RequestMillicores: 100}}
		s.ticks(told+15, 240)
		want := []int64{30e6, 15e6 + 45e6 + 3e6, 96e6}
		for range 2 {
			if diff := cmp.Diff(want, s.sums("pod", schema.CPURequest, 3, ofPod)); diff != "" {
				t.Errorf("told at %d s: pod's requests (-want +got):\n%s", told, diff)
			}
			if diff := cmp.Diff(want, s.sums("container", schema.CPURequest, 3, ofPod)); diff != "" {
				t.Errorf("told at %d s: its containers' (-want +got):\n%s", told, diff)
			}
			larger, used := make([]int64, 3), s.sums("pod", schema.CPU, 3, ofPod)
			for i := range larger {
				larger[i] = max(want[i], used[i])
			}
			if diff := cmp.Diff(larger, s.sums("pod", schema.CPUMax, 3, ofPod)); diff != "" {
				t.Errorf("told at %d s: the larger of use and request (-want +got):\n%s", told, diff)
			}
			if rest := func(tag func(string) string) bool { return !ofPod(tag) }; !cmp.Equal(s.sums("pod", schema.CPU, 3, rest), s.sums("pod", schema.CPUMax, 3, rest)) {
				t.Errorf("told at %d s: a rest requests nothing, and its larger one is not what it used", told)
			}
			s.restart()
			s.settle()
		}
	}
}

// A pod whose image is being pulled has a cgroup and costs what that used; what
// it asks for counts from its first container's start.
func TestWaitingPodAsksForNothing(t *testing.T) {
	s := newStage(t)
	start := s.start.Add(90 * time.Second)
	s.w.pods[0].Created, s.w.pods[0].Start = s.start.Add(-time.Hour), time.Time{}
	s.ticks(0, 180)
	for field, want := range map[string][]int64{schema.CPURequest: {0, 0}, schema.Uptime: {0, 0}, schema.CPU: {30e6, 30e6}} {
		if diff := cmp.Diff(want, s.sums("pod", field, 2, ofPod)); diff != "" {
			t.Errorf("%s while it waits (-want +got):\n%s", field, diff)
		}
	}
	s.w.pods[0].Start = start
	s.ticks(195, 240)
	if diff := cmp.Diff([]int64{0, 15e6, 30e6}, s.sums("pod", schema.CPURequest, 3, ofPod)); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	s.restart()
	s.settle()
	if diff := cmp.Diff([]int64{0, 30e3, 60e3}, s.sums("pod", schema.Uptime, 3, ofPod)); diff != "" {
		t.Errorf("uptime after a restart (-want +got):\n%s", diff)
	}
	// Control: by the time of its object it would have been billed from the first minute.
	control := newStage(t)
	control.ticks(0, 120)
	if got := control.sums("pod", schema.CPURequest, 1, ofPod)[0]; got != 30e6 {
		t.Errorf("a pod that runs asks for %d", got)
	}
}

// A pod that never started gets nothing of what its node counted unseen.
func TestPodThatNeverRan(t *testing.T) {
	s := newStage(t)
	s.w.pods[0].Start = time.Time{}
	s.ticks(0, 60)
	s.w.pods[0].End = s.start.Add(70 * time.Second)
	for second := 75; second <= 240; second += 15 {
		s.tick(second, false)
	}
	if got := s.cpu(schema.UnattributedNamespace, 2); got[1] != 5e6 {
		t.Errorf("unattributed %v, want 5 core-s in the second minute", got)
	}
}

// Nodes with one boot id are on one host: together they have what it has.
func TestNodesOnOneHost(t *testing.T) {
	s := newStage(t)
	s.w.facts["m"] = reading.Facts{Box: "b"}
	second := reading.NodeInfo{Name: "m", UID: "m", CapacityMillicores: 4000, AllocatableMilli: 3000, AllocatableMemoryKiB: 2048, BootID: "host"}
	s.w.nodes[0].BootID = "host"
	s.w.nodes = append([]reading.NodeInfo{second}, s.w.nodes...)
	s.ticks(0, 90)
	s.w.nodes[0].Left = s.start.Add(90 * time.Second)
	s.ticks(105, 300)
	all := func(func(string) string) bool { return true }
	if diff := cmp.Diff([]int64{240e6, 240e6, 240e6}, s.sums("node", schema.CapacityCPU, 3, all)); diff != "" {
		t.Errorf("capacity of the host (-want +got):\n%s", diff)
	}
	of := func(node string) func(func(string) string) bool {
		return func(tag func(string) string) bool { return tag(schema.Node) == node }
	}
	if diff := cmp.Diff([]int64{120e6, 60e6, 0}, s.sums("node", schema.CapacityCPU, 3, of("m"))); diff != "" {
		t.Errorf("capacity of the node that left (-want +got):\n%s", diff)
	}
	if got := s.m.Status().SharedHosts; len(got) != 0 {
		t.Errorf("hosts of several nodes after one left: %v", got)
	}
	// Control: with boot ids of their own they have it twice.
	c := newStage(t)
	second.BootID = "other"
	c.w.facts["m"], c.w.nodes = reading.Facts{Box: "b"}, append(c.w.nodes, second)
	c.ticks(0, 240)
	if got := c.sums("node", schema.CapacityCPU, 1, all)[0]; got != 480e6 {
		t.Errorf("capacity of two hosts %d", got)
	}
}

// A node that was deleted and made again under its name has both its lives, and
// what it had when.
func TestNodeMadeAgain(t *testing.T) {
	s := newStage(t)
	s.w.nodes[0].UID, s.w.nodes[0].Joined = "a", s.start.Add(-time.Hour)
	s.ticks(0, 75)
	s.w.nodes[0].Left = s.start.Add(80 * time.Second)
	s.ticks(90, 120)
	again := reading.NodeInfo{Name: "n", UID: "b", CapacityMillicores: 8000, AllocatableMilli: 8000, Joined: s.start.Add(100 * time.Second)}
	s.w.nodes = append(s.w.nodes, again)
	s.ticks(135, 240)
	for range 2 {
		if diff := cmp.Diff([]int64{60e3, 40e3, 60e3}, s.sums("node", schema.Uptime, 3, func(func(string) string) bool { return true })); diff != "" {
			t.Errorf("uptime (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]int64{240e6, 80e6 + 160e6, 480e6}, s.sums("node", schema.CapacityCPU, 3, func(func(string) string) bool { return true })); diff != "" {
			t.Errorf("capacity (-want +got):\n%s", diff)
		}
		s.restart()
		s.settle()
	}
}

// A node that counts no memory has its pods billed by what they asked for, with
// no coverage: never as zero, never as measured.
func TestMemoryThatNobodyCounts(t *testing.T) {
	s := newStage(t) // it shows CPU alone
	s.ticks(0, 120)
	if got := s.sums("pod", schema.Memory, 1, ofPod)[0]; got != 1024*60 {
		t.Errorf("memory %d KiB·s, want a MiB for a minute", got)
	}
	if got := s.sums("container", schema.Memory, 1, func(tag func(string) string) bool { return tag(schema.Container) == "c" })[0]; got != 1024*60 {
		t.Errorf("memory of the container %d", got)
	}
	if got := s.sums("pod", schema.Coverage, 1, ofPod)[0]; got != 0 {
		t.Errorf("coverage %d s", got)
	}
	must(t, s.d.checkAddsUp())
}
