package meters

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// What became of a reading that was sent.
const (
	ResultCounted   = "counted"
	ResultRefused   = "refused"
	ResultDuplicate = "duplicate" // it is here already
)

// Verdict is what became of one reading that was sent.
type Verdict struct {
	Time   time.Time `json:"time"`
	Result string    `json:"result"`
	Reason string    `json:"reason,omitempty"` // why it was refused, or what was done about it
}

// Push takes readings that somebody sends of a meter, in any order, and says of
// each what became of it. They may be older than those that are here: such a
// reading must fit between its neighbours. It counts for the box in which the
// meter stood at its time. What counts is durable, and the quarters that it
// reaches are due, when Push returns; it may be repeated. A refused reading is kept
// with the reason: one that cannot stand at its own time at that of its receipt; one
// without a value is none. Errors:
// registry.ErrNotFound, or those of the stores.
func (l *Loop) Push(ctx context.Context, meter string, sent []Sent) ([]Verdict, error) {
	verdicts := make([]Verdict, len(sent))
	type arrival struct {
		index int
		Reading
	}
	l.tick.Lock()
	defer l.tick.Unlock()
	versions, err := l.versions(ctx, meter)
	if err != nil {
		return nil, err
	}
	if l.lags, err = ReadLags(ctx, l.registry); err != nil {
		return nil, err
	}
	now := l.clock.Now()
	var order []string // places, as they come
	var refused []Reading
	byPlace := make(map[string][]arrival)
	for i, one := range sent {
		verdicts[i] = Verdict{Time: one.Time, Result: ResultRefused}
		r, reason := l.arrived(one, versions, now)
		if verdicts[i].Reason = reason; reason != "" {
			if r.Refused = reason; r.Meter != "" {
				refused = append(refused, r)
			}
			continue
		}
		if byPlace[r.Box] == nil {
			order = append(order, r.Box)
		}
		byPlace[r.Box] = append(byPlace[r.Box], arrival{i, r})
	}
	for _, place := range order {
		arrivals := byPlace[place]
		slices.SortStableFunc(arrivals, func(a, b arrival) int { return a.Time.Compare(b.Time) })
		readings := make([]Reading, len(arrivals))
		for i, a := range arrivals {
			readings[i] = a.Reading
		}
		last := readings[len(readings)-1]
		m, _ := versionAt(versions, last.Time)
		found, err := l.insert(ctx, versions, m, readings)
		if err != nil {
			return nil, err
		}
		for i, v := range found {
			verdicts[arrivals[i].index] = v
			if v.Result == ResultRefused && v.Reason == clash {
				r := readings[i]
				r.Refused = clash
				refused = append(refused, r)
			}
		}
	}
	return verdicts, l.store.keepRefused(ctx, refused, now)
}

// arrived is a reading that was sent, and why it cannot be one of the meter's.
// What has no value is no reading: it is the zero one. One of a time in which the
// meter is not described belongs to where it was described last.
func (l *Loop) arrived(one Sent, versions []fleet.Object, now time.Time) (r Reading, reason string) {
	s, err := one.sample()
	if err != nil {
		return Reading{}, err.Error()
	}
	m, valid := versionAt(versions, one.Time)
	switch {
	case one.Time.After(now.Add(maxAhead)):
		reason = fmt.Sprintf("its time is %s ahead of the leader's clock", one.Time.Sub(now).Round(time.Second))
	case one.Time.Before(now.Add(-l.config.History)):
		reason = fmt.Sprintf("it is older than %s: the minutes that it would be shared over are no longer kept", l.config.History)
	case !valid:
		reason = "the meter is not described at that time: apply a Meter whose validFrom is before it"
	}
	if !valid {
		last := versions[len(versions)-1]
		m, _ = last.Spec.(fleet.Meter)
		m.Name = last.Name()
	}
	if m.StepJoules > 0 {
		s.step = m.StepMillijoules()
	}
	r = s.reading(m)
	r.Time, r.Received, r.Note = one.Time, now, ""
	return r, reason
}

// clash is why a reading is refused at whose time another one stands.
const clash = "another reading stands at that time"

// keepRefused keeps readings that cannot stand at their own times, each at the
// moment of its receipt and a nanosecond after the one before, so that none takes
// the place of another; the reason says their own time.
func (s *Store) keepRefused(ctx context.Context, refused []Reading, now time.Time) error {
	free := make(map[meterKey]time.Time) // the first moment that no row of the meter has
	for i := range refused {
		r := &refused[i]
		key := meterKey{r.Box, r.Meter}
		if _, known := free[key]; !known {
			where := []influxsync.Condition{{Tag: schema.Box, Value: r.Box}, {Tag: schema.Meter, Value: r.Meter}}
			free[key] = now
			last, err := s.rows(ctx, where, schema.Window{From: now, To: now.Add(refusedSpan)}, true, 1)
			if err != nil {
				return fmt.Errorf("read meter %s: %w", r.Meter, err)
			}
			if len(last) > 0 {
				free[key] = last[0].Time.Add(time.Nanosecond)
			}
		}
		r.Refused += "; its time is " + r.Time.UTC().Format(time.RFC3339Nano)
		r.Time, r.Origin = free[key], originElsewhen
		free[key] = r.Time.Add(time.Nanosecond)
	}
	if len(refused) == 0 {
		return nil
	}
	return s.Write(ctx, refused)
}

// refusedSpan is how far behind their receipt refused readings may stand: a
// nanosecond each.
const refusedSpan = time.Millisecond

// versions are all that was ever said of a meter.
func (l *Loop) versions(ctx context.Context, meter string) ([]fleet.Object, error) {
	all, err := l.registry.History(ctx, fleet.KindMeter, schema.Window{})
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(o fleet.Object) bool { return o.Name() != meter })
	if len(all) == 0 {
		return nil, fmt.Errorf("meter %q: %w", meter, registry.ErrNotFound)
	}
	return all, nil
}

func versionAt(versions []fleet.Object, t time.Time) (fleet.Meter, bool) {
	for _, o := range versions {
		if m, ok := o.Spec.(fleet.Meter); ok && o.ValidAt(t) {
			m.Name = o.Name()
			return m, true
		}
	}
	return fleet.Meter{}, false
}

// insert judges readings of one meter and place, in the order of time, among
// those that are here.
func (l *Loop) insert(ctx context.Context, versions []fleet.Object, m fleet.Meter, readings []Reading) ([]Verdict, error) {
	snapshot, err := l.registry.Fleet(ctx, readings[len(readings)-1].Time)
	if err != nil {
		return nil, err
	}
	j := l.job(snapshot, m)
	j.rules.replaced = replacements(versions)
	line, err := l.store.line(ctx, m, readings[0].Time, readings[len(readings)-1].Time)
	if err != nil {
		return nil, err
	}
	o := outcome{job: j, before: line.before}
	var due []registry.Due
	verdicts := make([]Verdict, len(readings))
	for i, r := range readings {
		rows, verdict := line.add(r, j.rules)
		verdicts[i] = verdict
		o.rows = append(o.rows, rows...)
		for _, row := range rows {
			if row.Refused == "" {
				from, to := line.around(row.Time)
				due = append(due, dueOf(j.boxes, from.Add(-j.lag), to.Add(-j.lag), "readings sent")...)
			}
		}
		if o.reason = ""; verdict.Result == ResultRefused {
			o.reason = verdict.Reason
		}
	}
	if len(o.rows) > 0 {
		if err := l.store.Write(ctx, o.rows); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(due, func(a, b registry.Due) int {
		return cmp.Or(a.Quarter.Compare(b.Quarter), cmp.Compare(a.Scope, b.Scope))
	})
	if err := l.registry.AddDue(ctx, slices.Compact(due)...); err != nil {
		return nil, err
	}
	o.life = line.life()
	l.lives[o.key()] = o.life
	l.record(o, l.clock.Now())
	return verdicts, nil
}

// line is a meter's readings over a time, with the one that counts before it and
// all that come after it as far as the next one that counts.
type line struct {
	before life
	rows   []Reading // all, also refused ones, in the order of time
	tail   life      // after the last row; moves on as readings are added behind it
}

// line reads the rows of a meter from one time to another, both within.
func (s *Store) line(ctx context.Context, m fleet.Meter, from, to time.Time) (*line, error) {
	where := []influxsync.Condition{{Tag: schema.Box, Value: m.Place()}, {Tag: schema.Meter, Value: m.Name}}
	l := &line{}
	former, err := s.nearest(ctx, where, schema.Window{To: from}, true, counts)
	if err != nil {
		return nil, fmt.Errorf("read meter %s: %w", m.Name, err)
	}
	if len(former) > 0 {
		l.before = life{known: true, last: former[0]}
		l.rows = append(l.rows, former[0])
	}
	err = s.db.TimeQuery(ctx, schema.MeterReading.Name, schema.Window{From: from, To: to.Add(1)}, where, func(p influxsync.Point) error {
		l.rows = append(l.rows, readingOf(p))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read meter %s: %w", m.Name, err)
	}
	next, err := s.nearest(ctx, where, schema.Window{From: to.Add(1)}, false, counts)
	if err != nil {
		return nil, fmt.Errorf("read meter %s: %w", m.Name, err)
	}
	l.rows = append(l.rows, next...)
	slices.SortFunc(l.rows, func(a, b Reading) int { return a.Time.Compare(b.Time) })
	l.tail, err = s.life(ctx, m.Place(), m.Name)
	return l, err
}

// neighbours are the readings that count before and after a time.
func (l *line) neighbours(t time.Time) (before, after *Reading) {
	for i := range l.rows {
		r := &l.rows[i]
		switch {
		case r.Refused != "":
		case r.Time.Before(t):
			before = r
		case r.Time.After(t):
			return before, r
		}
	}
	return before, nil
}

// around is from the reading before a time to the one after it.
func (l *line) around(t time.Time) (from, to time.Time) {
	from, to = t, t
	before, after := l.neighbours(t)
	if before != nil {
		from = before.Time
	}
	if after != nil {
		to = after.Time
	}
	return from, to
}

// life is what is known of the meter after what was added.
func (l *line) life() life { return l.tail }

// add judges a reading among the others: the rows to write, and what is said.
func (l *line) add(r Reading, rules rules) ([]Reading, Verdict) {
	verdict := Verdict{Time: r.Time, Result: ResultCounted}
	for _, row := range l.rows {
		if !row.Time.Equal(r.Time) {
			continue
		}
		if same(row, r, rules) {
			verdict.Result, verdict.Reason = ResultDuplicate, row.Refused
		} else {
			verdict.Result, verdict.Reason = ResultRefused, clash
		}
		return nil, verdict
	}
	var rows []Reading
	if !l.tail.known || r.Time.After(l.tail.last.Time) {
		l.tail, rows = l.tail.judge(r, rules)
	} else {
		rows = []Reading{l.between(r, rules)}
	}
	for _, row := range rows {
		l.put(row)
		if row.Time.Equal(r.Time) {
			verdict.Reason = cmp.Or(row.Refused, row.Note)
			if row.Refused != "" {
				verdict.Result = ResultRefused
			}
		}
	}
	if len(rows) == 0 {
		verdict.Result = ResultDuplicate
	}
	return rows, verdict
}

// same says whether a row is the reading that comes again.
func same(row, r Reading, rules rules) bool {
	if row.HasPower != r.HasPower || row.PowerMilliwatts != r.PowerMilliwatts {
		return false
	}
	if !r.HasCounter || row.Integrated() {
		return !r.HasCounter && (row.Integrated() || !row.HasCounter)
	}
	apart := row.CounterMillijoules - r.CounterMillijoules
	return apart == 0 || rules.rollover > 0 && apart%rules.rollover == 0
}

// put adds a row in its place, or in that of a refused one that counts now.
func (l *line) put(row Reading) {
	i, found := slices.BinarySearchFunc(l.rows, row.Time, func(r Reading, t time.Time) int { return r.Time.Compare(t) })
	if found {
		l.rows[i] = row
		return
	}
	l.rows = slices.Insert(l.rows, i, row)
}

// between is a reading that is older than the newest, judged by its neighbours.
func (l *line) between(r Reading, rules rules) Reading {
	if reason := implausible(r, rules.maxPower); reason != "" {
		r.Refused = reason
		return r
	}
	before, after := l.neighbours(r.Time)
	if !r.HasCounter {
		return l.watts(r, before, after, rules)
	}
	follows, reason := r, "there is none before it"
	if before != nil {
		follows, reason = follow(*before, r, rules)
	}
	_, doubt := follow(r, *after, rules)
	joined := before != nil && before.Epoch.Equal(after.Epoch)
	switch {
	case joined && reason == "" && after.CounterMillijoules < follows.CounterMillijoules:
		r.Refused = "it is more than the reading of " + after.Time.Format(time.RFC3339) + " shows"
	case joined && reason != "":
		r.Refused = reason
	case joined:
		if _, reason := follow(follows, *after, rules.without()); reason != "" {
			r.Refused = "with it " + reason + " by " + after.Time.Format(time.RFC3339)
			return r
		}
		return follows
	case reason == "":
		return follows
	case doubt == "" && !after.Integrated():
		r.Epoch = after.Epoch
	default:
		r.Epoch = r.Time // an earlier life
	}
	return r
}

// without are the rules between counters that go on beyond their modulus.
func (r rules) without() rules {
	r.rollover = 0
	return r
}

// watts is a reading of watts that is older than the newest.
func (l *line) watts(r Reading, before, after *Reading, rules rules) Reading {
	switch {
	case before != nil && after != nil && before.Epoch.Equal(after.Epoch):
		r.Refused = "its time is between readings whose energy is counted"
	case before != nil:
		r = life{known: true, last: *before}.integrate(r, rules)
	default:
		r = begin(r)
	}
	return r
}
