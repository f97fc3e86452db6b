package manager

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// stragglers bounds those of a lane, the hanging ones of earlier slots included,
// in multiples of its places to work.
const stragglers = 8

// turn is what a cluster is visited for.
type turn struct{ phase, cluster string }

// errand is what clusters are visited for in one phase of a slot.
type errand struct {
	phase   string
	contact bool // it begins with a contact, and calls stay.work after it
	do      func(context.Context, fleet.Cluster, *stay) error
}

// doubts are the clusters in doubt that a phase visits, which nobody waits for
// until the others are served.
type doubts struct {
	clusters []fleet.Cluster
	ended    context.Context // when all their visits are done or straggle
}

// each visits every cluster that is not busy and does not back off, and returns
// when all visits of those without a doubt are done or straggle, or when Grace
// has passed. What runs then goes on; who had no place by then comes first in
// the next slot. Clusters in doubt go through a lane of their own.
func (m *Manager) each(ctx context.Context, clusters []fleet.Cluster, e errand) doubts {
	well, doubtful := m.inTurn(e.phase, clusters)
	finished, finish := context.WithCancel(ctx)
	ended, end := context.WithCancel(ctx)
	begun, begin := context.WithCancel(ctx)
	graced, grace := context.WithCancel(ctx)
	finish, end, begin = countdown(len(well), finish), countdown(len(doubtful), end), countdown(len(well)+len(doubtful), begin)
	for _, cluster := range well {
		m.start(ctx, graced, m.well, cluster, e, begin, finish)
	}
	for _, cluster := range doubtful {
		m.start(ctx, graced, m.doubtful, cluster, e, begin, end)
	}
	m.visits.Go(func() {
		defer grace()
		_ = m.clock.Sleep(begun, m.config.Grace) // when all have begun, nobody waits for its end
	})
	_ = m.clock.Sleep(finished, m.config.Grace) // whether all are done or Grace has passed makes no difference
	return doubts{doubtful, ended}
}

// recovered waits, no longer than Patience, for the visits of clusters in doubt,
// and returns those that are in doubt no more.
func (m *Manager) recovered(phase string, d doubts) []fleet.Cluster {
	if len(d.clusters) == 0 {
		return nil
	}
	_ = m.clock.Sleep(d.ended, m.config.Patience) // whether all are done makes no difference
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(d.clusters, func(c fleet.Cluster) bool {
		return m.busy[c.Name] != nil || m.past[turn{phase, c.Name}].doubtful
	})
}

// countdown is a function whose n-th call calls end; with n = 0 that is now.
func countdown(n int, end func()) func() {
	if n == 0 {
		end()
	}
	var left atomic.Int64
	left.Store(int64(n))
	return func() {
		if left.Add(-1) == 0 {
			end()
		}
	}
}

// start begins a cluster's visit as soon as its lane has a place for it, unless
// graced ends before. It calls begun when it waits no longer, and finished when
// nobody waits for it any more: each once.
func (m *Manager) start(ctx, graced context.Context, l *lane, cluster fleet.Cluster, e errand, begun, finished func()) {
	first := &l.work
	if e.contact {
		first = &l.contacts
	}
	rank := m.rank.Add(1)
	place := first.join(rank)
	finished = sync.OnceFunc(finished)
	m.visits.Go(func() {
		defer finished()
		err := place.wait(graced)
		begun()
		if err != nil {
			return
		}
		visit, abort := context.WithCancelCause(ctx)
		defer abort(nil)
		s := &stay{lane: l, rank: rank, left: finished, abort: abort, patience: func(ctx context.Context) error {
			return m.clock.Sleep(ctx, m.config.Patience)
		}}
		s.hold(visit, first)
		defer s.end()
		m.visit(visit, cluster, e, s)
	})
}

// visit does the errand, if nobody else visits the cluster.
func (m *Manager) visit(ctx context.Context, cluster fleet.Cluster, e errand, s *stay) {
	if _, mine := m.take(cluster.Name, e.phase); !mine {
		return
	}
	defer m.release(cluster.Name)
	err := e.do(ctx, cluster, s)
	if !stopped(ctx) {
		m.outcome(e.phase, cluster, err, s.straggles())
	}
}

// errDisplaced is the end of a visit for the sake of others.
var errDisplaced = errors.New("the cluster is slow, and so many others are that its visit was ended; it goes on with the next one")

// stopped says whether a visit was interrupted because the leader stops: then
// nothing is known of the cluster.
func stopped(ctx context.Context) bool {
	return ctx.Err() != nil && !errors.Is(context.Cause(ctx), errDisplaced)
}

// displaced is the cause in the place of an error that it led to.
func displaced(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errDisplaced) {
		return errDisplaced
	}
	return err
}

// inTurn are the clusters that nobody visits and whose turn has come, the one
// whose last turn is longest ago first: those without a doubt, and those whose
// last visit failed or straggled.
func (m *Manager) inTurn(phase string, clusters []fleet.Cluster) (well, doubtful []fleet.Cluster) {
	now := m.clock.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	of := func(c fleet.Cluster) past { return m.past[turn{phase, c.Name}] }
	queue := slices.DeleteFunc(slices.Clone(clusters), func(c fleet.Cluster) bool {
		return m.busy[c.Name] != nil || !of(c).due(c, now)
	})
	slices.SortStableFunc(queue, func(a, b fleet.Cluster) int { return cmp.Compare(of(a).turn, of(b).turn) })
	for _, c := range queue {
		if of(c).doubtful {
			doubtful = append(doubtful, c)
		} else {
			well = append(well, c)
		}
	}
	return well, doubtful
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
	m.turns++
	p := m.past[turn{phase, cluster}]
	p.turn = m.turns
	m.past[turn{phase, cluster}] = p
	return nil, true
}

func (m *Manager) release(cluster string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.busy[cluster])
	delete(m.busy, cluster)
}
