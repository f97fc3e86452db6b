package focus

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// File is a finished file of an export.
type File struct {
	Name   string // relative, with slashes
	Path   string // where it is now
	Bytes  int64
	SHA256 string // in hex
	Rows   int
}

// Sink is where an export goes. A file that is there already is replaced whole.
type Sink interface {
	Put(ctx context.Context, file File) error
	// Prune removes what an earlier run left in a directory under a data file's name
	// and that is not kept.
	Prune(ctx context.Context, dir string, keep []string) error
}

// IsData says whether a name is one of a data file, which Prune may remove.
func IsData(name string) bool {
	base := path.Base(name)
	return strings.HasPrefix(base, "part-") && (strings.HasSuffix(base, ".csv") || strings.HasSuffix(base, ".csv.gz") || strings.HasSuffix(base, ".parquet"))
}

// Dir is a directory as a Sink.
type Dir string

// Put writes the file beside its place and moves it there.
func (d Dir) Put(_ context.Context, file File) (err error) {
	target, err := d.place(file.Name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return fmt.Errorf("write %s: %w", file.Name, err)
	}
	from, err := os.Open(file.Path)
	if err != nil {
		return fmt.Errorf("write %s: %w", file.Name, err)
	}
	defer func() { _ = from.Close() }() // it was only read
	temporary, err := os.CreateTemp(filepath.Dir(target), ".accumulus-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", file.Name, err)
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(temporary, sum), from)
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if got := hex.EncodeToString(sum.Sum(nil)); err == nil && got != file.SHA256 {
		err = fmt.Errorf("its SHA-256 is %s, want %s", got, file.SHA256)
	}
	if err == nil {
		err = os.Rename(temporary.Name(), target)
	}
	if err != nil {
		_ = os.Remove(temporary.Name()) // the first error tells
		return fmt.Errorf("write %s: %w", file.Name, err)
	}
	return nil
}

// Prune removes data files that are not kept.
func (d Dir) Prune(_ context.Context, dir string, keep []string) error {
	place, err := d.place(dir)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(place)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	for _, entry := range entries {
		name := path.Join(dir, entry.Name())
		if entry.IsDir() || !IsData(name) || slices.Contains(keep, name) {
			continue
		}
		if err := os.Remove(filepath.Join(place, entry.Name())); err != nil {
			return fmt.Errorf("remove %s of an earlier export: %w", name, err)
		}
	}
	return nil
}

// place is where a name is in the directory, and never outside.
func (d Dir) place(name string) (string, error) {
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return "", fmt.Errorf("file %q does not lie in the export's directory", name)
	}
	return filepath.Join(string(d), filepath.FromSlash(name)), nil
}

// Tar is a tar archive as a Sink: for who asks over HTTP. Close it.
type Tar struct{ out *tar.Writer }

// NewTar begins an archive.
func NewTar(to io.Writer) Tar { return Tar{tar.NewWriter(to)} }

// Put adds a file.
func (t Tar) Put(_ context.Context, file File) error {
	from, err := os.Open(file.Path)
	if err != nil {
		return fmt.Errorf("pack %s: %w", file.Name, err)
	}
	defer func() { _ = from.Close() }() // it was only read
	header := &tar.Header{Name: file.Name, Mode: 0o600, Size: file.Bytes, ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg}
	if err := t.out.WriteHeader(header); err != nil {
		return fmt.Errorf("pack %s: %w", file.Name, err)
	}
	if _, err := io.Copy(t.out, from); err != nil {
		return fmt.Errorf("pack %s: %w", file.Name, err)
	}
	return nil
}

// Prune has nothing to remove.
func (Tar) Prune(context.Context, string, []string) error { return nil }

// Close ends the archive.
func (t Tar) Close() error { return t.out.Close() }
