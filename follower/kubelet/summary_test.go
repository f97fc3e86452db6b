package kubelet

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/google/go-cmp/cmp"
)

func parseSummary(t *testing.T, text string) summary {
	t.Helper()
	var body summary
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&body); err != nil {
		t.Fatal(err)
	}
	return body
}

// TestRealSummary: a kubelet's own body gives its pods' ephemeral storage.
func TestRealSummary(t *testing.T) {
	text, err := os.ReadFile("testdata/summary.json")
	if err != nil {
		t.Fatal(err)
	}
	var f further
	volumes := f.take(parseSummary(t, string(text)), time.Date(2026, 11, 23, 3, 5, 0, 0, time.UTC), time.Time{}, nil)
	if len(volumes) != 0 || len(f.ephemeral) < 4 {
		t.Errorf("volumes %v, ephemeral %v", volumes, f.ephemeral)
	}
	if got := f.ephemeral["342efca7-ccb6-4b7a-bf73-ce636a9a0e62"]; got <= 0 {
		t.Errorf("ephemeral storage of pod two is %d", got)
	}
	if len(f.layers) != 6 {
		t.Errorf("writable layers %v", f.layers)
	}
}

// TestWritableLayers: containers have the space that the summary tells, where
// cAdvisor shows none, and only as long as it stands.
func TestWritableLayers(t *testing.T) {
	d := newDecoder("node1")
	d.further.take(parseSummary(t, string(fixture(t, "summary.json"))), time.Date(2026, 11, 23, 3, 5, 0, 0, time.UTC), time.Time{}, nil)
	spaces := func(body string) map[string]int64 {
		used := make(map[string]int64)
		for _, r := range decodeText(t, d, body, nobody) {
			if v, ok := r.Values.Get(reading.Filesystem); ok && r.Kind == reading.Container {
				used[r.Pod+" "+r.Container] = v
			}
		}
		return used
	}
	body := string(fixture(t, "cgroupfs.txt"))
	want := map[string]int64{"web-f46d7d6cf-gpjx5 web": 40960, "two a": 49152, "two b": 40960, "host h": 40960, "cl a": 40960}
	if diff := cmp.Diff(want, spaces(body)); diff != "" {
		t.Errorf("writable layers (-want +got):\n%s", diff)
	}
	own := `container_fs_usage_bytes{container="a",device="/dev/vda",id="/kubepods/besteffort/pod` + twoUID + `/x",namespace="team-a",pod="two"} 7 1795403094080` + "\n" +
		`container_cpu_usage_seconds_total{container="a",cpu="total",id="/kubepods/besteffort/pod` + twoUID + `/x",namespace="team-a",pod="two"} 7 1795403094080` + "\n"
	if diff := cmp.Diff(map[string]int64{"two a": 7}, spaces(own)); diff != "" {
		t.Errorf("cAdvisor's own (-want +got):\n%s", diff)
	}
	d.further.layers = nil
	if got := spaces(body); len(got) != 0 {
		t.Errorf("without a summary: %v", got)
	}
}

// TestVolumesOfASummary: each sample of a claim once, on the follower's clock;
// what is no claim's, or has no time or number, not at all.
func TestVolumesOfASummary(t *testing.T) {
	const text = `{"node":{"cpu":{"time":"2026-11-23T03:04:54Z"}},"pods":[
		{"podRef":{"uid":"a"},"ephemeral-storage":{"time":"2026-11-23T03:04:50Z","usedBytes":4096},"volume":[
			{"time":"2026-11-23T03:04:14Z","name":"d","pvcRef":{"name":"data","namespace":"shop"},"usedBytes":5,"capacityBytes":9},
			{"time":"2026-11-23T03:04:14Z","name":"tmp","usedBytes":5,"capacityBytes":9},
			{"name":"x","pvcRef":{"name":"timeless","namespace":"shop"},"usedBytes":5,"capacityBytes":9},
			{"time":"2026-11-23T03:04:14Z","name":"y","pvcRef":{"name":"unmeasured","namespace":"shop"}},
			{"time":"2026-11-23T03:04:14Z","name":"z","pvcRef":{"name":"vast","namespace":"shop"},"usedBytes":18446744073709551615,"capacityBytes":9}]},
		{"podRef":{"uid":"b"},"volume":[{"time":"2026-11-23T03:04:15Z","name":"d","pvcRef":{"name":"data","namespace":"shop"},"usedBytes":6,"capacityBytes":9}]}]}`
	received := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC) // the node's clock is a week behind
	var f further
	want := []reading.Volume{{Namespace: "shop", Claim: "data", Time: received.Add(-40 * time.Second), UsedBytes: 5, Capacity: 9}}
	if diff := cmp.Diff(want, f.take(parseSummary(t, text), received, time.Time{}, nil)); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int64{"a": 4096}, f.ephemeral); diff != "" {
		t.Errorf("ephemeral storage (-want +got):\n%s", diff)
	}
	var late further
	want[0].Time = received.Add(-100 * time.Second)
	if diff := cmp.Diff(want, late.take(parseSummary(t, text), received, time.Date(2026, 11, 23, 3, 5, 54, 0, time.UTC), nil)); diff != "" {
		t.Errorf("volumes of a node whose newest sample is a minute old (-want +got):\n%s", diff)
	}
	if again := f.take(parseSummary(t, text), received.Add(time.Minute), time.Time{}, nil); len(again) != 0 {
		t.Errorf("the same sample came again: %v", again)
	}
}

// FuzzSummary: no body makes a negative or a panic.
func FuzzSummary(f *testing.F) {
	f.Add([]byte(`{"pods":[{"podRef":{"uid":"a"},"volume":[{"pvcRef":{},"usedBytes":1,"capacityBytes":1,"time":"2026-11-23T03:04:14Z"}]}]}`))
	f.Add([]byte(`{"pods":[{"ephemeral-storage":{"usedBytes":18446744073709551615}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var body summary
		if json.Unmarshal(text, &body) != nil {
			return
		}
		var kept further
		for _, v := range kept.take(body, time.Unix(0, 0), time.Time{}, nil) {
			if v.UsedBytes < 0 || v.Capacity < 0 {
				t.Errorf("%+v", v)
			}
		}
		for uid, used := range kept.ephemeral {
			if used < 0 {
				t.Errorf("pod %s uses %d", uid, used)
			}
		}
	})
}

// TestMemoryThatIsNotCounted: only where pods use CPU and none has memory.
func TestMemoryThatIsNotCounted(t *testing.T) {
	one := func(kind reading.Kind, cpu, memory int64) reading.Reading {
		r := reading.Reading{Series: reading.Series{Kind: kind}}
		r.Values.Set(reading.CPU, cpu)
		r.Values.Set(reading.Memory, memory)
		return r
	}
	node, kubepods := one(reading.Node, 9, 100), one(reading.Kubepods, 5, 0)
	for name, c := range map[string]struct {
		readings []reading.Reading
		want     bool
	}{
		"off":           {[]reading.Reading{node, kubepods, one(reading.Pod, 5, 0), one(reading.Container, 4, 0)}, true},
		"on":            {[]reading.Reading{node, kubepods, one(reading.Pod, 5, 0), one(reading.Container, 4, 1)}, false},
		"no pod":        {[]reading.Reading{node, kubepods}, false},
		"just begun":    {[]reading.Reading{node, kubepods, one(reading.Pod, 0, 0)}, false},
		"pods' alone":   {[]reading.Reading{node, one(reading.Pod, 5, 7)}, false},
		"nothing there": {nil, false},
	} {
		if got := unmetered(c.readings); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	readings := []reading.Reading{node, kubepods, one(reading.Pod, 5, 0)}
	withoutMemory(readings)
	for _, r := range readings {
		if _, ok := r.Values.Get(reading.Memory); ok != (r.Kind == reading.Node) {
			t.Errorf("%s has a memory: %v", r.Kind, ok)
		}
	}
}
