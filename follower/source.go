package follower

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/accumulus-metering/accumulus/follower/customer"
	"github.com/accumulus-metering/accumulus/follower/host"
	"github.com/accumulus-metering/accumulus/follower/kubelet"
	"github.com/accumulus-metering/accumulus/follower/pseudonym"
	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/prometheus/client_golang/prometheus"
)

// Source reads what the nodes used. The bodies of the nodes that answered are
// returned beside the joined errors of the others.
type Source interface {
	Read(ctx context.Context) ([]reading.Body, error)
}

// Input is a source with what belongs to it. Log is needed, the rest may be
// nil.
type Input struct {
	Source Source
	// Log tells the nodes and pods.
	Log *watch.Log
	// Run feeds the log until ctx ends.
	Run func(ctx context.Context) error
	// Resume is given the last readings before a restart.
	Resume func(last []reading.Reading)
	// Offset is another clock less ours, of one who knows the time; nil: the
	// local clock is trusted.
	Offset func(ctx context.Context) (time.Duration, error)
	// Status is how the last read of each node went.
	Status func() []kubelet.NodeStatus
	// Watch is how the watch goes.
	Watch func() watch.Status
	// Reviewer tells the cluster's own people apart; nil: only the follower's
	// own tokens are known.
	Reviewer customer.Reviewer
	// Names are the pseudonyms that source and log give in place of names; nil:
	// they give names.
	Names *pseudonym.Table
}

// newInput makes the source that the configuration names.
func newInput(c Config, clk clock.Clock, log *slog.Logger, registry prometheus.Registerer) (Input, error) {
	if c.Source == SourceHost {
		source, err := host.New(host.Config{Node: c.Node}, clk, log, registry)
		if err != nil {
			return Input{}, err
		}
		return Input{Source: source, Log: source.Log, Resume: source.RestoreReadings}, nil
	}
	client, err := watch.NewClient(c.API, clk)
	if err != nil {
		return Input{}, err
	}
	options := watch.Config{Labels: c.Labels, Annotations: c.Annotations, JobGroups: c.JobGroups, Namespace: c.Namespace}
	var names *pseudonym.Table
	if c.PseudonymKey != "" {
		names = pseudonym.New(pseudonym.Config{KeyFile: c.PseudonymKey, Path: filepath.Join(c.Dir, "names.db"), Own: c.Namespace})
		options.Alias, c.Kubelet.Alias = names, names
	}
	w, err := watch.New(options, client, clk, log, registry)
	if err != nil {
		return Input{}, err
	}
	source, err := kubelet.New(c.Kubelet, w.Log, clk, log, registry)
	if err != nil {
		return Input{}, err
	}
	input := Input{Source: source, Log: w.Log, Run: w.Run, Resume: source.RestoreReadings, Offset: client.Offset,
		Status: source.Status, Watch: w.Status, Names: names}
	if c.Reviews {
		if input.Reviewer, err = newReviewer(c, clk, registry); err != nil {
			return Input{}, err
		}
	}
	return input, nil
}

// lastReadings are the newest readings of the series that were read not long
// before everything had settled, as their source gave them.
func lastReadings(ctx context.Context, db *influxsync.Database, settled time.Time) ([]reading.Reading, error) {
	newest := influxsync.Query{From: schema.Raw.Name, Group: []string{"*"}, Descending: true, Limit: 1}
	if !settled.IsZero() {
		newest.Window.From = settled.Add(-rawKept)
	}
	quantities := map[string]reading.Quantity{schema.CPU: reading.CPU, schema.NetworkReceive: reading.NetworkReceive,
		schema.NetworkTransmit: reading.NetworkTransmit, schema.DiskRead: reading.DiskRead, schema.DiskWrite: reading.DiskWrite,
		schema.MemoryWorkingSet: reading.Memory, schema.FilesystemUsed: reading.Filesystem, schema.EphemeralUsed: reading.Ephemeral}
	var last []reading.Reading
	err := db.Query(ctx, newest, func(p influxsync.Point) error {
		r := reading.Reading{Time: p.Time.Add(-time.Duration(p.Int(schema.ReadingShift))), Series: reading.Series{
			Kind: reading.Kind(p.Tag(schema.Kind)), Node: p.Tag(schema.Node), Namespace: p.Tag(schema.Namespace),
			Pod: p.Tag(schema.Pod), PodUID: p.Tag(schema.PodUID), Container: p.Tag(schema.Container)}}
		if epoch := p.Int(schema.ReadingEpoch); epoch != 0 {
			r.Epoch = time.Unix(0, epoch).UTC()
		}
		for _, f := range p.Fields {
			if q, ok := quantities[f.Name]; ok {
				r.Values.Set(q, f.Value.Int())
			}
		}
		last = append(last, r)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read last readings: %w", err)
	}
	return last, nil
}
