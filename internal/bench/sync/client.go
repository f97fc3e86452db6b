package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/bench"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"golang.org/x/sync/errgroup"
)

// jobVariable holds the job of a process that this binary starts of itself.
const jobVariable = "ACCUMULUS_BENCH_SYNC_JOB"

// Kinds of jobs.
const (
	kindNaive        = "naive"         // InfluxDB's own client, JSON, one answer a table
	kindNaiveChunked = "naive-chunked" // and the answer in chunks
	kindRead         = "read"          // the source's answer, thrown away
	kindWrite        = "write"         // lines that lie ready
	kindSync         = "sync"          // influxsync.Sync
)

// profileVariable names a directory for the CPU profiles of the clients.
const profileVariable = "ACCUMULUS_BENCH_PROFILE"

// job is one case in a process of its own.
type job struct {
	Name         string
	Kind         string
	Source, Sink string // URLs
	Database     string // the source's
	Tables       []schema.Table
	Steps        []step
	SideBySide   int // tables at once
	Parts        int // SyncRequest.Parallel
	Verify       string
	Marks        map[string]influxsync.Mark // by table, before the first step
}

// step is what is done at a time: everything, or a tick.
type step struct {
	Window schema.Window
	Rows   map[string]int    // by table, that have to come
	Lines  map[string]string // by table, file with the rows as line protocol
}

// outcome is what the job's process says of itself.
type outcome struct {
	CPU, Elapsed time.Duration
	PeakKiB      int64
	Error        string
}

// client is a job that runs.
type client struct {
	job
	source, sink *influxsync.Server
}

// mover moves the rows of one table.
type mover func(ctx context.Context, t schema.Table, s step) error

// child is main of a process that has a job.
func child(text string) outcome {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return outcome{Error: err.Error()}
	}
	began, used := time.Now(), bench.CPU()
	err := j.profiled(context.Background())
	o := outcome{CPU: bench.CPU() - used, Elapsed: time.Since(began)}
	peak, peakErr := peakKiB()
	o.PeakKiB = peak
	if err := errors.Join(err, peakErr); err != nil {
		o.Error = err.Error()
	}
	return o
}

// profiled runs the job and, where profileVariable names a directory, leaves
// its CPU profile there.
func (j job) profiled(ctx context.Context) error {
	dir := os.Getenv(profileVariable)
	if dir == "" {
		return j.run(ctx)
	}
	file, err := os.Create(filepath.Join(dir, j.Name+".cpu.pprof"))
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return errors.Join(err, file.Close())
	}
	err = j.run(ctx)
	pprof.StopCPUProfile()
	return errors.Join(err, file.Close())
}

func (j job) run(ctx context.Context) error {
	c := &client{job: j}
	var err error
	if c.source, err = influxsync.New(influxsync.Config{URL: j.Source}); err != nil {
		return err
	}
	if c.sink, err = influxsync.New(influxsync.Config{URL: j.Sink}); err != nil {
		return err
	}
	move, err := c.mover()
	if err != nil {
		return err
	}
	for _, s := range j.Steps {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(j.SideBySide)
		for _, t := range j.Tables {
			group.Go(func() error {
				if err := move(ctx, t, s); err != nil {
					return fmt.Errorf("%s: %w", t.Name, err)
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) mover() (mover, error) {
	switch c.Kind {
	case kindNaive, kindNaiveChunked:
		return c.naive()
	case kindRead:
		return c.read, nil
	case kindWrite:
		return c.write, nil
	case kindSync:
		return c.synced()
	}
	return nil, fmt.Errorf("no such kind of job: %q", c.Kind)
}

// synced is the package as it is used: a call of Sync for each table and step,
// from the mark that the call before has left.
func (c *client) synced() (mover, error) {
	marks := make(map[string]*influxsync.Mark)
	for _, t := range c.Tables {
		mark := c.Marks[t.Name]
		marks[t.Name] = &mark
	}
	verify, err := verification(c.Verify)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, t schema.Table, s step) error {
		mark := marks[t.Name]
		request := influxsync.SyncRequest{Source: c.source.Database(c.Database), Sink: c.sink.Database(sinkDB),
			Table: t, Cluster: cluster, Mark: *mark, Limit: int(s.Window.Length() / t.Grain), Parallel: c.Parts, Verify: verify}
		result, err := influxsync.Sync(ctx, request)
		if err != nil {
			return err
		}
		if result.Rows != s.Rows[t.Name] {
			return fmt.Errorf("%d rows were copied, want %d", result.Rows, s.Rows[t.Name])
		}
		*mark = result.Mark
		return nil
	}, nil
}

// say is the end of a child.
func say(o outcome) int {
	if err := json.NewEncoder(os.Stdout).Encode(o); err != nil || o.Error != "" {
		return 1
	}
	return 0
}
