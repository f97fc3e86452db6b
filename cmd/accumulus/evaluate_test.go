package main

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// madeUpCurves is a file of made-up servers in twelve groups.
func madeUpCurves() string {
	rng := rand.New(rand.NewPCG(21, 4))
	var out strings.Builder
	out.WriteString("hw_avail,nodes,cores_per_node,w_idle")
	for l := 10; l <= 100; l += 10 {
		fmt.Fprintf(&out, ",load_%d,w_%d", l, l)
	}
	out.WriteString(",group\n")
	for i := range 36 {
		idle, bend := 40+40*rng.Float64(), .5+.3*rng.Float64()
		fmt.Fprintf(&out, "May-%d,1,%d,%.1f", 2008+i%12, 4+4*(i%4), idle)
		for l := 10; l <= 100; l += 10 {
			u := float64(l) / 100
			fmt.Fprintf(&out, ",%d,%.1f", l, idle*(1+2.5*(.75*math.Pow(u, bend)+.25*u*u*u)))
		}
		fmt.Fprintf(&out, ",cpu-%d\n", i%12)
	}
	return out.String()
}

func madeUpTrace() string {
	rng := rand.New(rand.NewPCG(22, 4))
	var out strings.Builder
	out.WriteString("block,bpf_cpu_time_us,cpu_cycles,cpu_instructions,cache_miss,platform_power,package_power,dram_power\n")
	for i := range 100 {
		cpu := rng.Float64() * 32000
		cycles := cpu * 1e6 * (2 + rng.Float64())
		misses := cycles * .001 * rng.Float64()
		packages, dram := 40+cycles/1e9, 20+misses/1e6
		fmt.Fprintf(&out, "%d,%.0f,%.0f,%.0f,%.0f,%.0f,%.1f,%.1f\n", i/10, cpu, cycles, cycles*rng.Float64(), misses, 86+1.144*(packages+dram), packages, dram)
	}
	return out.String()
}

func written(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file.csv")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestEvaluateGolden(t *testing.T) {
	curves, trace := written(t, madeUpCurves()), written(t, madeUpTrace())
	for name, args := range map[string][]string{
		"evaluate-power":      {"power", "--curves", curves, "--box", "1"},
		"evaluate-power-json": {"power", "--curves", curves, "--json"},
		"evaluate-trace":      {"trace", "--csv", trace},
		"evaluate-trace-json": {"trace", "--csv", trace, "--json"},
	} {
		t.Run(name, func(t *testing.T) {
			l := &leader{}
			got, code := l.run(t, "", append([]string{"evaluate"}, args...)...)
			if code != 0 {
				t.Fatal(got)
			}
			if len(l.asked) > 0 {
				t.Errorf("asked the leader: %v", l.asked)
			}
			golden(t, name, got)
		})
	}
}

func TestEvaluateErrors(t *testing.T) {
	curves := written(t, madeUpCurves())
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"no file":        {[]string{"power"}, `required flag(s) "curves" not set`},
		"file missing":   {[]string{"power", "--curves", filepath.Join(t.TempDir(), "gone.csv")}, "no such file"},
		"another format": {[]string{"trace", "--csv", curves}, "no column block, platform_power"},
		"no seed":        {[]string{"power", "--curves", curves, "--box", "x"}, "invalid argument"},
		"few servers":    {[]string{"power", "--box", "1", "--curves", written(t, strings.Join(strings.SplitAfter(madeUpCurves(), "\n")[:5], ""))}, "the file has 4"},
		"prior, unnamed": {[]string{"prior", "--curves", curves}, `required flag(s) "source" not set`},
	} {
		out, code := (&leader{}).run(t, "", append([]string{"evaluate"}, test.args...)...)
		if code != 1 || !strings.Contains(out, test.says) {
			t.Errorf("%s: code %d: %s", name, code, out)
		}
	}
}

func TestEvaluatePrior(t *testing.T) {
	out, code := (&leader{}).run(t, "", "evaluate", "prior", "--curves", written(t, madeUpCurves()), "--source", "made up")
	var prior struct {
		Source string
		Curves int
	}
	if err := json.Unmarshal([]byte(out), &prior); err != nil || code != 0 || prior.Source != "made up" || prior.Curves != 36 {
		t.Errorf("code %d, %v: %s", code, err, out)
	}
}
