package registry

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// ArchivedRevision is a revision of a day of the archive.
type ArchivedRevision struct {
	Cluster  string
	Day      time.Time
	Revision int64
	Sequence int64
	Manifest string
	Bytes    int64
}

func noteRevision(ctx context.Context, tx *sql.Tx, d ArchivedDay) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO archive_revision (cluster, day, revision, sequence, manifest, bytes) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET sequence = excluded.sequence, manifest = excluded.manifest, bytes = excluded.bytes, copied_to = '', copied_at = 0
		WHERE manifest <> excluded.manifest`, d.Cluster, nanos(d.Day), d.Revision, d.Sequence, d.Manifest, d.Bytes)
	return err
}

// NoteRevisions records revisions that are in the archive, where that is not known.
func (r *Registry) NoteRevisions(ctx context.Context, revisions []ArchivedDay) error {
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		for _, d := range revisions {
			if err := noteRevision(ctx, tx, d); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record revisions of the archive: %w", err)
	}
	return nil
}

// Uncopied are revisions that are not known to be in a bucket, by cluster in the order
// of their manifests; at most limit.
func (r *Registry) Uncopied(ctx context.Context, bucket string, limit int) ([]ArchivedRevision, error) {
	var list []ArchivedRevision
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var d ArchivedRevision
		var at int64
		err := scan(&d.Cluster, &at, &d.Revision, &d.Sequence, &d.Manifest, &d.Bytes)
		d.Day = moment(at)
		list = append(list, d)
		return err
	}, "SELECT cluster, day, revision, sequence, manifest, bytes FROM archive_revision WHERE copied_to <> ? ORDER BY cluster, sequence LIMIT ?", bucket, limit)
	if err != nil {
		return nil, fmt.Errorf("revisions to copy: %w", err)
	}
	return list, nil
}

// CountUncopied is how many days of clusters have a revision that is not known to be in
// a bucket.
func (r *Registry) CountUncopied(ctx context.Context, bucket string) (days int, err error) {
	err = r.reader.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT DISTINCT cluster, day FROM archive_revision WHERE copied_to <> ?)", bucket).Scan(&days)
	if err != nil {
		return 0, fmt.Errorf("revisions to copy: %w", err)
	}
	return days, nil
}

// SetCopied notes that all files of a revision are in a bucket.
func (r *Registry) SetCopied(ctx context.Context, d ArchivedRevision, bucket string, at time.Time) error {
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE archive_revision SET copied_to = ?, copied_at = ? WHERE cluster = ? AND day = ? AND revision = ? AND manifest = ?",
			bucket, nanos(at), d.Cluster, nanos(d.Day), d.Revision, d.Manifest)
		return err
	})
	if err != nil {
		return fmt.Errorf("note copy of %s on %s: %w", d.Cluster, d.Day.Format(time.DateOnly), err)
	}
	return nil
}
