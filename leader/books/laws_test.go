package books

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/google/go-cmp/cmp"
)

// months are local months with days of 23 and 25 hours, an offset of 45 minutes,
// and one without.
var months = []struct {
	zone, period string
	hours        []int // that some day has
}{
	{"Europe/Amsterdam", "2026-10", []int{24, 25}}, {"Europe/Amsterdam", "2026-03", []int{23, 24}},
	{"America/Sao_Paulo", "2018-11", []int{23, 24}}, // the clock skipped midnight
	{"America/Sao_Paulo", "2026-05", []int{24}},
	{"Pacific/Auckland", "2026-04", []int{24, 25}}, {"Pacific/Auckland", "2026-09", []int{23, 24}}, {"Asia/Kathmandu", "2026-11", []int{24}}}

func TestDaysOfAMonth(t *testing.T) {
	for _, month := range months {
		start, _ := time.Parse(monthForm, month.period)
		w := newWorld(t, start.AddDate(0, 2, 0), fleet.NewObject("acme", fleet.Customer{TimeZone: month.zone}))
		c, err := w.calendar(t.Context(), "acme", month.period)
		if err != nil {
			t.Fatal(err)
		}
		days := c.days()
		found := make(map[int]bool)
		for i, day := range days {
			if i > 0 && !day.From.Equal(days[i-1].To) || c.date(day) != fmt.Sprintf("%s-%02d", month.period, i+1) || day.From.Unix()%900 != 0 {
				t.Errorf("%s %s: day %d is %s", month.zone, month.period, i+1, day)
			}
			found[int(day.Length().Hours())] = true
		}
		if want := start.AddDate(0, 1, -1).Day(); len(days) != want || !days[0].From.Equal(c.From) || !days[want-1].To.Equal(c.To) {
			t.Errorf("%s %s: %d days, %s", month.zone, month.period, len(days), c.Window)
		}
		for _, hours := range month.hours {
			if delete(found, hours); len(found) > len(month.hours) {
				t.Errorf("%s %s: no day of %d hours", month.zone, month.period, hours)
			}
		}
		if len(found) != 0 {
			t.Errorf("%s %s: days of %v hours", month.zone, month.period, found)
		}
	}
}

// randomWorld is a customer with prices by time of use, tiers, a discount, a fee and
// a minimum, in a zone, and a namespace that changes hands in the month.
func randomWorld(t *testing.T, r *rand.Rand, zone, period string) (w *world, moved time.Time) {
	t.Helper()
	start, _ := time.Parse(monthForm, period)
	since := start.AddDate(0, -2, 0)
	price := func(max int) fleet.Decimal { return fleet.Decimal(fmt.Sprintf("0.%05d", 1+r.IntN(max))) }
	list := fleet.PriceList{Currency: []string{"EUR", "JPY", "KWD"}[r.IntN(3)], TimeOfUse: &fleet.TimeOfUse{Zone: zone, Rules: []fleet.TimeRule{{Slot: "peak", Days: []string{"mon", "tue", "wed"}, From: "07:00", To: "22:15"}}},
		Rates: []fleet.Rate{{Resource: "cpu_used", Price: price(99999), Slots: map[string]fleet.Decimal{"peak": price(99999)}}, {Resource: "memory", Price: price(9999)},
			{Resource: "energy", Tiers: &fleet.PriceTiers{Kind: "graduated", Steps: []fleet.PriceStep{{UpTo: "0.1", Price: price(99999)}, {Price: price(99999)}}}},
			{Resource: "fee:platform", Per: "month", Price: "7.50"}},
		Discounts: []fleet.Discount{{Customers: []string{"acme"}, Resources: []string{"cpu_used"}, Percent: "12.5"}}}
	if r.IntN(2) == 0 {
		list.Minimum = "20"
	}
	moved = start.AddDate(0, 0, 3+r.IntN(20)).Add(time.Duration(r.IntN(24*60)) * time.Minute)
	w = newWorld(t, start.AddDate(0, 1, 2),
		fleet.NewObject("acme", fleet.Customer{TimeZone: zone}).Since(since), fleet.NewObject("globex", fleet.Customer{TimeZone: zone}).Since(since),
		fleet.NewObject("edge-a", fleet.Cluster{Customer: "acme", URL: "http://127.0.0.1:1", Region: "eu"}).Since(since),
		fleet.NewObject("edge-b", fleet.Cluster{Customer: "globex", URL: "http://127.0.0.1:2"}).Since(since),
		fleet.NewObject("standard", list).Since(since),
		fleet.NewObject("blog", fleet.Assignment{Cluster: "edge-a", Namespace: "blog", Customer: "globex"}).Since(moved))
	return w, moved
}

// exact is what namespaces used in a window, by the formula alone.
func (w *world) exact(cluster string, namespaces []string, window schema.Window) processors.Quantities {
	sum := make(processors.Quantities)
	for _, namespace := range namespaces {
		for minute := window.From.Unix() / 60; minute < window.To.Unix()/60; minute++ {
			for resource, quantity := range w.used(cluster, namespace, minute) {
				sum[resource] += quantity
			}
		}
	}
	return sum
}

// charged are the quantities of lines by resource, and by namespace.
func charged(lines []Line) (all, blog processors.Quantities) {
	all, blog = make(processors.Quantities), make(processors.Quantities)
	for _, l := range lines {
		if l.Base == 0 {
			continue
		}
		all[processors.Resource(l.Resource)] += l.Quantity
		for _, share := range l.Shares {
			if share.Namespace == "blog" {
				blog[processors.Resource(l.Resource)] += share.Quantity
			}
		}
	}
	return all, blog
}

// TestLawsOfTheBooks: Σ lines = Σ days = what was used, and Σ lines = total; a
// namespace that changes hands is split at that minute; closing and correcting
// changes no closed line; re-rating and correcting are idempotent, and what is
// billed in the end is what the days come to.
func TestLawsOfTheBooks(t *testing.T) {
	for i, month := range months {
		t.Run(month.zone+" "+month.period, func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(i), 7))
			w, moved := randomWorld(t, r, month.zone, month.period)
			c, err := w.calendar(t.Context(), "acme", month.period)
			if err != nil {
				t.Fatal(err)
			}
			acme := w.close("acme", month.period)
			before := w.chain("acme")
			lines, err := w.closedLines(t.Context(), "acme", month.period)
			if err != nil {
				t.Fatal(err)
			}
			if sum, err := total(lines); err != nil || sum != acme.Total {
				t.Errorf("lines come to %s, %v; total %s", sum, err, acme.Total)
			}
			all, blog := charged(lines)
			until := schema.Window{From: c.From, To: moved}
			if diff := cmp.Diff(w.exact("edge-a", []string{"blog"}, until), blog); diff != "" {
				t.Errorf("blog until it moved: %s", diff)
			}
			want := w.exact("edge-a", []string{"shop"}, c.Window)
			for resource, quantity := range blog {
				want[resource] += quantity
			}
			if diff := cmp.Diff(want, all); diff != "" {
				t.Errorf("Σ lines: %s", diff)
			}
			w.close("globex", month.period)
			of, err := w.closedLines(t.Context(), "globex", month.period)
			if err != nil {
				t.Fatal(err)
			}
			_, blog = charged(of)
			if diff := cmp.Diff(w.exact("edge-a", []string{"blog"}, schema.Window{From: moved, To: c.To}), blog); diff != "" {
				t.Errorf("blog since it moved: %s", diff)
			}
			w.correctRandomly(r, c, month.period)
			if diff := cmp.Diff(before, w.chain("acme")); diff != "" {
				t.Errorf("closed lines have changed: %s", diff)
			}
		})
	}
}

// correctRandomly lets things come late, and corrects; each time it checks that what
// is billed is what the days come to.
func (w *world) correctRandomly(r *rand.Rand, c Calendar, period string) {
	w.t.Helper()
	ctx := w.t.Context()
	for round := range 3 {
		at := c.From.Add(time.Duration(r.Int64N(int64(c.Length())))).Truncate(time.Minute)
		w.later("edge-a", "shop", at, r.Int64N(100_000_000_000)-10_000_000_000)
		made, err := w.Rerate(ctx, "acme", period)
		if err != nil {
			w.t.Fatal(err)
		}
		if twice, err := w.Rerate(ctx, "acme", period); err != nil || cmp.Diff(made, twice) != "" {
			w.t.Errorf("re-rated twice: %v %s", err, cmp.Diff(made, twice))
		}
		for range 2 {
			if _, err := w.Apply(ctx, "acme", period, "dora", fmt.Sprint("round ", round)); err != nil {
				w.t.Fatal(err)
			}
		}
		if rest, err := w.Rerate(ctx, "acme", period); err != nil || len(rest.Lines) != 0 || rest.Before != rest.After {
			w.t.Errorf("after it was applied: %+v, %v", rest, err)
		}
		rated, err := w.rate(ctx, c, false)
		if err != nil {
			w.t.Fatal(err)
		}
		billed, err := w.billed(ctx, "acme", period, new(basis))
		if err != nil {
			w.t.Fatal(err)
		}
		sum, err := total(billed)
		if err != nil {
			w.t.Fatal(err)
		}
		if left, right := rational(w.t, sum), rational(w.t, rated.Total); left.Cmp(right) != 0 {
			w.t.Errorf("billed %s, the days come to %s", sum, rated.Total)
		}
	}
}

func rational(t *testing.T, text string) *big.Rat {
	t.Helper()
	value, ok := new(big.Rat).SetString(text)
	if !ok {
		t.Fatalf("%q is no number", text)
	}
	return value
}

// TestLawsSeeTheBug: a day that is counted twice, or by a day of the wrong zone, is
// seen by the laws above.
func TestLawsSeeTheBug(t *testing.T) {
	w := newWorld(t, december, small("Pacific/Auckland")...)
	w.close("acme", "2026-11")
	c, err := w.calendar(t.Context(), "acme", "2026-11")
	if err != nil {
		t.Fatal(err)
	}
	lines, err := w.closedLines(t.Context(), "acme", "2026-11")
	if err != nil {
		t.Fatal(err)
	}
	all, _ := charged(lines)
	if diff := cmp.Diff(w.exact("edge-a", []string{"shop", "blog"}, c.Window), all); diff != "" {
		t.Fatalf("%s", diff)
	}
	utc := schema.Window{From: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)}
	if cmp.Equal(w.exact("edge-a", []string{"shop", "blog"}, utc), all) {
		t.Error("a month in UTC has the same sums: the law would not see the wrong zone")
	}
	twice := newTally()
	var day registry.BookDay
	if err := w.reg.BookDays(t.Context(), "acme", c.Window, false, func(d registry.BookDay) error { day = d; return twice.add(d) }); err != nil {
		t.Fatal(err)
	}
	if err := twice.add(day); err != nil {
		t.Fatal(err)
	}
	rated, err := w.charge(t.Context(), c, twice)
	if err != nil {
		t.Fatal(err)
	}
	if more, _ := charged(rated.Lines); cmp.Equal(more, all) {
		t.Error("a day counted twice comes to the same")
	}
}

// TestChangedOwnerIsCorrected: a rule that is laid into the past takes from one
// customer what it gives to the other.
func TestChangedOwnerIsCorrected(t *testing.T) {
	w := newWorld(t, december, small("Europe/Amsterdam")...)
	ctx := t.Context()
	w.close("acme", "2026-11")
	if _, err := w.Draft(ctx, "globex", "2026-11", "dora"); err != nil {
		t.Fatal(err)
	}
	since := time.Date(2026, 11, 10, 12, 34, 0, 0, time.UTC)
	w.apply(fleet.NewObject("blog", fleet.Assignment{Cluster: "edge-a", Namespace: "blog", Customer: "globex"}).Since(since))
	made, err := w.Rerate(ctx, "acme", "2026-11")
	if err != nil {
		t.Fatal(err)
	}
	d, err := w.Draft(ctx, "globex", "2026-11", "dora")
	if err != nil {
		t.Fatal(err)
	}
	lost, _ := charged(made.Lines)
	gained, _ := charged(d.Lines)
	for resource := range gained {
		if lost[resource] != -gained[resource] || gained[resource] <= 0 {
			t.Errorf("%s: %d from acme, %d to globex", resource, lost[resource], gained[resource])
		}
	}
	if len(gained) != 3 || !below(made.Total) {
		t.Errorf("gained %v, total %s", gained, made.Total)
	}
}

// TestPricesCorrectedInThePast are a correction of the same line, in whole.
func TestPricesCorrectedInThePast(t *testing.T) {
	w := newWorld(t, december, small("UTC")...)
	w.close("acme", "2026-11")
	objects := small("UTC")
	list := objects[3].Spec.(fleet.PriceList)
	list.Rates[0].Price = "0.06"
	objects[3].Spec = list
	w.apply(objects[3])
	made, err := w.Rerate(t.Context(), "acme", "2026-11")
	if err != nil {
		t.Fatal(err)
	}
	lines, err := w.closedLines(t.Context(), "acme", "2026-11")
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Lines) != 1 || made.Lines[0].Quantity != 0 || made.Lines[0].Corrects[0] != lines[0].ID {
		t.Fatalf("correction %+v", made.Lines)
	}
	diff := new(big.Rat).Sub(rational(t, made.Lines[0].Cost), rational(t, lines[0].Cost))
	if diff.Abs(diff).Cmp(big.NewRat(1, 100)) > 0 {
		t.Errorf("a doubled price differs by %s, billed were %s", made.Lines[0].Cost, lines[0].Cost)
	}
}
