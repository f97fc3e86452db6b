package demo

import (
	"context"
	"errors"
	"time"

	"github.com/accumulus-metering/accumulus/follower/host"
)

// workloads run on this machine so that real metering is seen.
var workloads = []string{"steady", "bursty"}

// stopping bounds how long a workload may take to end.
const stopping = 10 * time.Second

// runWorkloads starts the small workloads in control groups of their own, where
// this process may make some, and removes them at the end.
func (d *Demo) runWorkloads(ctx context.Context) error {
	if !d.config.Host || len(d.config.Workload) == 0 {
		return nil
	}
	var running []*host.Workload
	for _, name := range workloads {
		workload, err := host.StartWorkload(host.WorkloadConfig{Name: "accumulus-demo-" + name,
			Command: append(append([]string(nil), d.config.Workload...), name)}, d.clock)
		if err != nil {
			d.log.Info("no workload of our own on this machine", "workload", name, "err", err)
			d.config.Progress(Event{Kind: "workloads", Err: err})
			break
		}
		running = append(running, workload)
	}
	<-ctx.Done()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopping)
	defer cancel()
	var errs []error
	for _, workload := range running {
		errs = append(errs, workload.Stop(stop))
	}
	return errors.Join(errs...)
}
