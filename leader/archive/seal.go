package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// sealTries is how often a day is looked at again that changes while it is archived.
const sealTries = 3

// ErrChanging is a day that changed each time that it was to be archived.
var ErrChanging = errors.New("the day changes while it is archived: try again in a minute")

// Seal looks at the UTC days that a window touches, and archives those that the archive
// does not have as they are, also those that have not settled, whose manifests say so.
// It names the newest revision of each day, which is there and signed, and says how many
// it has written; a day that ended and whose rows are not those of the journal is named
// as lost. What is written stays where an error or the end of ctx comes, and a day that
// has begun is written: called again, it goes on from there. Errors: ErrRows, ErrChanging, ErrDamaged, ErrSignature.
func (k *Keeper) Seal(ctx context.Context, cluster string, w schema.Window) (days []registry.SealedDay, written int, err error) {
	if err := k.adoptOnce(ctx, cluster); err != nil {
		return nil, 0, err
	}
	for day := w.From.UTC().Truncate(dayLength); day.Before(w.To); day = day.Add(dayLength) {
		if err := ctx.Err(); err != nil {
			return nil, written, err
		}
		whole, ended := k.running.detach(ctx) // who asks may be gone long before a large day is written
		wrote, err := k.archiveNow(whole, cluster, day)
		ended()
		if wrote {
			written++
		}
		if errors.Is(err, ErrRows) && !k.clock.Now().Before(day.Add(dayLength)) { // else they may be on their way
			days = append(days, lost(cluster, day, err))
			continue
		}
		if err != nil {
			return nil, written, fmt.Errorf("archive %s on %s: %w", cluster, day.Format(time.DateOnly), err)
		}
		sealed, err := k.sealed(ctx, cluster, day)
		if err != nil {
			return nil, written, err
		}
		days = append(days, sealed)
	}
	return days, written, nil
}

// running is Run's context, by whose end that ends which has lost its caller's.
type running struct {
	mu  sync.Mutex
	ctx context.Context
}

func (r *running) begin(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ctx = ctx
}

// detach is a context with the values of ctx that ends when Run does. Where Run does not
// run, it is ctx.
func (r *running) detach(ctx context.Context) (context.Context, context.CancelFunc) {
	r.mu.Lock()
	run := r.ctx
	r.mu.Unlock()
	if run == nil || run.Err() != nil {
		return ctx, func() {}
	}
	whole, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(run, cancel)
	return whole, func() {
		stop()
		cancel()
	}
}

// lostBegins is how the reason of a lost day begins.
const lostBegins = "cannot be archived: "

// lost names a day that cannot be archived, and why.
func lost(cluster string, day time.Time, why error) registry.SealedDay {
	return registry.SealedDay{Cluster: cluster, Day: day.Format(time.DateOnly), Unsettled: lostBegins + strings.Join(strings.Fields(why.Error()), " ")}
}

// archiveNow archives a day as it is, unless it is archived so. One that has not ended
// is another one after each run of a processor: it is archived once, for what of it is
// billed has settled, which who closes a period looks at afterwards.
func (k *Keeper) archiveNow(ctx context.Context, cluster string, day time.Time) (written bool, err error) {
	failure := ErrChanging
	for range sealTries {
		if err := ctx.Err(); err != nil {
			return written, err
		}
		c, err := k.source.look(ctx, cluster, day)
		if err != nil {
			return written, err
		}
		known, found, err := k.known(ctx, cluster, day)
		if err != nil || found && known.State == c.state {
			return written, err
		}
		wrote, err := k.revise(ctx, c, k.unsettled(c))
		switch {
		case errors.Is(err, ErrRows): // also where a processor was writing them
			failure = err
			continue
		case err != nil:
			return written, err
		}
		failure, written = ErrChanging, written || wrote
		if wrote && k.clock.Now().Before(c.day.To) {
			return written, nil
		}
	}
	return written, failure
}

// unsettled says why a day has not settled; "" where it has.
func (k *Keeper) unsettled(c *content) string {
	switch now := k.clock.Now(); {
	case c.settled:
		return ""
	case now.Before(c.day.To):
		return "the day had not ended"
	case now.Before(c.day.To.Add(registry.FoldAfter)):
		return fmt.Sprintf("it had ended less than %d hours before", registry.FoldAfter/time.Hour)
	}
	return "work on it was due, or rows of it waited in the quarantine"
}

// sealed names the newest revision of a day.
func (k *Keeper) sealed(ctx context.Context, cluster string, day time.Time) (registry.SealedDay, error) {
	known, found, err := k.known(ctx, cluster, day)
	if err == nil && !found {
		err = fmt.Errorf("%s on %s: %w", cluster, day.Format(time.DateOnly), ErrAbsent)
	}
	if err != nil {
		return registry.SealedDay{}, err
	}
	sealed := registry.SealedDay{Cluster: cluster, Day: day.Format(time.DateOnly), Revision: known.Revision, Manifest: known.Manifest}
	d, err := openSealed(k.config.Dir, sealed, k.Key())
	if err != nil {
		return sealed, err
	}
	sealed.Unsettled = d.Manifest.Unsettled
	return sealed, nil
}

// Sealed is CheckSealed of the keeper's archive.
func (k *Keeper) Sealed(day registry.SealedDay) error {
	return CheckSealed(k.config.Dir, day, k.Key())
}

// CheckSealed is an error where an archive does not have a day as a closed period names
// it: ErrAbsent, ErrSignature, ErrDamaged. It does not read the files' rows. Of a day
// that was lost before there is nothing that it could have.
func CheckSealed(root string, sealed registry.SealedDay, key []byte) error {
	if sealed.Lost() {
		if sealed.Manifest != "" || !strings.HasPrefix(sealed.Unsettled, lostBegins) {
			return fmt.Errorf("archive of %s on %s: a closed period names no revision, and does not say why: %w", sealed.Cluster, sealed.Day, ErrDamaged)
		}
		return nil
	}
	d, err := openSealed(root, sealed, key)
	if err == nil && d.Manifest.Unsettled != sealed.Unsettled {
		err = fmt.Errorf("archive of %s on %s: revision %d says %q of what had not settled, the closed period %q: %w", sealed.Cluster, sealed.Day, sealed.Revision,
			d.Manifest.Unsettled, sealed.Unsettled, ErrDamaged)
	}
	return err
}

// openSealed is the revision of a day that a closed period names, of which each file
// is there in its size.
func openSealed(root string, sealed registry.SealedDay, key []byte) (*Day, error) {
	day, err := ParseDay(sealed.Day)
	if err != nil {
		return nil, err
	}
	d, err := OpenRevision(root, sealed.Cluster, day, sealed.Revision, key)
	if err != nil {
		return nil, err
	}
	if d.Hash != sealed.Manifest {
		return nil, fmt.Errorf("archive of %s on %s: the manifest of revision %d has the hash %.12s…, and a closed period names %.12s…: %w", sealed.Cluster, sealed.Day,
			sealed.Revision, d.Hash, sealed.Manifest, ErrDamaged)
	}
	for _, t := range d.Manifest.Tables {
		info, err := os.Stat(filepath.Join(d.dir, t.File))
		switch {
		case errors.Is(err, os.ErrNotExist):
			err = fmt.Errorf("%w: there is no such file", ErrDamaged)
		case err == nil && info.Size() != t.Bytes:
			err = fmt.Errorf("%w: it has %d bytes, and should have %d", ErrDamaged, info.Size(), t.Bytes)
		}
		if err != nil {
			return nil, fmt.Errorf("%s of %s on %s: %w", t.File, sealed.Cluster, sealed.Day, err)
		}
	}
	return d, nil
}
