package manager

import (
	"cmp"
	"context"
	"slices"
	"sync/atomic"

	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// stragglers bounds the clusters that are visited at one time, the hanging ones
// of earlier slots included, in multiples of Parallel.
const stragglers = 8

// turn is what a cluster is visited for.
type turn struct{ phase, cluster string }

// each runs do for every cluster that is not busy, Parallel at once, and returns
// when all are done or Grace has passed. Visits that run then go on; none begins
// any more.
func (m *Manager) each(ctx context.Context, phase string, clusters []fleet.Cluster, do func(context.Context, fleet.Cluster)) {
	queue := m.inTurn(phase, clusters)
	if len(queue) == 0 {
		return
	}
	waiting := make(chan fleet.Cluster, len(queue))
	for _, cluster := range queue {
		waiting <- cluster
	}
	close(waiting)
	graced, cancel := context.WithCancel(ctx)
	defer cancel()
	var running atomic.Int64
	running.Add(int64(min(m.config.Parallel, len(queue))))
	for range running.Load() {
		m.visits.Go(func() {
			for cluster := range waiting {
				if graced.Err() != nil {
					break
				}
				m.visit(ctx, phase, cluster, do)
			}
			if running.Add(-1) == 0 {
				cancel() // the last one to end wakes who waits below
			}
		})
	}
	_ = m.clock.Sleep(graced, m.config.Grace) // whether all are done or Grace has passed makes no difference
}

// visit runs do within the time limit, if nobody else visits the cluster.
func (m *Manager) visit(ctx context.Context, phase string, cluster fleet.Cluster, do func(context.Context, fleet.Cluster)) {
	if _, mine := m.take(cluster.Name, phase); !mine {
		return
	}
	defer m.release(cluster.Name)
	timed, cancel := context.WithTimeout(ctx, m.config.Timeout)
	defer cancel()
	do(timed, cluster)
}

// inTurn are the clusters that nobody visits, the one whose last turn is longest
// ago first, as many as may be visited.
func (m *Manager) inTurn(phase string, clusters []fleet.Cluster) []fleet.Cluster {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.busy) >= stragglers*m.config.Parallel {
		return nil
	}
	queue := slices.DeleteFunc(slices.Clone(clusters), func(c fleet.Cluster) bool { return m.busy[c.Name] != nil })
	slices.SortStableFunc(queue, func(a, b fleet.Cluster) int {
		return cmp.Compare(m.turns[turn{phase, a.Name}], m.turns[turn{phase, b.Name}])
	})
	return queue
}

// take makes the cluster the caller's. If somebody else visits it, the channel
// is closed when that has ended.
func (m *Manager) take(cluster, phase string) (ended <-chan struct{}, mine bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ended := m.busy[cluster]; ended != nil {
		return ended, false
	}
	m.busy[cluster] = make(chan struct{})
	m.turn++
	m.turns[turn{phase, cluster}] = m.turn
	return nil, true
}

func (m *Manager) release(cluster string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.busy[cluster])
	delete(m.busy, cluster)
}
