package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

const (
	// summaryEvery is how often a node's summary is asked for where nothing else is
	// said: a kubelet measures volumes and ephemeral storage once a minute.
	summaryEvery = time.Minute
	// summaryHolds is how long what a summary said of a pod stands in for the next
	// one, so that one that failed makes no gap.
	summaryHolds = 3 * time.Minute
)

// summary is what /stats/summary tells and /metrics/cadvisor does not: the
// volumes of claims, the ephemeral storage of pods, and the writable layers of
// containers, which cAdvisor knows of few runtimes. CPU, memory and network are
// never taken from it, so that each counter has one source.
type summary struct {
	Node struct {
		CPU struct {
			Time time.Time `json:"time"`
		} `json:"cpu"`
	} `json:"node"`
	Pods []podSummary `json:"pods"`
}

type podSummary struct {
	Ref struct {
		UID string `json:"uid"`
	} `json:"podRef"`
	Volumes []struct {
		Time  time.Time `json:"time"`
		Claim *struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"pvcRef"`
		UsedBytes     *uint64 `json:"usedBytes"`
		CapacityBytes *uint64 `json:"capacityBytes"`
	} `json:"volume"`
	Ephemeral  *space `json:"ephemeral-storage"`
	Containers []struct {
		Name   string `json:"name"`
		Rootfs *space `json:"rootfs"` // the writable layer
	} `json:"containers"`
}

// space is used of a file system.
type space struct {
	Time      time.Time `json:"time"`
	UsedBytes *uint64   `json:"usedBytes"`
}

// used are the bytes, and whether they were told.
func (s *space) used() (int64, bool) {
	if s == nil || s.UsedBytes == nil || int64(*s.UsedBytes) < 0 {
		return 0, false
	}
	return int64(*s.UsedBytes), true
}

// further is what is kept of a node's summaries.
type further struct {
	asked     time.Time
	err       error
	at        time.Time        // of the last that came
	ephemeral map[string]int64 // B, by pod UID
	layers    map[layer]int64  // B
	last      map[[2]string]time.Time
}

// layer is a container's writable layer.
type layer struct{ podUID, container string }

// summarize asks the node for its summary when it is time, and returns the
// volumes that were measured since the last one. A summary that fails fails
// nothing else; NodeStatus says it.
func (s *Source) summarize(ctx context.Context, target Target, d *decoder) []reading.Volume {
	now := s.clock.Now()
	if now.Sub(d.further.at) > summaryHolds {
		d.further.ephemeral, d.further.layers = nil, nil
	}
	if since := now.Sub(d.further.asked); since >= 0 && since < s.config.SummaryEvery {
		return nil
	}
	d.further.asked = now
	var body summary
	var answered time.Time
	d.further.err = s.client.get(ctx, target, summaryPath, "application/json", func(text io.Reader, date time.Time) error {
		answered = date
		counted := &counter{from: text}
		err := json.NewDecoder(counted).Decode(&body)
		s.bytes.Add(float64(counted.n))
		if err != nil {
			return fmt.Errorf("read summary: %w", err)
		}
		return nil
	})
	if d.further.err != nil {
		s.scrapes.WithLabelValues("error").Inc()
		return nil
	}
	s.scrapes.WithLabelValues("ok").Inc()
	return d.further.take(body, s.clock.Now(), answered, s.config.Alias)
}

// take keeps what the summary says of pods, and returns the new samples of
// volumes, on the follower's clock: it came when the node's showed date, which is
// cut to a second, or the newest moment in the body where that is later.
func (f *further) take(body summary, received, date time.Time, alias Aliaser) []reading.Volume {
	newest := date
	later := func(t time.Time) {
		if t.After(newest) {
			newest = t
		}
	}
	later(body.Node.CPU.Time)
	f.at, f.ephemeral, f.layers = received, make(map[string]int64, len(body.Pods)), make(map[layer]int64, len(body.Pods))
	for _, pod := range body.Pods {
		if used, ok := pod.Ephemeral.used(); ok {
			later(pod.Ephemeral.Time)
			f.ephemeral[pod.Ref.UID] = used
		}
		for _, c := range pod.Containers {
			if used, ok := c.Rootfs.used(); ok {
				f.layers[layer{pod.Ref.UID, c.Name}] = used
			}
		}
		for _, v := range pod.Volumes {
			later(v.Time)
		}
	}
	before := f.last
	f.last = make(map[[2]string]time.Time)
	var volumes []reading.Volume
	for _, pod := range body.Pods {
		for _, v := range pod.Volumes {
			if v.Claim == nil || v.UsedBytes == nil || v.CapacityBytes == nil || v.Time.IsZero() ||
				int64(*v.UsedBytes) < 0 || int64(*v.CapacityBytes) < 0 {
				continue
			}
			key := [2]string{v.Claim.Namespace, v.Claim.Name}
			if _, twice := f.last[key]; twice { // two pods of the node mount it
				continue
			}
			if f.last[key] = v.Time; before[key].Equal(v.Time) {
				continue
			}
			volumes = append(volumes, reading.Volume{Namespace: aliasOf(alias, "Namespace", "", key[0]), Claim: aliasOf(alias, "PersistentVolumeClaim", key[0], key[1]),
				Time: received.Add(v.Time.Sub(newest)), UsedBytes: int64(*v.UsedBytes), Capacity: int64(*v.CapacityBytes)})
		}
	}
	return volumes
}

// Aliaser replaces names before anything keeps them, as in package watch.
type Aliaser interface {
	Alias(kind, namespace, name string) string
}

func aliasOf(a Aliaser, kind, namespace, name string) string {
	if a == nil || name == "" {
		return name
	}
	return a.Alias(kind, namespace, name)
}

// shown is what the group's container is called from here on. A sandbox keeps
// its mark.
func (d *decoder) shown(group *cgroup) string {
	if d.alias == nil || group.sandbox() {
		return group.container
	}
	return d.alias.Alias("Container", "", group.container)
}

// unmetered says whether the node counts CPU of its pods and no memory of any:
// its kernel's memory controller is off (cgroup_disable=memory, the default of
// some boards). Then no value of a pod's memory is true, a zero least of all.
func unmetered(readings []reading.Reading) bool {
	counted := false
	for _, r := range readings {
		if r.Kind != reading.Pod && r.Kind != reading.Container {
			continue
		}
		if memory, ok := r.Values.Get(reading.Memory); ok && memory > 0 {
			return false
		}
		cpu, ok := r.Values.Get(reading.CPU)
		counted = counted || ok && cpu > 0
	}
	return counted
}

// withoutMemory takes the memory out of what pods and their parent show, and out
// of the node's own where that is zero.
func withoutMemory(readings []reading.Reading) {
	for i := range readings {
		if memory, _ := readings[i].Values.Get(reading.Memory); readings[i].Kind != reading.Node || memory == 0 {
			readings[i].Values.Drop(reading.Memory)
		}
	}
}
