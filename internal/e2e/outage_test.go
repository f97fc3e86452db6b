package e2e

import (
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// When TestOutages' clock shows what.
const (
	outageBegins = 45 * time.Minute
	outageFrom   = time.Hour
	threeHours   = outageFrom + 3*time.Hour
	sixHours     = outageFrom + 6*time.Hour
	outageEnds   = sixHours + 10*time.Minute
)

// outages is the fleet of TestOutages: a node of steady falls silent, varying
// loses its follower, red its link. No pod of it ends.
func outages() simulator.Fleet {
	all := whole()
	for i := range all.Clusters {
		c := &all.Clusters[i]
		c.Nodes[1].Boots = nil
		for p := range c.Pods {
			c.Pods[p].End = time.Time{}
		}
	}
	return all
}

// TestOutages: for three hours one cluster's follower is down and another's
// link, and for six hours a node does not answer. Everything is counted
// afterwards, once, and the ledger tells what was not there meanwhile.
func TestOutages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, outages(), at(outageBegins), time.Minute)
	w.up()
	w.run(at(outageFrom))
	w.sim.SetKubeletFault("steady", "n2", simulator.Fault{Down: true})
	w.site("varying").down()
	w.site("red").link.Store(false)
	w.run(at(threeHours))
	t.Run("while the link is down", func(t *testing.T) { checkBehind(t, w) })
	w.site("varying").up()
	w.site("red").link.Store(true)
	w.run(at(sixHours))
	w.sim.SetKubeletFault("steady", "n2", simulator.Fault{})
	w.run(at(outageEnds))
	w.drain()
	hours := schema.Window{From: at(outageBegins + 5*time.Minute), To: at(outageEnds - 5*time.Minute)}
	t.Run("energy", func(t *testing.T) {
		checkMeters(t, w.centre.leader.Store(), w.centre.leader.Registry(), w.sim.Fleet().Boxes)
		checkBoxes(t, w, hours)
	})
	t.Run("usage and cost", func(t *testing.T) { checkUsage(t, w, hours) })
	for _, s := range w.sites {
		t.Run("ledger of "+s.cluster, func(t *testing.T) { checkComplete(t, s, hours) })
		t.Run("sums of "+s.cluster, func(t *testing.T) {
			checkSums(t, s)
			m := readMinutes(t, w.centre.database(schema.MinuteDB), s.cluster)
			checkNodes(t, w, s.cluster, m.nodes, hours)
		})
	}
	t.Run("what was spread says so", func(t *testing.T) { checkSpreadOut(t, w) })
}

// checkBehind: what a cluster whose link is down has settled is missing in the
// centre, and the ledger says why.
func checkBehind(t *testing.T, w *world) {
	t.Helper()
	window := schema.Window{From: at(outageFrom), To: at(threeHours - 5*time.Minute)}
	for cluster, state := range map[string]registry.GapCode{"red": registry.GapLinkDown, "varying": registry.GapLinkDown} {
		answer, err := w.centre.client.Completeness(t.Context(), cluster, between(window))
		if err != nil {
			t.Fatal(err)
		}
		if answer.Received*10 > answer.Expected {
			t.Errorf("%s: %d of %d windows received", cluster, answer.Received, answer.Expected)
		}
		reasons := 0
		for _, q := range answer.Quarters {
			for _, gap := range q.Missing {
				if gap.Reason == state {
					reasons++
				} else {
					t.Errorf("%s: gap %s: %s", cluster, gap.From, gap.Reason)
				}
			}
		}
		if reasons == 0 {
			t.Errorf("%s: no gap is told", cluster)
		}
	}
	answer, err := w.centre.client.Completeness(t.Context(), "blue", between(window))
	if err != nil || answer.Received != answer.Expected || answer.Expected == 0 {
		t.Errorf("blue: %d of %d windows received, %v", answer.Received, answer.Expected, err)
	}
	// Rows of the silent node came, with nothing in them.
	window.From = window.From.Add(5 * time.Minute)
	answer, err = w.centre.client.Completeness(t.Context(), "steady", between(window))
	if minutes := int(window.Length() / schema.Minute); err != nil || answer.Complete || answer.Missing != 3*minutes {
		t.Errorf("steady: %d node-windows are missing of %d minutes, %v", answer.Missing, minutes, err)
	}
	for _, q := range answer.Quarters {
		for _, gap := range q.Missing {
			if gap.Node != "n2" || gap.Reason != registry.GapNodeSilent {
				t.Errorf("steady: gap %+v", gap)
			}
		}
	}
}

// checkComplete: in the end every window has come, of every node that the watch
// told of.
func checkComplete(t *testing.T, s *site, window schema.Window) {
	t.Helper()
	answer, err := s.centre.client.Completeness(t.Context(), s.cluster, between(window))
	if err != nil {
		t.Fatal(err)
	}
	tables := 0
	for _, table := range schema.Pulled {
		if table.EachMinute() {
			tables++
		}
	}
	if want := tables * int(window.Length()/schema.Minute); answer.Expected < want || answer.Received != answer.Expected || !answer.Complete {
		t.Errorf("%s: %d of %d node-windows received, want all and no fewer than %d", s.cluster, answer.Received, answer.Expected, want)
	}
	for _, q := range answer.Quarters {
		if len(q.Missing) > 0 || q.Overlaps > 0 || q.ExpectedBy != "" && q.ExpectedBy != registry.ByWatch {
			t.Errorf("%s: %+v", s.cluster, q)
		}
	}
}

// checkSpreadOut: the hours without readings have rows whose growth was spread
// and that no reading covers.
func checkSpreadOut(t *testing.T, w *world) {
	t.Helper()
	for _, of := range []struct {
		cluster, node string
		to            time.Duration
	}{{"varying", "n1", threeHours}, {"steady", "n2", sixHours}} {
		rows := readMinutes(t, w.centre.database(schema.MinuteDB), of.cluster).nodes
		minutes := 0
		for _, p := range rows {
			if p.Tag(schema.Node) != of.node || p.Time.Before(at(outageFrom+5*time.Minute)) || !p.Time.Before(at(of.to-5*time.Minute)) {
				continue
			}
			minutes++
			if p.Int(schema.Interpolated) != 60 || p.Int(schema.Coverage) != 0 || p.Int(schema.CPU) == 0 {
				t.Errorf("%s/%s at %s: %v", of.cluster, of.node, p.Time, p.Fields)
				break
			}
		}
		if want := int((of.to - outageFrom - 10*time.Minute) / time.Minute); minutes != want {
			t.Errorf("%s/%s: %d minutes, want %d", of.cluster, of.node, minutes, want)
		}
	}
}
