package pull

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/followertest"
	"github.com/google/go-cmp/cmp"
)

// settleAs settles a minute of the tables node and pod, in which n1 was read and
// n2 as its row says.
func settleAs(f *followertest.Follower, minute schema.Window, row map[string]int64) {
	read := map[string]int64{schema.CPU: 5, schema.Uptime: 60_000, schema.Coverage: 60}
	for _, table := range []schema.Table{schema.NodeMinute, schema.PodMinute} {
		var rows []influxsync.Point
		for node, values := range map[string]map[string]int64{"n1": read, "n2": row} {
			tags := map[string]string{schema.Cluster: "a", schema.Node: node}
			if table.Name == schema.PodMinute.Name { // that a pod of it is told to run says nothing of its use
				tags[schema.Pod] = "p"
			}
			rows = append(rows, followertest.Row(table, minute.From, tags, values))
		}
		f.Settle(table, minute, rows...)
	}
}

// missing is what the ledger misses of the tables node and pod.
func (c *centre) missing() []string {
	c.t.Helper()
	all, err := c.books.Completeness(c.t.Context(), "a", minutes(0, 5))
	if err != nil {
		c.t.Fatal(err)
	}
	missing := []string{}
	for _, part := range all {
		for _, gap := range part.Missing {
			if part.Table != schema.ContainerMinute.Name {
				missing = append(missing, fmt.Sprintf("%s %s %s %s %d %s", part.Table, gap.From.Format("15:04"), gap.Node, gap.Reason, gap.Windows, gap.Message))
			}
		}
	}
	return missing
}

// TestUnreachedNodeIsAGap: a node's window that settled without a reading is
// missing, though it has rows, until it is revised with what the node used. A
// minute in which the node joined or left, and the first of all, are not held
// against anybody. Without the look at the rows, which is the control, nothing is
// missing.
func TestUnreachedNodeIsAGap(t *testing.T) {
	nodes := []fleet.Object{fleet.NewObject("a.n1", fleet.Node{Cluster: "a", Node: "n1"}), fleet.NewObject("a.n2", fleet.Node{Cluster: "a", Node: "n2"})}
	unread := map[string]int64{schema.Uptime: 60_000}
	run := func(t *testing.T, o Options) (during, after []string) {
		c := newCentre(t, nodes...)
		c.Puller = NewWith(c.books, c.server, o)
		f := followertest.New(t, "a", c.clk)
		for i, row := range []map[string]int64{unread, {schema.Uptime: 60_000, schema.Coverage: 1}, unread, unread, {schema.Uptime: 12_000}} {
			settleAs(f, minutes(i, i+1), row)
		}
		c.pull(f)
		during = c.missing()
		c.clk.Advance(time.Minute)
		for i := 2; i < 4; i++ {
			settleAs(f, minutes(i, i+1), map[string]int64{schema.Uptime: 60_000, schema.Interpolated: 60, schema.CPU: 7})
		}
		c.pull(f)
		return during, c.missing()
	}
	t.Run("the only node", func(t *testing.T) {
		c := newCentre(t, nodes[0])
		f := followertest.New(t, "a", c.clk)
		for i, row := range []map[string]int64{{schema.Uptime: 60_000, schema.Coverage: 60}, unread} {
			tags := map[string]string{schema.Cluster: "a", schema.Node: "n1"}
			f.Settle(schema.NodeMinute, minutes(i, i+1), followertest.Row(schema.NodeMinute, minutes(i, i+1).From, tags, row))
		}
		c.pull(f)
		if diff := cmp.Diff([]string{"node 10:01 n1 node-silent 1 node not reached"}, c.missing()[:1]); diff != "" {
			t.Errorf("missing (-want +got):\n%s", diff)
		}
	})
	during, after := run(t, Options{})
	want := []string{"node 10:02 n2 node-silent 2 node not reached", "pod 10:02 n2 node-silent 2 node not reached"}
	if diff := cmp.Diff(want, during); diff != "" || len(after) > 0 {
		t.Errorf("while it is not reached (-want +got):\n%s\nafterwards %v", diff, after)
	}
	blind := Options{Sync: func(ctx context.Context, r influxsync.SyncRequest) (influxsync.SyncResult, error) {
		r.CountIf = nil
		return influxsync.Sync(ctx, r)
	}}
	if during, _ := run(t, blind); len(during) > 0 {
		t.Errorf("control: every row counts, and %v", during)
	}
}
