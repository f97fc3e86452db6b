package manager

import (
	"context"
	"slices"
	"sync"
)

// places are what so many may hold at once. Who waits has a rank, and the
// lowest one comes next.
type places struct {
	mu      sync.Mutex
	free    int
	waiting []*ticket // by rank
}

// ticket is a claim to a place; ready is closed when the place is there.
type ticket struct {
	of    *places
	rank  int64
	ready chan struct{}
}

// join claims a place. It does not wait.
func (p *places) join(rank int64) *ticket {
	t := &ticket{of: p, rank: rank, ready: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free > 0 {
		p.free--
		close(t.ready)
		return t
	}
	after := slices.IndexFunc(p.waiting, func(other *ticket) bool { return other.rank > rank })
	if after < 0 {
		after = len(p.waiting)
	}
	p.waiting = slices.Insert(p.waiting, after, t)
	return t
}

// wait returns nil when the place is the caller's, or the context's error when
// it is not and will not be.
func (t *ticket) wait(ctx context.Context) error {
	select {
	case <-t.ready:
	case <-ctx.Done():
	}
	if ctx.Err() == nil {
		return nil
	}
	t.of.mu.Lock()
	at := slices.Index(t.of.waiting, t)
	if at >= 0 {
		t.of.waiting = slices.Delete(t.of.waiting, at, at+1)
	}
	t.of.mu.Unlock()
	if at < 0 { // it was given
		t.of.give()
	}
	return ctx.Err()
}

// give hands a place to who waits, or keeps it.
func (p *places) give() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		p.free++
		return
	}
	close(p.waiting[0].ready)
	p.waiting = slices.Delete(p.waiting, 0, 1)
}

// lane is what visits go through: a place to make contact, which is cheap and
// of which there are many, then one to work. A straggler holds neither.
type lane struct {
	contacts, work places

	mu         sync.Mutex
	most       int     // stragglers
	stragglers []*stay // the oldest first
}

func newLane(contacts, work int) *lane {
	contacts, work = max(1, contacts), max(1, work)
	return &lane{contacts: places{free: contacts}, work: places{free: work}, most: stragglers * work}
}

// admit adds a straggler. Where there are too many, the oldest is ended: what it
// has confirmed stays, and it begins in the other lane next time.
func (l *lane) admit(s *stay) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.stragglers) == l.most {
		l.stragglers[0].abort(errDisplaced)
		l.stragglers = slices.Delete(l.stragglers, 0, 1)
	}
	l.stragglers = append(l.stragglers, s)
}

func (l *lane) dismiss(s *stay) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stragglers = slices.DeleteFunc(l.stragglers, func(other *stay) bool { return other == s })
}

// stay is a visit's way through a lane. What it holds it holds for its patience;
// then the place goes to others and the visit goes on as a straggler.
type stay struct {
	lane     *lane
	rank     int64
	patience func(context.Context) error // nil when it has run out
	left     func()                      // called when it becomes a straggler
	abort    context.CancelCauseFunc     // ends the visit

	held *places // nil for a straggler; a goroutine's until stop has returned
	stop func()
}

// hold begins the patience for a place that it has got.
func (s *stay) hold(ctx context.Context, held *places) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	s.held = held
	s.stop = func() {
		cancel()
		<-ended
	}
	go func() {
		defer close(ended)
		if s.patience(ctx) == nil {
			s.held = nil
			s.lane.admit(s)
			held.give()
			s.left()
		}
	}()
}

// work changes from contact to work, which a straggler needs no place for. Who
// waits here keeps its place of contact: so no more are asked than can follow.
func (s *stay) work(ctx context.Context) error {
	if s.straggles() {
		return nil
	}
	if err := s.lane.work.join(s.rank).wait(ctx); err != nil {
		return err
	}
	s.held.give()
	s.hold(ctx, &s.lane.work)
	return nil
}

// straggles says whether it holds no place any more; if it does, it keeps it.
func (s *stay) straggles() bool {
	s.stop()
	return s.held == nil
}

// end gives back what it holds.
func (s *stay) end() {
	if s.straggles() {
		s.lane.dismiss(s)
	} else {
		s.held.give()
	}
}
