package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/leader/registry"
)

// Place is where a second copy of each file is put.
type Place interface {
	// PutFile puts a file there, whole or not at all, and compares its SHA-256.
	PutFile(ctx context.Context, name, path, sha256 string, bytes int64) error
	// Sum is the SHA-256, in hex, of what is there under a name; "" where nothing is.
	Sum(ctx context.Context, name string) (string, error)
}

// Shelf is where copies are read from.
type Shelf interface {
	// List calls fn with the names of all that is there.
	List(ctx context.Context, fn func(name string) error) error
	// Fetch reads what is there under a name; os.ErrNotExist where nothing is.
	Fetch(ctx context.Context, name string, to io.Writer) error
}

// Bucket is the archive's second place. A zero one is none.
type Bucket struct {
	Name string // by which the registry remembers what is in it
	Place
	Shelf
}

// Copies is how the copying into the bucket stands.
type Copies struct {
	Bucket  string    `json:"bucket"`
	Waiting int       `json:"waiting"`          // days of clusters that have a revision to be copied
	Failed  string    `json:"failed,omitempty"` // why the last pass could not copy
	Since   time.Time `json:"since,omitzero"`   // when it began to fail
}

const (
	copyBatch = 100
	// slowest is what a bucket must take in a second, beside a minute for each file,
	// before it is given up until the next pass.
	slowest = 100 << 10
)

// copying is what the last passes saw of the bucket.
type copying struct {
	sync.Mutex
	failed string
	since  time.Time
}

// Copies is how the copying stands; nil where there is no bucket.
func (k *Keeper) Copies(ctx context.Context) (*Copies, error) {
	if k.config.Bucket.Name == "" {
		return nil, nil
	}
	waiting, err := k.source.Registry.CountUncopied(ctx, k.config.Bucket.Name)
	k.copying.Lock()
	defer k.copying.Unlock()
	return &Copies{Bucket: k.config.Bucket.Name, Waiting: waiting, Failed: k.copying.failed, Since: k.copying.since}, err
}

// copyAll copies revisions that are not in the bucket for as long as a pass may, each
// cluster's in the order of its manifests, and says whether the bucket takes them. What
// of the archive is damaged is passed over and is an error.
func (k *Keeper) copyAll(ctx context.Context) (works bool) {
	if k.config.Bucket.Name == "" {
		return true
	}
	began := k.clock.Now()
	works, err := k.copyFor(ctx, func() bool { return k.clock.Now().Sub(began) < k.config.PassFor })
	if ctx.Err() != nil {
		return false
	}
	k.copying.Lock()
	defer k.copying.Unlock()
	text := ""
	if err != nil {
		text = err.Error()
		k.metrics.copyFailures.Inc()
	}
	switch before := k.copying.failed; {
	case text == "" && before != "":
		k.log.Info("the archive is copied again", "bucket", k.config.Bucket.Name)
		k.copying.since = time.Time{}
	case text != "" && before == "":
		k.copying.since = k.clock.Now()
		fallthrough
	case text != before:
		k.log.Warn("the archive cannot be copied: minute rows stay until it is", "bucket", k.config.Bucket.Name, "err", err)
	}
	k.copying.failed = text
	return works
}

func (k *Keeper) copyFor(ctx context.Context, more func() bool) (works bool, failure error) {
	passed := 0 // over, for they are damaged
	for {
		list, err := k.source.Registry.Uncopied(ctx, k.config.Bucket.Name, passed+copyBatch)
		if err != nil {
			return false, err
		}
		if len(list) <= passed {
			return true, failure
		}
		for _, d := range list[passed:] {
			if !more() || ctx.Err() != nil {
				return true, failure
			}
			err := k.copyRevision(ctx, d)
			switch {
			case errors.Is(err, ErrDamaged), errors.Is(err, ErrAbsent), errors.Is(err, ErrSignature):
				passed++
				failure = cmp.Or(failure, err)
			case err != nil:
				return false, err
			}
		}
	}
}

// copyRevision copies a revision's files, then its manifest, then that as the newest.
// What is there already is not sent again.
func (k *Keeper) copyRevision(ctx context.Context, rev registry.ArchivedRevision) error {
	d, err := OpenRevision(k.config.Dir, rev.Cluster, rev.Day, rev.Revision, k.Key())
	if err != nil {
		return err
	}
	if d.Hash != rev.Manifest {
		return fmt.Errorf("%s of %s on %s is not the one that was recorded: %w", manifestName(rev.Revision), rev.Cluster, d.Manifest.Day, ErrDamaged)
	}
	for _, t := range d.Manifest.Tables {
		if err := k.copyAs(ctx, d, t.File, t.File, t.SHA256, t.Bytes); err != nil {
			return err
		}
	}
	names := []string{manifestName(rev.Revision)}
	if known, found, err := k.known(ctx, rev.Cluster, rev.Day); err != nil {
		return err
	} else if found && known.Revision == rev.Revision {
		names = append(names, newestName)
	}
	sum, bytes, err := hashFile(filepath.Join(d.dir, manifestName(rev.Revision)))
	if err != nil {
		return err
	}
	for _, name := range names { // both are this revision's
		if err := k.copyAs(ctx, d, manifestName(rev.Revision), name, sum, bytes); err != nil {
			return err
		}
	}
	return k.source.Registry.SetCopied(ctx, rev, k.config.Bucket.Name, k.clock.Now())
}

// copyAs copies a file of a day under a name beside it, unless it is there.
func (k *Keeper) copyAs(ctx context.Context, d *Day, file, as, sum string, bytes int64) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute+time.Duration(bytes/slowest)*time.Second)
	defer cancel()
	name, err := k.objectName(d, as)
	if err != nil {
		return err
	}
	if there, err := k.config.Bucket.Sum(ctx, name); err != nil || there == sum {
		return err
	}
	local := filepath.Join(d.dir, file)
	if got, n, err := hashFile(local); errors.Is(err, os.ErrNotExist) || err == nil && (got != sum || n != bytes) {
		return fmt.Errorf("%s of %s on %s is not copied: %w", file, d.Manifest.Cluster, d.Manifest.Day, ErrDamaged)
	} else if err != nil {
		return err
	}
	if err := k.config.Bucket.PutFile(ctx, name, local, sum, bytes); err != nil {
		return err
	}
	k.metrics.copied.Add(float64(bytes))
	return nil
}

// objectName is the name in the bucket of a file of a day: its path in the archive.
func (k *Keeper) objectName(d *Day, file string) (string, error) {
	relative, err := filepath.Rel(k.config.Dir, filepath.Join(d.dir, file))
	return filepath.ToSlash(relative), err
}

// inBucket says whether all files of an archived day are in the bucket, and its manifest
// by both names, and asks it. Where one is missing the day is copied again by the next pass.
func (k *Keeper) inBucket(ctx context.Context, d registry.ArchivedDay) (bool, error) {
	if k.config.Bucket.Name == "" {
		return true, nil
	}
	if d.CopiedTo != k.config.Bucket.Name {
		return false, nil
	}
	one, err := OpenRevision(k.config.Dir, d.Cluster, d.Day, d.Revision, k.Key())
	if err != nil {
		return false, fmt.Errorf("minute rows stay: %w", err)
	}
	manifest, _, err := hashFile(filepath.Join(one.dir, manifestName(d.Revision)))
	if err != nil {
		return false, fmt.Errorf("minute rows stay: %w", err)
	}
	files := append(slices.Clone(one.Manifest.Tables), Table{File: manifestName(d.Revision), SHA256: manifest}, Table{File: newestName, SHA256: manifest})
	for _, t := range files {
		name, err := k.objectName(one, t.File)
		if err != nil {
			return false, err
		}
		asking, cancel := context.WithTimeout(ctx, time.Minute)
		sum, err := k.config.Bucket.Sum(asking, name)
		cancel()
		if err != nil {
			return false, fmt.Errorf("minute rows stay: %w", err)
		}
		if sum != t.SHA256 {
			again := registry.ArchivedRevision{Cluster: d.Cluster, Day: d.Day, Revision: d.Revision, Manifest: d.Manifest}
			err := k.source.Registry.SetCopied(ctx, again, "", k.clock.Now())
			return false, errors.Join(fmt.Errorf("minute rows stay: %s of %s on %s is not in the bucket any more, and is copied again", t.File, d.Cluster, one.Manifest.Day), err)
		}
	}
	return true, nil
}

// fetched are the directories that VerifyShelf reads a copy into. Their names are no
// clusters'.
const fetched = ".verify-*"

// ErrBusy is a verification of the archive, or of the copy, while another one runs.
var ErrBusy = errors.New("the archive, or its copy, is being verified already")

// VerifyCopy recomputes what is in the bucket, as VerifyDir does with a directory: all
// manifests are read, and then the files of a day at a time, into a directory in the
// archive's. Error: ErrBusy, beside those of VerifyDir.
func (k *Keeper) VerifyCopy(ctx context.Context, scope Scope) (Checked, error) {
	if k.config.Bucket.Name == "" {
		return Checked{}, fmt.Errorf("there is no bucket with a copy: %w", ErrAbsent)
	}
	if !k.verifying.TryLock() {
		return Checked{}, ErrBusy
	}
	defer k.verifying.Unlock()
	if err := os.MkdirAll(k.config.Dir, 0o700); err != nil {
		return Checked{}, fmt.Errorf("verify a copy: %w", err)
	}
	return VerifyShelf(ctx, k.config.Bucket, scope, k.Key(), k.config.Dir)
}

// clearFetched removes what verifications left that a crash ended.
func (k *Keeper) clearFetched() error {
	if !k.verifying.TryLock() { // the loops were stopped and started, and a directory is in use
		return nil
	}
	defer k.verifying.Unlock()
	left, err := filepath.Glob(filepath.Join(escapeGlob(k.config.Dir), fetched))
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// VerifyShelf is VerifyDir of a copy. What is read goes into a directory in dir, which
// it removes.
func VerifyShelf(ctx context.Context, shelf Shelf, scope Scope, key []byte, dir string) (seen Checked, err error) {
	root, err := os.MkdirTemp(dir, fetched)
	if err != nil {
		return seen, fmt.Errorf("verify a copy: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	fetch := func(name string) error {
		local := filepath.Join(root, filepath.FromSlash(name))
		if !filepath.IsLocal(filepath.FromSlash(name)) {
			return fmt.Errorf("%q is no name of a file in the archive: %w", name, ErrDamaged)
		}
		if err := os.MkdirAll(filepath.Dir(local), 0o700); err != nil {
			return err
		}
		return replaceFile(local, func(to io.Writer) error { return shelf.Fetch(ctx, name, to) })
	}
	err = shelf.List(ctx, func(name string) error {
		if base := path.Base(name); !strings.HasPrefix(base, "manifest") || !strings.HasSuffix(base, ".json") || strings.Count(name, "/") != 4 {
			return nil
		}
		return fetch(name)
	})
	if err != nil {
		return seen, err
	}
	return verifyRoot(ctx, root, scope, key, func(d *Day, do func() error) error {
		relative, err := filepath.Rel(root, d.dir)
		if err != nil {
			return err
		}
		for _, t := range d.Manifest.Tables {
			if err := fetch(path.Join(filepath.ToSlash(relative), t.File)); err != nil && !errors.Is(err, os.ErrNotExist) { // what is missing is found by do
				return err
			}
		}
		err = do()
		for _, t := range d.Manifest.Tables {
			if gone := os.Remove(filepath.Join(d.dir, t.File)); !errors.Is(gone, os.ErrNotExist) {
				err = errors.Join(err, gone)
			}
		}
		return err
	})
}
