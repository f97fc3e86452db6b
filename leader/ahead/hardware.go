package ahead

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors"
	"golang.org/x/sync/errgroup"
)

// powers are what a busy core takes on each hardware type, in watts: by the points of
// its curve, else by what a used core-second took there over the last day.
type powers map[string]float64

// ratio is the power of one type over that of another, and whether both are known.
func (p powers) ratio(of, over string) (float64, bool) {
	if of == over {
		return 1, true
	}
	if p[of] <= 0 || p[over] <= 0 {
		return 0, false
	}
	return p[of] / p[over], true
}

// busyWatts is the power of one core of a node that is full, by the points of its type.
func busyWatts(h fleet.Hardware) float64 {
	watts := h.MaxWatts
	for _, point := range h.Curve {
		if point.Load >= 100 {
			watts = point.Watts
		}
	}
	if h.Cores <= 0 {
		return 0
	}
	return watts / float64(h.Cores)
}

// present are the hardware types that were there over the last day, with what their
// cores take. Where only the types matter and the power of each is described, no more
// is read than tells of them: then what has no type has no power either.
func (d *Desk) present(ctx context.Context, cluster string, end time.Time, brief bool) (powers, []query.Charges, error) {
	f, err := d.books.Fleet(ctx, end)
	if err != nil {
		return nil, nil, fmt.Errorf("read fleet: %w", err)
	}
	all, err := d.dayCharges(ctx, cluster, end, brief)
	if err == nil && brief && slices.ContainsFunc(all, func(c query.Charges) bool {
		name := c.Row.Key[string(usage.Hardware)]
		h, ok := f.Hardware(name)
		return name != "" && (!ok || busyWatts(h) <= 0)
	}) {
		all, err = d.dayCharges(ctx, cluster, end, false)
	}
	if err != nil {
		return nil, nil, err
	}
	p := make(powers)
	for _, c := range all {
		name := c.Row.Key[string(usage.Hardware)]
		if h, ok := f.Hardware(name); ok {
			p[name] = busyWatts(h)
		}
		energy, err := c.Row.Sums.Energy()
		if err != nil {
			return nil, nil, err
		}
		if used := usage.CoreSeconds(c.Row.Sums[usage.CPU]).Float(); p[name] <= 0 && used > 0 {
			p[name] = usage.Joules(energy).Float() / used
		}
	}
	return p, all, nil
}

// dayCharges are the charges of the last day by hardware type; those that are brief tell of
// what used something, and of its energy, alone.
func (d *Desk) dayCharges(ctx context.Context, cluster string, end time.Time, brief bool) ([]query.Charges, error) {
	all, err := d.engine.Charges(ctx, query.ChargeRequest{Window: schema.Window{From: end.Add(-24 * time.Hour), To: end}, Aggregate: []usage.Key{usage.Hardware}, Filter: inCluster(cluster),
		Figures: true, Brief: brief})
	if err != nil {
		return nil, fmt.Errorf("hardware of the last day: %w", err)
	}
	return all, nil
}

func inCluster(cluster string) []usage.Condition {
	if cluster == "" {
		return nil
	}
	return []usage.Condition{{Key: usage.Cluster, Values: []string{cluster}}}
}

// shape is a run that is rated as if it ran elsewhere or at another time.
type shape struct {
	window   schema.Window
	filter   []usage.Condition
	hardware string  // "" is its own
	scale    float64 // of all quantities
	power    float64 // of the energy beside; it is not known where it is 0
	joules   float64 // 0 is not known
	length   time.Duration
}

// cost is what charges cost in the one currency that counts, false where it hangs on
// an energy that is not known.
func (s shape) cost(all []query.Charges) (cost float64, currency string, known bool) {
	for _, c := range all {
		for _, line := range c.Lines {
			if line.List == nil || currency != "" && line.List.Currency != currency {
				continue
			}
			v, _ := line.Cost().Float64()
			if line.Resource == processors.Energy {
				if s.power == 0 && v != 0 {
					return 0, "", false
				}
				v *= s.power
			}
			cost, currency = cost+v*s.scale, line.List.Currency
		}
	}
	return cost, currency, currency != ""
}

// median is the run of median length, as it was.
func median[R interface{ took() time.Duration }](all []R) R {
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b R) int { return int(a.took()/time.Millisecond - b.took()/time.Millisecond) })
	return sorted[(len(sorted)-1)/2]
}

// mostTypes bounds the hardware types of an estimate.
const mostTypes = 12

// elsewhere adds to the figures of earlier runs those of the hardware types on which none
// ran, and says what the median run costs on each in each hour of the coming day.
func (d *Desk) elsewhere(ctx context.Context, e Estimate, all []executed, day lastDay, end time.Time) (Estimate, error) {
	one := median(all)
	base := shape{window: one.life(), filter: one.conditions(), scale: 1, power: 1, length: one.life().Length()}
	if one.hasFigures {
		base.joules = one.joules
	}
	for _, c := range day.present {
		name := c.Row.Key[string(usage.Hardware)]
		if name == "" || one.hardware == "" || len(e.Hardware) >= mostTypes || slices.ContainsFunc(e.Hardware, func(f HardwareFigures) bool { return f.Hardware == name }) {
			continue
		}
		f, err := d.ratedOn(ctx, base.on(name, one.hardware, day.power), one)
		if err != nil {
			return e, err
		}
		e.Hardware = append(e.Hardware, f)
		e.Notes = append(e.Notes, fmt.Sprintf("no run of it is known on %s, nor how fast it is there: cost and energy are those of the median run at its prices and power, as if it took as long as on %s", name, one.hardware))
	}
	cheapestFirst(e.Hardware)
	for i, f := range e.Hardware {
		if i > 0 && f.Hardware != one.hardware {
			continue // each type is two dozen readings
		}
		shape := base
		if f.Hardware != "" && f.Hardware != one.hardware && one.hardware != "" {
			shape = base.on(f.Hardware, one.hardware, day.power)
			if f.RelativeTime != nil && e.Seconds.P50 != nil { // its runs say how fast it is
				shape.scale = *f.Seconds.P50 / one.end.Sub(one.start).Seconds()
			}
		}
		if err := d.starts(ctx, &e, i, shape, day.intensity, end); err != nil {
			return e, err
		}
	}
	return e.best(), nil
}

// on is the shape as if it ran on a hardware type in place of another.
func (s shape) on(name, own string, power powers) shape {
	s.hardware = name
	ratio, known := power.ratio(name, own)
	if !known {
		s.power, s.joules = 0, 0
		return s
	}
	s.power, s.joules = ratio, s.joules*ratio
	return s
}

// ratedOn is a run at the prices and the power of a hardware type on which none ran.
func (d *Desk) ratedOn(ctx context.Context, s shape, one executed) (HardwareFigures, error) {
	f := HardwareFigures{Hardware: s.hardware, Basis: ByRating}
	all, err := d.engine.Charges(ctx, query.ChargeRequest{Window: s.window, Filter: s.filter, Hardware: s.hardware})
	if err != nil {
		return f, fmt.Errorf("cost of %s/%s on %s: %w", one.namespace, one.name, s.hardware, err)
	}
	if cost, currency, known := s.cost(all); known {
		f.Cost, f.Currency = Spread{P50: &cost}, currency
	}
	if s.joules > 0 {
		f.Joules = Spread{P50: &s.joules}
		if one.hasCarbon && one.joules > 0 {
			grams := one.grams * s.joules / one.joules
			f.Grams = Spread{P50: &grams}
		}
	}
	return f, nil
}

// starts says what a shape costs on the i-th hardware in each hour of the coming day.
func (d *Desk) starts(ctx context.Context, e *Estimate, i int, s shape, intensity map[int]float64, end time.Time) error {
	f := &e.Hardware[i]
	coming := comingDay(end, s.window.Length())
	all, assumed, err := d.engine.ChargesStarts(ctx, query.ChargeRequest{Window: s.window, Filter: s.filter, Moved: true, Hardware: s.hardware}, coming)
	if err != nil {
		return fmt.Errorf("cost of a start in the coming day: %w", err)
	}
	for hour, w := range coming {
		start := Start{At: w.From}
		if cost, _, known := s.cost(all[hour]); known {
			start.Cost = &cost
		}
		if grams, ok := emitted(intensity, w.From, s.length, s.joules*s.scale); ok && s.joules > 0 {
			start.Grams = &grams
		}
		f.starts = append(f.starts, start)
	}
	e.note(assumed)
	f.Cheapest = least(f.starts, func(s Start) *float64 { return s.Cost })
	f.Greenest = least(f.starts, func(s Start) *float64 { return s.Grams })
	return nil
}

// comingDay are the windows of a length that begin in the hours of the coming day.
func comingDay(end time.Time, length time.Duration) []schema.Window {
	all := make([]schema.Window, 24)
	for hour := range all {
		at := end.Truncate(time.Hour).Add(time.Duration(hour+1) * time.Hour)
		all[hour] = schema.Window{From: at, To: at.Add(length)}
	}
	return all
}

// note adds notes that are not there yet.
func (e *Estimate) note(notes []string) {
	for _, note := range notes {
		if !slices.Contains(e.Notes, note) {
			e.Notes = append(e.Notes, note)
		}
	}
}

// best takes the starts of the first of the hardware, which is the cheapest.
func (e Estimate) best() Estimate {
	if len(e.Hardware) == 0 {
		return e
	}
	first := e.Hardware[0]
	e.Starts = append(e.Starts, first.starts...)
	if first.Cheapest != nil {
		e.Cheapest = &first.Cheapest.At
	}
	if first.Greenest != nil {
		e.Greenest = &first.Greenest.At
	}
	e.Notes = append(e.Notes, "the CO2e of a starting hour assumes the grid's intensity of that hour of the last day")
	return e
}

// byRequests estimates without earlier runs: requests × time, at what a requested
// core-second cost on each hardware type over the last day. The time is what is given,
// else the most that the manifest allows.
func (d *Desk) byRequests(ctx context.Context, e Estimate, j job, cluster string, duration time.Duration, end time.Time) (Estimate, error) {
	if duration <= 0 && j.deadline > 0 {
		duration = j.deadline
		e.Notes = append(e.Notes, fmt.Sprintf("it is taken to run for %s, its activeDeadlineSeconds: the most that it may", duration))
	}
	switch {
	case duration <= 0:
		e.Basis = ByNothing
		e.Notes = append(e.Notes, "no earlier run of "+e.Workload+" is known: give a duration, and requests × time counts")
		return e, nil
	case j.cores <= 0:
		e.Basis = ByNothing
		e.Notes = append(e.Notes, "no earlier run of "+e.Workload+" is known, and its containers request no CPU: nothing is there to estimate by")
		return e, nil
	}
	e.Basis = ByRequests
	seconds := duration.Seconds()
	e.Seconds = Spread{P50: &seconds}
	now, err := d.readNow(ctx, cluster, end)
	if err != nil {
		return e, err
	}
	wanted := j.cores * seconds * float64(j.pods)
	for _, c := range now.present {
		requested := usage.CoreSeconds(c.Row.Sums[usage.CPURequest]).Float()
		if requested <= 0 || len(e.Hardware) >= mostTypes {
			continue
		}
		energy, err := c.Row.Sums.Energy()
		if err != nil {
			return e, err
		}
		share := wanted / requested
		joules := usage.Joules(energy).Float() * share
		f := HardwareFigures{Hardware: c.Row.Key[string(usage.Hardware)], Basis: ByRequests, Seconds: e.Seconds, Joules: Spread{P50: &joules}}
		if c.CarbonKnown {
			grams := usage.Grams(c.CarbonMicrograms).Float() * share
			f.Grams = Spread{P50: &grams}
		}
		if cost, currency := onlyCost(c, 0, ""); currency != "" {
			cost *= share
			f.Cost, f.Currency = Spread{P50: &cost}, currency
		}
		e.Hardware = append(e.Hardware, f)
	}
	cheapestFirst(e.Hardware)
	e.Notes = append(e.Notes, "no earlier run of "+e.Workload+" is known: its requested core-seconds cost what one cost on that hardware over the last day, all that runs there together; no P10 and P90 can be told, nor a speed of the hardware")
	return e.startsByRequests(now, wanted, duration, end), nil
}

// requestsNow is what an estimate by requests rests on, read side by side: the last day by
// hardware type, the grid's intensity by its hours, and what ran on each hardware type
// over the last hour at the prices of each coming hour.
type requestsNow struct {
	present   []query.Charges
	intensity map[int]float64
	hours     [][]query.Charges
	assumed   []string
}

func (d *Desk) readNow(ctx context.Context, cluster string, end time.Time) (now requestsNow, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		now.intensity, err = d.intensities(ctx, cluster, end)
		return err
	})
	group.Go(func() (err error) {
		ctx := d.engine.Remember(ctx) // the end of the day is the end of the hour, and has the same columns with Figures
		if now.present, err = d.dayCharges(ctx, cluster, end, false); err != nil {
			return err
		}
		request := query.ChargeRequest{Window: schema.Window{From: end.Add(-time.Hour), To: end}, Aggregate: []usage.Key{usage.Hardware}, Filter: inCluster(cluster), Moved: true, Figures: true}
		if now.hours, now.assumed, err = d.engine.ChargesStarts(ctx, request, comingDay(end, time.Hour)); err != nil {
			return fmt.Errorf("cost in the coming day: %w", err)
		}
		return nil
	})
	err = group.Wait()
	return now, err
}

// startsByRequests says what the requests cost in each hour of the coming day: what ran
// on each hardware type over the last hour, by the requested core-second, at the prices
// of each coming hour. One reading by hour tells of all types.
func (e Estimate) startsByRequests(now requestsNow, wanted float64, duration time.Duration, end time.Time) Estimate {
	coming := comingDay(end, time.Hour)
	each := make(map[string][]float64) // of a requested core-second, by hardware and hour
	e.note(now.assumed)
	for _, all := range now.hours {
		for _, c := range all {
			name, requested := c.Row.Key[string(usage.Hardware)], usage.CoreSeconds(c.Row.Sums[usage.CPURequest]).Float()
			if cost, currency := onlyCost(c, 0, ""); currency != "" && requested > 0 {
				each[name] = append(each[name], cost/requested)
			}
		}
	}
	for i := range e.Hardware {
		f := &e.Hardware[i]
		for hour, w := range coming {
			start := Start{At: w.From}
			if prices := each[f.Hardware]; len(prices) == 24 {
				cost := wanted * over(prices, hour, duration)
				start.Cost = &cost
			}
			if grams, ok := emitted(now.intensity, start.At, duration, *f.Joules.P50); ok {
				start.Grams = &grams
			}
			f.starts = append(f.starts, start)
		}
		f.Cheapest = least(f.starts, func(s Start) *float64 { return s.Cost })
		f.Greenest = least(f.starts, func(s Start) *float64 { return s.Grams })
	}
	return e.best()
}

// over is the mean of the hours' figures that a time from an hour on touches, each by how
// much of it; after the last the first follows.
func over(hours []float64, from int, length time.Duration) float64 {
	sum := 0.0
	for at := time.Duration(0); at < length; at += time.Hour {
		part := min(time.Hour, length-at)
		sum += hours[(from+int(at/time.Hour))%len(hours)] * part.Hours()
	}
	return sum / length.Hours()
}
