package archive

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Files compares the files of the day with their sizes and hashes in the manifest.
// Error: ErrDamaged.
func (d *Day) Files(ctx context.Context) error {
	for _, t := range d.Manifest.Tables {
		if err := ctx.Err(); err != nil {
			return err
		}
		sum, bytes, err := hashFile(filepath.Join(d.dir, t.File))
		switch {
		case errors.Is(err, os.ErrNotExist):
			err = fmt.Errorf("%w: there is no such file", ErrDamaged)
		case err == nil && bytes != t.Bytes:
			err = fmt.Errorf("%w: it has %d bytes, and should have %d", ErrDamaged, bytes, t.Bytes)
		case err == nil && sum != t.SHA256:
			err = fmt.Errorf("%w: its SHA-256 is %s, and should be %s", ErrDamaged, sum, t.SHA256)
		}
		if err != nil {
			return fmt.Errorf("%s of %s on %s: %w", t.File, d.Manifest.Cluster, d.Manifest.Day, err)
		}
	}
	return nil
}

func hashFile(path string) (sum string, bytes int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	h := sha256.New()
	bytes, err = io.Copy(h, file)
	return hex.EncodeToString(h.Sum(nil)), bytes, errors.Join(err, file.Close())
}

// Verify recomputes a day: its files' hashes, the rows and digest of each table, and
// of each window those that the table window has. It stops at the first thing that is
// wrong: ErrDamaged.
func (d *Day) Verify(ctx context.Context) error {
	if err := d.Files(ctx); err != nil {
		return err
	}
	for _, t := range d.Manifest.Tables {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := d.verifyTable(t); err != nil {
			return err
		}
	}
	return nil
}

func (d *Day) verifyTable(t Table) error {
	windows := make(map[int64]*recorded)
	if t.Name == t.Measurement && t.Name != WindowTable { // else it has none of its own
		var err error
		if windows, err = d.windows(t.Name); err != nil {
			return err
		}
	}
	var all tally
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%s of %s on %s: %w: %s", t.File, d.Manifest.Cluster, d.Manifest.Day, ErrDamaged, fmt.Sprintf(format, args...))
	}
	err := d.Rows(t.Name, func(p influxsync.Point) error {
		all.add(p)
		if held := windows[p.Time.Truncate(schema.Minute).UnixNano()]; held != nil {
			held.found.add(p)
		} else if len(windows) > 0 {
			return wrong("a row at %s is in no window", p.Time.Format(time.RFC3339Nano))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if digest, err := parseDigest(t.Digest); err != nil || all != (tally{t.Rows, digest}) {
		return wrong("it has %d rows with digest %s, and should have %d with %s", all.Rows, digestText(all.Digest), t.Rows, t.Digest)
	}
	for from, held := range windows {
		if want := (tally{held.rows, influxsync.Digest(held.digest)}); held.found != want {
			return wrong("the window of %s has %d rows with digest %s, and should have %d with %s", time.Unix(0, from).UTC().Format(time.RFC3339),
				held.found.Rows, digestText(held.found.Digest), want.Rows, digestText(want.Digest))
		}
	}
	return nil
}

// windows are those of a table: rows and digest as archived, the rest as the journal
// said it.
func (d *Day) windows(table string) (map[int64]*recorded, error) {
	windows := make(map[int64]*recorded)
	err := d.Rows(WindowTable, func(p influxsync.Point) error {
		if p.Tag("table") != table {
			return nil
		}
		store, _ := p.Field("store")
		reason, _ := p.Field("reason")
		windows[p.Time.UnixNano()] = &recorded{table: table, store: store.Str(), reason: reason.Str(), to: p.Int("window_to"), revision: p.Int("revision"),
			rows: p.Int("rows"), digest: p.Int("digest"), journal: tally{p.Int("journal_rows"), influxsync.Digest(p.Int("journal_digest"))},
			coverage: p.Int("coverage"), entry: p.Int("entry_time")}
		return nil
	})
	return windows, err
}

// Checked is what a verification looked at.
type Checked struct {
	Clusters  int   `json:"clusters"`
	Manifests int   `json:"manifests"`
	Files     int   `json:"files"`
	Rows      int64 `json:"rows"`
	Bytes     int64 `json:"bytes"`
	Revised   int   `json:"revised"` // days of which more has come since; the leader alone knows
	Sealed    int   `json:"sealed"`  // revisions that closed periods name; the leader alone knows
	Lost      int   `json:"lost"`    // days of closed periods that could not be archived; the leader alone knows
}

// Scope says what of an archive is verified: a cluster, and of that a day. Zero
// values are all.
type Scope struct {
	Cluster string
	Day     time.Time
}

// VerifyDir recomputes an archive with nothing but its files: of each cluster the
// chain and the signatures of all manifests, then the files, rows and digests of those
// in the scope. It stops at the first thing that is wrong and says what. key is the
// public key that is trusted; nil takes the manifests' own.
func VerifyDir(ctx context.Context, root string, scope Scope, key ed25519.PublicKey) (Checked, error) {
	return VerifyTelling(ctx, root, scope, key, func(string, string) {})
}

// VerifyTelling is VerifyDir that tells of each revision of a day, before it is read,
// which cluster and UTC day it is of.
func VerifyTelling(ctx context.Context, root string, scope Scope, key ed25519.PublicKey, tell func(cluster, day string)) (Checked, error) {
	return verifyRoot(ctx, root, scope, key, func(d *Day, do func() error) error {
		tell(d.Manifest.Cluster, d.Manifest.Day)
		return do()
	})
}

// verifyRoot is VerifyDir where with is around the verification of each day.
func verifyRoot(ctx context.Context, root string, scope Scope, key ed25519.PublicKey, with func(d *Day, do func() error) error) (Checked, error) {
	var seen Checked
	clusters, err := Clusters(root)
	if err != nil {
		return seen, err
	}
	for _, cluster := range clusters {
		if scope.Cluster != "" && cluster != scope.Cluster {
			continue
		}
		chain, err := Chain(root, cluster, key)
		if err != nil {
			return seen, err
		}
		seen.Clusters++
		seen.Manifests += len(chain)
		for _, d := range chain {
			if !scope.Day.IsZero() && d.Manifest.Day != scope.Day.UTC().Format(time.DateOnly) {
				continue
			}
			if err := with(d, func() error { return d.Verify(ctx) }); err != nil {
				return seen, err
			}
			seen.Files += len(d.Manifest.Tables)
			seen.Rows += d.Manifest.Rows()
			seen.Bytes += d.Manifest.Bytes()
		}
	}
	if seen.Clusters == 0 {
		if scope.Cluster == "" {
			return seen, fmt.Errorf("nothing is archived in %s: %w", root, ErrAbsent)
		}
		return seen, fmt.Errorf("cluster %s has nothing in %s: %w", scope.Cluster, root, ErrAbsent)
	}
	return seen, nil
}

// Chain are all revisions of all days of a cluster, by their place in the chain of
// manifests, which is verified: each is signed, none is missing, each names the hash
// of the one before.
func Chain(root, cluster string, key ed25519.PublicKey) ([]*Day, error) {
	days, err := Days(root, cluster)
	if err != nil {
		return nil, err
	}
	bySequence := make(map[int64]*Day)
	for _, day := range days {
		dir, err := dayDir(root, cluster, day)
		if err != nil {
			return nil, err
		}
		there, err := revisions(dir)
		if err != nil {
			return nil, err
		}
		for _, revision := range there {
			d, err := OpenRevision(root, cluster, day, revision, key)
			if err != nil {
				return nil, err
			}
			if other := bySequence[d.Manifest.Sequence]; other != nil {
				return nil, fmt.Errorf("chain of %s: %s and %s are both the manifest %d: %w", cluster, other.Manifest.Day, d.Manifest.Day, d.Manifest.Sequence, ErrDamaged)
			}
			bySequence[d.Manifest.Sequence] = d
		}
		if err := newestStands(root, cluster, day, there, key); err != nil {
			return nil, err
		}
	}
	chain := make([]*Day, 0, len(bySequence))
	previous := ""
	for sequence := int64(1); len(chain) < len(bySequence); sequence++ {
		d := bySequence[sequence]
		if d == nil {
			return nil, fmt.Errorf("chain of %s: the manifest %d is missing: %w", cluster, sequence, ErrDamaged)
		}
		if d.Manifest.Previous != previous {
			return nil, fmt.Errorf("chain of %s: the manifest %d, of %s, follows %.12s…, not %.12s…: %w", cluster, sequence, d.Manifest.Day, d.Manifest.Previous, previous, ErrDamaged)
		}
		chain, previous = append(chain, d), d.Hash
	}
	return chain, nil
}

// newestStands says whether manifest.json is the newest revision's.
func newestStands(root, cluster string, day time.Time, revisions []int64, key ed25519.PublicKey) error {
	if len(revisions) == 0 {
		return nil // a directory that a crash left without a manifest
	}
	newest, err := OpenSigned(root, cluster, day, key)
	if err == nil && newest.Manifest.Revision != revisions[len(revisions)-1] {
		err = fmt.Errorf("%s of %s on %s is revision %d, and the newest is %d: %w", newestName, cluster, newest.Manifest.Day, newest.Manifest.Revision,
			revisions[len(revisions)-1], ErrDamaged)
	}
	return err
}

// Verify is VerifyDir by the leader's key, and compares the archive with what the
// registry recorded, with the ledger, and with what closed periods name. Days that were
// revised since are counted. Error: ErrBusy, beside those of VerifyDir.
func (k *Keeper) Verify(ctx context.Context, scope Scope) (Checked, error) {
	if !k.verifying.TryLock() {
		return Checked{}, ErrBusy
	}
	defer k.verifying.Unlock()
	seen, err := VerifyDir(ctx, k.config.Dir, scope, k.Key())
	if err != nil {
		return seen, err
	}
	w := schema.Window{From: time.Unix(0, 0), To: k.clock.Now()}
	if !scope.Day.IsZero() {
		w = schema.Window{From: scope.Day, To: scope.Day.Add(dayLength)}
	}
	days, err := k.source.Registry.Archived(ctx, scope.Cluster, w)
	if err != nil {
		return seen, err
	}
	if len(days) == 0 {
		return seen, fmt.Errorf("%s on %s: %w", cmp.Or(scope.Cluster, "all clusters"), w, ErrAbsent)
	}
	for _, d := range days {
		one, err := OpenSigned(k.config.Dir, d.Cluster, d.Day, k.Key())
		if err != nil {
			return seen, err
		}
		if one.Hash != d.Manifest {
			return seen, fmt.Errorf("%s of %s on %s is not the one that was recorded, revision %d: %w", newestName, d.Cluster, one.Manifest.Day, d.Revision, ErrDamaged)
		}
		c, err := k.source.look(ctx, d.Cluster, d.Day)
		if err != nil {
			return seen, err
		}
		if c.state != d.State {
			seen.Revised++
			continue
		}
		if err := c.compare(ctx, one); err != nil {
			return seen, err
		}
	}
	date := ""
	if !scope.Day.IsZero() {
		date = scope.Day.UTC().Format(time.DateOnly)
	}
	sealed, err := k.source.Registry.SealedDays(ctx, scope.Cluster, date)
	if err != nil {
		return seen, err
	}
	for _, d := range sealed {
		if err := k.Sealed(d); err != nil {
			return seen, err
		}
		if d.Lost() {
			seen.Lost++
		} else {
			seen.Sealed++
		}
	}
	return seen, nil
}

// compare compares the archived windows with the ledger.
func (c *content) compare(ctx context.Context, one *Day) error {
	if c.cluster == schema.BoxCluster {
		return nil
	}
	for _, table := range schema.Pulled {
		ledger, err := c.ledger(ctx, table)
		if err != nil {
			return err
		}
		archived, err := one.windows(table.Name)
		if err != nil {
			return err
		}
		wrong := len(ledger) != len(archived)
		for from, held := range ledger {
			in := archived[from]
			wrong = wrong || in == nil || in.journal != (tally{held.rows, influxsync.Digest(held.digest)})
		}
		if wrong {
			return fmt.Errorf("windows of %s of %s on %s are not those of the ledger: %w", table.Name, c.cluster, one.Manifest.Day, ErrDamaged)
		}
	}
	return nil
}
