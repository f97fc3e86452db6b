package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// sinkDB is the sink's database. Its shards are a day long.
const sinkDB = schema.MinuteDB

// A store is quiet when it has used no more than one tick of CPU in a while;
// one that does not become it is not waited for longer than patience.
const (
	patience = 30 * time.Second
	idleTick = 10 * time.Millisecond
)

// config is one run.
type config struct {
	launch launcher
	// client is the command of a process that finds its job in the environment.
	client   func(ctx context.Context) *exec.Cmd
	pods     int
	rows     int // of the full window, rounded up to whole minutes
	runs     int
	long     int // times the full window; 0 = without
	tick     int // minutes of a tick
	ticks    int // at most
	wide     int // minutes of the wide table; 0 = without
	quiet    time.Duration
	progress io.Writer
}

func (c config) validate() error {
	switch {
	case c.pods < 1 || c.rows < 1 || c.runs < 1 || c.tick < 1 || c.ticks < 1:
		return errors.New("pods, rows, runs, tick and ticks are at least 1")
	case c.long < 0 || c.wide < 0:
		return errors.New("long and wide are not negative; 0 leaves them out")
	case c.minutes() < 3*c.tick:
		return fmt.Errorf("%d rows of %d pods are %d minutes; a tick of %d needs %d: give more rows or fewer pods",
			c.rows, c.pods, c.minutes(), c.tick, 3*c.tick)
	case max(c.minutes()*max(1, c.long), c.wide) > 24*60:
		return errors.New("the window is longer than a day: give fewer rows, more pods or a smaller long")
	}
	return nil
}

// minutes of the full window.
func (c config) minutes() int {
	each := 4*c.pods + nodes(c.pods)
	return (c.rows + each - 1) / each
}

// sample is one run of one case.
type sample struct {
	client, source, sink time.Duration // CPU
	settling             time.Duration // the part of source and sink that came after the client's end
	elapsed              time.Duration
	peakKiB              int64
}

func (s sample) total() time.Duration { return s.client + s.source + s.sink }

// measured is a case with all its samples.
type measured struct {
	testcase
	rows    int // of one run
	samples []sample
}

// harness is a run in progress.
type harness struct {
	config
	source, sink *server
	stages       map[string]stage
	stores       map[string]string // ids by database
}

// run measures every case and returns them in their order.
func run(ctx context.Context, c config) (measurements []*measured, rows int, err error) {
	if err := c.validate(); err != nil {
		return nil, 0, err
	}
	dir, err := os.MkdirTemp("", "bench-sync-")
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	h := &harness{config: c, stages: make(map[string]stage), stores: make(map[string]string)}
	if h.source, err = start(ctx, c.launch, filepath.Join(dir, "source")); err != nil {
		return nil, 0, err
	}
	defer h.source.stop()
	if h.sink, err = start(ctx, c.launch, filepath.Join(dir, "sink")); err != nil {
		return nil, 0, err
	}
	defer h.sink.stop()
	if err := h.prepare(ctx, dir); err != nil {
		return nil, 0, err
	}
	measurements, err = h.measure(ctx)
	return measurements, h.stages[groupFull].rows(), err
}

// prepare loads the source.
func (h *harness) prepare(ctx context.Context, dir string) error {
	minutes := h.minutes()
	full := stage{set: narrow("full", h.pods, minutes), to: minutes}
	ticks := min(h.ticks, minutes/h.tick-1)
	tick := stage{set: full.set, from: minutes - ticks*h.tick, to: minutes}
	tick.before = tick.from - h.tick
	plan := []struct {
		group string
		stage
		step int
	}{{groupFull, full, minutes}, {groupTick, tick, h.tick}}
	if h.wide > 0 {
		plan = append(plan, struct {
			group string
			stage
			step int
		}{groupWide, stage{set: wide("wide", h.pods, h.wide), to: h.wide}, h.wide})
	}
	if h.long > 0 {
		long := minutes * h.long
		plan = append(plan, struct {
			group string
			stage
			step int
		}{groupLong, stage{set: narrow("long", h.pods, long), to: long}, long})
	}
	loaded := make(map[string]map[string][]influxsync.Entry)
	for _, p := range plan {
		s := p.stage
		s.group = p.group
		if loaded[s.set.name] == nil {
			h.say("loading %s: %d rows", s.set.name, s.set.rows(0, s.set.minutes))
			journals, err := s.set.load(ctx, h.source)
			if err != nil {
				return err
			}
			loaded[s.set.name] = journals
			if h.stores[s.set.name], err = influxsync.StoreID(ctx, h.source.Database(s.set.name)); err != nil {
				return err
			}
			if err := s.set.check(ctx, h.source.Database(s.set.name), 0, s.set.minutes); err != nil {
				return fmt.Errorf("source: %w", err)
			}
		}
		s.journals = loaded[s.set.name]
		if err := s.split(dir, p.step); err != nil {
			return err
		}
		h.stages[p.group] = s
	}
	return nil
}

// measure runs the cases in turns, so that what else the machine does meets
// all of them alike. The long ones are for their memory and run once.
func (h *harness) measure(ctx context.Context) ([]*measured, error) {
	var all []*measured
	for _, group := range []string{groupFull, groupTick, groupWide, groupLong} {
		s, ok := h.stages[group]
		if !ok {
			continue
		}
		for _, c := range cases(group) {
			all = append(all, &measured{testcase: c, rows: s.rows()})
		}
	}
	for turn := range h.runs {
		for _, m := range all {
			if m.Group == groupLong && turn > 0 {
				continue
			}
			s, err := h.one(ctx, m.testcase)
			if err != nil {
				return nil, fmt.Errorf("case %s: %w", m.Name, err)
			}
			m.samples = append(m.samples, s)
			per := s.total().Seconds() / float64(m.rows) * 1e6
			h.say("%d/%d %-24s %7.2f s %7.2f CPU s per million rows", turn+1, h.runs, m.Name, s.elapsed.Seconds(), per)
		}
	}
	return all, nil
}

// one runs a case once.
func (h *harness) one(ctx context.Context, c testcase) (sample, error) {
	s := h.stages[c.Group]
	if err := h.reset(ctx, s); err != nil {
		return sample{}, err
	}
	sourceBefore, sinkBefore, err := h.cpu()
	if err != nil {
		return sample{}, err
	}
	o, err := h.child(ctx, s.job(c, h.source, h.sink, h.stores[s.set.name]))
	if err != nil {
		return sample{}, err
	}
	sourceThen, sinkThen, err := h.cpu()
	if err != nil {
		return sample{}, err
	}
	if err := h.settle(ctx); err != nil {
		return sample{}, err
	}
	source, sink, err := h.cpu()
	if err != nil {
		return sample{}, err
	}
	if c.writes() {
		if err := s.set.check(ctx, h.sink.Database(sinkDB), s.before, s.to); err != nil {
			return sample{}, fmt.Errorf("sink: %w", err)
		}
	}
	return sample{client: o.CPU, source: source - sourceBefore, sink: sink - sinkBefore,
		settling: source - sourceThen + sink - sinkThen, elapsed: o.Elapsed, peakKiB: o.PeakKiB}, nil
}

// reset gives the case a sink that holds what is there before, and stores that
// have nothing else to do and no garbage.
func (h *harness) reset(ctx context.Context, s stage) error {
	if err := h.sink.statement(ctx, "DROP DATABASE "+sinkDB); err != nil {
		return err
	}
	if err := h.sink.Create(ctx, sinkDB); err != nil {
		return err
	}
	for _, t := range s.set.tables {
		if err := t.send(ctx, h.sink, sinkDB, s.before, s.from); err != nil {
			return err
		}
	}
	if err := h.settle(ctx); err != nil {
		return err
	}
	if err := errors.Join(h.source.collect(ctx), h.sink.collect(ctx)); err != nil {
		return err
	}
	return h.settle(ctx)
}

// settle waits until both stores are quiet.
func (h *harness) settle(ctx context.Context) error {
	sourceBefore, sinkBefore, err := h.cpu()
	if err != nil {
		return err
	}
	for waited := time.Duration(0); waited < patience; waited += h.quiet {
		time.Sleep(h.quiet)
		source, sink, err := h.cpu()
		if err != nil {
			return err
		}
		if source-sourceBefore+sink-sinkBefore <= idleTick {
			return ctx.Err()
		}
		sourceBefore, sinkBefore = source, sink
	}
	return ctx.Err()
}

func (h *harness) cpu() (source, sink time.Duration, err error) {
	if source, err = h.source.cpu(); err != nil {
		return 0, 0, err
	}
	sink, err = h.sink.cpu()
	return source, sink, err
}

// child runs the job in a process of its own, which ends with this one.
func (h *harness) child(ctx context.Context, j job) (outcome, error) {
	text, err := json.Marshal(j)
	if err != nil {
		return outcome{}, err
	}
	command := h.client(ctx)
	command.Env = append(os.Environ(), jobVariable+"="+string(text))
	command.Stderr = os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	answer, err := command.Output()
	if ctx.Err() != nil {
		return outcome{}, ctx.Err()
	}
	var o outcome
	if parseErr := json.Unmarshal(answer, &o); parseErr != nil {
		return outcome{}, fmt.Errorf("client's process: %w", errors.Join(err, parseErr))
	}
	if o.Error != "" {
		return outcome{}, errors.New(o.Error)
	}
	return o, nil
}

func (h *harness) say(format string, args ...any) {
	_, _ = fmt.Fprintf(h.progress, format+"\n", args...) // nowhere is left to tell
}

// check compares what the database holds with the minutes [from, to) of the set.
func (d dataset) check(ctx context.Context, db *influxsync.Database, from, to int) error {
	for _, t := range d.tables {
		got, want := make(sums), t.sums(from, to)
		for _, aggregate := range []string{"count", "sum"} {
			query := influxsync.Query{From: t.Name, Aggregate: aggregate, Window: window(-1, d.minutes+1)}
			for _, field := range t.Fields {
				if aggregate == "count" || field.Type == schema.Integer {
					query.Select = append(query.Select, field.Name)
				}
			}
			if len(query.Select) == 0 {
				continue
			}
			err := db.Query(ctx, query, func(p influxsync.Point) error {
				for _, name := range query.Select {
					s := got[name]
					if aggregate == "count" {
						s.Count += p.Int(name)
					} else {
						s.Sum += p.Int(name)
					}
					got[name] = s
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		for _, field := range t.Fields {
			if got[field.Name] != want[field.Name] {
				return fmt.Errorf("%s.%s: count and sum are %v, want %v", t.Name, field.Name, got[field.Name], want[field.Name])
			}
		}
	}
	return nil
}

// median of at least one value.
func median[T ~int64 | ~float64](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}
