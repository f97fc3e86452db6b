package registry

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// OpenDay is a cluster's UTC day whose sums must be computed.
type OpenDay struct {
	Cluster string
	Day     time.Time // its start
	// Sequence says which change of the day this is; FillDay keeps no sums of an
	// older one.
	Sequence int64
}

// DaySums are the sums of a cluster's UTC day, packed: of usage by namespace, of
// nodes, and of volumes by claim.
type DaySums struct {
	Day                   time.Time
	Usage, Nodes, Volumes []byte
}

// OpenDays are days that had ended at the given moment and whose sums must be
// computed, by cluster and day, those after one of them; at most limit.
func (r *Registry) OpenDays(ctx context.Context, ended time.Time, after OpenDay, limit int) ([]OpenDay, error) {
	var list []OpenDay
	last := int64(always)
	if after.Cluster != "" {
		last = nanos(after.Day)
	}
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var d OpenDay
		var at int64
		err := scan(&d.Cluster, &at, &d.Sequence)
		d.Day = moment(at)
		list = append(list, d)
		return err
	}, `SELECT cluster, day, seq FROM usage_day WHERE usage IS NULL AND day <= ? AND (cluster, day) > (?, ?)
		ORDER BY cluster, day LIMIT ?`, nanos(ended.Add(-day)), after.Cluster, last, limit)
	if err != nil {
		return nil, fmt.Errorf("open days: %w", err)
	}
	return list, nil
}

// CountOpenDays is how many days had ended at the given moment whose sums must be
// computed.
func (r *Registry) CountOpenDays(ctx context.Context, ended time.Time) (days int, err error) {
	err = r.reader.QueryRowContext(ctx, "SELECT count(*) FROM usage_day WHERE usage IS NULL AND day <= ?", nanos(ended.Add(-day))).Scan(&days)
	if err != nil {
		return 0, fmt.Errorf("open days: %w", err)
	}
	return days, nil
}

// DaySettled says whether a day can be summed: nothing is due whose outcome is in
// it, and the cluster's minutes have come up to its end, or it ended FoldAfter ago.
// Sums that are computed too early are not wrong: what changes a quarter of the day
// takes them away.
func (r *Registry) DaySettled(ctx context.Context, d OpenDay) (bool, error) {
	whole := schema.WindowAt(d.Day, day)
	if d.Cluster == schema.BoxCluster { // its energy is that of all boxes
		var due int
		err := r.reader.QueryRowContext(ctx, "SELECT count(*) FROM due WHERE processor <> ? AND quarter >= ? AND quarter < ? AND (processor <> ? OR scope = ?)",
			ProcessorCost, nanos(whole.From), nanos(whole.To), ProcessorUsage, d.Cluster).Scan(&due)
		if err != nil {
			return false, fmt.Errorf("work due of %s: %w", d.Cluster, err)
		}
		return due == 0, nil
	}
	due, err := r.dueDays(ctx, d.Cluster, whole)
	if err != nil {
		return false, fmt.Errorf("work due of %s: %w", d.Cluster, err)
	}
	if len(due) > 0 {
		return false, nil
	}
	if !r.clock.Now().Before(whole.To.Add(FoldAfter)) {
		return true, nil
	}
	here, known, err := r.Extent(ctx, d.Cluster, schema.PodMinute.Name)
	return known && !here.To.Before(whole.To), err
}

// FillDay keeps the sums of a day, unless it has changed since OpenDays told of it.
func (r *Registry) FillDay(ctx context.Context, of OpenDay, sums DaySums) error {
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE usage_day SET usage = ?, nodes = ?, volumes = ? WHERE cluster = ? AND day = ? AND seq = ?",
			sums.Usage, sums.Nodes, sums.Volumes, of.Cluster, nanos(of.Day), of.Sequence)
		return err
	})
	if err != nil {
		return fmt.Errorf("keep the sums of %s of %s: %w", of.Day.Format(time.DateOnly), of.Cluster, err)
	}
	return nil
}

// Days are the sums of the whole days in a window, oldest first; none of a day
// whose sums must be computed.
func (r *Registry) Days(ctx context.Context, cluster string, w schema.Window) ([]DaySums, error) {
	list, _, err := r.DaysInto(ctx, nil, cluster, w)
	return list, err
}

// DaysInto is Days whose sums lie in room, as far as it goes: they are good until it is
// used again. It returns the room to use next time.
func (r *Registry) DaysInto(ctx context.Context, room []byte, cluster string, w schema.Window) ([]DaySums, []byte, error) {
	var list []DaySums
	room = room[:0]
	keep := func(packed []byte) []byte {
		from := len(room)
		room = append(room, packed...)
		return room[from:len(room):len(room)]
	}
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var at int64
		var ofUsage, nodes, volumes sql.RawBytes
		if err := scan(&at, &ofUsage, &nodes, &volumes); err != nil {
			return err
		}
		list = append(list, DaySums{Day: moment(at), Usage: keep(ofUsage), Nodes: keep(nodes), Volumes: keep(volumes)})
		return nil
	}, "SELECT day, usage, nodes, volumes FROM usage_day WHERE cluster = ? AND day >= ? AND day <= ? AND usage IS NOT NULL ORDER BY day",
		cluster, nanos(w.From), nanos(w.To.Add(-day)))
	if err != nil {
		return nil, room, fmt.Errorf("days of %s: %w", cluster, err)
	}
	return list, room, nil
}

// openDay takes away the sums of the day that holds a quarter which has changed.
func openDay(ctx context.Context, tx *sql.Tx, cluster string, quarter time.Time) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO usage_day (cluster, day, seq) VALUES (?, ?, 1)
		ON CONFLICT DO UPDATE SET seq = seq + 1, usage = NULL, nodes = NULL, volumes = NULL`, cluster, dayOf(nanos(quarter)))
	return err
}

// forgetDays removes the days of a cluster, and takes away the sums of what no
// cluster carries, whose rows may have gone with its.
func forgetDays(ctx context.Context, tx *sql.Tx, cluster string) error {
	if _, err := tx.ExecContext(ctx, "DELETE FROM usage_day WHERE cluster = ?", cluster); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "UPDATE usage_day SET seq = seq + 1, usage = NULL, nodes = NULL, volumes = NULL WHERE cluster = ?", schema.BoxCluster)
	return err
}
