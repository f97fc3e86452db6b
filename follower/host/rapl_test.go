package host

import (
	"fmt"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

// powercap is a server of two packages with memory, as the kernel shows it: each
// package's core zone, psys and the second view of a package stand beside them.
func powercap(package0, dram0, package1 int64) map[string]string {
	files := map[string]string{"intel-rapl/enabled": "1\n"}
	for path, zone := range map[string]struct {
		name  string
		count int64
	}{
		"intel-rapl:0": {"package-0", package0}, "intel-rapl:0:0": {"core", package0 / 2}, "intel-rapl:0:1": {"dram", dram0},
		"intel-rapl:1": {"package-1", package1}, "intel-rapl:2": {"psys", 2 * package0}, "intel-rapl-mmio:0": {"package-0", package0},
	} {
		files[path+"/name"], files[path+"/energy_uj"] = zone.name+"\n", strconv.FormatInt(zone.count, 10)+"\n"
		files[path+"/max_energy_range_uj"] = "262143328850\n"
		if zone.name == "dram" {
			files[path+"/max_energy_range_uj"] = "65712999613\n"
		}
	}
	return files
}

// TestProcessorEnergy: packages and memory are added, each beginning again at its
// own maximum; nothing else is counted.
func TestProcessorEnergy(t *testing.T) {
	m := newMachine(t, unifiedFiles)
	m.power = t.TempDir()
	s, clk := m.source(t)
	var last int64
	steps := []struct {
		after                    time.Duration
		package0, dram, package1 int64
		want                     int64 // mJ since the last reading; -1: not known
	}{
		{0, 262143000000, 65712000000, 1000, -1}, // the first says nothing of what was before
		{15 * time.Second, 262143300000, 65712900000, 2000, 300 + 900 + 1},
		{15 * time.Second, 671150, 387, 3000, 700 + 100 + 1}, // two begin again: 28,850 + 671,150 and 99,613 + 387 µJ
		{15 * time.Second, 671650, 887, 3000, 1},             // what is less than a mJ is carried on
		{10 * time.Minute, 100_000_000, 5000, 5000, -1},      // the memory may have gone round twice
		{15 * time.Second, 101_000_000, 5000, 5000, 1000},
	}
	for i, step := range steps {
		clk.Advance(step.after)
		tree(t, m.power, powercap(step.package0, step.dram, step.package1))
		body := sweep(t, s)
		got, ok := body.Readings[0].Values.Get(reading.Processor)
		if ok != (step.want >= 0) || ok && got-last != step.want {
			t.Errorf("step %d: %d mJ (known: %v) after %d, want %d more", i, got, ok, last, step.want)
		}
		if ok {
			last = got
		}
		for _, r := range body.Readings[1:] {
			if _, ok := r.Values.Get(reading.Processor); ok {
				t.Errorf("step %d: %s has it too", i, r.Pod)
			}
		}
	}
}

// TestProcessorEnergyUnreadable: a machine without the zones, a zone that cannot be
// read and one that vanishes leave the rest of the machine readable.
func TestProcessorEnergyUnreadable(t *testing.T) {
	m := newMachine(t, unifiedFiles)
	m.power = t.TempDir()
	s, clk := m.source(t)
	known := func() bool {
		clk.Advance(15 * time.Second)
		_, ok := sweep(t, s).Readings[0].Values.Get(reading.Processor)
		return ok
	}
	if known() || known() {
		t.Error("a machine without zones counts energy")
	}
	tree(t, m.power, powercap(1, 2, 3))
	if known() || !known() {
		t.Error("zones that appear: want a baseline, then a counter")
	}
	for what, files := range map[string]map[string]string{
		"no number":    {"intel-rapl:0/energy_uj": "n/a\n"},
		"over its top": {"intel-rapl:0/energy_uj": "262143328851\n"},
		"no range":     {"intel-rapl:0/max_energy_range_uj": ""},
		"fewer zones":  {"intel-rapl:1/": "", "intel-rapl:1/name": ""},
	} {
		tree(t, m.power, files)
		if known() {
			t.Errorf("%s: a counter all the same", what)
		}
		tree(t, m.power, powercap(1, 2, 3))
		if known() || !known() {
			t.Errorf("%s: want a baseline afterwards, then a counter", what)
		}
	}
}

// FuzzProcessorEnergy: whatever the kernel's files say, the total never falls.
func FuzzProcessorEnergy(f *testing.F) {
	f.Add("1\n", "5\n", "9\n")
	f.Add("9223372036854775807", "-1", "")
	f.Fuzz(func(t *testing.T, count, next, size string) {
		root := t.TempDir()
		r := &rapl{root: root, log: slog.New(slog.DiscardHandler)}
		var last int64
		for i, text := range []string{count, next, count} {
			tree(t, root, map[string]string{"intel-rapl:0/name": "package-0", "intel-rapl:0/energy_uj": text + " ", "intel-rapl:0/max_energy_range_uj": size + " "})
			if got, ok := r.read(noon.Add(time.Duration(i) * time.Second)); ok {
				if got < last {
					t.Fatal(fmt.Sprintf("%d after %d", got, last))
				}
				last = got
			}
		}
	})
}
