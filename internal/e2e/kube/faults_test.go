package kube

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
)

const (
	// often is how often the followers of TestFaults read.
	often = 5 * time.Second
	// still is quiet for them.
	still = often + 4*time.Second
	// patient is how long their minutes wait for a node.
	patient = 15 * time.Second
	// stands is how long a kubelet stands still: longer than samples can be old.
	stands = 50 * time.Second
)

// TestClockAMonthOff is a fault too, with nothing beside it: its bounds are those of
// a kubelet that nobody keeps from counting.
func TestClockAMonthOff(t *testing.T) { monthOff(t, kubetest.Inside(t)) }

// TestFaults: what breaks around a follower of a real node while its pods go on.
// Each time the sum of the minutes is what the pods' control group counted.
// Outages of hours are simulated, in internal/e2e.
func TestFaults(t *testing.T) {
	t.Parallel()
	lab := kubetest.Inside(t)
	t.Run("node partitioned", func(t *testing.T) { t.Parallel(); partitioned(t, lab) })
	t.Run("kubelet stopped", func(t *testing.T) { t.Parallel(); stopped(t, lab) })
	t.Run("volume", func(t *testing.T) { t.Parallel(); onVolume(t, lab) })
}

// partitioned: a node's network is gone for longer than its minutes wait, and
// comes back. Meanwhile its minutes say that nobody read it; afterwards they have
// what was used, spread over the gap, and say so.
func partitioned(t *testing.T, lab *kubetest.Lab) {
	cluster := lab.NewCluster(t, "parted", 1)
	s := watchNode(t, cluster, 0)
	s.meter = startMeter(t, s.space, &cluster.Standing, 18475, "--scrape-interval", often.String(), "--settle-deadline", patient.String(), "--facts-deadline", patient.String())
	s.compare(still)
	c := newCentre(t)
	c.run("cluster", "add", cluster.Name, "--url", s.meter.url, "--follower-token-file", filepath.Join(filepath.Dir(s.meter.viewer), "leader.token"))
	uid := s.space.server(t, "works", s.node.Name)
	s.begin()
	s.space.ask(t, "works", "stress/cpu/1")
	s.sleep(often)
	lost := schema.WindowAt(s.clock.Now().Add(schema.Minute), schema.Minute)
	// Nothing that it or its pods send arrives, and nobody is told so.
	nft(t, fmt.Sprintf("table ip %s {\n chain in {\n  type filter hook input priority 0;\n  ip saddr { %s, %s } drop\n }\n}\n", cluster.Name, s.node.Address, s.node.Pods))
	s.meter.until(lost.To)
	s.silent(lost)
	s.ledger(c, cluster.Name, lost, 1, false)
	nft(t, "delete table ip "+cluster.Name)
	mended := s.clock.Now()
	s.readSince(mended)
	t.Logf("read again %s after the network was there", s.clock.Now().Sub(mended).Round(time.Second))
	s.space.ask(t, "works", "stress/cpu/0")
	u := s.sums()
	s.adds(u)
	s.notNegative()
	if truth, got := s.pods.of(uid), u.pods[uid]; got < truth-2*idling || got > truth+2*idling {
		t.Errorf("the pod that worked: its control group counted %s core-s, metered %s", seconds(truth), seconds(got))
	}
	s.spreadOver(lost)
	s.ledger(c, cluster.Name, lost, 2, true)
}

// stopped: a kubelet that stands still over the end of a minute, and answers first
// what it counted long before. What a pod used in that minute stays there, and the
// node's clock is right.
func stopped(t *testing.T, lab *kubetest.Lab) {
	cluster := lab.NewCluster(t, "stopped", 1)
	s := watchNode(t, cluster, 0)
	s.meter = startMeter(t, s.space, &cluster.Standing, 18479, "--scrape-interval", often.String(), "--settle-deadline", "2m", "--facts-deadline", patient.String())
	s.compare(still)
	s.begin()
	uid := s.space.server(t, "works", s.node.Name)
	s.space.ask(t, "works", "stress/cpu/1")
	s.sleep(2 * often)
	edge := schema.WindowAt(s.clock.Now().Add(stands/2), schema.Minute).To
	for _, each := range []struct {
		at time.Time
		of syscall.Signal
	}{{edge.Add(-stands / 2), syscall.SIGSTOP}, {edge.Add(stands / 2), syscall.SIGCONT}} {
		s.sleepUntil(each.at)
		if err := cluster.SignalService(0, kubetest.Kubelet, each.of); err != nil {
			t.Fatal(err)
		}
	}
	s.readSince(s.clock.Now())
	s.sleep(still)
	s.space.ask(t, "works", "stress/cpu/0")
	u := s.sums()
	s.adds(u)
	before := schema.Window{From: s.from, To: edge}
	until, _, err := s.meter.cpuOf(t.Context(), s.node.Name, before)
	if err != nil {
		t.Fatal(err)
	}
	s.grew("pods, until the end of the minute", s.kube, sums{Window: before}, until[uid])
	status, err := s.meter.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(status.Nodes) != 1 || status.Nodes[0].ClockShiftSeconds != 0 {
		t.Errorf("the status tells of the node's clock: %+v", status.Nodes)
	}
}

// readSince waits until the node was read after a moment.
func (s *stand) readSince(at time.Time) {
	s.t.Helper()
	eventually(s.t, "a reading of "+s.node.Name, func(ctx context.Context) error {
		status, err := s.meter.status(ctx)
		if err != nil {
			return err
		}
		for _, source := range status.Sources {
			if source.Name == s.node.Name && source.LastSuccess != nil && source.LastSuccess.After(at) {
				return nil
			}
		}
		return fmt.Errorf("%+v", status.Sources)
	})
}

// nodeRow is the node's own in a window.
func (s *stand) nodeRow(w schema.Window) map[string]string {
	s.t.Helper()
	rows, err := s.meter.rows(s.t.Context(), schema.NodeMinute.Name)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, row := range rows {
		if row[schema.Node] == s.node.Name && row["time"] == w.From.UTC().Format(time.RFC3339) {
			return row
		}
	}
	s.t.Fatalf("no row of %s at %s", s.node.Name, w.From)
	return nil
}

// entries are the journal's of the nodes' table for a window, oldest first.
func (s *stand) entries(cluster string, w schema.Window) []influxsync.Entry {
	s.t.Helper()
	all, err := influxsync.ReadJournal(s.t.Context(), s.meter.Database(schema.MinuteDB), cluster, schema.NodeMinute.Name, time.Time{}, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	var of []influxsync.Entry
	for _, e := range all {
		if e.Window.From.Equal(w.From) {
			of = append(of, e)
		}
	}
	return of
}

// silent: a window that settled without the node has nothing of it and says so.
func (s *stand) silent(w schema.Window) {
	s.t.Helper()
	row := s.nodeRow(w)
	if row[schema.Coverage] != "0" || row[schema.CPU] != "0" || row[schema.Interpolated] != "0" {
		s.t.Errorf("a minute in which the node was not reached: %v", row)
	}
	entries := s.entries(row[schema.Cluster], w)
	if len(entries) != 1 || entries[0].Reason != "deadline" || entries[0].Coverage != 0 {
		s.t.Errorf("its journal: %+v", entries)
	}
	status, err := s.meter.status(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	if len(status.Sources) != 1 || status.Sources[0].Error == "" {
		s.t.Errorf("sources %+v", status.Sources)
	}
	s.t.Logf("while it is not reached: %+v", status.Sources)
}

// spreadOver: a window in which nobody read the node has a part of what was used
// in the gap, and says that.
func (s *stand) spreadOver(w schema.Window) {
	s.t.Helper()
	row := s.nodeRow(w)
	cpu, err := strconv.ParseInt(row[schema.CPU], 10, 64)
	if row[schema.Coverage] != "0" || row[schema.Interpolated] != "60" || err != nil || cpu <= 0 {
		s.t.Errorf("the minute without readings: %v", row)
	}
	entries := s.entries(row[schema.Cluster], w)
	if n := len(entries); n < 2 || entries[n-1].Reason != "late" {
		s.t.Errorf("its journal: %+v", entries)
	}
}

// ledger: the centre has the window, and knows that no reading covers it. It
// lacks the node, until what was used has come as a revision; then nothing.
func (s *stand) ledger(c *centre, cluster string, w schema.Window, revision int64, reached bool) {
	s.t.Helper()
	var missing []registry.Gap
	received := 1
	if !reached {
		received = 0
		missing = []registry.Gap{{From: w.From, To: w.To, Node: s.node.Name, Windows: 1, Reason: registry.GapNodeSilent, Message: "node not reached"}}
	}
	eventually(s.t, "the window in the centre", func(ctx context.Context) error {
		answer, err := c.Completeness(ctx, cluster, w.From.Format(time.RFC3339)+","+w.To.Format(time.RFC3339))
		if err != nil {
			return err
		}
		tables := 0
		for _, q := range answer.Quarters {
			if q.ExpectedBy == "" {
				continue
			}
			if q.Revisions < revision {
				return fmt.Errorf("revision %d of %s", q.Revisions, q.Table)
			}
			tables++
			if diff := cmp.Diff(missing, q.Missing); diff != "" || q.Coverage != 0 || q.Expected != 1 || q.Received != received || q.Revisions > revision {
				s.t.Errorf("the ledger says %+v; gaps (-want +got):\n%s", q, diff)
			}
		}
		if tables < 3 {
			return fmt.Errorf("it has %+v", answer)
		}
		if answer.Complete != reached {
			s.t.Errorf("complete %v, reached %v", answer.Complete, reached)
		}
		return nil
	})
}

// keyed are the rows of pods before a moment, by time and pod. One that is there
// twice fails the test.
func (s *stand) keyed(before time.Time) map[string]map[string]string {
	s.t.Helper()
	rows, err := s.meter.rows(s.t.Context(), schema.PodMinute.Name)
	if err != nil {
		s.t.Fatal(err)
	}
	by := make(map[string]map[string]string)
	for _, row := range rows {
		at, err := time.Parse(time.RFC3339, row["time"])
		if err != nil {
			s.t.Fatal(err)
		}
		if !at.Before(before) {
			continue
		}
		key := strings.Join([]string{row["time"], row[schema.Node], row[schema.Namespace], row[schema.Pod], row[schema.PodUID]}, " ")
		if by[key] != nil {
			s.t.Errorf("twice: %s", key)
		}
		by[key] = row
	}
	return by
}

// unchanged fails the test where settled rows are others than they were.
func (s *stand) unchanged(when string, before map[string]map[string]string, until time.Time) {
	s.t.Helper()
	now := s.keyed(until)
	if diff := cmp.Diff(before, now); diff != "" {
		s.t.Errorf("%s: settled rows changed (-before +after):\n%s", when, diff)
	}
	if len(before) == 0 {
		s.t.Errorf("%s: nothing had settled", when)
	}
}
