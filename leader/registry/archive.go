package registry

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// ArchivedDay is the newest archived revision of a UTC day of a cluster.
type ArchivedDay struct {
	Cluster  string    `json:"cluster"`
	Day      time.Time `json:"day"`      // its start
	Revision int64     `json:"revision"` // of the day, from 1
	Sequence int64     `json:"sequence"` // of its manifest among the cluster's
	State    string    `json:"state"`    // fingerprint of what was archived
	Manifest string    `json:"manifest"` // its hash
	Rows     int64     `json:"rows"`     // of all tables
	Bytes    int64     `json:"bytes"`
	Archived time.Time `json:"archived"`
	// Gone says that the minute rows are read from the archive, not from the store.
	Gone    bool      `json:"gone"`
	Deleted time.Time `json:"deleted,omitzero"` // when the store had them no more
	// Copied is when all files of the revision were in the bucket CopiedTo.
	Copied   time.Time `json:"copied,omitzero"`
	CopiedTo string    `json:"copiedTo,omitempty"`
}

const archiveColumns = `cluster, day, revision, sequence, state, manifest, rows, bytes, archived_at, gone, deleted_at,
	coalesce((SELECT copied_at FROM archive_revision AS r WHERE r.cluster = d.cluster AND r.day = d.day AND r.revision = d.revision), 0),
	coalesce((SELECT copied_to FROM archive_revision AS r WHERE r.cluster = d.cluster AND r.day = d.day AND r.revision = d.revision), '')`

func scanArchived(scan func(...any) error) (ArchivedDay, error) {
	var d ArchivedDay
	var day, archived, deleted, copied int64
	err := scan(&d.Cluster, &day, &d.Revision, &d.Sequence, &d.State, &d.Manifest, &d.Rows, &d.Bytes, &archived, &d.Gone, &deleted, &copied, &d.CopiedTo)
	d.Day, d.Archived = moment(day), moment(archived)
	if deleted != 0 {
		d.Deleted = moment(deleted)
	}
	if copied != 0 {
		d.Copied = moment(copied)
	}
	return d, err
}

// Archived are the archived days of a cluster, or of all for "", that begin in the
// window, by cluster and day.
func (r *Registry) Archived(ctx context.Context, cluster string, w schema.Window) ([]ArchivedDay, error) {
	return r.archived(ctx, "(?1 = '' OR d.cluster = ?1) AND d.day >= ?2 AND d.day < ?3", cluster, nanos(w.From), nanos(w.To))
}

// ArchivedGone are the days whose minute rows are read from the archive.
func (r *Registry) ArchivedGone(ctx context.Context) ([]ArchivedDay, error) {
	return r.archived(ctx, "gone <> 0")
}

func (r *Registry) archived(ctx context.Context, where string, args ...any) ([]ArchivedDay, error) {
	list := []ArchivedDay{}
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		d, err := scanArchived(scan)
		list = append(list, d)
		return err
	}, "SELECT "+archiveColumns+" FROM archive_day AS d WHERE "+where+" ORDER BY cluster, day", args...)
	if err != nil {
		return nil, fmt.Errorf("archived days: %w", err)
	}
	return list, nil
}

// ArchiveHead is the last manifest of a cluster; 0 and "" before the first.
func (r *Registry) ArchiveHead(ctx context.Context, cluster string) (sequence int64, manifest string, err error) {
	err = r.reader.QueryRowContext(ctx, "SELECT sequence, manifest FROM archive_head WHERE cluster = ?", cluster).Scan(&sequence, &manifest)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, "", fmt.Errorf("last manifest of %s: %w", cluster, err)
	}
	return sequence, manifest, nil
}

// PutArchived records that a day was archived, in place of its revision before. Where
// its rows were gone, they are still.
func (r *Registry) PutArchived(ctx context.Context, d ArchivedDay) error {
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO archive_day (cluster, day, revision, sequence, state, manifest, rows, bytes, archived_at, checked_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET revision = excluded.revision, sequence = excluded.sequence,
			state = excluded.state, manifest = excluded.manifest, rows = excluded.rows, bytes = excluded.bytes,
			archived_at = excluded.archived_at, checked_at = excluded.checked_at`,
			d.Cluster, nanos(d.Day), d.Revision, d.Sequence, d.State, d.Manifest, d.Rows, d.Bytes, nanos(d.Archived), nanos(d.Archived))
		if err != nil {
			return err
		}
		if err := noteRevision(ctx, tx, d); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO archive_head (cluster, sequence, manifest) VALUES (?, ?, ?)
			ON CONFLICT DO UPDATE SET sequence = excluded.sequence, manifest = excluded.manifest`, d.Cluster, d.Sequence, d.Manifest)
		return err
	})
	if err != nil {
		return fmt.Errorf("record archive of %s on %s: %w", d.Cluster, d.Day.Format(time.DateOnly), err)
	}
	return nil
}

// ArchiveChecked notes that a day was found to be what was archived of it.
func (r *Registry) ArchiveChecked(ctx context.Context, cluster string, day, at time.Time) error {
	return r.setArchived(ctx, cluster, day, "checked_at = ?", nanos(at))
}

// SetGone says whether a day's minute rows are read from the archive, durably, before
// the first one is deleted, and after the last one was brought back.
func (r *Registry) SetGone(ctx context.Context, cluster string, day time.Time, gone bool) error {
	return r.setArchived(ctx, cluster, day, "gone = ?, deleted_at = 0", gone)
}

// SetDeleted notes when a day's minute rows were all deleted; the zero time is that
// they are coming back.
func (r *Registry) SetDeleted(ctx context.Context, cluster string, day, at time.Time) error {
	ns := int64(0)
	if !at.IsZero() {
		ns = nanos(at)
	}
	return r.setArchived(ctx, cluster, day, "deleted_at = ?", ns)
}

func (r *Registry) setArchived(ctx context.Context, cluster string, day time.Time, set string, value any) error {
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, "UPDATE archive_day SET "+set+" WHERE cluster = ? AND day = ?", value, cluster, nanos(day))
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, ErrNotFound)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("archive of %s on %s: %w", cluster, day.Format(time.DateOnly), err)
	}
	return nil
}

// derivedOf are the processors whose results are in a box's minute rows.
var derivedOf = []string{ProcessorPower, ProcessorHeat, ProcessorCarbon}

// Archivable are the days that ended before a moment and of which something came of
// the cluster (or, for schema.BoxCluster, was computed of boxes) that may not be
// archived: nothing of the day is yet, or something came or was computed since. The
// oldest first.
func (r *Registry) Archivable(ctx context.Context, cluster string, ended time.Time) ([]time.Time, error) {
	changed := make(map[int64]int64) // when, by day
	err := r.changedDays(ctx, cluster, func(day, at int64) { changed[day] = max(changed[day], at) })
	if err == nil {
		err = r.eachDay(ctx, func(day, checked int64) {
			if changed[day] < checked {
				delete(changed, day)
			}
		}, "SELECT day, checked_at FROM archive_day WHERE cluster = ?", cluster)
	}
	if err != nil {
		return nil, fmt.Errorf("days of %s to archive: %w", cluster, err)
	}
	var list []time.Time
	for begins := range changed {
		if at := moment(begins); !at.Add(day).After(ended) {
			list = append(list, at)
		}
	}
	slices.SortFunc(list, time.Time.Compare)
	return list, nil
}

func (r *Registry) eachDay(ctx context.Context, note func(day, at int64), query string, args ...any) error {
	return each(ctx, r.reader, func(scan func(...any) error) error {
		var day, at int64
		err := scan(&day, &at)
		note(day, at)
		return err
	}, query, args...)
}

// changedDays notes when something of a cluster's days came or was computed.
func (r *Registry) changedDays(ctx context.Context, cluster string, note func(day, at int64)) error {
	const days = "SELECT quarter / 86400000000000 * 86400000000000 AS day, max(at) FROM fingerprint WHERE processor = ?"
	if cluster == schema.BoxCluster {
		for _, processor := range derivedOf {
			if err := r.eachDay(ctx, note, days+" GROUP BY day", processor); err != nil {
				return err
			}
		}
		return nil
	}
	known := make(map[int64]bool) // a box may be older than its first node of the cluster
	err := r.eachDay(ctx, func(day, at int64) {
		known[day] = true
		note(day, at)
	}, "SELECT day, max(newest) FROM ledger_day WHERE cluster = ? GROUP BY day", cluster)
	if err != nil {
		return err
	}
	scopes, err := r.scopesOf(ctx, cluster, schema.Window{From: moment(always), To: moment(forever)})
	if err != nil {
		return err
	}
	of := map[string][]string{ProcessorUsage: {cluster}, ProcessorCost: {cluster}}
	for _, processor := range derivedOf {
		of[processor] = scopes
	}
	for processor, scopes := range of {
		for _, scope := range scopes {
			err := r.eachDay(ctx, func(day, at int64) {
				if known[day] {
					note(day, at)
				}
			}, days+" AND scope = ? GROUP BY day", processor, scope)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// scopesOf are the scopes of power that a cluster's rows are in: boxes, and nodes that
// stand in none.
func (r *Registry) scopesOf(ctx context.Context, cluster string, w schema.Window) ([]string, error) {
	scopes, err := r.boxesOf(ctx, cluster, w)
	if err != nil {
		return nil, err
	}
	nodes, err := names(ctx, r.reader, "SELECT DISTINCT scope FROM fingerprint WHERE processor = ? AND scope >= ? AND scope < ? ORDER BY scope",
		ProcessorPower, LooseScope(cluster, ""), loose+cluster+"0") // "0" comes after "/"
	slices.Sort(scopes)
	return append(scopes, nodes...), err
}

// DayState is a fingerprint of what there is of a day of a cluster: the ledger's
// windows and what the day's quarters were computed of. It is settled when each
// window is folded and no work on it is due. For schema.BoxCluster it is of all boxes.
func (r *Registry) DayState(ctx context.Context, cluster string, begins time.Time) (state string, settled bool, err error) {
	w := schema.Window{From: begins, To: begins.Add(day)}
	sum := sha256.New()
	settled, err = r.dayState(ctx, sum, cluster, w)
	if err != nil {
		return "", false, fmt.Errorf("state of %s on %s: %w", cluster, begins.Format(time.DateOnly), err)
	}
	return hex.EncodeToString(sum.Sum(nil)), settled, nil
}

func (r *Registry) dayState(ctx context.Context, sum hash.Hash, cluster string, w schema.Window) (settled bool, err error) {
	put := func(format string, args ...any) { _, _ = fmt.Fprintf(sum, format, args...) } // a hash returns no error
	if cluster == schema.BoxCluster {
		var due int
		err := r.reader.QueryRowContext(ctx, "SELECT count(*) FROM due WHERE processor IN (?, ?, ?) AND quarter >= ? AND quarter < ?",
			ProcessorPower, ProcessorHeat, ProcessorCarbon, nanos(w.From), nanos(w.To)).Scan(&due)
		if err != nil {
			return false, err
		}
		return due == 0, r.putFingerprints(ctx, put, w, "processor IN (?, ?, ?)", ProcessorPower, ProcessorHeat, ProcessorCarbon)
	}
	scopes, err := r.scopesOf(ctx, cluster, w)
	if err != nil {
		return false, err
	}
	due, err := dueQuarters(ctx, r.reader, cluster, scopes, w)
	if err != nil {
		return false, err
	}
	settled = len(due) == 0
	tables, err := names(ctx, r.reader, "SELECT DISTINCT tbl FROM mark WHERE cluster = ? ORDER BY tbl", cluster)
	if err != nil {
		return false, err
	}
	for _, table := range tables {
		var loose int
		if err := r.reader.QueryRowContext(ctx, "SELECT count(*) FROM ledger WHERE cluster = ? AND tbl = ? AND window_from >= ? AND window_from < ?",
			cluster, table, nanos(w.From), nanos(w.To)).Scan(&loose); err != nil {
			return false, err
		}
		settled = settled && loose == 0
		err := eachWindow(ctx, r.reader, cluster, table, span{from: nanos(w.From), to: nanos(w.To)}, func(e ledgerRow) error {
			put("%s %d %d %q %d %d %d %d %d\n", table, e.from, e.to, e.store, e.revision, e.rows, e.digest, e.refused, e.extra)
			return nil
		})
		if err != nil {
			return false, err
		}
	}
	if err := r.putFingerprints(ctx, put, w, "processor = ? AND scope = ?", ProcessorUsage, cluster); err != nil {
		return false, err
	}
	for _, scope := range scopes {
		var waiting int
		// Of power the days before and after count too: a meter's interval over midnight is
		// split over the minutes of both.
		err := r.reader.QueryRowContext(ctx, `SELECT count(*) FROM due WHERE scope = ? AND
			(processor IN (?, ?) AND quarter >= ? AND quarter < ? OR processor = ? AND quarter >= ? AND quarter < ?)`,
			scope, ProcessorHeat, ProcessorCarbon, nanos(w.From), nanos(w.To), ProcessorPower, nanos(w.From.Add(-day)), nanos(w.To.Add(day))).Scan(&waiting)
		if err == nil {
			err = r.putFingerprints(ctx, put, w, "processor IN (?, ?, ?) AND scope = ?", ProcessorPower, ProcessorHeat, ProcessorCarbon, scope)
		}
		if err != nil {
			return false, err
		}
		settled = settled && waiting == 0
	}
	return settled, nil
}

func (r *Registry) putFingerprints(ctx context.Context, put func(format string, args ...any), w schema.Window, where string, args ...any) error {
	return each(ctx, r.reader, func(scan func(...any) error) error {
		var processor, scope, of string
		var quarter int64
		err := scan(&processor, &scope, &quarter, &of)
		put("%s %q %d %q\n", processor, scope, quarter, of)
		return err
	}, "SELECT processor, scope, quarter, fingerprint FROM fingerprint WHERE "+where+" AND quarter >= ? AND quarter < ? ORDER BY processor, scope, quarter",
		append(args, nanos(w.From), nanos(w.To))...)
}

// ToldObject is a row of the table object, as it came.
type ToldObject struct {
	Kind, Namespace, Name, UID, Spec, Reason string
	Time                                     time.Time
	ValidFrom, ValidTo                       int64 // Unix ns; ValidTo 0 = open
}

// ToldObjects calls fn with what a cluster had told, by the window's end, of objects
// that were there in it, ordered by what they are and when it was told.
func (r *Registry) ToldObjects(ctx context.Context, cluster string, w schema.Window, fn func(ToldObject) error) error {
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var o ToldObject
		var at int64
		if err := scan(&o.Kind, &o.Namespace, &o.Name, &o.UID, &at, &o.ValidFrom, &o.ValidTo, &o.Spec, &o.Reason); err != nil {
			return err
		}
		o.Time = moment(at)
		return fn(o)
	}, `SELECT kind, namespace, name, uid, time, valid_from, valid_to, spec, reason FROM kube_object
		WHERE cluster = ?1 AND time < ?3 AND valid_from < ?3 AND (valid_to = 0 OR valid_to > ?2)
		ORDER BY kind, namespace, name, uid, time`, cluster, nanos(w.From), nanos(w.To))
	if err != nil {
		return fmt.Errorf("objects of %s: %w", cluster, err)
	}
	return nil
}

// NewestArchived is the newest archived day of each cluster.
func (r *Registry) NewestArchived(ctx context.Context) (map[string]time.Time, error) {
	newest := make(map[string]time.Time)
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var cluster string
		var day int64
		err := scan(&cluster, &day)
		newest[cluster] = moment(day)
		return err
	}, "SELECT cluster, max(day) FROM archive_day GROUP BY cluster")
	if err != nil {
		return nil, fmt.Errorf("newest archived days: %w", err)
	}
	return newest, nil
}
