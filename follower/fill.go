package follower

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/follower/meter"
	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// ErrHistory is a window of history that the live lane claims.
var ErrHistory = errors.New("history overlaps with what is metered live")

const (
	historyLane = "history"
	// fillBack is how far before the last settled window the filling begins
	// again after a restart: a reading of every series lies in it.
	fillBack = schema.Minute
	// fillBeyond is how far behind the end readings are asked for, so that
	// every series has one after it.
	fillBeyond = schema.Minute
)

// Fill meters [from, to), whole minutes, from the bodies that source gives for
// the moments of simulated scrapes, in the order of time, through a lane of its
// own. It waits until the follower is open and returns when all windows have
// settled. A zero to is the first window of the live lane, which is then waited
// for; a later one is ErrHistory. After a restart it goes on behind the last
// window that settled, and the range of the first time holds. Live metering
// goes on meanwhile: each minute of history is a turn of its own. The pods that
// ended before the follower ran are told to Log before. Progress may be nil.
func (f *Follower) Fill(ctx context.Context, from, to time.Time, source func(t time.Time) ([]reading.Body, error), progress func(done, total time.Duration)) error {
	live, err := f.liveFrom(ctx)
	if err != nil {
		return err
	}
	if to.IsZero() {
		to = live
	}
	from, to = from.UTC().Truncate(schema.Minute), to.UTC().Truncate(schema.Minute)
	if to.After(live) {
		return fmt.Errorf("fill [%s, %s): live windows begin at %s: %w", from.Format(time.RFC3339), to.Format(time.RFC3339), live.Format(time.RFC3339), ErrHistory)
	}
	if !from.Before(to) {
		return nil
	}
	lane := &filling{follower: f, clock: clock.NewManual(from), source: source, progress: progress}
	if lane.meter, err = f.newMeter(historyLane, from, to, lane.clock); err != nil {
		return err
	}
	if err := lane.run(ctx); err != nil {
		return err
	}
	// The live lane finds the readings before its first one: what was used
	// between them is revised into its first windows.
	return lane.turn(func() error { return f.meter.Restore(ctx) })
}

// liveFrom waits until the first window of the live lane is known.
func (f *Follower) liveFrom(ctx context.Context) (time.Time, error) {
	select {
	case <-f.opened:
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	}
	for {
		if from := f.meter.Status().From; !from.IsZero() {
			return from, nil
		}
		if err := f.clock.Sleep(ctx, time.Second); err != nil {
			return time.Time{}, err
		}
	}
}

// filling is one run through history. Its clock shows the moment that is fed.
type filling struct {
	follower *Follower
	meter    *meter.Meter
	clock    *clock.Manual
	source   func(t time.Time) ([]reading.Body, error)
	progress func(done, total time.Duration)
}

func (l *filling) run(ctx context.Context) error {
	if err := l.turn(func() error { return l.meter.Restore(ctx) }); err != nil {
		return err
	}
	l.report()
	lane := l.meter.Status()
	at := lane.From
	back := lane.Mark
	if margin := lane.To.Add(-meter.LaneMargin); back.After(margin) {
		back = margin
	}
	if back = back.Add(-fillBack); back.After(at) {
		at = back
	}
	interval := l.follower.config.Interval
	for next := at; !l.done(); next = next.Add(schema.Minute) {
		if next.After(lane.To.Add(fillBeyond)) {
			return l.finish(ctx, next)
		}
		var bodies []reading.Body
		for t := next; t.Before(next.Add(schema.Minute)); t = t.Add(interval) {
			read, err := l.source(t)
			if err != nil {
				return fmt.Errorf("history at %s: %w", t.Format(time.RFC3339), err)
			}
			bodies = append(bodies, read...)
			l.clock.Set(t)
		}
		if err := l.step(ctx, bodies); err != nil {
			return err
		}
	}
	return nil
}

// step stores bodies and settles what is due.
func (l *filling) step(ctx context.Context, bodies []reading.Body) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := l.turn(func() error {
		if err := l.meter.Add(ctx, bodies); err != nil {
			return err
		}
		_, err := l.meter.Settle(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("fill history: %w", err)
	}
	l.report()
	return nil
}

// finish settles what readings did not: series that ended at the very end.
func (l *filling) finish(ctx context.Context, at time.Time) error {
	l.clock.Set(at.Add(l.follower.config.SettleDeadline + l.follower.config.FactsDeadline))
	if err := l.step(ctx, nil); err != nil {
		return err
	}
	if !l.done() {
		return fmt.Errorf("fill history: %s", l.meter.Status().Waiting)
	}
	return nil
}

// turn does something while the live loop does not.
func (l *filling) turn(do func() error) error {
	l.follower.turn.Lock()
	defer l.follower.turn.Unlock()
	return do()
}

func (l *filling) done() bool {
	s := l.meter.Status()
	return !s.From.IsZero() && !s.Mark.Before(s.To)
}

func (l *filling) report() {
	s := l.meter.Status()
	if s.From.IsZero() {
		return
	}
	l.follower.mu.Lock()
	l.follower.state.history = &HistoryStatus{From: s.From, To: s.To, Done: s.Mark}
	l.follower.mu.Unlock()
	if l.progress != nil {
		l.progress(s.Mark.Sub(s.From), s.To.Sub(s.From))
	}
}
