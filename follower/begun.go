package follower

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// begun is a deletion of minutes that has begun. It is noted durably before the first
// row or entry of it, so that a crash in it is mended before anybody is answered:
// between rows and journal a leader would find that they do not agree.
type begun struct {
	Before time.Time `json:"before,omitzero"` // minutes before it go, for their age
	Forced time.Time `json:"forced,omitzero"` // start of a day that goes before it was pulled
}

// begunName is its file, beside the stores.
const begunName = "retention.json"

// begin notes what is begun; the zero value is that it has ended.
func (f *Follower) begin(what begun) error {
	if what == f.retention.begun {
		return nil
	}
	path := filepath.Join(f.config.Dir, begunName)
	if what == (begun{}) {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("note what is deleted: %w", err)
		}
		f.retention.begun = what
		return nil
	}
	text, err := json.Marshal(what)
	if err == nil {
		err = writeSynced(path, text)
	}
	if err != nil {
		return fmt.Errorf("note what is deleted: %w", err)
	}
	f.retention.begun = what
	return nil
}

// writeSynced replaces a file whole, durably.
func writeSynced(path string, text []byte) error {
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// readBegun reads what was begun when the follower ended.
func (f *Follower) readBegun() error {
	text, err := os.ReadFile(filepath.Join(f.config.Dir, begunName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(text, &f.retention.begun)
	}
	if err != nil {
		return fmt.Errorf("read what was being deleted: %w", err)
	}
	return nil
}

// goOn ends a deletion that was begun; turn is held, or nobody is answered yet.
func (f *Follower) goOn(ctx context.Context) error {
	what := f.retention.begun
	if what == (begun{}) {
		return nil
	}
	tables, lead, err := f.keptTables(ctx)
	if err != nil {
		return err
	}
	f.log.Info("a deletion of minutes goes on that was begun", "before", what.Before, "forced", what.Forced)
	if !what.Forced.IsZero() {
		return f.forceDay(ctx, tables, schema.WindowAt(what.Forced, day))
	}
	return f.retainMinutes(ctx, tables, lead, what.Before)
}
