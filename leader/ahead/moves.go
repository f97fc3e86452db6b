package ahead

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
)

// Move is the advice to run a workload elsewhere, or to start it at another hour.
type Move struct {
	Kind      string `json:"kind"` // hardware or hour
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace"`
	Workload  string `json:"workload"`
	From      string `json:"from"` // hardware types, or the hour in UTC at which it starts now: 14:00
	To        string `json:"to"`
	// Saving is by a month of 730 hours; none where what it is of has no price.
	Saving []usage.Money `json:"savingPerMonth"`
	// Joules and Grams are saved in that month, null where they are not known.
	Joules *float64 `json:"savedEnergyJoulesPerMonth"`
	Grams  *float64 `json:"savedCo2eGramsPerMonth"`
	// Evidence is what it rests on, Assumes what is not known, for people.
	Evidence string   `json:"evidence"`
	Assumes  []string `json:"assumes"`
	saving   float64
}

// The kinds of moves.
const (
	MoveHardware = "hardware"
	MoveHour     = "hour"
)

const (
	// leastSaved of a workload's cost must be saved: less is within what is not known.
	leastSaved = 0.05
	// A CronJob needs as many runs that ended well in as many days, and no more than
	// mostDaily a day: what runs all day has no hour.
	leastRuns = 5
	runDays   = 14
	mostDaily = 2
	// mostCronJobs bounds how many are looked at.
	mostCronJobs = 20
	monthHours   = 730
)

var moveKeys = []usage.Key{usage.Cluster, usage.Namespace, usage.Workload, usage.Hardware}

// moves are the moves that save, the largest saving first.
func (d *Desk) moves(ctx context.Context, q Question, end time.Time) (moves []Move, notes []string, err error) {
	request := query.ChargeRequest{Window: schema.Window{From: end.Add(-recommendHours * time.Hour), To: end}, Aggregate: moveKeys, Filter: q.Filter, Figures: true}
	own, err := d.engine.Charges(ctx, request)
	if err != nil {
		return nil, nil, fmt.Errorf("cost of workloads: %w", err)
	}
	own = slices.DeleteFunc(own, func(c query.Charges) bool { return c.Row.Key[string(usage.Workload)] == "" })
	if moves, err = d.hardwareMoves(ctx, request, own, end); err != nil {
		return nil, nil, err
	}
	hours, notes, err := d.hourMoves(ctx, own, end)
	if err != nil {
		return nil, nil, err
	}
	moves = append(moves, hours...)
	slices.SortStableFunc(moves, func(a, b Move) int {
		switch {
		case a.saving > b.saving:
			return -1
		case a.saving < b.saving:
			return 1
		}
		return strings.Compare(a.Cluster+"\x00"+a.Namespace+"\x00"+a.Workload+a.Kind, b.Cluster+"\x00"+b.Namespace+"\x00"+b.Workload+b.Kind)
	})
	return moves, notes, nil
}

// placed is what a workload cost over the day, on what it runs on and as if elsewhere.
type placed struct {
	move           Move
	types          map[string]bool
	minutes        float64
	own, other     float64 // in one currency
	currency       string
	unknown        bool    // the cost elsewhere
	saved, grams   float64 // J and g
	energy, carbon bool    // known elsewhere
}

// hardwareMoves rates the day of each workload as if on each other hardware type of its
// cluster.
func (d *Desk) hardwareMoves(ctx context.Context, request query.ChargeRequest, own []query.Charges, end time.Time) ([]Move, error) {
	types := make(map[string]map[string]bool) // by cluster
	for _, c := range own {
		cluster, hardware := c.Row.Key[string(usage.Cluster)], c.Row.Key[string(usage.Hardware)]
		if types[cluster] == nil {
			types[cluster] = make(map[string]bool)
		}
		if hardware != "" {
			types[cluster][hardware] = true
		}
	}
	power, _, err := d.present(ctx, "", end, false)
	if err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(power))
	best := make(map[string]Move)
	for _, name := range names[:min(len(names), mostTypes)] {
		if name == "" {
			continue
		}
		request.Hardware, request.Figures = name, false
		as, err := d.engine.Charges(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("cost of workloads on %s: %w", name, err)
		}
		elsewhere := make(map[string]query.Charges, len(as))
		for _, c := range as {
			elsewhere[keyOf(c.Row, moveKeys)] = c
		}
		for id, p := range placedOn(name, own, elsewhere, power, types) {
			if move, ok := p.advise(name); ok && move.saving > best[id].saving {
				best[id] = move
			}
		}
	}
	return slices.Collect(maps.Values(best)), nil
}

// placedOn are the workloads whose cluster has the hardware type, by key.
func placedOn(name string, own []query.Charges, elsewhere map[string]query.Charges, power powers, types map[string]map[string]bool) map[string]*placed {
	all := make(map[string]*placed)
	for _, c := range own {
		key := c.Row.Key
		workload, hardware := key[string(usage.Workload)], key[string(usage.Hardware)]
		if !types[key[string(usage.Cluster)]][name] || strings.HasPrefix(workload, "DaemonSet/") || strings.HasPrefix(workload, "Node/") {
			continue
		}
		id := keyOf(c.Row, moveKeys[:3])
		p := all[id]
		if p == nil {
			p = &placed{move: Move{Kind: MoveHardware, Cluster: key[string(usage.Cluster)], Namespace: key[string(usage.Namespace)], Workload: workload}, types: make(map[string]bool), energy: true, carbon: true}
			all[id] = p
		}
		p.types[hardware] = true
		p.minutes += usage.Seconds(c.Row.Sums[usage.Uptime]).Float() / 60
		s := shape{scale: 1, power: 1}
		mine, currency, _ := s.cost([]query.Charges{c})
		there, other, known := s.on(name, hardware, power).cost([]query.Charges{elsewhere[keyOf(c.Row, moveKeys)]})
		p.own, p.other = p.own+mine, p.other+there
		p.unknown = p.unknown || hardware == "" || currency != other || !known && currency != "" || p.currency != "" && currency != "" && p.currency != currency
		p.currency = currency
		p.addEnergy(c, name, hardware, power)
	}
	return all
}

func (p *placed) addEnergy(c query.Charges, name, hardware string, power powers) {
	ratio, known := power.ratio(name, hardware)
	energy, err := c.Row.Sums.Energy()
	if !known || err != nil {
		p.energy, p.carbon = false, false
		return
	}
	p.saved += usage.Joules(energy).Float() * (1 - ratio)
	p.grams += usage.Grams(c.CarbonMicrograms).Float() * (1 - ratio)
	p.carbon = p.carbon && (c.CarbonKnown || energy == 0)
}

// advise is the move, where it saves enough and there is enough to go by.
func (p *placed) advise(name string) (Move, bool) {
	m := p.move
	if p.unknown || p.currency == "" || p.minutes < leastMinutes || p.types[name] && len(p.types) == 1 || p.own <= 0 || p.own-p.other < leastSaved*p.own {
		return m, false
	}
	m.From, m.To = strings.Join(slices.Sorted(maps.Keys(p.types)), ", "), name
	m.saving = (p.own - p.other) * monthHours / recommendHours
	m.Saving = moneyOf(map[string]*big.Rat{p.currency: new(big.Rat).SetFloat64(math.Round(m.saving*1e9) / 1e9)})
	if p.energy {
		joules := p.saved * monthHours / recommendHours
		m.Joules = &joules
	}
	if p.energy && p.carbon {
		grams := p.grams * monthHours / recommendHours
		m.Grams = &grams
	}
	m.Evidence = fmt.Sprintf("%.0f pod-minutes of the last settled day, rated at the prices of %s: %s of their cost is saved", p.minutes, name, usage.Percent((p.own-p.other)/p.own))
	m.Assumes = []string{"it is as fast on " + name + ", and has room there: neither is measured", "energy goes by the power of a busy core"}
	return m, true
}

// hourMoves are those of CronJobs with a few runs a day.
func (d *Desk) hourMoves(ctx context.Context, own []query.Charges, end time.Time) (moves []Move, notes []string, err error) {
	wanted := make(map[string]bool)
	for _, c := range own {
		if strings.HasPrefix(c.Row.Key[string(usage.Workload)], "CronJob/") {
			wanted[keyOf(c.Row, moveKeys[:3])] = true
		}
	}
	if len(wanted) == 0 {
		return nil, nil, nil
	}
	id := func(r run) string { return podKey(run{cluster: r.cluster, namespace: r.namespace, name: r.workload}) }
	ended, err := d.runs(ctx, kindJob, schema.Window{From: end.AddDate(0, 0, -runDays), To: end}, func(r run) bool { return !r.failed() && wanted[id(r)] })
	if err != nil {
		return nil, nil, err
	}
	of := make(map[string][]run)
	for _, r := range ended {
		of[id(r)] = append(of[id(r)], r)
	}
	looked := 0
	for _, key := range slices.Sorted(maps.Keys(of)) {
		const most = mostDaily * runDays
		if len(of[key]) > most {
			continue
		}
		runs, err := d.own(ctx, of[key], run.conditions, most)
		if err != nil {
			return nil, nil, err
		}
		if len(runs) < leastRuns {
			continue
		}
		if looked++; looked > mostCronJobs {
			notes = append(notes, fmt.Sprintf("the hours of %d CronJobs were looked at; filter for those of others", mostCronJobs))
			break
		}
		move, ok, err := d.hourMove(ctx, runs, end)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			moves = append(moves, move)
		}
	}
	return moves, notes, nil
}

// hourMove rates the median run of a CronJob in each hour of the coming day.
func (d *Desk) hourMove(ctx context.Context, runs []run, end time.Time) (Move, bool, error) {
	one, err := d.execution(ctx, median(runs))
	if err != nil {
		return Move{}, false, err
	}
	intensity, err := d.intensities(ctx, one.cluster, end)
	if err != nil {
		return Move{}, false, err
	}
	s := shape{window: one.life(), filter: one.conditions(), scale: 1, power: 1, joules: one.joules, length: one.life().Length()}
	e := Estimate{Hardware: []HardwareFigures{{Currency: one.currency}}}
	if err := d.starts(ctx, &e, 0, s, intensity, end); err != nil {
		return Move{}, false, err
	}
	usual := usualHour(runs)
	f := e.Hardware[0]
	now := f.starts[slices.IndexFunc(f.starts, func(s Start) bool { return s.At.Hour() == usual })]
	to, green := f.Cheapest, false
	if to == nil || now.Cost == nil || *now.Cost-*to.Cost < leastSaved**now.Cost {
		if to, green = f.Greenest, true; to == nil || now.Grams == nil || *now.Grams-*to.Grams < leastSaved**now.Grams {
			return Move{}, false, nil
		}
	}
	month := float64(len(runs)) / runDays / 24 * monthHours
	m := Move{Kind: MoveHour, Cluster: one.cluster, Namespace: one.namespace, Workload: one.workload, From: fmt.Sprintf("%02d:00", usual), To: fmt.Sprintf("%02d:00", to.At.Hour()), Saving: []usage.Money{},
		Evidence: fmt.Sprintf("%d runs that ended well in %d days; the one of median length, rated as if it began in each hour of the coming day", len(runs), runDays),
		Assumes:  append([]string{"it may begin then, and takes as long", "the coming days are as the coming day, the grid as on the last day"}, e.Notes...)}
	if now.Cost != nil && to.Cost != nil && one.currency != "" {
		m.saving = (*now.Cost - *to.Cost) * month
		m.Saving = moneyOf(map[string]*big.Rat{one.currency: new(big.Rat).SetFloat64(math.Round(m.saving*1e9) / 1e9)})
	}
	if green && m.saving < 0 {
		m.Assumes = append(m.Assumes, "less CO2e is worth what it costs more")
	}
	if now.Grams != nil && to.Grams != nil {
		grams := (*now.Grams - *to.Grams) * month
		m.Grams = &grams
	}
	if one.hasFigures {
		joules := 0.0
		m.Joules = &joules
	}
	return m, true, nil
}

// usualHour is the hour in UTC in which most runs began, the latest run's of equals.
func usualHour(runs []run) int {
	counts, best := make(map[int]int), -1
	for _, r := range slices.Backward(runs) {
		hour := r.start.UTC().Hour()
		if counts[hour]++; best < 0 || counts[hour] > counts[best] {
			best = hour
		}
	}
	return best
}
