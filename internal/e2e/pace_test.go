package e2e

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

// pacer is a clock that knows when the loops that live by it have come to
// rest: each sleeps until a slot that lies ahead. Only sleeps for a moment
// (clock.At) count, which is how loops wait for their slots.
type pacer struct {
	*clock.Manual
	mu     sync.Mutex
	sleeps map[*time.Time]bool
	moved  chan struct{} // closed when a sleep begins
}

func newPacer(manual *clock.Manual) *pacer {
	return &pacer{Manual: manual, sleeps: make(map[*time.Time]bool), moved: make(chan struct{})}
}

// SleepUntil waits until the clock shows t, and is seen by rest.
func (p *pacer) SleepUntil(ctx context.Context, t time.Time) error {
	p.mu.Lock()
	p.sleeps[&t] = true
	close(p.moved)
	p.moved = make(chan struct{})
	p.mu.Unlock()
	err := p.Manual.SleepUntil(ctx, t)
	p.mu.Lock()
	delete(p.sleeps, &t)
	p.mu.Unlock()
	return err
}

// asleep is how many loops wait for a moment ahead, and what tells of the next.
func (p *pacer) asleep() (int, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, now := 0, p.Now()
	for t := range p.sleeps {
		if t.After(now) {
			n++
		}
	}
	return n, p.moved
}

// rest returns when from least to most loops sleep, or with ctx's error. More of them
// are an error too: one that nobody counts could still be at work.
func (p *pacer) rest(ctx context.Context, least, most int) error {
	for {
		n, moved := p.asleep()
		switch {
		case n > most:
			return fmt.Errorf("%d loops sleep, of %d that are known: count the new one", n, most)
		case n >= least:
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
