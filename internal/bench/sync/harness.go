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
	"regexp"
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
	long     int            // times the full window; 0 = without
	tick     int            // minutes of a tick
	ticks    int            // at most
	wide     int            // minutes of the wide table; 0 = without
	only     *regexp.Regexp // names of cases; nil is all
	quiet    time.Duration
	progress io.Writer
}

func (c config) validate() error {
	switch {
	case c.pods < 1 || c.rows < 1 || c.runs < 1 || c.tick < 1 || c.ticks < 1:
		return errors.New("pods, rows, runs, tick and ticks are at least 1")
	case c.long < 0 || c.wide < 0:
		return errors.New("long and wide are not negative; 0 leaves them out")
	case !slices.ContainsFunc(groups, c.wants):
		return fmt.Errorf("no case has a name that fits %s", c.only)
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
	return (c.rows + c.perMinute() - 1) / c.perMinute()
}

func (c config) perMinute() int { return 4*c.pods + nodes(c.pods) }

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
	stage   *stage
	rows    int // of one run
	samples []sample
}

// harness is a run in progress.
type harness struct {
	config
	source, sink *server
	stages       []stage
	stores       map[string]string // ids by database
}

// run measures every case and returns them in their order.
func run(ctx context.Context, c config) (measurements []*measured, err error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench-sync-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	h := &harness{config: c, stores: make(map[string]string)}
	if h.source, err = start(ctx, c.launch, filepath.Join(dir, "source")); err != nil {
		return nil, err
	}
	defer h.source.stop()
	if h.sink, err = start(ctx, c.launch, filepath.Join(dir, "sink")); err != nil {
		return nil, err
	}
	defer h.sink.stop()
	if err := h.prepare(ctx, dir); err != nil {
		return nil, err
	}
	return h.measure(ctx)
}

// plan is what the cases need: what is copied, and in how long steps.
func (c config) plan() []stage {
	var all []stage
	minutes := c.minutes()
	if c.wants(groupFull) || c.wants(groupTick) {
		full := narrow("full", c.pods, minutes)
		from := minutes - min(c.ticks, minutes/c.tick-1)*c.tick
		all = append(all, stage{group: groupFull, set: full, to: minutes, step: minutes},
			stage{group: groupTick, set: full, before: from - c.tick, from: from, to: minutes, step: c.tick})
	}
	if c.wants(groupWide) {
		all = append(all, stage{group: groupWide, set: wide("wide", c.pods, c.wide), to: c.wide, step: c.wide})
	}
	if c.wants(groupLong) {
		long := minutes * c.long
		all = append(all, stage{group: groupLong, set: narrow("long", c.pods, long), to: long, step: long})
	}
	return all
}

func (c config) wants(group string) bool { return len(c.cases(group)) > 0 }

// cases are those of the group that are wanted.
func (c config) cases(group string) []testcase {
	if group == groupWide && c.wide == 0 || group == groupLong && c.long == 0 {
		return nil
	}
	return slices.DeleteFunc(cases(group), func(t testcase) bool { return c.only != nil && !c.only.MatchString(t.Name) })
}

// prepare loads the source. Stages of one set share it.
func (h *harness) prepare(ctx context.Context, dir string) error {
	journals := make(map[string]map[string][]influxsync.Entry)
	for _, s := range h.plan() {
		name := s.set.name
		if journals[name] == nil {
			h.say("loading %s: %d rows", name, s.set.rows(0, s.set.minutes))
			var err error
			if journals[name], err = s.set.load(ctx, h.source); err != nil {
				return err
			}
			if h.stores[name], err = influxsync.StoreID(ctx, h.source.Database(name)); err != nil {
				return err
			}
			if err := s.set.check(ctx, h.source.Database(name), 0, s.set.minutes); err != nil {
				return fmt.Errorf("source: %w", err)
			}
		}
		s.journals = journals[name]
		if err := s.split(dir); err != nil {
			return err
		}
		h.stages = append(h.stages, s)
	}
	return nil
}

// measure runs the cases in turns, so that what else the machine does meets
// all of them alike. The long ones are for their memory and run once.
func (h *harness) measure(ctx context.Context) ([]*measured, error) {
	var all []*measured
	for _, s := range h.stages {
		for _, c := range h.cases(s.group) {
			all = append(all, &measured{testcase: c, stage: &s, rows: s.rows()})
		}
	}
	for turn := range h.runs {
		for _, m := range all {
			if m.Group == groupLong && turn > 0 {
				continue
			}
			s, err := h.one(ctx, *m.stage, m.testcase)
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
func (h *harness) one(ctx context.Context, s stage, c testcase) (sample, error) {
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
		if s.from == 0 {
			continue
		}
		// As Sync would have left it: otherwise the mark is of a sink that lost its rows.
		e := s.journals[t.Name][s.from-1]
		mark := influxsync.Mark{Store: h.stores[s.set.name], Time: e.Time, Hash: e.Hash}
		if err := influxsync.NoteReach(ctx, h.sink.Database(sinkDB), cluster, t.Name, mark); err != nil {
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
