package ahead

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors"
)

// podsAlive are pods of CronJob/nightly and when they lived: each core-hour costs 0.10
// EUR, and 0.20 ahead.
type podsAlive map[string]schema.Window

func (p podsAlive) Settled(context.Context) (time.Time, error) { return now, nil }

func (p podsAlive) Fleet(_ context.Context, at time.Time) (*fleet.Fleet, error) {
	return fleet.New(at, nil), nil
}

func (p podsAlive) Charges(_ context.Context, request query.ChargeRequest) ([]query.Charges, error) {
	return p.charges(request, big.NewRat(1, 10)), nil
}

func (p podsAlive) Remember(ctx context.Context) context.Context { return ctx }

func (p podsAlive) ChargesStarts(ctx context.Context, request query.ChargeRequest, coming []schema.Window) ([][]query.Charges, []string, error) {
	return startsOf(ctx, p, request, coming)
}

func (p podsAlive) ChargesAhead(_ context.Context, request query.ChargeRequest, _ schema.Window) ([]query.Charges, []string, error) {
	return p.charges(request, big.NewRat(2, 10)), nil, nil
}

func (p podsAlive) Metered(context.Context, schema.Window, time.Duration) ([]time.Time, error) {
	return nil, nil // a Job is no series of hours
}

func (p podsAlive) Whole(context.Context, schema.Window, []usage.Condition) (bool, error) {
	return true, nil // nobody's tenant asks
}

func (p podsAlive) charges(request query.ChargeRequest, price *big.Rat) (all []query.Charges) {
	for name, life := range p {
		alive := life.Overlap(request.Window.From, request.Window.To)
		if alive <= 0 || !usage.KeepsAll(request.Filter, usage.Pod, name) {
			continue
		}
		c := query.Charges{Row: query.Row{Key: map[string]string{"cluster": "edge-a", "namespace": "batch", "workload": "CronJob/nightly", "pod": name}}}
		c.Row.Sums[usage.Uptime] = alive.Milliseconds()
		c.Lines = []query.Charge{{Resource: processors.CPUUsed, Quantity: int64(alive), List: &fleet.PriceList{Currency: "EUR"}, UnitPrice: new(big.Rat).Mul(big.NewRat(1, int64(time.Hour)), price)}}
		all = append(all, c)
	}
	return all
}

// TestForecastOfAJob: twelve parts of ten minutes have been done two at a time, two run,
// six are still to begin: done in half an hour less the five minutes that two have run.
func TestForecastOfAJob(t *testing.T) {
	alive, facts := podsAlive{}, finished{}
	for i := range 12 {
		name, back := fmt.Sprintf("nightly-7-%05d", i), 5*time.Minute+time.Duration(i/2)*10*time.Minute
		alive[name] = schema.Window{From: now.Add(-back - 10*time.Minute), To: now.Add(-back)}
		facts = append(facts, ended(kindPod, name, back.Hours(), 10*time.Minute, 0))
	}
	for i := range 2 {
		alive[fmt.Sprintf("nightly-7-run%02d", i)] = schema.Window{From: now.Add(-5 * time.Minute), To: now.Add(time.Hour)}
	}
	alive["nightly-71-abcde"] = schema.Window{From: now.Add(-time.Hour), To: now} // of another
	d := NewDesk(alive, alive, facts, nil)
	f, err := d.ForecastJob(t.Context(), JobQuestion{Name: "nightly-7", Completions: 18})
	if err != nil {
		t.Fatal(err)
	}
	if f.Succeeded != 12 || f.Running != 2 || f.Workload != "CronJob/nightly" || !f.Start.Equal(now.Add(-65*time.Minute)) || f.CompletionsBasis != "given" {
		t.Errorf("%+v", f)
	}
	for _, at := range []*time.Time{f.End.P10, f.End.P50, f.End.P90} {
		if at == nil || at.Sub(now.Add(25*time.Minute)).Abs() > 90*time.Second {
			t.Errorf("ends at %v, now %s", at, now)
		}
	}
	// So far 12 pods of ten minutes and two of five; then 50 pod-minutes at twice the price.
	if c := f.Costs[0]; c.Currency != "EUR" || c.SoFar != "0.216666667" || !strings.HasPrefix(c.P50, "0.38") {
		t.Errorf("%+v", c)
	}
	if _, err := d.ForecastJob(t.Context(), JobQuestion{Name: "nightly-7"}); !errors.Is(err, ErrCompletions) {
		t.Errorf("without completions: %v", err)
	}
	for i := range 15 { // an earlier run of 15 pods
		facts = append(facts, ended(kindPod, fmt.Sprintf("nightly-6-%05d", i), 24, 10*time.Minute, 0))
	}
	d.facts = append(facts, ended(kindJob, "nightly-6", 24, time.Hour, 0))
	f, err = d.ForecastJob(t.Context(), JobQuestion{Name: "nightly-7"})
	if err != nil || f.Completions != 15 || f.CompletionsBasis != ByRuns || f.End.P50 == nil {
		t.Errorf("%+v, %v", f, err)
	}
	for _, q := range []JobQuestion{{Name: "nightly"}, {Name: "nightly-6"}} {
		if _, err := d.ForecastJob(t.Context(), q); !errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: %v", q.Name, err)
		}
	}
	var input *usage.InputError
	if _, err := d.ForecastJob(t.Context(), JobQuestion{Name: "*"}); !errors.As(err, &input) {
		t.Errorf("a pattern: %v", err)
	}
}

// TestWhenAnAmountIsSpent: 0.20 EUR an hour since the month's start, 0.40 from now on.
func TestWhenAnAmountIsSpent(t *testing.T) {
	u := &usedBy{since: now.AddDate(0, 0, -30), cores: map[string]float64{"acme": 2}, ahead: big.NewRat(2, 10)}
	hour, start := now.Truncate(time.Hour), time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	by := func(text string) Moments {
		t.Helper()
		q, err := ParseQuestion("aggregate=customer&amount="+text, ForecastParameters)
		if err != nil {
			t.Fatal(err)
		}
		f, err := desk(u).Forecast(t.Context(), q)
		if err != nil || f.Rows[0].Costs[0].SpentBy == nil {
			t.Fatalf("%+v, %v", f, err)
		}
		return *f.Rows[0].Costs[0].SpentBy
	}
	// 540 hours have cost 108 EUR; 10 EUR more are 25 hours.
	if m := by("118+EUR"); m.P50 == nil || !m.P50.Equal(hour.Add(25*time.Hour)) || !m.P10.Equal(*m.P50) || !m.P90.Equal(*m.P50) {
		t.Errorf("118 EUR by %v", m)
	}
	if m := by("20+EUR"); m.P50 == nil || !m.P50.Equal(start.Add(100*time.Hour)) {
		t.Errorf("20 EUR were spent by %v", m)
	}
	if m := by("5000+EUR"); m != (Moments{}) {
		t.Errorf("5000 EUR are not spent in the month: %v", m)
	}
	for _, bad := range []string{"EUR", "1", "-1+EUR", "1/2+EUR", "1e3+EUR", "1+EURO"} {
		if _, err := ParseQuestion("amount="+bad, ForecastParameters); err == nil {
			t.Errorf("%s is an amount", bad)
		}
	}
}

// TestSlotsOfAJob: pods of 20 seconds, two at a time, each 3 seconds after the one before
// it. Looked at between two pods, two go on to run at a time.
func TestSlotsOfAJob(t *testing.T) {
	took := 20.0
	var pods []podOfJob
	for i := range 8 {
		start := now.Add(time.Duration(23*(i/2)+10*(i%2)-90) * time.Second)
		one := podOfJob{run: run{start: start, end: start.Add(20 * time.Second)}, ended: true}
		if i == 7 { // it runs; the other slot is empty
			one.end, one.ended = now, false
		}
		pods = append(pods, one)
	}
	side, gap := slots(pods, now, &took)
	if side != 2 || gap != 3 {
		t.Errorf("%d at a time, %f s between", side, gap)
	}
	if side, gap := slots(pods[7:], now, nil); side != 1 || gap != 0 {
		t.Errorf("of one pod: %d, %f s", side, gap)
	}
}
