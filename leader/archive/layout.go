package archive

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// dayLength of a day of the archive, UTC.
const dayLength = 24 * time.Hour

// newestName is the manifest of a day's newest revision.
const newestName = "manifest.json"

// errName is a cluster whose name is no directory's.
var errName = fmt.Errorf("the name cannot be a directory: %w", ErrAbsent)

// dayDir is where a day of a cluster is.
func dayDir(root, cluster string, day time.Time) (string, error) {
	name := url.PathEscape(cluster)
	if name == "" || len(name) > 255 || strings.HasPrefix(name, ".") {
		return "", fmt.Errorf("archive of cluster %q: %w", cluster, errName)
	}
	return filepath.Join(root, name, day.UTC().Format("2006"), day.UTC().Format("01"), day.UTC().Format("02")), nil
}

func manifestName(revision int64) string {
	return "manifest-" + strconv.FormatInt(revision, 10) + ".json"
}

func tableName(table string, revision int64) string {
	return table + "-" + strconv.FormatInt(revision, 10) + ".parquet"
}

// Clusters are those that have a directory in the archive.
func Clusters(root string) ([]string, error) {
	entries, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the archive: %w", err)
	}
	var names []string
	for _, e := range entries {
		if name, err := url.PathUnescape(e.Name()); err == nil && e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, name)
		}
	}
	return names, nil
}

// Days are the days of a cluster that have a directory in the archive, the oldest
// first.
func Days(root, cluster string) ([]time.Time, error) {
	dir, err := dayDir(root, cluster, time.Time{})
	if err != nil {
		return nil, err
	}
	top := filepath.Dir(filepath.Dir(filepath.Dir(dir)))
	paths, err := filepath.Glob(filepath.Join(escapeGlob(top), "[0-9][0-9][0-9][0-9]", "[0-9][0-9]", "[0-9][0-9]"))
	if err != nil {
		return nil, fmt.Errorf("list the archive of %s: %w", cluster, err)
	}
	var days []time.Time // Glob sorts
	for _, path := range paths {
		relative, err := filepath.Rel(top, path)
		if err != nil {
			return nil, fmt.Errorf("list the archive of %s: %w", cluster, err)
		}
		if day, err := time.ParseInLocation("2006/01/02", filepath.ToSlash(relative), time.UTC); err == nil {
			days = append(days, day)
		}
	}
	return days, nil
}

// escapeGlob makes a path one that Glob reads as it is.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// revisions are those of a day's manifests, ascending.
func revisions(dir string) ([]int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []int64
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), "manifest-")
		text, ok2 := strings.CutSuffix(text, ".json")
		if n, err := strconv.ParseInt(text, 10, 64); ok && ok2 && err == nil {
			found = append(found, n)
		}
	}
	sortNumbers(found)
	return found, nil
}

// replaceFile writes a file whole, or leaves what was there: write goes to a
// temporary file beside it, which is synced and renamed, and then the directory is.
func replaceFile(path string, write func(io.Writer) error) (err error) {
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	err = write(file)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func replaceBytes(path string, text []byte) error {
	return replaceFile(path, func(to io.Writer) error {
		_, err := to.Write(text)
		return err
	})
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeDay makes a day's directory, durably, and takes away what a crash left in it.
func makeDay(root, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(escapeGlob(dir), ".new-*"))
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	for at := dir; ; at = filepath.Dir(at) {
		if err := syncDir(at); err != nil {
			return err
		}
		if at == filepath.Clean(root) || at == filepath.Dir(at) {
			return nil
		}
	}
}
