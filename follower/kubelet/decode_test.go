package kubelet

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

const (
	hostUID = "35b8381c-5e0d-4d94-83cd-208a9654eb16" // on the node's network
	twoUID  = "342efca7-ccb6-4b7a-bf73-ce636a9a0e62"
	webUID  = "009ed515-60ec-4606-bd2c-d114bec4b33f"
)

func nobody(string) (Pod, bool) { return Pod{}, false }

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func decodeText(t testing.TB, d *decoder, text string, find func(string) (Pod, bool)) []reading.Reading {
	t.Helper()
	readings, _, err := d.decode(strings.NewReader(text), find)
	if err != nil {
		t.Fatal(err)
	}
	return readings
}

// line is what a test says of a reading.
func line(r reading.Reading) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s/%s %s @%s from %s:", r.Kind, r.Namespace, r.Pod, r.Container, r.Time.Format("15:04:05.000"), r.Epoch.Format("15:04:05"))
	for q, name := range []string{"cpu", "rx", "tx", "read", "write", "processor", "memory", "fs"} {
		if v, ok := r.Values.Get(reading.Quantity(q)); ok {
			fmt.Fprintf(&b, " %s=%d", name, v)
		}
	}
	return b.String()
}

func lines(readings []reading.Reading) []string {
	all := make([]string, len(readings))
	for i, r := range readings {
		all[i] = line(r)
	}
	return all
}

func TestDecodeRealBody(t *testing.T) {
	d := newDecoder("node1")
	got, newest, err := d.decode(bytes.NewReader(fixture(t, "cgroupfs.txt")), nobody)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"node /  @03:04:54.080 from 02:11:41: cpu=5190656177 rx=2670 tx=2670 memory=6700027904 fs=50963099648",
		"kubepods /  @03:04:54.131 from 02:50:01: cpu=69423320 memory=21917696",
		"pod team-a/web-f46d7d6cf-gpjx5  @03:04:40.206 from 02:50:15: cpu=16571410 rx=201278 tx=228932 memory=4239360",
		"pod team-a/two  @03:04:43.343 from 02:50:15: cpu=34874369 rx=4874 tx=962 memory=4812800",
		"pod kube-system/host  @03:04:49.317 from 02:50:15: cpu=66365 memory=6557696",
		"pod team-a/cl  @03:04:31.524 from 02:52:54: cpu=45062 rx=8259 tx=5024 memory=2031616",
		"container team-a/web-f46d7d6cf-gpjx5 web @03:04:52.553 from 02:50:17: cpu=16765637 memory=3252224",
		"container team-a/two a @03:04:41.628 from 02:50:17: cpu=49463 memory=2134016",
		"container team-a/two b @03:04:37.723 from 02:50:17: cpu=34586949 memory=1679360",
		"container kube-system/host h @03:04:44.016 from 02:50:16: cpu=35234 memory=5517312",
		"container team-a/cl a @03:04:38.398 from 02:52:54: cpu=19054 memory=1081344",
	}
	if diff := cmp.Diff(want, lines(got)); diff != "" {
		t.Errorf("readings (-want +got):\n%s", diff)
	}
	if want := "03:04:54.131"; newest.Format("15:04:05.000") != want {
		t.Errorf("newest is %s, want %s", newest, want)
	}
	for _, r := range got {
		if r.Kind == reading.Pod && r.Pod == "two" && r.PodUID != twoUID {
			t.Errorf("UID of two is %q", r.PodUID)
		}
	}
}

// Both drivers name the same groups; the systemd body also has disk bytes.
func TestDecodeSystemdBody(t *testing.T) {
	first := lines(decodeText(t, newDecoder("node1"), string(fixture(t, "cgroupfs.txt")), nobody))
	second := decodeText(t, newDecoder("node1"), string(fixture(t, "systemd.txt")), func(uid string) (Pod, bool) {
		return Pod{HostNetwork: uid == hostUID}, true
	})
	var disk []string
	got := lines(second)
	for i := range got {
		if at := strings.Index(got[i], " read="); at >= 0 {
			end := strings.Index(got[i], " memory=")
			disk = append(disk, got[i][at+1:end])
			got[i] = got[i][:at] + got[i][end:]
		}
	}
	if diff := cmp.Diff(first, got); diff != "" {
		t.Errorf("systemd against cgroupfs (-cgroupfs +systemd):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"read=10485760 write=20971520", "read=8192 write=16384"}, disk); diff != "" {
		t.Errorf("disk, without mappings (-want +got):\n%s", diff)
	}
}

// The reference parser reads the same numbers.
func TestDecodeAgainstExpfmt(t *testing.T) {
	text := fixture(t, "systemd.txt")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	d := newDecoder("n")
	decodeText(t, d, string(text), nobody)
	for name, quantity := range map[string]reading.Quantity{"container_cpu_usage_seconds_total": reading.CPU, "container_memory_working_set_bytes": reading.Memory} {
		for _, m := range families[name].GetMetric() {
			id := ""
			for _, label := range m.GetLabel() {
				if label.GetName() == "id" {
					id = label.GetValue()
				}
			}
			group := d.cgroups[id]
			if group.kind == "" {
				continue
			}
			value := m.GetCounter().GetValue() * 1e6
			if quantity == reading.Memory {
				value = m.GetGauge().GetValue()
			}
			at := group.moments[0]
			if at.timestamp != m.GetTimestampMs() || float64(at.values[quantity].whole)-value > 1 || value-float64(at.values[quantity].whole) > 1 {
				t.Errorf("%s of %s: %v at %d, expfmt has %v at %d", name, id, at.values[quantity], at.timestamp, value, m.GetTimestampMs())
			}
			checked++
		}
	}
	if checked < 20 {
		t.Errorf("only %d samples compared", checked)
	}
}

const podID = "/kubepods/burstable/pod" + twoUID

// body writes lines of one cgroup.
func body(id, container, cpu string, at int64, start string) string {
	l := fmt.Sprintf(`container=%q,id=%q,namespace="ns",pod="p"`, container, id)
	text := fmt.Sprintf("container_cpu_usage_seconds_total{cpu=\"total\",%s} %s %d\n", l, cpu, at)
	if start != "" {
		text += fmt.Sprintf("container_start_time_seconds{%s} %s\n", l, start)
	}
	return text
}

func TestDecodeCores(t *testing.T) {
	cores := "container_cpu_usage_seconds_total{cpu=\"cpu00\",id=\"/\"} 1.0000006 1000\n" +
		"container_cpu_usage_seconds_total{cpu=\"cpu01\",id=\"/\"} 2.0000006 1000\n"
	total := "container_cpu_usage_seconds_total{cpu=\"total\",id=\"/\"} 3.5 1000\n"
	for text, want := range map[string]int64{cores: 3000001, total + cores: 3500000, cores + total: 3500000} {
		got, _ := decodeText(t, newDecoder("n"), text, nobody)[0].Values.Get(reading.CPU)
		if got != want {
			t.Errorf("cores of\n%s= %d µs, want %d", text, got, want)
		}
	}
}

// TestUnusedGroup: cAdvisor leaves the CPU counter out while it is zero. Then it
// is zero, or the first pod's usage of a node would be nobody's; where it is left
// out although something was used, there is none.
func TestUnusedGroup(t *testing.T) {
	body := func(id, user, system string) string {
		return "container_cpu_user_seconds_total{id=\"" + id + "\"} " + user + " 1000\ncontainer_cpu_system_seconds_total{id=\"" + id + "\"} " + system + " 1000\n" +
			"container_memory_working_set_bytes{id=\"" + id + "\"} 5 1000\n"
	}
	for text, want := range map[string]string{
		body("/kubepods", "0", "0"):    "cpu=0 memory=5",
		body("/kubepods", "0.01", "0"): "memory=5",
		body("/kubepods", "0", "0.02"): "memory=5",
		body("/kubepods", "0", "0") + "container_cpu_usage_seconds_total{cpu=\"total\",id=\"/kubepods\"} 0.004 1000\n": "cpu=4000 memory=5",
	} {
		if got := lines(decodeText(t, newDecoder("n"), text, nobody)); len(got) != 1 || !strings.HasSuffix(got[0], ": "+want) {
			t.Errorf("of\n%sgot %v, want %s", text, got, want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	text := strings.Join([]string{
		`container_memory_working_set_bytes{id="/"} 5 1000`,
		`container_cpu_usage_seconds_total{cpu="total",id="/"} 12`,
		`container_cpu_usage_seconds_total{cpu="total",id="/"} NaN 1000`,
		`container_cpu_usage_seconds_total{cpu="total",id="/kubepods"} -4 1000`,
		`container_cpu_usage_seconds_total{cpu="total",id="/kubepods"} 1e300 1000`,
		`container_cpu_usage_seconds_total{cpu="total",id="/kubepods} 1 1000`,
		`container_cpu_usage_seconds_total{cpu="total",id=} 1 1000`,
		`container_cpu_usage_seconds_total{id="/kubepods"} 1 tomorrow`,
		`container_cpu_usage_seconds_total`,
		`container_cpu_usage_seconds_total{id="/` + strings.Repeat("x", maxLine) + `"} 1 1000`,
		`container_cpu_usage_seconds_total{id="/system.slice"} 1 1000`,
		`some_other_metric NaN`,
		`# container_cpu_usage_seconds_total{`, ``,
	}, "\n")
	d := newDecoder("n")
	got := lines(decodeText(t, d, text, nobody))
	if diff := cmp.Diff([]string{"node /  @00:00:01.000 from 00:00:00: memory=5"}, got); diff != "" {
		t.Errorf("readings (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{refusedTimestamp: 1, refusedValue: 3, refusedSyntax: 5}, d.refused); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
	if _, _, err := d.decode(strings.NewReader("some_other_metric 1 1\n"), nobody); err == nil {
		t.Error("a body without any sample was taken")
	}
}

func TestDecodeEscapes(t *testing.T) {
	text := `container_cpu_usage_seconds_total{cpu="total",id="/kubepods/pod1/c",container="a\"}\\b\n",namespace="n",pod="p"} 1 1000` + "\n"
	got := decodeText(t, newDecoder("n"), text, nobody)
	if want := "a\"}\\b\n"; len(got) != 1 || got[0].Container != want {
		t.Errorf("readings %v, want one of container %q", lines(got), want)
	}
}

// A start time that moves is believed only if the counter fell.
func TestEpochIsSteady(t *testing.T) {
	d := newDecoder("n")
	var got []string
	for _, text := range []string{
		body(podID, "", "10", 100_000, "50"),
		body(podID, "", "11", 115_000, "110"), // the directory was touched
		body(podID, "", "12", 130_000, ""),
		body(podID, "", "12", 130_000, "128"), // the same sample again
		body(podID, "", "3", 145_000, "140"),  // it fell: a new life
		body(podID, "", "1", 160_000, "140"),  // and again, the start untold
	} {
		got = append(got, lines(decodeText(t, d, text, nobody))...)
	}
	want := []string{
		"pod ns/p  @00:01:40.000 from 00:00:50: cpu=10000000",
		"pod ns/p  @00:01:55.000 from 00:00:50: cpu=11000000",
		"pod ns/p  @00:02:10.000 from 00:00:50: cpu=12000000",
		"pod ns/p  @00:02:10.000 from 00:00:50: cpu=12000000",
		"pod ns/p  @00:02:25.000 from 00:02:20: cpu=3000000",
		"pod ns/p  @00:02:40.000 from 00:02:25: cpu=1000000",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("readings (-want +got):\n%s", diff)
	}
}

func TestEpochAfterRestart(t *testing.T) {
	last := decodeText(t, newDecoder("n"), body(podID, "", "10", 100_000, "50"), nobody)[0]
	for _, test := range []struct{ name, text, want string }{
		{"same life, start moved", body(podID, "", "11", 115_000, "90"), "from 00:00:50: cpu=11000000"},
		{"the counter fell", body(podID, "", "4", 115_000, "90"), "from 00:01:30: cpu=4000000"},
		{"began after the last reading", body(podID, "", "11", 115_000, "105"), "from 00:01:45: cpu=11000000"},
	} {
		d := newDecoder("n")
		d.restore(last)
		if got := lines(decodeText(t, d, test.text, nobody))[0]; !strings.HasSuffix(got, test.want) {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

func TestRestartedContainerIsOneSeries(t *testing.T) {
	d := newDecoder("n")
	before, after := podID+"/aaa", podID+"/bbb"
	var got []string
	for _, text := range []string{
		body(before, "web", "10", 100_000, "50"),
		body(before, "web", "11", 108_000, "50") + body(after, "web", "1", 115_000, "110"), // a last sample of the old one
		body(before, "web", "11", 108_000, "50") + body(after, "web", "2", 130_000, "110"), // which is told once
		body(before, "web", "12", 140_000, "50") + body(after, "web", "3", 145_000, "110"), // moves on: superseded
		body(after, "web", "4", 160_000, "110"),
	} {
		got = append(got, lines(decodeText(t, d, text, nobody))...)
		if d.body == 4 && d.refused[refusedOverlap] != 1 {
			t.Errorf("refused %v, want one superseded", d.refused)
		}
	}
	want := []string{
		"container ns/p web @00:01:40.000 from 00:00:50: cpu=10000000",
		"container ns/p web @00:01:48.000 from 00:00:50: cpu=11000000",
		"container ns/p web @00:01:55.000 from 00:01:50: cpu=1000000",
		"container ns/p web @00:02:10.000 from 00:01:50: cpu=2000000",
		"container ns/p web @00:02:25.000 from 00:01:50: cpu=3000000",
		"container ns/p web @00:02:40.000 from 00:01:50: cpu=4000000",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("readings (-want +got):\n%s", diff)
	}
}

func TestRebootBeginsEveryEpoch(t *testing.T) {
	d := newDecoder("n")
	d.booted("a")
	decodeText(t, d, body("/", "", "10", 100_000, "50"), nobody)
	d.booted("")
	d.booted("b")
	got := lines(decodeText(t, d, body("/", "", "10.5", 400_000, "380"), nobody))
	if want := "node /  @00:06:40.000 from 00:06:20: cpu=10500000"; !slices.Equal(got, []string{want}) {
		t.Errorf("after a reboot %v, want %s", got, want)
	}
}

// Names and the network's place come from the watch where a body has none.
func TestDecodeAsksTheWatch(t *testing.T) {
	text := fmt.Sprintf("container_cpu_usage_seconds_total{cpu=\"total\",id=%q} 1 1000\n", podID) +
		fmt.Sprintf("container_network_receive_bytes_total{id=%q,interface=\"eth0\"} 77 2000\n", podID+"/sandbox") +
		fmt.Sprintf("container_network_receive_bytes_total{id=%q,interface=\"net1\"} 3 2000\n", podID+"/sandbox") +
		fmt.Sprintf("container_network_receive_bytes_total{id=%q,interface=\"lo\"} 9 2000\n", podID+"/sandbox")
	for _, test := range []struct {
		host bool
		want string
	}{
		{false, "pod ns/named  @00:00:01.000 from 00:00:00: cpu=1000000 rx=80"},
		{true, "pod ns/named  @00:00:01.000 from 00:00:00: cpu=1000000"},
	} {
		got := lines(decodeText(t, newDecoder("n"), text, func(uid string) (Pod, bool) {
			return Pod{Namespace: "ns", Name: "named", HostNetwork: test.host}, uid == twoUID
		}))
		if !slices.Equal(got, []string{test.want}) {
			t.Errorf("host network %v: %q, want %q", test.host, got, test.want)
		}
	}
}

// A body of known cgroups allocates nothing but its readings.
func TestDecodeAllocatesLittle(t *testing.T) {
	text := fixture(t, "cgroupfs.txt")
	d := newDecoder("n")
	reader := bytes.NewReader(text)
	got := testing.AllocsPerRun(20, func() {
		reader.Reset(text)
		if _, _, err := d.decode(reader, nobody); err != nil {
			t.Fatal(err)
		}
	})
	if got > 60 {
		t.Errorf("%v allocations for a body of %d bytes", got, len(text))
	}
}

func TestForgetsCgroups(t *testing.T) {
	d := newDecoder("n")
	decodeText(t, d, body(podID, "", "1", 1000, "1")+body("/", "", "1", 1000, "1"), nobody)
	for range forgetAfter {
		decodeText(t, d, body("/", "", "1", 1000, "1"), nobody)
	}
	if len(d.cgroups) != 1 {
		t.Errorf("%d cgroups are remembered, want the root alone", len(d.cgroups))
	}
}

func FuzzDecode(f *testing.F) {
	for _, line := range bytes.SplitAfter(fixture(f, "systemd.txt"), []byte("\n")) {
		f.Add(line)
	}
	f.Add([]byte(body(podID+"/a", "c", "1e3", 1000, "1.5e9") + "container_network_receive_bytes_total{id=\"/\"} 1 1\n"))
	f.Add([]byte("container_start_time_seconds{id=\"\\\\\"} 9e99 \n{"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d := newDecoder("n")
		for range 2 {
			readings, newest, err := d.decode(bytes.NewReader(text), nobody)
			if err != nil {
				return
			}
			seen := make(map[string]bool)
			for _, r := range readings {
				key := fmt.Sprint(r.Series, r.Time, r.Epoch)
				if seen[key] && r.Kind != reading.Container {
					t.Fatalf("%s twice", line(r))
				}
				seen[key] = true
				if r.Time.After(newest) || r.Time.Before(time.UnixMilli(1)) {
					t.Fatalf("%s with newest %s", line(r), newest)
				}
				for q := range reading.Quantities {
					if v, _ := r.Values.Get(q); v < 0 {
						t.Fatalf("negative: %s", line(r))
					}
				}
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	text := fixture(b, "cgroupfs.txt")
	d := newDecoder("n")
	reader := bytes.NewReader(text)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(text)
		if _, _, err := d.decode(reader, nobody); err != nil {
			b.Fatal(err)
		}
	}
}
