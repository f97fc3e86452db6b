package leader

import (
	"context"
	"errors"
	"time"

	"github.com/accumulus-metering/accumulus/leader/registry"

	"golang.org/x/sync/errgroup"
)

// errNotRunning is a call that needs Run.
var errNotRunning = errors.New("the leader is not running")

// foldEvery is how often the ledger folds what has settled.
const foldEvery = time.Hour

// StartLoops starts the manager, the meters, the deleting of heat readings, the
// grids' intensities, the keeping of the ledger and of the seeds, the books' days and
// the archive.
// Running already is no error.
func (l *Leader) StartLoops(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.base == nil {
		return errNotRunning
	}
	if l.stopped != nil {
		return nil
	}
	// Before the first contact: what the links were like meanwhile is unknown.
	if err := l.registry.Woke(ctx, l.clock.Now()); err != nil {
		return err
	}
	running, cancel := context.WithCancel(l.base)
	stopped := make(chan struct{})
	l.cancel, l.stopped = cancel, stopped
	go func() {
		defer close(stopped)
		group, ctx := errgroup.WithContext(running)
		group.Go(func() error { return l.manager.Run(ctx) })
		group.Go(func() error { return l.meters.Run(ctx) })
		group.Go(func() error { return l.heat.Run(ctx) })
		group.Go(func() error { return l.carbon.Run(ctx) })
		group.Go(func() error { return l.prices.Run(ctx) })
		group.Go(func() error { return l.meters.RunLags(ctx) })
		group.Go(func() error { return l.keepLedger(ctx) })
		group.Go(func() error { return l.models.Run(ctx) })
		group.Go(func() error { return l.seeder.Run(ctx) })
		group.Go(func() error { return l.books.Run(ctx) })
		group.Go(func() error { return l.archive.Run(ctx) })
		if err := group.Wait(); err != nil {
			l.log.Error("loops ended", "err", err)
		}
	}()
	return nil
}

// keepLedger notes that the leader runs and folds the ledger, until ctx ends.
func (l *Leader) keepLedger(ctx context.Context) error {
	var folded time.Time
	for l.clock.Sleep(ctx, registry.BeatEvery) == nil { // the end of ctx is the way to stop
		now := l.clock.Now()
		if err := l.registry.Beat(ctx, now); err != nil && ctx.Err() == nil {
			l.log.Warn("heartbeat failed", "err", err)
		}
		if now.Sub(folded) < foldEvery {
			continue
		}
		done, err := l.registry.FoldLedger(ctx, now)
		switch {
		case err != nil && ctx.Err() == nil:
			l.log.Warn("ledger cannot be folded", "err", err)
		case done.Days > 0:
			l.log.Info("ledger folded", "days", done.Days, "windows", done.Windows, "bytes", done.Bytes)
		}
		if folded = now; done.More {
			folded = time.Time{} // the rest at the next beat
		}
	}
	return nil
}

// StopLoops stops them and returns when the running tick is done.
func (l *Leader) StopLoops(ctx context.Context) error {
	l.mu.Lock()
	cancel, stopped := l.cancel, l.stopped
	l.mu.Unlock()
	if stopped == nil {
		return nil
	}
	cancel()
	select {
	case <-stopped:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := l.registry.Beat(ctx, l.clock.Now()); err != nil {
		l.log.Warn("heartbeat failed", "err", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped == stopped {
		l.cancel, l.stopped = nil, nil
	}
	return nil
}

// running says whether the loops run.
func (l *Leader) running() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stopped != nil
}
