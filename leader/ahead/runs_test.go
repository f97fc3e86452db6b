package ahead

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors"
)

// finished are rows of the table run.
type finished []influxsync.Point

func (f finished) TimeQuery(_ context.Context, _ string, w schema.Window, where []influxsync.Condition, each func(influxsync.Point) error) error {
	for _, p := range f {
		if !w.Contains(p.Time) || p.Tag(where[0].Tag) != where[0].Value {
			continue
		}
		if err := each(p); err != nil {
			return err
		}
	}
	return nil
}

// ended is a run of CronJob/nightly that ended some hours before now.
func ended(kind, name string, hours float64, length time.Duration, exit int64) influxsync.Point {
	end := now.Add(-time.Duration(hours * float64(time.Hour)))
	seconds := int64(length.Seconds())
	return influxsync.NewPoint(schema.Run.Name, map[string]string{schema.Cluster: "edge-a", schema.Kind: kind, schema.Namespace: "batch", "name": name, schema.WorkloadKind: "CronJob", schema.Workload: "nightly"},
		map[string]influxsync.Value{"start": influxsync.Int(end.Add(-length).UnixNano()), "end": influxsync.Int(end.UnixNano()), "exit_code": influxsync.Int(exit),
			schema.CPU: influxsync.Int(seconds * 1_000_000), schema.CPURequest: influxsync.Int(seconds * 2_000_000), schema.Memory: influxsync.Int(seconds << 10), schema.MemoryRequest: influxsync.Int(0),
			"reason": influxsync.Str(""), schema.Quality: influxsync.Str(schema.Measured)}, end)
}

func runsDesk() *Desk {
	d := desk(&usedBy{since: now.AddDate(0, 0, -40), cores: map[string]float64{"acme": 1}})
	d.engine.(*usedBy).ahead = big.NewRat(2, 10)
	d.facts = finished{
		ended(kindPod, "nightly-101-abcde", 50, time.Hour, 0), ended(kindPod, "nightly-102-abcde", 26, time.Hour, 1), ended(kindPod, "nightly-102-fghij", 24, 3*time.Hour, 0),
		ended(kindJob, "nightly-101", 50, time.Hour, 0), ended(kindJob, "nightly-102", 24, 3*time.Hour, 0), ended(kindJob, "failed", 20, time.Minute, 1),
	}
	return d
}

func TestReport(t *testing.T) {
	d := runsDesk()
	r, err := d.Report(t.Context(), ReportQuestion{Name: "nightly"})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Runs) != 3 || r.Failures != 1 || r.Total.CPUCoreSeconds.Float() != 5*3600 || *r.Total.CPUEfficiency != 0.5 || r.Total.MemoryEfficiency != nil {
		t.Errorf("%+v", r.Total)
	}
	if r.Total.Cost[0].Cost != "0.50" || r.Failed.Cost[0].Cost != "0.10" || r.Total.EnergyJoules.Float() != 5*36000 {
		t.Errorf("cost %v, failed %v, energy %s", r.Total.Cost, r.Failed.Cost, r.Total.EnergyJoules)
	}
	if *r.Turnaround.P50 != 3600 || *r.Turnaround.P90 != 3*3600 {
		t.Errorf("turnaround %v", r.Turnaround)
	}
	one, err := d.Report(t.Context(), ReportQuestion{Name: "nightly-102"})
	if err != nil || len(one.Runs) != 2 {
		t.Errorf("of one Job: %+v, %v", one.Runs, err)
	}
	for name, write := range map[string]func(Report, *bytes.Buffer) error{"text": func(r Report, b *bytes.Buffer) error { return r.WriteText(b) }, "html": func(r Report, b *bytes.Buffer) error { return r.WriteHTML(b) }} {
		var out bytes.Buffer
		r.Name = "<b>"
		if err := write(r, &out); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"3, of which 1 failed", "0.50 EUR", "nightly-102-fghij"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s has no %q: %s", name, want, &out)
			}
		}
		if name == "html" && strings.Contains(out.String(), "<b>") {
			t.Error("a name is taken for HTML")
		}
	}
	for _, bad := range []ReportQuestion{{}, {Name: "a", Group: "b=c"}, {Group: "b"}, {Name: "a", Window: "soon"}} {
		var input *usage.InputError
		if _, err := d.Report(t.Context(), bad); !errors.As(err, &input) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := d.Report(t.Context(), ReportQuestion{Name: "night"}); !errors.Is(err, ErrNoRun) {
		t.Errorf("a part of a name: %v", err)
	}
}

const nightly = `apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: batch}
spec: {schedule: "0 3 * * *", jobTemplate: {spec: {completions: 3, template: {spec: {containers: [{name: x, resources: {requests: {cpu: 500m, memory: 1Gi}}}]}}}}}
`

func TestEstimateByRuns(t *testing.T) {
	e, err := runsDesk().Estimate(t.Context(), []byte(nightly), "", 0)
	if err != nil || e.Basis != ByRuns || e.Runs != 2 || *e.Seconds.P10 != 3600 || *e.Seconds.P90 != 3*3600 {
		t.Fatalf("%+v, %v", e, err)
	}
	if h := e.Hardware[0]; h.Runs != 2 || *h.Cost.P90 < 0.2999 || *h.Cost.P90 > 0.3001 || h.Currency != "EUR" || *h.Joules.P50 != 36000 {
		t.Errorf("%+v", h)
	}
	if len(e.Starts) != 24 || *e.Starts[0].Cost < 0.1999 || e.Starts[0].Grams == nil || e.Cheapest != nil || e.Greenest != nil {
		t.Errorf("at an even price and intensity %+v, cheapest %v, greenest %v", e.Starts[0], e.Cheapest, e.Greenest)
	}
}

// types is an engine of two hardware types: all that the workload runs on is small, and a
// core-hour on big costs a quarter.
type types struct{ *usedBy }

func (y types) Charges(ctx context.Context, request query.ChargeRequest) ([]query.Charges, error) {
	all, err := y.usedBy.Charges(ctx, request)
	if !slices.Contains(request.Aggregate, usage.Hardware) {
		return y.as(request, all), err
	}
	var made []query.Charges
	for _, name := range []string{"small", "big"} {
		if name == "big" && len(request.Filter) > 0 { // the run itself
			continue
		}
		for _, c := range all {
			c.Row.Key = map[string]string{"hardware": name}
			made = append(made, c)
		}
	}
	return made, err
}

func (y types) ChargesStarts(ctx context.Context, request query.ChargeRequest, coming []schema.Window) ([][]query.Charges, []string, error) {
	return startsOf(ctx, y, request, coming)
}

func (y types) ChargesAhead(ctx context.Context, request query.ChargeRequest, coming schema.Window) ([]query.Charges, []string, error) {
	all, assumed, err := y.usedBy.ChargesAhead(ctx, request, coming)
	if coming.From.Hour() == 3 { // at night
		for i := range all {
			all[i].Lines[0].UnitPrice = new(big.Rat).Mul(all[i].Lines[0].UnitPrice, big.NewRat(1, 2))
		}
	}
	return y.as(request, all), assumed, err
}

func (types) as(request query.ChargeRequest, all []query.Charges) []query.Charges {
	for i := range all {
		if request.Hardware == "big" {
			all[i].Lines[0].UnitPrice = new(big.Rat).Mul(all[i].Lines[0].UnitPrice, big.NewRat(1, 4))
		}
	}
	return all
}

// TestEstimateOnOtherHardware: on a type on which no run was, the median run is rated at
// its prices and the power of its points, its speed is unknown; each type has its best
// start.
func TestEstimateOnOtherHardware(t *testing.T) {
	d := runsDesk()
	u := d.engine.(*usedBy)
	u.objects = []fleet.Object{fleet.NewObject("small", fleet.Hardware{Cores: 4, MaxWatts: 40}), fleet.NewObject("big", fleet.Hardware{Cores: 16, Curve: []fleet.LoadWatts{{Load: 10, Watts: 20}, {Load: 100, Watts: 80}}})}
	d.engine = types{u}
	e, err := d.Estimate(t.Context(), []byte(nightly), "", 0)
	if err != nil || len(e.Hardware) != 2 {
		t.Fatalf("%+v, %v", e, err)
	}
	big, small := e.Hardware[0], e.Hardware[1]
	if big.Hardware != "big" || big.Basis != ByRating || big.Seconds.P50 != nil || big.RelativeTime != nil || math.Abs(*big.Cost.P50-0.025) > 1e-9 || *big.Joules.P50 != 18000 || *big.Grams.P50 != *small.Grams.P50/2 {
		t.Errorf("big %+v", big)
	}
	if small.Basis != ByRuns || *small.RelativeTime != 1 || *small.Cost.P50 != 0.1 {
		t.Errorf("small %+v", small)
	}
	if big.Cheapest == nil || big.Cheapest.At.Hour() != 3 || math.Abs(*big.Cheapest.Cost-0.025) > 1e-9 || math.Abs(*small.Cheapest.Cost-0.1) > 1e-9 || !e.Cheapest.Equal(big.Cheapest.At) || len(e.Starts) != 24 {
		t.Errorf("starts of big %+v, of small %+v", big.Cheapest, small.Cheapest)
	}
	if !strings.Contains(strings.Join(e.Notes, " "), "nor how fast it is there") {
		t.Errorf("%q", e.Notes)
	}
}

// TestAnUnknownPowerIsNoCost: where energy has a price and the power of a type is not
// known, neither is the cost there.
func TestAnUnknownPowerIsNoCost(t *testing.T) {
	line := func(resource processors.Resource) query.Charge {
		return query.Charge{Resource: resource, Quantity: 1, List: &fleet.PriceList{Currency: "EUR"}, UnitPrice: big.NewRat(1, 1)}
	}
	s := shape{scale: 2, power: 1, joules: 10}
	both := []query.Charges{{Lines: []query.Charge{line(processors.CPUUsed), line(processors.Energy)}}}
	for name, want := range map[string]float64{"same": 4, "double": 6, "new": 0} {
		cost, _, known := s.on(name, "same", powers{"same": 5, "double": 10}).cost(both)
		if cost != want || known != (want > 0) {
			t.Errorf("%s: %g, %v", name, cost, known)
		}
	}
	if cost, _, known := s.on("new", "same", powers{}).cost([]query.Charges{{Lines: []query.Charge{line(processors.CPUUsed)}}}); cost != 2 || !known {
		t.Errorf("without a price of energy: %g, %v", cost, known)
	}
}

func TestEstimateByRequests(t *testing.T) {
	other := []byte(strings.ReplaceAll(nightly, "nightly", "weekly"))
	e, err := runsDesk().Estimate(t.Context(), other, "", 0)
	if err != nil || e.Basis != ByNothing || len(e.Notes) != 1 {
		t.Errorf("%+v, %v", e, err)
	}
	d := runsDesk()
	d.engine.(*usedBy).requested = 2
	e, err = d.Estimate(t.Context(), other, "", time.Hour)
	if err != nil || e.Basis != ByRequests || len(e.Hardware) != 1 {
		t.Fatalf("%+v, %v", e, err)
	}
	if got := *e.Hardware[0].Cost.P50; got < 0.07499 || got > 0.07501 { // 3 pods · 0.5 cores · 1 h, at 0.10 EUR for 2 requested core-hours
		t.Errorf("cost %g", got)
	}
	within := []byte(strings.Replace(string(other), "completions: 3,", "completions: 3, activeDeadlineSeconds: 3600,", 1))
	if e, err = d.Estimate(t.Context(), within, "", 0); err != nil || e.Basis != ByRequests || *e.Seconds.P50 != 3600 || !strings.Contains(e.Notes[0], "the most that it may") || len(e.Starts) != 24 {
		t.Errorf("by its deadline: %+v, %v", e, err)
	}
	if got := *e.Starts[0].Cost; math.Abs(got-0.15) > 1e-4 { // at twice the price
		t.Errorf("a start costs %g", got)
	}
	for _, bad := range []string{"", "kind: Deployment", "kind: Job\nmetadata: {}", "kind: Pod\nmetadata: {name: a}\nspec: {colour: red}", "{"} {
		if _, err := d.Estimate(t.Context(), []byte(bad), "", 0); !errors.Is(err, ErrManifest) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestOverIsTheMeanOfTheHoursTouched(t *testing.T) {
	hours := make([]float64, 24)
	hours[23], hours[0] = 4, 8
	for _, x := range []struct {
		from   int
		length time.Duration
		want   float64
	}{{23, time.Hour, 4}, {23, 2 * time.Hour, 6}, {23, 90 * time.Minute, 8.0 / 1.5}, {3, 48 * time.Hour, 0.5}} {
		if got := over(hours, x.from, x.length); math.Abs(got-x.want) > 1e-12 {
			t.Errorf("from %d for %s: %g, want %g", x.from, x.length, got, x.want)
		}
	}
}

func TestLeastStart(t *testing.T) {
	starts := make([]Start, 3)
	for i, v := range []float64{3, 1, 2} {
		starts[i] = Start{At: now.Add(time.Duration(i) * time.Hour), Cost: &v}
	}
	for i, v := range []float64{0.3, 0.1 + 0.2, 0.3} { // of the same, added in another order
		starts[i].Grams = &v
	}
	if got := least(starts, func(s Start) *float64 { return s.Grams }); got != nil {
		t.Errorf("greenest of the same %v", got)
	}
	if got := least(starts, func(s Start) *float64 { return s.Cost }); got == nil || !got.At.Equal(starts[1].At) {
		t.Errorf("cheapest %v", got)
	}
}

// TestFailedWithoutAnExitCode: a pod whose node was lost has none.
func TestFailedWithoutAnExitCode(t *testing.T) {
	for reason, failed := range map[string]bool{"Completed": false, "Deleted": false, "": false, "DeletionByPodGC": true, "Evicted": true} {
		if got := (run{kind: kindPod, reason: reason}).failed(); got != failed {
			t.Errorf("%q failed: %t", reason, got)
		}
	}
	if (run{kind: kindJob, reason: "CompletionsReached"}).failed() {
		t.Error("a Job that succeeded failed")
	}
}
