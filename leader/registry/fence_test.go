package registry

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

// TestNextFence: each start has a higher number than any before, also where the
// clock stands still or was set back.
func TestNextFence(t *testing.T) {
	clk := clock.NewManual(time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC))
	path := filepath.Join(t.TempDir(), "registry.db")
	now := clk.Now().UnixNano()
	for i, want := range []int64{now, now + 1, now + 2, now + int64(time.Hour)} {
		if i == 2 {
			clk.Advance(-24 * time.Hour)
		} else if i == 3 {
			clk.Advance(25 * time.Hour)
		}
		r, err := Open(t.Context(), path, clk)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.NextFence(t.Context()); err != nil || got != want {
			t.Errorf("start %d: %d, %v; want %d", i, got, err, want)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
