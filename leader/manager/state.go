package manager

import (
	"context"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Settled is the end of the newest minute that has arrived of a cluster in both
// tables that usage is made of; zero before the first.
func (m *Manager) Settled(ctx context.Context, cluster string) (time.Time, error) {
	var settled time.Time
	for i, table := range []schema.Table{schema.NodeMinute, schema.PodMinute} {
		received, _, err := m.parts.Registry.Extent(ctx, cluster, table.Name)
		if err != nil {
			return time.Time{}, err
		}
		if i == 0 || received.To.Before(settled) {
			settled = received.To
		}
	}
	return settled, nil
}

// Contact is what is known of a cluster's link.
func (m *Manager) Contact(cluster string) Contact {
	m.mu.Lock()
	defer m.mu.Unlock()
	contact := m.known[cluster]
	if past := m.past[turn{pulling, cluster}]; past.failures > 0 {
		contact.NextAttempt = past.next
	}
	return contact
}

// Loop is how the loop is.
type Loop struct {
	Ticked time.Time // end of the last tick; zero before the first
	Missed int64     // slots that began while an earlier one ran
	Failed error     // of the last pass over due work
}

// Loop is how the loop is now.
func (m *Manager) Loop() Loop {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Loop{Ticked: m.ticked, Missed: m.missed, Failed: m.failed}
}
