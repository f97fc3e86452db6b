package follower

import (
	"fmt"
	"sync"
	"time"
)

// maxOffset is how far the clock may be from one that knows the time.
const maxOffset = 30 * time.Second

// trust decides whether the clock is good enough to settle windows. Before
// that, readings are kept and nothing settles: what a wrong clock settles
// cannot be taken back. Evidence is the newest contact with the leader or the
// API server; it does not age.
type trust struct {
	mu     sync.Mutex
	local  bool // the local clock is trusted
	known  bool
	offset time.Duration // their clock less ours
	by     string
}

// saw takes what another clock showed.
func (t *trust) saw(by string, offset time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known, t.by, t.offset = true, by, offset
}

// check says why the clock is not trusted now, or "".
func (t *trust) check(now, settled time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.known && t.offset.Abs() > maxOffset:
		return fmt.Sprintf("the clock is %s from that of the %s", t.offset.Abs().Round(time.Second), t.by)
	case now.Before(settled):
		return fmt.Sprintf("the clock is before the last settled window, which ended at %s", settled.UTC().Format(time.RFC3339))
	case !t.local && !t.known:
		return "nobody has told the time yet: neither the API server nor the leader was reached"
	}
	return ""
}

// state is the offset and who showed it; false: nobody did.
func (t *trust) state() (offset time.Duration, by string, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.offset, t.by, t.known
}
