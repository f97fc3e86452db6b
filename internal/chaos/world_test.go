package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// leastFaults strike each schedule.
const leastFaults = 3

// world is a schedule while it runs.
type world struct {
	ctx     context.Context
	plan    *plan
	dir     string
	clock   *clock.Manual
	source  *volume
	centre  *centre
	models  []*model
	links   [2]*link // to the source, to the sink
	remote  *influxsync.Server
	sink    *influxsync.Server
	turn    *turn
	pulls   int
	volumes int
	saved   []*books // of yesterday's copy
	losses  map[string]int
	variant variant
}

// run runs a schedule. What it did is told also when it went wrong.
func run(ctx context.Context, p *plan, dir string, v variant) (outcome, error) {
	w := &world{ctx: ctx, plan: p, dir: dir, clock: clock.NewManual(p.start.Add(5 * time.Minute)), losses: make(map[string]int), variant: v}
	err := w.run()
	return w.outcome(), errors.Join(err, w.end())
}

// outcome is what befell a schedule.
type outcome struct {
	struck map[string]int // faults of the links, and losses, by their kind
	faults int            // of the links
	trace  []string
	pulls  int
}

func (w *world) outcome() outcome {
	o := outcome{struck: w.losses, pulls: w.pulls}
	for _, l := range w.links {
		if l == nil {
			continue
		}
		o.faults += l.faults()
		o.trace = append(o.trace, l.trace...)
		for fault, n := range l.struck {
			o.struck[fault] += n
		}
	}
	return o
}

func (w *world) run() error {
	if err := w.open(); err != nil {
		return err
	}
	for i, s := range w.plan.steps {
		w.clock.Advance(s.pause)
		if err := w.do(s); err != nil {
			return fmt.Errorf("step %d, %.120s: %w", i, s, err)
		}
	}
	for range 40 {
		if w.faults() >= leastFaults {
			break
		}
		if err := w.pull(step{kind: pulling, weather: weather{source: 400, sink: 400, limit: 5}}); err != nil {
			return err
		}
	}
	if n := w.faults(); n < leastFaults {
		return fmt.Errorf("only %d faults struck", n)
	}
	return w.finish()
}

func (w *world) faults() int { return w.links[0].faults() + w.links[1].faults() }

func (w *world) open() (err error) {
	if w.source, err = newVolume(w.ctx, w.plan, w.clock, w.volume(), nil); err != nil {
		return err
	}
	if err := w.attach(w.dir); err != nil {
		return err
	}
	w.connect()
	return w.centre.prepare(w.ctx)
}

// attach starts the centre at dir, with links that lead nowhere yet.
func (w *world) attach(dir string) (err error) {
	for _, t := range w.plan.tables {
		w.models = append(w.models, newModel(w.plan, t))
	}
	w.links = [2]*link{newLink("source", w.plan), newLink("sink", w.plan)}
	if w.remote, err = influxsync.New(influxsync.Config{URL: "http://follower", Transport: w.links[0]}); err != nil {
		return err
	}
	if w.sink, err = influxsync.New(influxsync.Config{URL: "http://centre", Transport: w.links[1]}); err != nil {
		return err
	}
	w.centre = &centre{plan: w.plan, dir: dir, clock: w.clock}
	return w.startCentre()
}

func (w *world) startCentre() error {
	sync := syncing(influxsync.Sync)
	if w.variant.sync != nil {
		sync = w.variant.sync(w, sync)
	}
	return w.centre.open(w.ctx, w.sink, bounded(w.plan, sync, func() *turn { return w.turn }))
}

// connect leads the links to the engines that run now.
func (w *world) connect() {
	w.links[0].lead(w.source.engine.Transport())
	w.links[1].lead(w.centre.engine.Transport())
	if w.variant.link != nil {
		w.variant.link(w)
	}
}

func (w *world) volume() string {
	w.volumes++
	return filepath.Join(w.dir, fmt.Sprint("volume", w.volumes))
}

func (w *world) yesterday() string { return filepath.Join(w.dir, "yesterday") }

func (w *world) do(s step) error {
	switch s.kind {
	case write, settle:
		return w.source.do(w.ctx, s)
	case pulling:
		return w.pull(s)
	}
	w.losses[string(s.kind)]++
	defer w.connect()
	switch s.kind {
	case restartLeader:
		if err := w.centre.close(); err != nil {
			return err
		}
		return w.startCentre()
	case restartFollower:
		return w.source.reopen(w.ctx)
	case backUp:
		w.saved = cloneBooks(w.source.books)
		return copyDir(w.yesterday(), w.source.dir)
	case emptyVolume:
		return w.replace(w.volume(), nil)
	case restore:
		dir := w.volume()
		if err := copyDir(dir, w.yesterday()); err != nil {
			return err
		}
		return w.replace(dir, cloneBooks(w.saved))
	}
	return fmt.Errorf("no step %s", s.kind)
}

// replace puts another volume in the place of the follower's.
func (w *world) replace(dir string, known []*books) error {
	old := w.source
	if err := old.engine.Close(); err != nil {
		return err
	}
	if err := os.RemoveAll(old.dir); err != nil {
		return err
	}
	for _, m := range w.models {
		m.again = true
	}
	next, err := newVolume(w.ctx, w.plan, w.clock, dir, known)
	if err == nil {
		w.source = next
	}
	return err
}

// pull pulls once in the step's weather, and compares the centre with what the
// marks say of it.
func (w *world) pull(s step) error {
	w.pulls++
	w.turn = newTurn(s.weather)
	w.links[0].begin(w.pulls, s.weather.source)
	w.links[1].begin(w.pulls, s.weather.sink)
	rewritten := w.dirty() || slices.ContainsFunc(s.during, func(d during) bool { return d.step.kind == write })
	meanwhile := newMeanwhile(w, s.during)
	w.links[0].hook = meanwhile.at
	var were []before
	for _, b := range w.source.books {
		were = append(were, versions(b))
	}
	_, pullErr := w.centre.puller.Pull(w.ctx, cluster, w.remote)
	w.links[0].hook = nil
	if err := meanwhile.rest(); err != nil {
		return err
	}
	if errors.Is(pullErr, errEndless) {
		return pullErr
	}
	// A pull may fail without a fault while a window is being rewritten: what it read
	// is of neither revision, though the newer one has been settled since.
	excused := rewritten && errors.Is(pullErr, influxsync.ErrMismatch)
	if pullErr != nil && s.weather.source+s.weather.sink == 0 && !excused {
		return fmt.Errorf("pull %d without a fault: %w", w.pulls, pullErr)
	}
	return w.check(were)
}

// dirty says whether a window has been written since it was settled.
func (w *world) dirty() bool {
	for _, b := range w.source.books {
		for window := range b.settled {
			if b.dirty(window) {
				return true
			}
		}
	}
	return false
}

// check compares marks, rows and quarantine after a pull.
func (w *world) check(were []before) error {
	for i, t := range w.plan.tables {
		mark, err := w.centre.registry.Mark(w.ctx, cluster, t.Name)
		if err != nil {
			return err
		}
		w.models[i].again = w.models[i].again || w.links[1].lied(i)
		for _, mark := range append(w.turn.marks[i], mark) {
			if err := w.models[i].pulled(w.source.books[i], w.source.store(i), were[i], mark); err != nil {
				return fmt.Errorf("pull %d, table %q: %w", w.pulls, t.Name, err)
			}
		}
		held, err := w.centre.held(w.ctx, t)
		if err != nil {
			return err
		}
		if err := w.models[i].compare(held); err != nil {
			return fmt.Errorf("after pull %d the centre's table %q %w", w.pulls, t.Name, err)
		}
	}
	return w.checkQuarantine()
}

// calm is a pull without faults.
var calm = step{kind: pulling, weather: weather{limit: 25, span: 20 * schema.Minute}}

// finish settles what is being rewritten, ends the faults, and pulls to the end.
func (w *world) finish() error {
	for i, b := range w.source.books {
		if windows := b.unsettled(w.plan); len(windows) > 0 {
			if err := w.source.do(w.ctx, step{kind: settle, table: i, windows: windows}); err != nil {
				return err
			}
		}
	}
	for _, l := range w.links {
		l.calm()
	}
	if err := w.pull(calm); err != nil {
		return fmt.Errorf("last pull: %w", err)
	}
	return w.complete()
}

// complete: everything that is settled has arrived, the ledger says so, and
// another pull changes nothing.
func (w *world) complete() error {
	for i, t := range w.plan.tables {
		if err := w.arrived(i); err != nil {
			return fmt.Errorf("at the end the centre's table %q %w", t.Name, err)
		}
	}
	w.clock.Set(w.plan.window(w.plan.windows).To.Add(day / 24)) // every window must have come
	if err := w.checkLedger(); err != nil {
		return fmt.Errorf("at the end %w", err)
	}
	return w.again()
}

// arrived says what is missing of a table at the end.
func (w *world) arrived(i int) error {
	m, b := w.models[i], w.source.books[i]
	if n := b.find(m.mark, w.source.store(i)); n != len(b.entries) {
		return fmt.Errorf("has its mark at entry %d of %d", n, len(b.entries))
	}
	held, err := w.centre.held(w.ctx, m.table)
	if err != nil {
		return err
	}
	return m.exact(b, held)
}

// again pulls once more: that changes nothing.
func (w *world) again() error {
	first, err := w.snapshot()
	if err != nil {
		return err
	}
	w.clock.Advance(time.Minute)
	if err := w.pull(calm); err != nil {
		return fmt.Errorf("second pull: %w", err)
	}
	second, err := w.snapshot()
	if err != nil {
		return err
	}
	if first != second {
		return fmt.Errorf("a second pull changes something: %s", firstDifference(first, second))
	}
	return nil
}

func firstDifference(a, b string) string {
	former := make(map[string]bool)
	for line := range strings.Lines(a) {
		former[line] = true
	}
	for line := range strings.Lines(b) {
		if !former[line] {
			return line
		}
	}
	return "something is gone"
}

// end closes what is open.
func (w *world) end() error {
	var errs []error
	if w.source != nil && w.source.engine != nil {
		errs = append(errs, w.source.engine.Close())
	}
	if w.centre != nil && w.centre.registry != nil {
		errs = append(errs, w.centre.close())
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}
