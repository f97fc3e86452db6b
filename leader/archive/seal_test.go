package archive

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

const november = "2026-11"

// desk is the books of the world's customer.
func (w *world) desk() *books.Books {
	w.t.Helper()
	desk, err := books.New(books.Config{Archive: w.Keeper}, w.reg, w.engine, w.signer.(signer), w.clk, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		w.t.Fatal(err)
	}
	return desk
}

// approve brings November to where it can be closed.
func (w *world) approve(desk *books.Books) {
	w.t.Helper()
	_, err := desk.Draft(w.t.Context(), "acme", november, "dora")
	if err == nil {
		_, err = desk.Review(w.t.Context(), "acme", november, "dora")
	}
	if err == nil {
		_, err = desk.Approve(w.t.Context(), "acme", november, "anna")
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) close(ctx context.Context, desk *books.Books) (books.Statement, error) {
	return desk.Close(ctx, "acme", november, books.CloseRequest{By: "anna", Reason: "the test has half an hour a day"})
}

// seal is what the first statement rests on, which must be there.
func (w *world) seal(desk *books.Books, s books.Statement) map[string]registry.SealedDay {
	w.t.Helper()
	seal, err := desk.SealOf(w.t.Context(), "acme", 1)
	if err != nil || seal.Wrong != "" {
		w.t.Fatalf("seal: %v, %s", err, seal.Wrong)
	}
	if err := books.VerifySeal(s, seal); err != nil {
		w.t.Fatal(err)
	}
	byDay := make(map[string]registry.SealedDay)
	for _, d := range seal.Days {
		byDay[d.Day] = d
	}
	return byDay
}

// TestPeriodThatIsClosedBeforeItsDaysHaveSettled is archived with all its rows at once,
// and its manifests say so; what does not change is not archived again, and what does
// has another revision beside the one that the closed period names.
func TestPeriodThatIsClosedBeforeItsDaysHaveSettled(t *testing.T) {
	w := newWorld(t, Config{})
	w.daysFrom(26, 30, 40*time.Minute)
	w.pass()
	desk := w.desk()
	w.approve(desk)
	s, err := w.close(t.Context(), desk)
	if err != nil {
		t.Fatal(err)
	}
	sealed := w.seal(desk, s)
	if len(sealed) != 4 || s.Archive.Days != 4 || s.Archive.Unsettled != 3 {
		t.Errorf("%d days, statement: %+v", len(sealed), s.Archive)
	}
	last := first.AddDate(0, 0, 29)
	if d := sealed["2026-11-30"]; d.Revision != 1 || !strings.Contains(d.Unsettled, "less than 72 hours") {
		t.Errorf("the last day: %+v", d)
	}
	if d := sealed["2026-11-27"]; d.Unsettled != "" {
		t.Errorf("a day that had settled: %+v", d)
	}
	day, err := OpenSigned(w.Dir(), edge, last, w.Key())
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range minuteTables(edge) {
		var got tally
		if err := day.Rows(table.Name, func(p influxsync.Point) error { got.add(p); return nil }); err != nil {
			t.Fatal(err)
		}
		if want := w.inStore(table, edge, last); got != want || table.Name == "pod" && got.Rows != 2*busy {
			t.Errorf("%s: archive %+v, store %+v", table.Name, got, want)
		}
	}
	w.settle(first.AddDate(0, 1, 0), 40, 50, 5) // a day is folded when there is more after it
	w.clk.Set(first.AddDate(0, 1, 5))
	w.work()
	w.pass()
	if d := w.archived(edge, last); d.Revision != 1 {
		t.Errorf("a day that did not change was archived again, as revision %d", d.Revision)
	}
	w.settle(last, 3, 5, 77)
	w.work()
	w.clk.Advance(time.Hour)
	w.work()
	w.pass()
	if d := w.archived(edge, last); d.Revision != 2 {
		t.Errorf("revision %d of a day that was revised", d.Revision)
	}
	if again := w.seal(desk, s); again["2026-11-30"] != sealed["2026-11-30"] {
		t.Errorf("the closed period names %+v", again["2026-11-30"])
	}
	seen, err := w.Verify(t.Context(), Scope{Cluster: edge})
	if err != nil || seen.Sealed != 4 {
		t.Errorf("verify: %+v %v", seen, err)
	}
	w.clk.Set(first.AddDate(0, 2, 0))
	w.pass()
	if w.inStore(schema.PodMinute, edge, last).Rows > 0 {
		t.Error("its rows are in the store two months later")
	}
	dir, err := dayDir(w.Dir(), edge, last)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "pod-1.parquet")); err != nil {
		t.Fatal(err)
	}
	if seal, err := desk.SealOf(t.Context(), "acme", 1); err != nil || !strings.Contains(seal.Wrong, "pod-1.parquet of edge-a on 2026-11-30") {
		t.Errorf("without a file of the revision that is named: %q %v", seal.Wrong, err)
	}
}

// bounded is a gate that ends its caller's context after some days.
type bounded struct {
	left int
	end  context.CancelFunc
}

func (b *bounded) Alone(ctx context.Context, _ string, do func(context.Context) error) error {
	if b.left--; b.left < 0 {
		b.end()
		return context.Canceled
	}
	return do(ctx)
}

// TestCloseThatEndsInTheMiddle leaves a period that is approved, and days that are
// archived; the next one archives the others only.
func TestCloseThatEndsInTheMiddle(t *testing.T) {
	w := newWorld(t, Config{})
	w.days(3, 40*time.Minute)
	w.clk.Set(first.AddDate(0, 1, 0).Add(time.Hour))
	w.work()
	desk := w.desk()
	w.approve(desk)
	ctx, cancel := context.WithCancel(t.Context())
	w.gate = &bounded{left: 2, end: cancel}
	if _, err := w.close(ctx, desk); !errors.Is(err, context.Canceled) {
		t.Fatalf("close: %v", err)
	}
	w.gate = ajar{}
	blocked, err := dayDir(w.Dir(), edge, first.AddDate(0, 0, 20))
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Dir(blocked), 0o700), os.WriteFile(blocked, nil, 0o600)) // no file can be made there
	}
	if err != nil {
		t.Fatal(err)
	}
	again := w.desk() // a leader that was started again
	if _, err := w.close(t.Context(), again); !errors.Is(err, books.ErrState) || !strings.Contains(err.Error(), "stays approved") {
		t.Fatalf("close: %v", err)
	}
	periods, err := again.List(t.Context(), "acme", november)
	if err != nil || len(periods) != 1 || periods[0].State != books.StateApproved {
		t.Fatalf("%+v %v", periods, err)
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	s, err := w.close(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	for day, d := range w.seal(again, s) {
		if d.Revision != 1 {
			t.Errorf("%s was archived %d times", day, d.Revision)
		}
	}
	if _, err := VerifyDir(t.Context(), w.Dir(), Scope{}, w.Key()); err != nil {
		t.Error(err)
	}
}

// TestSealWhoseCallerIsGone writes the day under way and stops there; the end of Run ends
// the day too. The control is where nothing runs: the day is thrown away.
func TestSealWhoseCallerIsGone(t *testing.T) {
	span := schema.Window{From: first, To: first.Add(3 * dayLength)}
	for name, one := range map[string]struct {
		runs bool
		want int
	}{"leader": {true, 1}, "nothing": {false, 0}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.days(3, dayLength)
			run, stop := context.WithCancel(t.Context())
			defer stop()
			if one.runs {
				w.running.begin(run)
			}
			ctx, cancel := context.WithCancel(t.Context())
			w.gate = restless{cancel, func() {}}
			if _, n, err := w.Seal(ctx, edge, span); n != one.want || !errors.Is(err, context.Canceled) {
				t.Fatalf("%d days are archived, want %d: %v", n, one.want, err)
			}
			w.gate = ajar{}
			if days, n, err := w.Seal(t.Context(), edge, span); n != 3-one.want || len(days) != 3 || err != nil {
				t.Errorf("%d days are archived after that: %v", n, err)
			}
		})
	}
	w := newWorld(t, Config{})
	w.days(3, dayLength)
	run, stop := context.WithCancel(t.Context())
	w.running.begin(run)
	w.gate = ending(stop)
	if _, n, err := w.Seal(t.Context(), edge, span); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d days were archived after the end of the leader: %v", n, err)
	}
	stopped, end := context.WithCancel(t.Context())
	end()
	if err := w.Run(stopped); err != nil || w.running.ctx != stopped {
		t.Errorf("run: %v", err)
	}
}

// ending is a gate behind which the leader ends.
type ending context.CancelFunc

func (end ending) Alone(ctx context.Context, _ string, do func(context.Context) error) error {
	end()
	<-ctx.Done()
	return do(ctx)
}

// restless is a gate behind which something happens before and after a day is worked on.
type restless struct{ before, after func() }

func (r restless) Alone(ctx context.Context, _ string, do func(context.Context) error) error {
	r.before()
	defer r.after()
	return do(ctx)
}

// TestDayThatHasNotEnded: what runs on changes each time that it is archived, and a
// period that ends in it is closed all the same. The control is a day that ended, which
// must not change.
func TestDayThatHasNotEnded(t *testing.T) {
	for name, one := range map[string]struct {
		now  time.Time
		want error
	}{"today": {first.Add(2*dayLength + time.Hour), nil}, "yesterday": {first.Add(3*dayLength + time.Hour), ErrChanging}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.days(2, busy*time.Minute)
			w.clk.Set(one.now)
			at := 0
			change := func() {
				w.settle(first.Add(2*dayLength), at, at+1, 10)
				w.work()
				at++
			}
			change()
			w.gate = restless{change, change}
			today := first.Add(2 * dayLength)
			days, _, err := w.Seal(t.Context(), edge, schema.Window{From: first, To: today.Add(time.Hour)})
			if !errors.Is(err, one.want) {
				t.Fatalf("%+v %v, want %v", days, err, one.want)
			}
			if err == nil && (len(days) != 3 || days[2].Revision != 1 || days[2].Unsettled != "the day had not ended") {
				t.Errorf("%+v", days)
			}
			if _, err := VerifyDir(t.Context(), w.Dir(), Scope{}, w.Key()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRowsThatAreNotTheJournals: where they come while a day is archived, it is tried
// again; where they never do, the day is named as lost, and what names it so verifies.
func TestRowsThatAreNotTheJournals(t *testing.T) {
	for name, times := range map[string]int{"for a moment": 1, "for good": 1000} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.days(3, dayLength)
			row := influxsync.NewPoint("pod", map[string]string{schema.Cluster: edge, schema.Pod: "z"}, map[string]influxsync.Value{schema.CPU: influxsync.Int(1)}, first)
			store, tries := w.store.Database(schema.MinuteDB), 0
			w.gate = restless{func() {
				var err error
				if tries++; tries <= times {
					err = store.Write(t.Context(), []influxsync.Point{row})
				} else {
					err = store.Delete(t.Context(), "pod", []influxsync.Condition{{Tag: schema.Pod, Value: "z"}}, schema.Window{From: first, To: first.Add(time.Minute)})
				}
				if err != nil {
					t.Fatal(err)
				}
			}, func() {}}
			days, _, err := w.Seal(t.Context(), edge, schema.Window{From: first, To: first.Add(2 * dayLength)})
			if err != nil || len(days) != 2 {
				t.Fatalf("%+v %v", days, err)
			}
			if lost := times > sealTries; days[0].Lost() != lost || lost && !strings.Contains(days[0].Unsettled, "cannot be archived: archive pod of edge-a: the window of 2026-11-01T00:00:00Z has 3 rows") {
				t.Errorf("the first day: %+v", days[0])
			}
			if days[1].Revision != 1 {
				t.Errorf("the day after: %+v", days[1])
			}
			for _, d := range days {
				if err := w.Sealed(d); err != nil {
					t.Error(err)
				}
			}
			days[0].Revision, days[0].Unsettled = 0, ""
			if err := w.Sealed(days[0]); !errors.Is(err, ErrDamaged) {
				t.Errorf("a day without a revision and a reason: %v", err)
			}
		})
	}
}

// TestSealAfterACrash: a manifest that was not recorded is the one before the next, also
// where a period is closed before the first pass.
func TestSealAfterACrash(t *testing.T) {
	w := newWorld(t, Config{})
	w.days(3, 40*time.Minute)
	span := schema.Window{From: first, To: first.AddDate(0, 0, 3)}
	if _, n, err := w.Seal(t.Context(), edge, schema.Window{From: first, To: first.Add(time.Hour)}); n != 1 || err != nil {
		t.Fatalf("%d archived: %v", n, err)
	}
	_, hash := w.unrecorded(first.Add(dayLength), 2)
	restarted := &Keeper{config: w.config, source: w.source, signer: w.signer, gate: w.gate, clock: w.clk, log: w.log, metrics: w.Keeper.metrics, adopted: make(map[string]bool)}
	days, n, err := restarted.Seal(t.Context(), edge, span)
	if err != nil || n != 1 || len(days) != 3 || days[1].Revision != 1 || days[1].Manifest != hash {
		t.Errorf("%d archived, %+v: %v", n, days, err)
	}
	if _, err := VerifyDir(t.Context(), w.Dir(), Scope{}, w.Key()); err != nil {
		t.Error(err)
	}
}
