package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// loads are the two workloads that the demo runs on this machine: how long each
// works in a period, as a share of one core.
var loads = map[string]struct{ work, period time.Duration }{
	"steady": {10 * time.Millisecond, 100 * time.Millisecond}, // 10 % of a core, always
	"bursty": {15 * time.Second, 90 * time.Second},            // one core, now and then
}

// newLoad burns a known amount of CPU; the demo runs it in a control group.
func newLoad() *cobra.Command {
	return &cobra.Command{Use: "load steady|bursty", Hidden: true, Args: cobra.ExactArgs(1), ValidArgs: []string{"steady", "bursty"},
		RunE: func(cmd *cobra.Command, args []string) error {
			burn(cmd.Context(), loads[args[0]].work, loads[args[0]].period)
			return nil
		}}
}

func burn(ctx context.Context, work, period time.Duration) {
	if period <= 0 {
		return
	}
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		for end := time.Now().Add(work); time.Now().Before(end) && ctx.Err() == nil; {
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
