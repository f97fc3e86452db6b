package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/processors/rating"
	"github.com/cockroachdb/apd/v3"
)

// PriceSlot is a dynamic price from From to To, whole quarters of an hour.
type PriceSlot struct {
	From, To time.Time
	Value    *apd.Decimal
}

// Change says who changes the fleet, and why.
type Change struct {
	By     string
	Reason string
	// Correct allows prices to be changed of a time that is past. It needs a reason.
	Correct bool
}

// PutPrices stores slots of a series by whoever is their origin. Of a quarter that
// is known already the new value counts, and the old one is kept. Changed prices of
// the past make the cost of the clusters whose lists use the series due. It returns
// how many quarters are new or changed. Errors: of slots that are not whole
// quarters.
func (r *Registry) PutPrices(ctx context.Context, series, origin string, slots []PriceSlot) (int, error) {
	values := make(rating.Series)
	for _, slot := range slots {
		if err := values.Put(slot.From, slot.To, slot.Value); err != nil {
			return 0, fmt.Errorf("store prices of %s: %w", series, err)
		}
	}
	quarters := make([]time.Time, 0, len(values))
	for at := range values {
		quarters = append(quarters, at)
	}
	slices.SortFunc(quarters, time.Time.Compare)
	var changed []time.Time
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		changed = changed[:0]
		now := nanos(r.clock.Now())
		for _, at := range quarters {
			put, err := putPrice(ctx, tx, series, origin, at, values[at], now)
			if err != nil {
				return err
			}
			if put {
				changed = append(changed, at)
			}
		}
		due, err := r.costOfSeries(ctx, tx, series, changed)
		if err != nil {
			return err
		}
		return r.addDue(ctx, tx, due)
	})
	if err != nil {
		return 0, fmt.Errorf("store prices of %s: %w", series, err)
	}
	return len(changed), nil
}

// putPrice stores one quarter and says whether it is new or changed.
func putPrice(ctx context.Context, tx *sql.Tx, series, origin string, at time.Time, value *apd.Decimal, now int64) (bool, error) {
	var plain apd.Decimal
	plain.Reduce(value)
	text := plain.Text('f')
	var former string
	var recorded int64
	err := tx.QueryRowContext(ctx, "SELECT value, recorded FROM price_slot WHERE series = ? AND quarter = ? AND replaced IS NULL", series, nanos(at)).Scan(&former, &recorded)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return false, err
	case former == text:
		return false, nil
	default:
		now = max(now, recorded+1)
		if _, err := tx.ExecContext(ctx, "UPDATE price_slot SET replaced = ? WHERE series = ? AND quarter = ? AND replaced IS NULL", now, series, nanos(at)); err != nil {
			return false, err
		}
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO price_slot (series, quarter, value, origin, recorded) VALUES (?, ?, ?, ?, ?)", series, nanos(at), text, origin, now)
	return true, err
}

// costOfSeries is the cost of the quarters in clusters whose lists use the series:
// where it was computed.
func (r *Registry) costOfSeries(ctx context.Context, tx *sql.Tx, series string, quarters []time.Time) ([]Due, error) {
	var due []Due
	for _, at := range quarters {
		f, err := r.Fleet(ctx, at)
		if err != nil {
			return nil, err
		}
		for _, cluster := range f.Clusters() {
			list, ok := f.PriceListFor(cluster.Name, cluster.Customer)
			if !ok || !slices.Contains(list.Series(), series) {
				continue
			}
			var known int
			err := tx.QueryRowContext(ctx, "SELECT count(*) FROM fingerprint WHERE processor = ? AND scope = ? AND quarter = ?", ProcessorCost, cluster.Name, nanos(at)).Scan(&known)
			if err != nil {
				return nil, err
			}
			if known > 0 {
				due = append(due, Due{Processor: ProcessorCost, Scope: cluster.Name, Quarter: at, Reason: "prices of " + series})
			}
		}
	}
	return due, nil
}

// PriceSeries are the prices of the named series in a window. A series of which
// nothing is known is empty.
func (r *Registry) PriceSeries(ctx context.Context, names []string, w schema.Window) (map[string]rating.Series, error) {
	all := make(map[string]rating.Series, len(names))
	for _, name := range names {
		series := make(rating.Series)
		err := each(ctx, r.reader, func(scan func(...any) error) error {
			var quarter int64
			var text string
			if err := scan(&quarter, &text); err != nil {
				return err
			}
			value, _, err := apd.NewFromString(text)
			series[moment(quarter)] = value
			return err
		}, "SELECT quarter, value FROM price_slot WHERE series = ? AND quarter >= ? AND quarter < ? AND replaced IS NULL ORDER BY quarter",
			name, nanos(quarterOf(w.From)), nanos(w.To))
		if err != nil {
			return nil, fmt.Errorf("read prices of %s: %w", name, err)
		}
		all[name] = series
	}
	return all, nil
}

// SeriesNames are the series of which a price is known, sorted.
func (r *Registry) SeriesNames(ctx context.Context) ([]string, error) {
	var names []string
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		names = append(names, name)
		return err
	}, "SELECT DISTINCT series FROM price_slot ORDER BY series")
	if err != nil {
		return nil, fmt.Errorf("read names of price series: %w", err)
	}
	return names, nil
}

// pastPrices refuses edits of price lists and exchange rates that change what held
// before now: of one that held, and by a new list of what was metered while others
// held.
func pastPrices(edits []edit, existing []fleet.Object, due []Due, now time.Time, change Change) fleet.Problems {
	var problems fleet.Problems
	repriced := slices.ContainsFunc(due, func(d Due) bool { return d.Processor == ProcessorCost })
	for _, e := range edits {
		if e.kind != fleet.KindPriceList && e.kind != fleet.KindExchangeRates {
			continue
		}
		edited := slices.ContainsFunc(deltas(e.old, e.new), func(d delta) bool {
			return d.from < nanos(now) && (d.old != nil || e.kind == fleet.KindPriceList && repriced && othersHeld(existing, e.key, moment(max(d.from, 0)), now))
		})
		who := string(e.kind) + "/" + e.name
		switch {
		case edited && !change.Correct:
			problems = append(problems, fleet.Problem{Object: who, Field: "validFrom",
				Message: "prices that have held are not edited: give a validFrom from now on (a change of a list without one holds from now on); a mistake is corrected with --correct and --reason, which are recorded"})
		case edited && change.Reason == "":
			problems = append(problems, fleet.Problem{Object: who, Field: "reason",
				Message: "a correction of prices that have held needs a reason (--reason), which is recorded"})
		}
	}
	return problems
}

// othersHeld says whether another price list held at some moment of [from, to).
func othersHeld(existing []fleet.Object, mine key, from, to time.Time) bool {
	return slices.ContainsFunc(existing, func(o fleet.Object) bool {
		return o.Kind == fleet.KindPriceList && o.Name() != mine.name && o.Overlaps(from, to)
	})
}
