// Package clock is the one source of time. It is injected from the scraper to
// the manager, so that a test can drive hours in milliseconds and a crash test
// can give two processes the same time. Nothing outside package main and this
// package asks the operating system for the time; a lint holds that.
package clock

import (
	"context"
	"sync"
	"time"
)

// Clock tells the time and waits for it.
type Clock interface {
	// Now is the present moment in UTC.
	Now() time.Time
	// Sleep returns nil when d has passed, or the context's error before.
	Sleep(ctx context.Context, d time.Duration) error
}

// System is the machine's clock. Inside a synctest bubble it is the bubble's.
func System() Clock { return system{} }

type system struct{}

func (system) Now() time.Time { return time.Now().UTC() }

func (system) Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Until sleeps to the next whole multiple of interval since the Unix epoch and
// returns that slot. Slots are wall-clock time: a late tick does not drift.
func Until(ctx context.Context, c Clock, interval time.Duration) (time.Time, error) {
	slot := c.Now().Truncate(interval).Add(interval)
	return slot, At(ctx, c, slot)
}

// Manual stands still until it is told to move.
type Manual struct {
	mu       sync.Mutex
	now      time.Time
	sleepers map[chan struct{}]time.Time
}

// NewManual is a clock that shows start.
func NewManual(start time.Time) *Manual {
	return &Manual{now: start.UTC(), sleepers: make(map[chan struct{}]time.Time)}
}

// Now is the time it was last set to.
func (m *Manual) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Set moves the clock to t, which may lie before, and wakes who waited for it.
func (m *Manual) Set(t time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = t.UTC()
	for wake, due := range m.sleepers {
		if !due.After(m.now) {
			close(wake)
			delete(m.sleepers, wake)
		}
	}
}

// Advance moves the clock forward by d.
func (m *Manual) Advance(d time.Duration) { m.Set(m.Now().Add(d)) }

// Sleep waits until the clock was moved by d.
func (m *Manual) Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	wake := make(chan struct{})
	m.mu.Lock()
	m.sleepers[wake] = m.now.Add(d)
	m.mu.Unlock()
	select {
	case <-wake:
		return nil
	case <-ctx.Done():
		m.mu.Lock()
		delete(m.sleepers, wake)
		m.mu.Unlock()
		return ctx.Err()
	}
}
