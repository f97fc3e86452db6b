package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// crate is a bucket in memory, which can be out of order.
type crate struct {
	objects map[string]string
	puts    int
	left    int // calls until it is out of order; below 0 it is not
}

var errOut = errors.New("the bucket is out of order")

func (c *crate) works() error {
	if c.left == 0 {
		return errOut
	}
	c.left--
	return nil
}

func (c *crate) PutFile(_ context.Context, name, path, sum string, bytes int64) error {
	if err := c.works(); err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if got := sha256.Sum256(text); err != nil || hex.EncodeToString(got[:]) != sum || int64(len(text)) != bytes {
		return errors.Join(err, errors.New("not what it should be"))
	}
	c.puts++
	c.objects[name] = string(text)
	return nil
}

func (c *crate) Sum(_ context.Context, name string) (string, error) {
	text, there := c.objects[name]
	if err := c.works(); err != nil || !there {
		return "", err
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:]), nil
}

func (c *crate) List(_ context.Context, fn func(string) error) error {
	for _, name := range slices.Sorted(maps.Keys(c.objects)) {
		if err := fn(name); err != nil {
			return err
		}
	}
	return c.works()
}

func (c *crate) Fetch(_ context.Context, name string, to io.Writer) error {
	text, there := c.objects[name]
	if !there {
		return os.ErrNotExist
	}
	_, err := io.WriteString(to, text)
	return err
}

func newCrate() (*crate, Bucket) {
	c := &crate{objects: make(map[string]string), left: -1}
	return c, Bucket{Name: "https://host/bucket", Place: c, Shelf: c}
}

// inDir are the files of the archive, by their names in a bucket.
func (w *world) inDir() map[string]string {
	w.t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(w.Dir(), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		name, err2 := filepath.Rel(w.Dir(), path)
		files[filepath.ToSlash(name)] = string(text)
		return errors.Join(err, err2)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return files
}

// TestNoRowGoesBeforeItsCopy: with a bucket, minute rows wait until each file of their
// day is there; a bucket that is out of order holds back nothing else; what was copied
// is not sent again. The control has no bucket, and the rows go.
func TestNoRowGoesBeforeItsCopy(t *testing.T) {
	c, bucket := newCrate()
	w := newWorld(t, Config{Bucket: bucket})
	w.days(3, 4*dayLength)
	c.left = 7
	w.clk.Set(first.Add(20 * dayLength))
	w.pass()
	if w.archived(edge, first).Revision != 1 || w.archived(edge, first.AddDate(0, 0, 1)).Revision != 1 {
		t.Fatal("a bucket that is out of order holds back the archive")
	}
	if w.inStore(schema.PodMinute, edge, first).Rows == 0 {
		t.Fatal("rows are gone that are in no bucket")
	}
	stands, err := w.Copies(t.Context())
	if err != nil || stands.Waiting == 0 || stands.Failed != errOut.Error() || !stands.Since.Equal(w.clk.Now()) {
		t.Errorf("copies: %+v %v", stands, err)
	}
	sent := c.puts
	c.left = -1
	w.clk.Advance(time.Hour)
	w.pass()
	if diff := len(w.inDir()) - c.puts; sent == 0 || diff != 0 {
		t.Errorf("%d files, %d were sent, %d of them before the bucket was out of order", len(w.inDir()), c.puts, sent)
	}
	if !maps.Equal(w.inDir(), c.objects) {
		t.Error("the bucket has other files")
	}
	if w.inStore(schema.PodMinute, edge, first).Rows > 0 {
		t.Error("rows stay that are copied")
	}
	stands, err = w.Copies(t.Context())
	if err != nil || *stands != (Copies{Bucket: bucket.Name}) {
		t.Errorf("copies: %+v %v", stands, err)
	}
	seen, err := w.VerifyCopy(t.Context(), Scope{})
	if err != nil || seen.Manifests < 4 || seen.Files == 0 {
		t.Errorf("verify: %+v %v", seen, err)
	}
	w.settle(first, 3, 5, 77)
	w.work()
	w.clk.Advance(time.Hour)
	w.work()
	w.pass()
	if w.archived(edge, first).Revision != 2 || !maps.Equal(w.inDir(), c.objects) {
		t.Error("the second revision is not in the bucket, or the first one is not any more")
	}
	if left, err := filepath.Glob(filepath.Join(w.Dir(), ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	control := newWorld(t, Config{})
	control.days(3, 4*dayLength)
	control.clk.Set(first.Add(20 * dayLength))
	control.pass()
	if control.inStore(schema.PodMinute, edge, first).Rows > 0 {
		t.Error("without a bucket rows stay")
	}
}

// TestBucketThatLosesAFile: it is seen before rows are deleted, and copied again.
func TestBucketThatLosesAFile(t *testing.T) {
	c, bucket := newCrate()
	w := newWorld(t, Config{Bucket: bucket})
	w.days(2, 4*dayLength)
	w.pass()
	const name = "edge-a/2026/11/01/pod-1.parquet"
	whole := c.objects[name]
	delete(c.objects, name)
	if _, err := w.VerifyCopy(t.Context(), Scope{Cluster: edge}); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "pod-1.parquet of edge-a on 2026-11-01") {
		t.Errorf("verify without a file: %v", err)
	}
	c.objects[name] = "x" + whole
	if _, err := w.VerifyCopy(t.Context(), Scope{Cluster: edge}); !errors.Is(err, ErrDamaged) {
		t.Errorf("verify of a changed file: %v", err)
	}
	w.clk.Set(first.Add(15 * dayLength))
	w.Pass(t.Context())
	if w.inStore(schema.PodMinute, edge, first).Rows == 0 || !strings.Contains(w.failed[edge], "is not in the bucket any more") {
		t.Errorf("rows are gone, or: %v", w.failed)
	}
	w.clk.Advance(time.Hour)
	w.pass()
	if w.inStore(schema.PodMinute, edge, first).Rows > 0 || c.objects[name] != whole {
		t.Error("it is not copied again, or rows stay")
	}
}

// TestOneVerificationOfTheCopy runs at a time, in the archive's directory, and none of the
// archive meanwhile; what one left that a crash ended is no cluster and goes at the next start.
func TestOneVerificationOfTheCopy(t *testing.T) {
	c, bucket := newCrate()
	w := newWorld(t, Config{Bucket: bucket})
	w.days(2, 4*dayLength)
	w.pass()
	left := filepath.Join(w.Dir(), ".verify-1", "edge-a", "2026", "11", "01")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	w.config.Bucket.Shelf = listed{c, func() {
		if _, err := w.VerifyCopy(t.Context(), Scope{}); !errors.Is(err, ErrBusy) {
			t.Errorf("another one: %v", err)
		}
		if _, err := w.Verify(t.Context(), Scope{}); !errors.Is(err, ErrBusy) {
			t.Errorf("one of the archive: %v", err)
		}
		if there, err := filepath.Glob(filepath.Join(w.Dir(), fetched)); err != nil || len(there) != 2 {
			t.Errorf("directories: %v %v", there, err)
		}
	}}
	if _, err := w.VerifyCopy(t.Context(), Scope{}); err != nil {
		t.Error(err)
	}
	if seen, err := VerifyDir(t.Context(), w.Dir(), Scope{}, w.Key()); err != nil || seen.Clusters != 2 {
		t.Errorf("the archive: %+v %v", seen, err)
	}
	stopped, end := context.WithCancel(t.Context())
	end()
	if err := w.Run(stopped); err != nil {
		t.Error(err)
	}
	if there, err := filepath.Glob(filepath.Join(w.Dir(), fetched)); err != nil || len(there) > 0 {
		t.Errorf("left: %v %v", there, err)
	}
}

// listed is a bucket of which something happens when it is listed.
type listed struct {
	*crate
	do func()
}

func (l listed) List(ctx context.Context, fn func(string) error) error {
	l.do()
	return l.crate.List(ctx, fn)
}

// TestBucketThatLosesAManifest: rows stay, for without it nobody can read the copy.
func TestBucketThatLosesAManifest(t *testing.T) {
	for _, lost := range []string{"edge-a/2026/11/01/manifest-1.json", "edge-a/2026/11/01/manifest.json"} {
		c, bucket := newCrate()
		w := newWorld(t, Config{Bucket: bucket})
		w.days(2, 4*dayLength)
		w.pass()
		whole := c.objects[lost]
		delete(c.objects, lost)
		w.clk.Set(first.Add(15 * dayLength))
		w.Pass(t.Context())
		if w.inStore(schema.PodMinute, edge, first).Rows == 0 || !strings.Contains(w.failed[edge], filepath.Base(lost)+" of edge-a on 2026-11-01 is not in the bucket any more") {
			t.Errorf("without %s rows are gone, or: %v", lost, w.failed)
		}
		w.clk.Advance(time.Hour)
		w.pass()
		if w.inStore(schema.PodMinute, edge, first).Rows > 0 || whole == "" || c.objects[lost] != whole {
			t.Errorf("%s is not copied again, or rows stay", lost)
		}
	}
}

// TestDamagedFileIsNotCopied, and holds back no other day's copy.
func TestDamagedFileIsNotCopied(t *testing.T) {
	c, bucket := newCrate()
	w := newWorld(t, Config{})
	w.days(3, 4*dayLength)
	w.pass()
	dir, err := dayDir(w.Dir(), edge, first)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "pod-1.parquet"), []byte("x"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.config.Bucket = bucket
	w.pass()
	stands, err := w.Copies(t.Context())
	if err != nil || stands.Waiting != 1 || !strings.Contains(stands.Failed, "pod-1.parquet of edge-a on 2026-11-01 is not copied") {
		t.Errorf("copies: %+v %v", stands, err)
	}
	if c.objects["edge-a/2026/11/01/pod-1.parquet"] != "" || c.objects["edge-a/2026/11/01/manifest-1.json"] != "" || c.objects["edge-a/2026/11/02/manifest.json"] == "" {
		t.Errorf("the bucket has %v", slices.Sorted(maps.Keys(c.objects)))
	}
}

// TestPassThatIsShort goes on where it ended, and says how many days wait.
func TestPassThatIsShort(t *testing.T) {
	w := newWorld(t, Config{PassFor: 1})
	w.days(4, 4*dayLength)
	w.clk.Advance(time.Hour)
	w.gate = slow{w.clk.Advance}
	for _, want := range []int{6, 5} { // the boxes' days, too
		w.pass()
		if w.Waiting() != want {
			t.Errorf("%d days wait, want %d", w.Waiting(), want)
		}
	}
	w.config.PassFor = time.Hour
	w.pass()
	if w.Waiting() != 0 {
		t.Errorf("%d days wait", w.Waiting())
	}
}

// slow is a gate behind which time goes by.
type slow struct{ by func(time.Duration) }

func (s slow) Alone(ctx context.Context, _ string, do func(context.Context) error) error {
	s.by(time.Second)
	return do(ctx)
}
