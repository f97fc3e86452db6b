package ahead

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors"
)

// twoTypes is a day of a fleet with two hardware types. Each workload costs 1.00 EUR for
// its CPU and 1.00 EUR for its energy on small; on big the CPU costs what cpu says.
// A start at 03:00 costs a half.
type twoTypes struct {
	*usedBy
	workloads map[string]float64 // pod-minutes
	cpu       *big.Rat
}

func (y *twoTypes) Charges(ctx context.Context, request query.ChargeRequest) ([]query.Charges, error) {
	switch {
	case request.Step != 0 || len(request.Filter) > 0: // by the minute, of a run, or of the grid
		if slices.Contains(request.Aggregate, usage.Pod) {
			return nil, nil
		}
		all, err := y.usedBy.Charges(ctx, request)
		for i := range all {
			all[i].Row.Key = map[string]string{"hardware": "small"}
		}
		return all, err
	case len(request.Aggregate) == 1:
		return []query.Charges{{Row: query.Row{Key: map[string]string{"hardware": "small"}}}, {Row: query.Row{Key: map[string]string{"hardware": "big"}}}}, nil
	}
	cpu := big.NewRat(1, 1)
	if request.Hardware == "big" {
		cpu = y.cpu
	}
	all := []query.Charges{{Row: query.Row{Key: map[string]string{"cluster": "edge-a", "namespace": "shop", "workload": "Pod/elsewhere", "hardware": "big"}}}}
	for workload, minutes := range y.workloads {
		c := query.Charges{Row: query.Row{Key: map[string]string{"cluster": "edge-a", "namespace": "batch", "workload": workload, "hardware": "small"}}, CarbonKnown: true, CarbonMicrograms: 24e6}
		c.Row.Sums[usage.Uptime], c.Row.Sums[usage.EnergyActive] = int64(minutes*60_000), 24e3
		list := &fleet.PriceList{Currency: "EUR"}
		c.Lines = []query.Charge{{Resource: processors.CPURequested, Quantity: 1, List: list, UnitPrice: cpu}, {Resource: processors.Energy, Quantity: 1, List: list, UnitPrice: big.NewRat(1, 1)}}
		all = append(all, c)
	}
	return all, nil
}

func (y *twoTypes) ChargesStarts(ctx context.Context, request query.ChargeRequest, coming []schema.Window) ([][]query.Charges, []string, error) {
	return startsOf(ctx, y, request, coming)
}

func (y *twoTypes) ChargesAhead(ctx context.Context, request query.ChargeRequest, coming schema.Window) ([]query.Charges, []string, error) {
	return types{y.usedBy}.ChargesAhead(ctx, request, coming)
}

func movesDesk(minutes float64, watts float64, cpu *big.Rat) *Desk {
	u := &usedBy{since: now.AddDate(0, 0, -40), cores: map[string]float64{"acme": 1}, ahead: big.NewRat(1, 10),
		objects: []fleet.Object{fleet.NewObject("small", fleet.Hardware{Cores: 4, MaxWatts: 40}), fleet.NewObject("big", fleet.Hardware{Cores: 4, MaxWatts: watts})}}
	d := desk(u)
	d.engine = &twoTypes{u, map[string]float64{"Deployment/web": minutes, "DaemonSet/agent": minutes}, cpu}
	return d
}

// TestMovesToHardware: a type at a quarter of the price and half of the power saves of 2
// EUR a day 1.25; nothing is said on too little data, of a saving that is small, of
// what must run everywhere, or where the power is unknown and energy has a price.
func TestMovesToHardware(t *testing.T) {
	r, err := movesDesk(1440, 20, big.NewRat(1, 4)).Recommend(t.Context(), Question{})
	if err != nil || len(r.Moves) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	m := r.Moves[0]
	if m.Kind != MoveHardware || m.Workload != "Deployment/web" || m.From != "small" || m.To != "big" || m.Saving[0].Cost != "38.020833333" || m.Saving[0].Currency != "EUR" {
		t.Errorf("%+v", m)
	}
	if *m.Joules != 365 || *m.Grams != 365 || !strings.Contains(m.Evidence, "1440 pod-minutes") || len(m.Assumes) != 2 {
		t.Errorf("J %v, g %v: %s; %q", *m.Joules, *m.Grams, m.Evidence, m.Assumes)
	}
	for name, d := range map[string]*Desk{"too little": movesDesk(600, 20, big.NewRat(1, 4)), "small": movesDesk(1440, 40, big.NewRat(95, 100)), "dearer": movesDesk(1440, 80, big.NewRat(3, 1)),
		"unknown power": movesDesk(1440, 0, big.NewRat(1, 4))} {
		if r, err := d.Recommend(t.Context(), Question{}); err != nil || len(r.Moves) != 0 {
			t.Errorf("%s: %+v, %v", name, r.Moves, err)
		}
	}
}

// TestMovesToAnHour: a CronJob that runs once a day at 12:00 costs half at 03:00; with
// four runs nothing is said, nor of one that runs all day.
func TestMovesToAnHour(t *testing.T) {
	for _, x := range []struct {
		runs, every int // hours
		want        bool
	}{{10, 24, true}, {4, 24, false}, {60, 5, false}} {
		d := movesDesk(60, 40, big.NewRat(1, 1))
		d.engine.(*twoTypes).workloads = map[string]float64{"CronJob/nightly": 60}
		facts := finished{}
		for i := range x.runs {
			facts = append(facts, ended(kindJob, fmt.Sprintf("nightly-%d", i), float64(24+i*x.every)-0.6667, time.Hour, 0))
		}
		d.facts = facts
		r, err := d.Recommend(t.Context(), Question{})
		if err != nil || (len(r.Moves) == 1) != x.want {
			t.Fatalf("%+v: %+v, %v", x, r.Moves, err)
		}
		if !x.want {
			continue
		}
		m := r.Moves[0]
		// A run (61 minutes, by whole ones) costs 0.10 at its hour and 0.05 at three; ten in two weeks are 21.7 a month.
		if m.Kind != MoveHour || m.From != "12:00" || m.To != "03:00" || !strings.HasPrefix(m.Saving[0].Cost, "1.10") || *m.Joules != 0 || !strings.HasPrefix(m.Evidence, "10 runs") {
			t.Errorf("%+v", m)
		}
	}
}

// TestSavingOfTheLarger: of what is billed as the larger of used and requested only what
// lies above both is saved, by the minute.
func TestSavingOfTheLarger(t *testing.T) {
	used, requested := []float64{0.1, 0.1, 3}, []float64{2, 2, 2}
	if got, want := leftOfMax(used, requested, 1), (1.0+1+3)/(2+2+3); got != want {
		t.Errorf("left %g, want %g", got, want)
	}
	if leftOfMax([]float64{0}, []float64{0}, 1) != 1 {
		t.Error("of nothing something is saved")
	}
	s := &sample{key: map[string]string{"workload": "Deployment/web"}, seconds: 60 * leastMinutes, cpuRequest: 120 * leastMinutes, memoryRequest: 60 * mebi * leastMinutes,
		cpuMaxPrice: map[string]*big.Rat{"EUR": big.NewRat(10, 1)}}
	for range leastMinutes {
		s.cpu, s.cpuRequests, s.memory, s.memoryRequests = append(s.cpu, 0.5), append(s.cpuRequests, 2), append(s.memory, mebi), append(s.memoryRequests, mebi)
	}
	r, ok := s.advise()
	// 0.575 of 2 cores are left of 10 EUR a day.
	if !ok || len(r.Saving) != 1 || !strings.HasPrefix(r.Saving[0].Cost, "216.7") {
		t.Errorf("%+v, %v", r, ok)
	}
}
