package e2e

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/simulator"
)

// historyHours is how much is filled: two hours, or the whole day that
// ACCUMULUS_TEST_DAY asks for.
func historyHours() time.Duration {
	if os.Getenv("ACCUMULUS_TEST_DAY") != "" {
		return 24 * time.Hour
	}
	return 2 * time.Hour
}

// TestHistory fills hours before the first live window, out of the same
// simulator, while live metering goes on. The lanes meet without a seam.
func TestHistory(t *testing.T) {
	t.Parallel()
	length := historyHours()
	live := start.Add(length + time.Hour)
	fleet := simulator.Varying(start)
	fleet.Clusters[0].Nodes[1].Boots = []time.Time{live.Add(-40 * time.Minute)}
	fleet.Clusters[0].Pods[0].End = live.Add(-25 * time.Minute)
	w := newWorld(t, fleet, live, 5*time.Second) // the first bodies hold samples from before live
	s := w.sites[0]
	s.config.From = live
	s.up()
	w.run(live.Add(4 * time.Minute))
	from := live.Add(-length)
	s.follower.Log().PutEnded(w.sim.PodInfos(s.cluster, from, live))
	source := func(t time.Time) ([]reading.Body, error) {
		if t.Equal(from) { // readings at the very edge: all growth since then lies in the lane
			return w.sim.ReadingsAt(s.cluster, t), nil
		}
		return w.sim.Readings(s.cluster, t), nil
	}
	filled := make(chan error, 1)
	go func() { filled <- s.follower.Fill(context.Background(), from, live, source, nil) }()
	w.run(live.Add(10 * time.Minute))
	w.check(<-filled)
	w.run(live.Add(14 * time.Minute))
	w.drain()
	whole := schema.Window{From: from.Add(2 * time.Minute), To: live.Add(12 * time.Minute)}
	checkComplete(t, s, whole)
	m := readMinutes(t, w.centre.database(schema.MinuteDB), s.cluster)
	checkPods(t, w, s.cluster, m.pods, whole)
	checkNodes(t, w, s.cluster, m.nodes, whole)
	seam := schema.Window{From: live.Add(-6 * time.Minute), To: live.Add(6 * time.Minute)}
	checkPods(t, w, s.cluster, m.pods, seam)
	checkNodes(t, w, s.cluster, m.nodes, seam)
	s.down()
	store := s.opened(t)
	checkGrowth(t, store, m, s.cluster)
	checkCopied(t, store, w.centre.leader.Store(), s.cluster)
	if wrong := m.parts(); wrong != "" {
		t.Error(wrong)
	}
}
