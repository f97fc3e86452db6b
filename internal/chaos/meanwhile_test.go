package chaos

import (
	"errors"
	"sync"
)

// meanwhile does what the follower does during a pull: when the source gets its
// n-th request about a table, and what was not due then, after the pull.
type meanwhile struct {
	w    *world
	mu   sync.Mutex
	left []during
	errs []error
}

func newMeanwhile(w *world, steps []during) *meanwhile { return &meanwhile{w: w, left: steps} }

// at is told of the n-th request about a table, before it is answered.
func (m *meanwhile) at(table, nth int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var rest []during
	for _, d := range m.left {
		if d.step.table != table || d.nth > nth {
			rest = append(rest, d)
			continue
		}
		m.errs = append(m.errs, m.w.source.do(m.w.ctx, d.step))
	}
	m.left = rest
}

// rest does what is left.
func (m *meanwhile) rest() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.left {
		m.errs = append(m.errs, m.w.source.do(m.w.ctx, d.step))
	}
	return errors.Join(m.errs...)
}
