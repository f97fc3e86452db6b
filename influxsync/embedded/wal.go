package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/influxdata/influxdb/tsdb/engine/tsm1"
)

// mendLogs cuts a torn entry off the end of each shard's log. A process that is
// killed while it writes leaves one; nobody was told that it is durable. The
// engine cuts it off itself, but after it has gone to the end of the file to
// append there: what it writes then stands behind a hole, and is lost at the
// next start, though it was acknowledged.
func mendLogs(dir string) error {
	last := make(map[string]string) // by shard: the segment that is appended to
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && filepath.Ext(path) == "."+tsm1.WALFileExtension {
			last[filepath.Dir(path)] = path // in the order of their names
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for logs: %w", err)
	}
	for _, path := range last {
		if err := mendLog(path); err != nil {
			return fmt.Errorf("mend log %s: %w", path, err)
		}
	}
	return nil
}

// mendLog cuts a segment where an entry cannot be read.
func mendLog(path string) (err error) {
	segment, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, segment.Close()) }()
	for reader := tsm1.NewWALSegmentReader(segment); reader.Next(); {
		if _, torn := reader.Read(); torn != nil {
			if err := segment.Truncate(reader.Count()); err != nil {
				return err
			}
			return segment.Sync()
		}
	}
	return nil
}
