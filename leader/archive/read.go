package archive

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Day is an archived day, for reading. It holds no file open.
type Day struct {
	Manifest Manifest
	Hash     string            // of the manifest, by which the next one knows it
	Key      ed25519.PublicKey // that signed it
	dir      string
}

// Open reads the newest manifest of a cluster's day; its signature is checked
// against the key in it. Errors: ErrAbsent, ErrSignature, ErrDamaged.
func Open(root, cluster string, day time.Time) (*Day, error) {
	return OpenSigned(root, cluster, day, nil)
}

// OpenSigned is Open with the public key that is trusted.
func OpenSigned(root, cluster string, day time.Time, key ed25519.PublicKey) (*Day, error) {
	return open(root, cluster, day, newestName, key)
}

// OpenRevision is OpenSigned of a revision.
func OpenRevision(root, cluster string, day time.Time, revision int64, key ed25519.PublicKey) (*Day, error) {
	d, err := open(root, cluster, day, manifestName(revision), key)
	if err == nil && d.Manifest.Revision != revision {
		return nil, fmt.Errorf("%s says that it is revision %d: %w", manifestName(revision), d.Manifest.Revision, ErrDamaged)
	}
	return d, err
}

func open(root, cluster string, day time.Time, name string, key ed25519.PublicKey) (*Day, error) {
	dir, err := dayDir(root, cluster, day)
	if err != nil {
		return nil, err
	}
	date := day.UTC().Format(time.DateOnly)
	d := &Day{dir: dir}
	if d.Manifest, d.Hash, d.Key, err = readManifest(filepath.Join(dir, name), key); err != nil {
		return nil, fmt.Errorf("archive of %s on %s: %w", cluster, date, err)
	}
	if d.Manifest.Cluster != cluster || d.Manifest.Day != date {
		return nil, fmt.Errorf("archive of %s on %s: the manifest is of %s on %s: %w", cluster, date, d.Manifest.Cluster, d.Manifest.Day, ErrDamaged)
	}
	return d, nil
}

// Rows calls fn with each row of a table, in the order of the file; memory is one
// row group. It is ErrAbsent where the day has no such table.
func (d *Day) Rows(table string, fn func(influxsync.Point) error) error {
	return d.RowsIn(table, schema.Window{}, fn)
}

// RowsIn is Rows of those whose time is in the window; row groups that have none are
// not read. The zero window is all.
func (d *Day) RowsIn(table string, w schema.Window, fn func(influxsync.Point) error) (err error) {
	one, ok := d.Manifest.Table(table)
	if !ok {
		return fmt.Errorf("table %s of %s on %s: %w", table, d.Manifest.Cluster, d.Manifest.Day, ErrAbsent)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("read %s of %s on %s: %w", one.File, d.Manifest.Cluster, d.Manifest.Day, err)
		}
	}()
	file, err := os.Open(filepath.Join(d.dir, one.File))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: there is no such file", ErrDamaged)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() != one.Bytes {
		return fmt.Errorf("%w: it has %d bytes, and should have %d", ErrDamaged, info.Size(), one.Bytes)
	}
	return readTable(file, info.Size(), w, fn)
}

// readTable reads the rows of a file. The library panics at some bytes that are no
// Parquet: they are ErrDamaged, as those are that it refuses.
func readTable(file io.ReaderAt, size int64, w schema.Window, fn func(influxsync.Point) error) (err error) {
	inside := false
	defer func() {
		if inside {
			return // fn's own panic
		}
		if problem := recover(); problem != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, problem)
		}
	}()
	reader, err := newTableReader(file, size)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return reader.each(w, func(p influxsync.Point) error {
		inside = true
		err := fn(p)
		inside = false
		return err
	})
}

// Newest are the newest revisions of the days of a scope, by cluster and day.
func Newest(root string, scope Scope, key ed25519.PublicKey) ([]*Day, error) {
	clusters, err := Clusters(root)
	if err != nil {
		return nil, err
	}
	var list []*Day
	for _, cluster := range clusters {
		if scope.Cluster != "" && cluster != scope.Cluster {
			continue
		}
		days, err := Days(root, cluster)
		if err != nil {
			return nil, err
		}
		for _, day := range days {
			if !scope.Day.IsZero() && !day.Equal(scope.Day) {
				continue
			}
			d, err := OpenSigned(root, cluster, day, key)
			if err != nil {
				return nil, err
			}
			list = append(list, d)
		}
	}
	return list, nil
}
