package query

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/google/go-cmp/cmp"
)

// asked is a store that counts its questions, by table.
type asked struct {
	Reader
	of map[string]int
}

func (a asked) Query(ctx context.Context, q influxsync.Query, each func(influxsync.Point) error) error {
	a.of[q.From]++
	return a.Reader.Query(ctx, q, each)
}

// counting makes the fixture's stores count, and returns the count.
func (f *fixture) counting() map[string]int {
	of := make(map[string]int)
	f.Engine.stores = Stores{Minute: asked{f.minute, of}, Quarter: asked{f.quarter, of}}
	return of
}

func sumOf(counts map[string]int) (sum int) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

var startsPods = []podID{{cluster: "edge-a", node: "n1", namespace: "shop", pod: "web-1", workload: "web", box: "box-1"},
	{cluster: "edge-a", node: "n1", namespace: "blog", pod: "press-1", workload: "press", box: "box-1"}}

// startsFixture has prices by the hour of the day, which are others from the tenth hour
// on, and pods of two namespaces.
func startsFixture(t *testing.T) (*fixture, ChargeRequest, []schema.Window) {
	list := func(price fleet.Decimal) fleet.Object {
		return fleet.NewObject("prices-a", fleet.PriceList{Currency: "EUR", Customers: []string{"acme"}, TimeOfUse: &fleet.TimeOfUse{Zone: "UTC", Rules: []fleet.TimeRule{{Slot: "night", To: "06:00"}}},
			Rates: []fleet.Rate{{Resource: "cpu_used", Price: price, Slots: map[string]fleet.Decimal{"night": "0.011"}}}})
	}
	objects := edge()
	for i, o := range objects {
		if o.Name() == "prices-a" {
			objects[i] = list("0.031")
		}
	}
	f := newFixture(t, objects...)
	f.apply(list("0.05").Since(at(600)))
	f.receive("edge-a", 120)
	f.fill(startsPods, 0, 120)
	var coming []schema.Window
	for hour := range 24 {
		from := at(120).Truncate(time.Hour).Add(time.Duration(hour+1) * time.Hour)
		coming = append(coming, schema.Window{From: from, To: from.Add(100 * time.Minute)})
	}
	return f, ChargeRequest{Window: schema.Window{From: at(7), To: at(107)}, Aggregate: []Key{Namespace}, Moved: true}, coming
}

// TestStartsAreReadOnce: what a run costs in each of 24 hours is what each says by
// itself, and the stores are asked as often as for one.
func TestStartsAreReadOnce(t *testing.T) {
	f, request, coming := startsFixture(t)
	counts := f.counting()
	var want [][]Charges
	one := 0
	for _, w := range coming {
		charges, _, err := f.ChargesAhead(f.ctx, request, w)
		if err != nil {
			t.Fatal(err)
		}
		if want = append(want, charges); one == 0 {
			one = sumOf(counts)
		}
	}
	if all := sumOf(counts); one == 0 || all < 20*one { // the control
		t.Errorf("24 questions ask the stores %d times, one %d times", all, one)
	}
	clear(counts)
	got, _, err := f.ChargesStarts(f.ctx, request, coming)
	if err != nil || sumOf(counts) > one {
		t.Errorf("the stores were asked %d times, for one start %d times: %v, %v", sumOf(counts), one, counts, err)
	}
	costs := func(all [][]Charges) (text []string) {
		for _, charges := range all {
			for _, c := range charges {
				for _, line := range c.Lines {
					if line.List != nil {
						text = append(text, fmt.Sprint(c.Row.Key, line.Resource, line.Quantity, line.Cost().FloatString(12)))
					}
				}
			}
		}
		return text
	}
	if diff := cmp.Diff(costs(want), costs(got)); diff != "" || len(costs(got)) < 48 {
		t.Errorf("%d lines: %s", len(costs(got)), diff)
	}
	different := make(map[string]bool)
	for _, charges := range got {
		different[fmt.Sprint(costs([][]Charges{charges}))] = true
	}
	if len(different) < 3 {
		t.Error("all starts cost the same: the test sees nothing of their prices")
	}
}

// TestQuestionsRemember: questions under one memory tell what each tells by itself, and
// what they have in common is read once; the control asks without.
func TestQuestionsRemember(t *testing.T) {
	f, _, coming := startsFixture(t)
	counts := f.counting()
	day := ChargeRequest{Window: schema.Window{From: at(4), To: at(119)}, Aggregate: []Key{Hardware}, Figures: true}
	hour := ChargeRequest{Window: schema.Window{From: at(59), To: at(119)}, Aggregate: []Key{Hardware}, Moved: true, Figures: true}
	f.coarsen(startsPods, 0, 7) // the last quarter is open: both read its minutes
	ask := func(ctx context.Context) (text []string, asked int) {
		clear(counts)
		all, err := f.Charges(ctx, day)
		if err != nil {
			t.Fatal(err)
		}
		starts, notes, err := f.ChargesStarts(ctx, hour, coming)
		if err != nil {
			t.Fatal(err)
		}
		text = append(told(all), notes...)
		for _, start := range starts {
			text = append(text, told(start)...)
		}
		return text, counts[schema.PodMinute.Name]
	}
	want, each := ask(f.ctx)
	got, once := ask(f.Remember(f.ctx))
	if diff := cmp.Diff(want, got); diff != "" || len(got) < 25 {
		t.Errorf("-each, +remembered:\n%s", diff)
	}
	if once >= each || once == 0 {
		t.Errorf("the minutes of pods were read %d times, without a memory %d times", once, each)
	}
}

// TestStartsWithoutRoom: what does not fit is read again, with the same answer.
func TestStartsWithoutRoom(t *testing.T) {
	f, _, _ := startsFixture(t)
	counts := f.counting()
	query := influxsync.Query{Aggregate: "sum", Select: []string{schema.CPU}, From: schema.PodMinute.Name, Group: []string{schema.Pod}, Window: schema.Window{From: at(0), To: at(60)}}
	for rows, want := range map[int]int{2: 1, 1: 3} {
		clear(counts)
		r := &remembering{from: f.Engine.stores.Minute, room: &room{left: rows}}
		for range 3 {
			seen := 0
			if err := r.Query(f.ctx, query, func(p influxsync.Point) error { seen++; return nil }); err != nil || seen != 2 {
				t.Errorf("%d rows, %v", seen, err)
			}
		}
		if held := 3 - want; r.room.left != rows-held {
			t.Errorf("room for %d rows: %d left of it", rows, r.room.left)
		}
		if counts[schema.PodMinute.Name] != want {
			t.Errorf("room for %d rows: read %d times, want %d", rows, counts[schema.PodMinute.Name], want)
		}
	}
}

// TestNothingIsReadInVain: a table whose rows a filter cannot keep is not read.
func TestNothingIsReadInVain(t *testing.T) {
	f, request, _ := startsFixture(t)
	counts := f.counting()
	request.Moved = false
	all, err := f.Charges(f.ctx, request)
	if err != nil || counts[schema.VolumeMinute.Name] == 0 {
		t.Fatalf("%v, %v", counts, err)
	}
	clear(counts)
	request.Filter = []Condition{{Key: Workload, Values: []string{"Deployment/web"}}, {Key: Pod, Values: []string{"web-*"}}}
	some, err := f.Charges(f.ctx, request)
	if err != nil || counts[schema.VolumeMinute.Name] != 0 || counts[schema.NodeMinute.Name] != counts[schema.PodMinute.Name] || counts[schema.PodMinute.Name] == 0 { // nodes alone say how long there are rows
		t.Errorf("%v, %v", counts, err)
	}
	if len(some) != 1 || len(all) < 2 {
		t.Errorf("%d of %d rows", len(some), len(all))
	}
}
