package e2e

import (
	"testing"
	"time"
)

// TestWhole runs a fleet of four clusters: 45 minutes in which pods start and
// end, containers restart and a node boots.
func TestWhole(t *testing.T) {
	w := newWorld(t, whole(), at(45*time.Minute), 15*time.Second)
	w.up()
	w.run(at(90*time.Minute + 30*time.Second))
	w.drain()
	for _, s := range w.sites {
		t.Run("sums of "+s.cluster, func(t *testing.T) {
			s.down()
			store := s.opened(t)
			m := readMinutes(t, store.Database("minute"), "")
			checkCopied(t, store, w.centre.leader.Store(), s.cluster)
			checkJournals(t, store, s.cluster)
			checkGrowth(t, store, m, s.cluster)
			if wrong := m.parts(); wrong != "" {
				t.Error(wrong)
			}
		})
	}
}
