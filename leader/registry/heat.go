package registry

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/processors"
)

// HeatReadingLife is how long readings of heat sources are kept. A quarter's
// useful heat is final HeatFinal after its end, while its readings are still
// there; older readings are refused.
const (
	HeatReadingLife = 72 * time.Hour
	HeatFinal       = 70 * time.Hour
)

// PutHeatReadings stores what a source's sensors showed. Of one moment the last
// telling counts. The heat of the box becomes due in the quarters that they bear
// on, in the same transaction.
func (r *Registry) PutHeatReadings(ctx context.Context, source, box string, reach time.Duration, readings []processors.HeatReading) error {
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		put, err := tx.PrepareContext(ctx, `INSERT INTO heat_reading (source, at, supply, back, store, flow) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET supply = excluded.supply, back = excluded.back, store = excluded.store, flow = excluded.flow`)
		if err != nil {
			return err
		}
		defer func() { _ = put.Close() }()
		quarters := make(map[time.Time]bool)
		for _, reading := range readings {
			if _, err := put.ExecContext(ctx, source, nanos(reading.Time), null(reading.Supply), null(reading.Return), null(reading.Store), null(reading.Flow)); err != nil {
				return err
			}
			for at := quarterOf(reading.Time.Add(-reach)); !at.After(reading.Time.Add(reach)); at = at.Add(schema.Quarter) {
				if !at.After(r.clock.Now()) {
					quarters[at] = true
				}
			}
		}
		var due []Due
		for at := range quarters {
			due = append(due, Due{Processor: ProcessorHeat, Scope: box, Quarter: at, Reason: "heat readings"})
		}
		return r.addDue(ctx, tx, due)
	})
	if err != nil {
		return fmt.Errorf("store readings of heat source %s: %w", source, err)
	}
	return nil
}

func null(v processors.Value) sql.NullInt64 { return sql.NullInt64{Int64: v.Micro, Valid: v.Known} }

// HeatReadings are a source's readings in a window, in order.
func (r *Registry) HeatReadings(ctx context.Context, source string, w schema.Window) ([]processors.HeatReading, error) {
	var list []processors.HeatReading
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var at int64
		var values [4]sql.NullInt64
		if err := scan(&at, &values[0], &values[1], &values[2], &values[3]); err != nil {
			return err
		}
		value := func(i int) processors.Value { return processors.Value{Micro: values[i].Int64, Known: values[i].Valid} }
		list = append(list, processors.HeatReading{Time: moment(at), Supply: value(0), Return: value(1), Store: value(2), Flow: value(3)})
		return nil
	}, "SELECT at, supply, back, store, flow FROM heat_reading WHERE source = ? AND at >= ? AND at < ? ORDER BY at", source, nanos(w.From), nanos(w.To))
	if err != nil {
		return nil, fmt.Errorf("readings of heat source %s: %w", source, err)
	}
	return list, nil
}

// HeatSums are a source's useful heat with what there is to tell of it.
type HeatSums struct {
	Source    string
	Household string // "" = nobody's
	Box       string
	Useful    int64 // mJ
	Avoided   int64 // µg CO2e against the reference
	Reference string
	processors.Circumstances
	Implausible int // quarters with more useful heat than the box can have produced
	Estimated   int // quarters by a capture factor
}

// HeatQuarter is a source's quarter. Minutes are nil of a household.
type HeatQuarter struct {
	HeatSums
	Quarter time.Time
	Minutes []processors.HeatMinute
}

// HeatDay is a source's UTC day.
type HeatDay struct {
	HeatSums
	Day time.Time
}

// PutHeatQuarters replaces quarters of a source, and with them the sums of their
// days. Those of a household lose their minutes.
func (r *Registry) PutHeatQuarters(ctx context.Context, list []HeatQuarter) error {
	if len(list) == 0 {
		return nil
	}
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		for _, q := range list {
			if err := putHeatQuarter(ctx, tx, q); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store useful heat: %w", err)
	}
	return nil
}

func putHeatQuarter(ctx context.Context, tx *sql.Tx, q HeatQuarter) error {
	var minutes sql.NullString
	if q.Household == "" {
		text, err := json.Marshal(q.Minutes)
		if err != nil {
			return err
		}
		minutes = sql.NullString{String: string(text), Valid: true}
	}
	at := nanos(q.Quarter)
	today := nanos(q.Quarter.UTC().Truncate(day))
	_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO heat_quarter (source, quarter, day, box, household, useful_mj, avoided_ug, minutes,
			covered_ms, full_ms, faulty_ms, reversed_ms, gap_ms, implausible, estimated, reference)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		q.Source, at, today, q.Box, q.Household, q.Useful, q.Avoided, minutes, q.Covered.Milliseconds(), q.Full.Milliseconds(),
		q.Faulty.Milliseconds(), q.Reversed.Milliseconds(), q.Gap.Milliseconds(), q.Implausible, q.Estimated, q.Reference)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM heat_day WHERE source = ? AND day = ?", q.Source, today); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO heat_day (source, household, day, box, useful_mj, avoided_ug, covered_ms, full_ms, faulty_ms, reversed_ms,
			gap_ms, implausible, estimated, reference)
		SELECT source, household, day, box, sum(useful_mj), sum(avoided_ug), sum(covered_ms), sum(full_ms), sum(faulty_ms), sum(reversed_ms),
			sum(gap_ms), sum(implausible), sum(estimated), group_concat(DISTINCT reference)
		FROM heat_quarter WHERE source = ? AND day = ? GROUP BY source, household, day, box`, q.Source, today)
	return err
}

const heatSums = "source, household, box, useful_mj, avoided_ug, reference, covered_ms, full_ms, faulty_ms, reversed_ms, gap_ms, implausible, estimated"

func scanHeat(s *HeatSums, scan func(...any) error, more ...any) error {
	var ms [5]int64
	err := scan(append([]any{&s.Source, &s.Household, &s.Box, &s.Useful, &s.Avoided, &s.Reference, &ms[0], &ms[1], &ms[2], &ms[3], &ms[4],
		&s.Implausible, &s.Estimated}, more...)...)
	for i, into := range []*time.Duration{&s.Covered, &s.Full, &s.Faulty, &s.Reversed, &s.Gap} {
		*into = time.Duration(ms[i]) * time.Millisecond
	}
	return err
}

// HeatQuarters are the stored quarters of a box's sources in a window. It is what
// the work builds on; people are told of a household's days alone (HeatDays).
func (r *Registry) HeatQuarters(ctx context.Context, box string, w schema.Window) ([]HeatQuarter, error) {
	var list []HeatQuarter
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var q HeatQuarter
		var at int64
		var minutes sql.NullString
		if err := scanHeat(&q.HeatSums, scan, &at, &minutes); err != nil {
			return err
		}
		q.Quarter = moment(at)
		list = append(list, q)
		if !minutes.Valid {
			return nil
		}
		return json.Unmarshal([]byte(minutes.String), &list[len(list)-1].Minutes)
	}, "SELECT "+heatSums+", quarter, minutes FROM heat_quarter WHERE box = ? AND quarter >= ? AND quarter < ? ORDER BY source, quarter",
		box, nanos(w.From), nanos(w.To))
	if err != nil {
		return nil, fmt.Errorf("useful heat of box %s: %w", box, err)
	}
	return list, nil
}

// HeatDays are the useful heat of every source by UTC day, for the days that lie
// in the window whole, by day and source: the finest that is told of a household.
func (r *Registry) HeatDays(ctx context.Context, w schema.Window) ([]HeatDay, error) {
	var list []HeatDay
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var d HeatDay
		var at int64
		err := scanHeat(&d.HeatSums, scan, &at)
		d.Day = moment(at)
		list = append(list, d)
		return err
	}, "SELECT "+heatSums+", day FROM heat_day WHERE day >= ? AND day <= ? ORDER BY day, source, household, box",
		nanos(w.From), nanos(w.To.Add(-day)))
	if err != nil {
		return nil, fmt.Errorf("useful heat by day: %w", err)
	}
	return list, nil
}

// PurgeHeat deletes readings that are older than HeatReadingLife, and the
// quarters of households whose day is final. It returns how many rows went. What
// was deleted is overwritten in the file, too, when its page is.
func (r *Registry) PurgeHeat(ctx context.Context) (int64, error) {
	now := r.clock.Now()
	var gone int64
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "PRAGMA secure_delete = ON"); err != nil {
			return err
		}
		for _, statement := range []struct {
			text   string
			before time.Time
		}{
			{"DELETE FROM heat_reading WHERE at < ?", now.Add(-HeatReadingLife)},
			{"DELETE FROM heat_quarter WHERE household <> '' AND day < ?", now.Add(-HeatReadingLife - day)},
		} {
			result, err := tx.ExecContext(ctx, statement.text, nanos(statement.before))
			if err != nil {
				return err
			}
			n, err := result.RowsAffected()
			if err != nil {
				return err
			}
			gone += n
		}
		_, err := tx.ExecContext(ctx, "PRAGMA secure_delete = OFF")
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("delete old heat readings: %w", err)
	}
	return gone, nil
}
