package archive

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// DefaultKeep is how long minute rows stay in the centre's store after their day.
const DefaultKeep = 14 * dayLength

// Config says where the archive is and what is deleted. Zero values are the defaults.
type Config struct {
	Dir  string
	Keep time.Duration // minute rows stay so long after the end of their day; 0 is DefaultKeep, below 0 for ever
	// Interval is the time between two passes: 10 minutes. PassFor is how long one
	// archives before it goes on to delete, and how long it copies: 10 minutes.
	Interval time.Duration
	PassFor  time.Duration
	Bucket   Bucket // that each file is copied into before minute rows are deleted
}

// Validate lists what is wrong.
func (c Config) Validate() error {
	if c.Keep > 0 && c.Keep < registry.FoldAfter {
		return fmt.Errorf("keep-minutes: %s is shorter than %s, before which no day is archived", c.Keep, registry.FoldAfter)
	}
	return nil
}

// Gate keeps a cluster from being pulled: *manager.Manager.
type Gate interface {
	Alone(ctx context.Context, cluster string, do func(context.Context) error) error
}

// Keeper archives days, deletes their minute rows, and brings them back. It is safe
// for concurrent use.
type Keeper struct {
	config  Config
	source  Source
	signer  Signer
	gate    Gate
	clock   clock.Clock
	log     *slog.Logger
	metrics *metrics

	mu      sync.Mutex      // one day is written, deleted or brought back at a time
	adopted map[string]bool // clusters whose manifests are all recorded
	// deleting is held from the moment at which a day is found to have nothing due
	// until its rows are gone: who computes something of it looks before or after.
	deleting sync.Mutex

	pass   sync.Mutex        // of Pass, with what follows
	failed map[string]string // last error by cluster
	last   string            // cluster that was archived last when the time of a pass was over

	running   running
	verifying sync.Mutex // of Verify and VerifyCopy: one reads all of it at a time
	copying   copying
	waiting   atomic.Int64 // days that the last pass left to be archived
}

// New makes a keeper. It fails only where its metrics are registered already.
func New(config Config, source Source, signer Signer, gate Gate, clk clock.Clock, log *slog.Logger, registerer prometheus.Registerer) (*Keeper, error) {
	config.Keep = cmp.Or(config.Keep, DefaultKeep)
	config.Interval = cmp.Or(config.Interval, 10*time.Minute)
	config.PassFor = cmp.Or(config.PassFor, 10*time.Minute)
	m, err := newMetrics(registerer, source.Registry)
	if err != nil {
		return nil, err
	}
	return &Keeper{config: config, source: source, signer: signer, gate: gate, clock: clk, log: log, metrics: m,
		failed: make(map[string]string), adopted: make(map[string]bool)}, nil
}

// Dir is where the archive is.
func (k *Keeper) Dir() string { return k.config.Dir }

// Key is the public key of the manifests' signatures.
func (k *Keeper) Key() ed25519.PublicKey { return k.signer.BookKey() }

// Run clears up after a crash, makes passes until ctx ends, and then ends what Seal has under way.
func (k *Keeper) Run(ctx context.Context) error {
	k.running.begin(ctx)
	if err := k.clearFetched(); err != nil {
		k.log.Warn("what was fetched of the copy stays", "err", err)
	}
	for k.clock.Sleep(ctx, k.config.Interval) == nil { // the end of ctx is the way to stop
		k.Pass(ctx)
	}
	return nil
}

// Pass archives what has settled, copies it, and deletes what may go. What fails of a
// cluster is logged when it changes, counted, and tried again by the next pass; the other
// clusters go on.
func (k *Keeper) Pass(ctx context.Context) {
	k.pass.Lock()
	defer k.pass.Unlock()
	clusters, err := k.source.Registry.Known(ctx)
	if err != nil {
		k.note(ctx, "", err)
		return
	}
	clusters = append(clusters, schema.BoxCluster)
	failures := make(map[string]error)
	began, waiting := k.clock.Now(), 0
	more := func() bool { return k.clock.Now().Sub(began) < k.config.PassFor }
	for _, cluster := range k.fromLast(clusters) {
		err := k.adoptOnce(ctx, cluster)
		if err == nil {
			var left int
			left, err = k.archive(ctx, cluster, more)
			waiting += left
		}
		if failures[cluster] = err; ctx.Err() != nil {
			return
		}
	}
	k.waiting.Store(int64(waiting))
	works := k.copyAll(ctx)
	for _, cluster := range clusters {
		err := failures[cluster]
		if works { // else no row may go
			err = errors.Join(err, k.prune(ctx, cluster))
		}
		if ctx.Err() != nil {
			return
		}
		k.note(ctx, cluster, err)
	}
}

// fromLast are clusters from the one on in which the time of the last pass was over, so
// that one with much to do does not hold back the others for good.
func (k *Keeper) fromLast(clusters []string) []string {
	at := max(slices.Index(clusters, k.last), 0)
	k.last = ""
	return append(slices.Clone(clusters[at:]), clusters[:at]...)
}

// note counts a failure and logs it when it is another one than before.
func (k *Keeper) note(ctx context.Context, cluster string, err error) {
	before := k.failed[cluster]
	if err == nil {
		delete(k.failed, cluster)
		if before != "" {
			k.log.Info("the archive goes on", "cluster", cluster)
		}
		return
	}
	k.metrics.failures.Inc()
	k.failed[cluster] = err.Error()
	if before != err.Error() && ctx.Err() == nil {
		k.log.Warn("a day cannot be archived", "cluster", cluster, "err", err)
	}
}

// archive archives the days of a cluster, the oldest first, for as long as there is
// time, and returns how many are left: for want of time, since they have not settled, or
// since they cannot be archived. A day that cannot be does not hold back the others.
func (k *Keeper) archive(ctx context.Context, cluster string, more func() bool) (left int, err error) {
	days, err := k.source.Registry.Archivable(ctx, cluster, k.clock.Now().Add(-registry.FoldAfter))
	if err != nil {
		return 0, err
	}
	var failures []error
	for i, day := range days {
		if ctx.Err() != nil || !more() {
			if k.last == "" {
				k.last = cluster
			}
			left += len(days) - i
			break
		}
		_, settled, err := k.archiveDay(ctx, cluster, day)
		failures = append(failures, err)
		if err != nil || !settled {
			left++
		}
	}
	return left, errors.Join(failures...)
}

// Waiting is how many days of clusters the last pass left that are to be archived.
func (k *Keeper) Waiting() int { return int(k.waiting.Load()) }

// Archive archives a day where it has settled and is not archived as it is; it says
// whether it did.
func (k *Keeper) Archive(ctx context.Context, cluster string, day time.Time) (written bool, err error) {
	written, _, err = k.archiveDay(ctx, cluster, day)
	return written, err
}

func (k *Keeper) archiveDay(ctx context.Context, cluster string, day time.Time) (written, settled bool, err error) {
	began := k.clock.Now() // what comes while the day is looked at is not seen
	c, err := k.source.look(ctx, cluster, day)
	if err != nil || !c.settled {
		return false, false, err
	}
	known, found, err := k.known(ctx, cluster, day)
	if err != nil {
		return false, true, err
	}
	if found && known.State == c.state {
		return false, true, k.source.Registry.ArchiveChecked(ctx, cluster, day, began)
	}
	written, err = k.revise(ctx, c, "")
	return written, written, err
}

// revise archives a day as it was looked at, with why it is done before it has settled;
// not if it has changed meanwhile.
func (k *Keeper) revise(ctx context.Context, c *content, unsettled string) (written bool, err error) {
	for _, gone := range []string{c.cluster, schema.BoxCluster} { // what is revised, and its boxes
		if err := k.Restore(ctx, gone, c.day.From); err != nil {
			return false, err
		}
	}
	err = k.alone(ctx, c.cluster, func(ctx context.Context) error {
		written, err = k.write(ctx, c, unsettled)
		return err
	})
	return written, err
}

// alone runs do while the cluster is not pulled and no other day is worked on.
func (k *Keeper) alone(ctx context.Context, cluster string, do func(context.Context) error) error {
	locked := func(ctx context.Context) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		return do(ctx)
	}
	if cluster == schema.BoxCluster { // nothing of it is pulled
		return locked(ctx)
	}
	return k.gate.Alone(ctx, cluster, locked)
}

func (k *Keeper) known(ctx context.Context, cluster string, day time.Time) (registry.ArchivedDay, bool, error) {
	days, err := k.source.Registry.Archived(ctx, cluster, schema.Window{From: day, To: day.Add(dayLength)})
	if err != nil || len(days) == 0 {
		return registry.ArchivedDay{}, false, err
	}
	return days[0], true, nil
}

// write writes a revision and its manifest, where the day is still as it was looked
// at and not archived so. One that has not settled is written as it is by now: each run
// of a processor changes it.
func (k *Keeper) write(ctx context.Context, c *content, unsettled string) (bool, error) {
	if err := k.adopting(ctx, c.cluster); err != nil { // the chain goes on from what is there
		return false, err
	}
	began := k.clock.Now() // what comes after this is another revision
	now, err := k.source.look(ctx, c.cluster, c.day.From)
	if err != nil || now.settled != c.settled || c.settled && now.state != c.state {
		return false, err
	}
	known, found, err := k.known(ctx, c.cluster, c.day.From)
	if err != nil || found && known.State == now.state { // another was first
		return false, err
	}
	dir, err := dayDir(k.config.Dir, c.cluster, c.day.From)
	if err != nil {
		return false, err
	}
	if err := makeDay(k.config.Dir, dir); err != nil {
		return false, fmt.Errorf("archive of %s: %w", c.cluster, err)
	}
	revision, err := nextRevision(known, dir)
	if err != nil {
		return false, err
	}
	w := &dayWriter{content: now, dir: dir, revision: revision}
	if err := w.writeDay(ctx); err != nil {
		return false, err
	}
	sequence, previous, err := k.source.Registry.ArchiveHead(ctx, c.cluster)
	if err != nil {
		return false, err
	}
	m := Manifest{Format: manifestFormat, Cluster: c.cluster, Day: c.day.From.Format(time.DateOnly), Revision: revision, Sequence: sequence + 1,
		Made: began.UTC(), State: now.state, Unsettled: unsettled, Previous: previous, Tables: w.tables}
	k.adopted[c.cluster] = false // until it is recorded
	hash, err := k.publish(dir, m)
	if err != nil {
		return false, err
	}
	if err := k.record(ctx, &Day{Manifest: m, Hash: hash, dir: dir}); err != nil {
		return false, err
	}
	k.adopted[c.cluster] = true
	k.metrics.wrote(m, k.clock.Now().Sub(began))
	k.log.Info("day archived", "cluster", c.cluster, "day", m.Day, "revision", revision, "rows", m.Rows(), "bytes", m.Bytes(), "unsettled", unsettled)
	return true, nil
}

// nextRevision is one above all that there are: what is signed is not overwritten.
func nextRevision(known registry.ArchivedDay, dir string) (int64, error) {
	there, err := revisions(dir)
	next := known.Revision + 1
	for _, revision := range there {
		next = max(next, revision+1)
	}
	return next, err
}

// adoptOnce is adopting while nothing is written.
func (k *Keeper) adoptOnce(ctx context.Context, cluster string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.adopting(ctx, cluster)
}

// adopting adopts what is there of a cluster, once; mu is held.
func (k *Keeper) adopting(ctx context.Context, cluster string) error {
	if k.adopted[cluster] {
		return nil
	}
	err := k.adopt(ctx, cluster)
	k.adopted[cluster] = err == nil
	return err
}

// adopt records the manifests that go on where the recorded ones end: a crash came
// between the two, or the registry was restored from an older copy.
func (k *Keeper) adopt(ctx context.Context, cluster string) error {
	days, err := Days(k.config.Dir, cluster)
	if err != nil {
		return err
	}
	sequence, head, err := k.source.Registry.ArchiveHead(ctx, cluster)
	if err != nil {
		return err
	}
	further := make(map[int64]*Day)
	var recorded []registry.ArchivedDay // also of a time before revisions were
	for _, day := range days {
		dir, err := dayDir(k.config.Dir, cluster, day)
		if err != nil {
			return err
		}
		there, err := revisions(dir)
		if err != nil {
			return err
		}
		for _, revision := range there {
			d, err := OpenRevision(k.config.Dir, cluster, day, revision, k.Key())
			switch {
			case err != nil: // what is damaged is not adopted; Verify says so
			case d.Manifest.Sequence > sequence:
				further[d.Manifest.Sequence] = d
			default:
				recorded = append(recorded, d.registered(day))
			}
		}
	}
	if err := k.source.Registry.NoteRevisions(ctx, recorded); err != nil {
		return err
	}
	for {
		d := further[sequence+1]
		if d == nil || d.Manifest.Previous != head {
			return nil
		}
		if err := k.record(ctx, d); err != nil {
			return err
		}
		sequence, head = d.Manifest.Sequence, d.Hash
	}
}

// record makes a manifest that is there the newest of its day.
func (k *Keeper) record(ctx context.Context, d *Day) error {
	m := d.Manifest
	day, err := m.Begins()
	if err != nil {
		return err
	}
	name := filepath.Join(d.dir, newestName)
	if _, hash, _, err := readManifest(name, k.Key()); err != nil || hash != d.Hash {
		text, err := readBounded(filepath.Join(d.dir, manifestName(m.Revision)))
		if err == nil {
			err = replaceBytes(name, text)
		}
		if err != nil {
			return fmt.Errorf("adopt manifest of %s on %s: %w", m.Cluster, m.Day, err)
		}
	}
	return k.source.Registry.PutArchived(ctx, d.registered(day))
}

// registered is what the registry has of a revision of a day.
func (d *Day) registered(day time.Time) registry.ArchivedDay {
	m := d.Manifest
	return registry.ArchivedDay{Cluster: m.Cluster, Day: day, Revision: m.Revision, Sequence: m.Sequence,
		State: m.State, Manifest: d.Hash, Rows: m.Rows(), Bytes: m.Bytes(), Archived: m.Made}
}

// publish writes the manifest by its revision, and then as the newest.
func (k *Keeper) publish(dir string, m Manifest) (hash string, err error) {
	file, hash, err := sign(m, k.signer)
	if err != nil {
		return "", err
	}
	for _, name := range []string{manifestName(m.Revision), newestName} {
		if err := replaceBytes(filepath.Join(dir, name), file); err != nil {
			return "", fmt.Errorf("write manifest of %s on %s: %w", m.Cluster, m.Day, err)
		}
	}
	return hash, nil
}

// List are the archived days of a cluster, or of all for "", that begin in the window.
func (k *Keeper) List(ctx context.Context, cluster string, w schema.Window) ([]registry.ArchivedDay, error) {
	return k.source.Registry.Archived(ctx, cluster, w)
}

// Show is the newest revision of an archived day. Errors: those of OpenSigned.
func (k *Keeper) Show(cluster string, day time.Time) (Day, error) {
	d, err := OpenSigned(k.config.Dir, cluster, day, k.Key())
	if err != nil {
		return Day{}, err
	}
	return *d, nil
}

// oldestFirst sorts days.
func oldestFirst(days []registry.ArchivedDay) {
	slices.SortFunc(days, func(a, b registry.ArchivedDay) int { return a.Day.Compare(b.Day) })
}
