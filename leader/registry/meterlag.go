package registry

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// MeterLag is how long the times of an electricity meter's readings are behind
// the usage that they count, for readings from Since on.
type MeterLag struct {
	Place, Meter string
	Since        time.Time
	Lag          time.Duration
	Correlation  float64 // of what the meter counted with what the model says, so shifted
	Samples      int
	At           time.Time // when it was found
}

// MeterLags are all that were found, by place, meter and Since.
func (r *Registry) MeterLags(ctx context.Context) ([]MeterLag, error) {
	var lags []MeterLag
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var l MeterLag
		var since, at int64
		if err := scan(&l.Place, &l.Meter, &since, &l.Lag, &l.Correlation, &l.Samples, &at); err != nil {
			return err
		}
		l.Since, l.At = moment(since), moment(at)
		lags = append(lags, l)
		return nil
	}, "SELECT place, meter, since, lag, correlation, samples, at FROM meter_lag ORDER BY place, meter, since")
	if err != nil {
		return nil, fmt.Errorf("lags of meters: %w", err)
	}
	return lags, nil
}

// PutMeterLag keeps a lag, and makes due what changes by it, in one transaction.
func (r *Registry) PutMeterLag(ctx context.Context, l MeterLag, due []Due) error {
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO meter_lag (place, meter, since, lag, correlation, samples, at) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET lag = excluded.lag, correlation = excluded.correlation, samples = excluded.samples, at = excluded.at`,
			l.Place, l.Meter, nanos(l.Since), int64(l.Lag), l.Correlation, l.Samples, nanos(l.At))
		if err != nil {
			return err
		}
		return r.addDue(ctx, tx, due)
	})
	if err != nil {
		return fmt.Errorf("keep lag of meter %s: %w", l.Meter, err)
	}
	return nil
}
