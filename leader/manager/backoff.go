package manager

import (
	"errors"
	"net/http"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/followers"
)

// refusal is how many failures a refusal counts as: the same request would be
// refused again until somebody changes something.
const refusal = 4

// past is what is remembered of a cluster's visits of one phase.
type past struct {
	turn     int64 // the last visit, counted over all clusters
	doubtful bool  // it failed, or was a straggler
	failures int   // one after another; a refusal counts as several
	next     time.Time
	spec     fleet.Cluster // with which it failed, or rests
}

// due says whether the cluster's turn has come at a moment. One that was changed
// since it failed may work now.
func (p past) due(cluster fleet.Cluster, now time.Time) bool {
	return !now.Before(p.next) || p.spec != cluster
}

// outcome remembers how a visit ended: after each failure the next attempt is
// twice as far away, up to Backoff, less a random part of a quarter, so that
// clusters that failed together do not come back together.
func (m *Manager) outcome(phase string, cluster fleet.Cluster, err error, straggled bool) {
	now := m.clock.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.past[turn{phase, cluster.Name}]
	p.doubtful = straggled || err != nil
	if err == nil {
		p.failures, p.next, p.spec = 0, time.Time{}, fleet.Cluster{}
		if rest := time.Duration(cluster.PullInterval); phase == pulling && rest > 0 {
			p.next, p.spec = now.Add(rest-m.config.Interval/2), cluster // slots are not exact
		}
	} else {
		distance := m.config.Interval
		p.failures++
		if refused(err) {
			p.failures += refusal - 1
		}
		for i := 1; i < p.failures && distance < m.config.Backoff; i++ {
			distance *= 2
		}
		distance = min(distance, max(m.config.Backoff, m.config.Interval))
		p.next = now.Add(distance - time.Duration(m.random()*float64(distance)/4))
		p.spec = cluster
	}
	m.past[turn{phase, cluster.Name}] = p
}

// refused says whether the follower understood and will not: no retry helps.
func refused(err error) bool {
	var status *influxsync.StatusError
	var write *influxsync.WriteError
	var answer *followers.StatusError
	switch {
	case errors.Is(err, followers.ErrUnauthorized), errors.Is(err, influxsync.ErrFenced), errors.Is(err, errOther):
		return true
	case errors.As(err, &write):
		return lasting(write.Status)
	case errors.As(err, &status):
		return lasting(status.Status)
	case errors.As(err, &answer):
		return lasting(answer.Status)
	}
	return false
}

// lasting are the statuses 4xx that do not ask for another attempt.
func lasting(status int) bool {
	return status/100 == 4 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout
}
