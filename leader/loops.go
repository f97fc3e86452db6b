package leader

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"
)

// errNotRunning is a call that needs Run.
var errNotRunning = errors.New("the leader is not running")

// StartLoops starts the manager and the meters. Running already is no error.
func (l *Leader) StartLoops(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.base == nil {
		return errNotRunning
	}
	if l.stopped != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(l.base)
	stopped := make(chan struct{})
	l.cancel, l.stopped = cancel, stopped
	go func() {
		defer close(stopped)
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { return l.manager.Run(ctx) })
		group.Go(func() error { return l.meters.Run(ctx) })
		if err := group.Wait(); err != nil {
			l.log.Error("loops ended", "err", err)
		}
	}()
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
