package follower

import (
	"math"
	"runtime/debug"
	"testing"
)

func TestMemoryLimit(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name                      string
		target, live, other, want int64
	}{
		{"a small cluster", 190 * mib, 40 * mib, 12 * mib, 190 * mib},
		{"as much as fits", 190 * mib, 160 * mib, 10 * mib, 190 * mib},
		{"a large cluster keeps room to breathe", 190 * mib, 900 * mib, 40 * mib, 1015 * mib},
	} {
		if got := memoryLimit(c.target, c.live, c.other); got != c.want {
			t.Errorf("%s: %d MiB, want %d", c.name, got/mib, c.want/mib)
		}
	}
}

func TestFrugal(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	target := Frugal()
	if got := debug.SetGCPercent(GCPercent); target != MemoryTarget || got != GCPercent {
		t.Errorf("target %d, GC percent %d", target, got)
	}
	limitMemory(target)
	if limit := debug.SetMemoryLimit(-1); limit < MemoryTarget || limit == math.MaxInt64 {
		t.Errorf("limit %d", limit)
	}
	t.Setenv("GOMEMLIMIT", "1GiB")
	if target := Frugal(); target != 0 {
		t.Errorf("with a limit of the environment: target %d", target)
	}
	debug.SetMemoryLimit(77 << 20)
	limitMemory(0)
	if limit := debug.SetMemoryLimit(-1); limit != 77<<20 {
		t.Errorf("a follower without a target has set %d", limit)
	}
}
