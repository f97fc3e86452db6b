package query

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/google/go-cmp/cmp"
)

// wide is a store that is asked for a cluster's rows alone, whatever else narrows them,
// and counts what it hands over.
type wide struct {
	Reader
	all  bool
	rows *int
}

func (w wide) Query(ctx context.Context, q influxsync.Query, each func(influxsync.Point) error) error {
	if w.all {
		q.Where = slices.DeleteFunc(slices.Clone(q.Where), func(c influxsync.Condition) bool { return c.Tag != schema.Cluster })
	}
	return w.Reader.Query(ctx, q, func(p influxsync.Point) error {
		*w.rows++
		return each(p)
	})
}

// told are charges as text: keys, times, and what each line is of and costs.
func told(all []Charges) (text []string) {
	for i := range all {
		text = append(text, chargesText(&all[i]))
	}
	return text
}

func chargesText(c *Charges) string {
	text := fmt.Sprint(c.Row.Key, c.Row.From.Unix(), c.Row.Coverage, c.Row.Provisional, c.Row.Sums, c.CarbonMicrograms, c.HeatMillijoules)
	for _, line := range c.Lines {
		text += fmt.Sprint(" ", line.Resource, "=", line.Quantity)
		if line.List != nil {
			text += fmt.Sprint("×", line.UnitPrice, line.List.Name)
		}
	}
	return text
}

// TestReadingsAreNarrowed: what a filter keeps is the same where the stores are asked
// for it as where they are asked for all of the cluster, and they hand over less.
func TestReadingsAreNarrowed(t *testing.T) {
	f := newFixture(t, edge()...)
	more := append(slices.Clone(pods), podID{"edge-a", "n1", "shop", "webby-1", "webby", "box-1"}, podID{"edge-a", "n1", "shop", "we.b-1", "we.b", "box-1"},
		podID{"edge-a", "n1", "base", "web-1-x", "", "box-1"})
	f.receive("edge-a", 60)
	f.fill(more, 0, 60)
	f.coarsen(more, 0, 4)
	var rows int
	ask := func(all bool, filter []Condition) []string {
		t.Helper()
		rows = 0
		f.Engine.stores = Stores{Minute: wide{f.minute, all, &rows}, Quarter: wide{f.quarter, all, &rows}}
		charges, err := f.Charges(f.ctx, ChargeRequest{Window: schema.Window{From: at(3), To: at(58)}, Aggregate: []Key{Namespace, Workload}, Filter: filter, Figures: true})
		if err != nil {
			t.Fatalf("%v: %v", filter, err)
		}
		return told(charges)
	}
	for _, c := range []struct {
		filter []Condition
		less   bool
		rows   int
	}{
		{[]Condition{{Key: Pod, Values: []string{"web-*"}}}, true, 2},
		{[]Condition{{Key: Pod, Values: []string{"we.b*"}}}, true, 1},
		{[]Condition{{Key: Pod, Values: []string{"web-*-x"}}}, true, 1},
		{[]Condition{{Key: Pod, Values: []string{"*-1"}}}, false, 3},
		{[]Condition{{Key: Pod, Values: []string{"web-*", "db-*"}}}, false, 2},
		{[]Condition{{Key: Pod, Values: []string{`we\b*`}}}, false, 0},
		{[]Condition{{Key: Workload, Values: []string{"Deployment/web"}}}, true, 1},
		{[]Condition{{Key: Workload, Values: []string{"Deployment/web*"}}}, false, 2},
		{[]Condition{{Key: Workload, Values: []string{""}}}, false, 2},
		{[]Condition{{Key: Workload, Values: []string{"/web"}}}, false, 0},
		{[]Condition{{Key: Namespace, Values: []string{"sh*"}}}, true, 3},
		{[]Condition{{Key: Workload, Values: []string{"Deployment/web"}}, {Key: Pod, Values: []string{"web-2*"}}}, true, 1},
	} {
		want := ask(true, c.filter)
		all := rows
		got := ask(false, c.filter)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v: -of all, +narrowed:\n%s", c.filter, diff)
		}
		if len(got) < c.rows || c.rows == 0 && len(got) > 0 || (rows < all) != c.less {
			t.Errorf("%v: %d keys, of %d rows; all are %d", c.filter, len(got), rows, all)
		}
	}
}

// TestBrief: energy and nodes alone tell of the same hardware, the same energy and its
// carbon by the hour, and pods are not read. Control: they do not tell what pods used.
func TestBrief(t *testing.T) {
	f := newFixture(t, edge()...)
	f.receive("edge-a", 130)
	f.receive("edge-b", 120)
	f.fill(pods, 0, 130)
	f.coarsen(pods, 0, 8)
	counts := f.counting()
	for _, request := range []ChargeRequest{
		{Window: schema.Window{From: at(4), To: at(124)}, Aggregate: []Key{Hardware}, Figures: true},
		{Window: schema.Window{From: at(0), To: at(120)}, Step: time.Hour, Figures: true, Filter: []Condition{{Key: Cluster, Values: []string{"edge-a"}}}},
	} {
		figures := func(brief bool) (text []string, cpu int64) {
			request.Brief = brief
			clear(counts)
			all, err := f.Charges(f.ctx, request)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range all {
				energy, err := c.Row.Sums.Energy()
				text = append(text, fmt.Sprint(c.Row.Key, c.Row.From.Unix(), energy, err, c.CarbonKnown, c.CarbonMicrograms, c.HeatMillijoules, c.Row.Sums[usage.NodeTime]))
				cpu += c.Row.Sums[usage.CPU]
			}
			return text, cpu
		}
		want, used := figures(false)
		if counts[schema.PodMinute.Name]+counts[schema.UsageQuarter.Name] == 0 || used == 0 {
			t.Fatalf("nothing is read of pods: %v", counts)
		}
		got, none := figures(true)
		if diff := cmp.Diff(want, got); diff != "" || none != 0 {
			t.Errorf("%d: -whole, +brief:\n%s", none, diff)
		}
		if counts[schema.PodMinute.Name]+counts[schema.UsageQuarter.Name]+counts[schema.VolumeMinute.Name] != 0 {
			t.Errorf("read: %v", counts)
		}
	}
}

// TestChargesByCluster: charges that are handed over a cluster at a time, in rows that are
// used again, are those of all at once, and no more of them may come.
func TestChargesByCluster(t *testing.T) {
	f := newFixture(t, edge()...)
	f.receive("edge-a", 120)
	f.receive("edge-b", 120)
	more := pods
	for i := range 9 { // the clusters after the first have fewer rows, and more
		more = append(slices.Clone(more), podID{"edge-b", "n1", fmt.Sprint("ns-", i), "api-1", "api", "box-1"})
	}
	f.fill(more, 0, 120)
	f.coarsen(more, 0, 8)
	for _, keys := range [][]Key{{Cluster, Namespace}, {Cluster}, {Cluster, Namespace, Pod}, {Namespace, Cluster}} {
		request := ChargeRequest{Window: schema.Window{From: at(0), To: at(120)}, Step: 30 * time.Minute, Aggregate: keys, Figures: true}
		all, err := f.Charges(f.ctx, request)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		err = f.EachCharge(f.ctx, request, func(c *Charges) error {
			got = append(got, chargesText(c))
			return nil
		})
		if diff := cmp.Diff(told(all), got); diff != "" || err != nil || len(got) < 8 {
			t.Errorf("%v: %d, %v, -all, +each:\n%s", keys, len(got), err, diff)
		}
		for most, bad := range map[int]bool{len(all): false, len(all) - 1: true} {
			f.Engine.config.MaxRows = most
			var wrong *InputError
			if err := f.EachCharge(f.ctx, request, func(*Charges) error { return nil }); errors.As(err, &wrong) != bad {
				t.Errorf("%v: %d rows where %d may be: %v", keys, len(all), most, err)
			}
		}
		f.Engine.config.MaxRows = 200_000
	}
	stop := errors.New("stop")
	if err := f.EachCharge(f.ctx, ChargeRequest{Window: schema.Window{From: at(0), To: at(120)}, Aggregate: []Key{Cluster}}, func(*Charges) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("an error of the taker is %v", err)
	}
}
