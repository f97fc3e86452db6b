package leader

import (
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/manager"
	"github.com/accumulus-metering/accumulus/leader/status"
)

// usualLag is how old the end of a cluster's newest window may be while all is
// well: the next one ends a minute later, settles at its deadline at the latest,
// and is here when the tick after that, or the one that the cluster's own pull
// interval allows, has passed and its pull has taken a tick.
func (l *Leader) usualLag(cluster fleet.Cluster) time.Duration {
	return schema.Minute + schema.SettleDeadline + 2*l.config.Tick + time.Duration(cluster.PullInterval)
}

// behind says whether a cluster's newest window is older than it must be, and on
// which side that is.
func (l *Leader) behind(now, settled time.Time, cluster fleet.Cluster, contact manager.Contact) (status.Problem, bool) {
	lag, usual := now.Sub(settled), l.usualLag(cluster)
	if settled.IsZero() || lag <= usual {
		return status.Problem{}, false
	}
	text := fmt.Sprintf("the newest minute is %s old, usual is up to %s", lag.Round(time.Second), usual)
	switch mark := contact.Follower.Mark; {
	case mark != nil && mark.After(settled):
		text += fmt.Sprintf("; the follower has settled up to %s: the copy is behind", mark.UTC().Format(time.RFC3339))
	case contact.Follower.Waiting != "":
		text += "; the follower waits: " + contact.Follower.Waiting
	case mark != nil:
		text += "; the follower has not settled more"
	}
	return status.NewProblem(status.SyncLag, text), true
}
