package stress

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

// Job keeps cores busy for a time and returns what the container's counters
// then show: all that the container used since it began.
func Job(ctx context.Context, kernel Kernel, clk clock.Clock, cores int, length time.Duration) (Reading, error) {
	load := NewLoad(os.TempDir())
	if err := load.CPU(cores); err != nil {
		return Reading{}, err
	}
	slept := clk.Sleep(ctx, length)
	if err := load.CPU(0); err != nil {
		return Reading{}, err
	}
	if slept != nil {
		return Reading{}, slept
	}
	reading, err := kernel.Read()
	reading.Time = clk.Now()
	return reading, err
}

// Work does a fixed amount of work on one core, in units of about a millisecond,
// and returns what the container's counters then show and how long it took. It
// ends early with ctx's error.
func Work(ctx context.Context, kernel Kernel, clk clock.Clock, units int) (Reading, error) {
	begun := clk.Now()
	x := seed
	for range units {
		if err := ctx.Err(); err != nil {
			return Reading{}, err
		}
		x = spun(x)
	}
	runtime.KeepAlive(x)
	reading, err := kernel.Read()
	reading.Time = clk.Now()
	reading.Seconds = reading.Time.Sub(begun).Seconds()
	return reading, err
}

// WriteMessage leaves a reading where Kubernetes looks for a container's last
// words (its terminationMessagePath).
func WriteMessage(path string, reading Reading) error {
	text, err := json.Marshal(reading)
	if err != nil {
		return fmt.Errorf("last words: %w", err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("last words: %w", err)
	}
	return nil
}
