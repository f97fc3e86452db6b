package follower

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/accumulus-metering/accumulus/follower/meter"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

const (
	// DefaultKeepMinutes is how long minute rows stay.
	DefaultKeepMinutes = 30 * day
	day                = 24 * time.Hour
	// retainEvery is the time between two looks at what may go.
	retainEvery = time.Hour
	// rawBehind is how far before the last settled window readings may still be needed:
	// to revise windows, and to take up the meter again.
	rawBehind = 6 * time.Hour
	// forcedAfter is how long the budget must be exceeded before something goes that
	// nobody has pulled: deleted rows take their room until the engine merges its files.
	forcedAfter = day
	// leastMinutes is what even the disk budget leaves.
	leastMinutes = 2 * day
)

// retention is what the loop knows of what it deletes.
type retention struct {
	looked    time.Time
	raw       time.Time // readings before it are gone
	overSince time.Time // since when the disk budget is exceeded; zero while it is not
	begun     begun     // and not ended: the next tick goes on with it
}

// journal is what retention needs of one.
type journal interface {
	meter.Journal
	Head() (influxsync.Entry, bool)
	Unread(after time.Time) (time.Time, bool)
	Unpulled(after time.Time) (time.Time, bool)
	Windows(w schema.Window) []schema.Window
	Stay(keep, until time.Time) []schema.Window
	Prune(ctx context.Context, keep, until time.Time) (int, error)
}

// kept is a table of minutes with its journal.
type kept struct {
	schema.Table
	journal
	pulled time.Time // its entries until then are in the centre
}

// retain deletes what is old enough and was pulled, once an hour. It waits while
// history is filled in, whose readings are old from the start.
func (f *Follower) retain(ctx context.Context) error {
	now := f.clock.Now()
	f.mu.Lock()
	filling := f.state.history != nil && f.state.history.Done.Before(f.state.history.To)
	f.mu.Unlock()
	if f.retention.begun == (begun{}) && (filling || now.Sub(f.retention.looked) < retainEvery) {
		return nil
	}
	f.turn.Lock()
	defer f.turn.Unlock()
	if err := f.goOn(ctx); err != nil {
		return err
	}
	if filling || now.Sub(f.retention.looked) < retainEvery {
		return nil
	}
	mark := f.meter.Status().Mark
	if mark.IsZero() {
		return nil // nothing has settled
	}
	f.retention.looked = now
	tables, lead, err := f.keptTables(ctx)
	if err != nil {
		return err
	}
	present := schema.Earlier(now, mark)
	if err := f.retainRaw(ctx, schema.Earlier(now.Add(-rawKept), mark.Add(-rawBehind)).Truncate(day)); err != nil {
		return err
	}
	horizon := present.Add(-f.config.KeepMinutes).Truncate(day)
	over, err := f.overBudget(now)
	if err != nil {
		return err
	}
	if over {
		horizon = schema.Later(horizon, f.oneMore(tables, present))
	}
	if err := f.retainMinutes(ctx, tables, lead, horizon); err != nil {
		return err
	}
	if over && lead && now.Sub(f.retention.overSince) >= forcedAfter {
		f.retention.overSince = now
		err = f.force(ctx, tables, present)
	}
	return err
}

// keptTables are the tables of minutes, with what a leader has acknowledged of this
// store; lead is whether any ever did.
func (f *Follower) keptTables(ctx context.Context) (tables []kept, lead bool, err error) {
	pulled := make(map[string]time.Time)
	err = f.store.Database(schema.ResultsDB).TimeQuery(ctx, schema.PulledTable, schema.Window{}, nil, func(p influxsync.Point) error {
		if store, _ := p.Field("store"); store.Str() == f.storeID && p.Tag(schema.Cluster) == f.config.Cluster {
			pulled[p.Tag("table")], lead = time.Unix(0, p.Int("at")).UTC(), true
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("read what was pulled: %w", err)
	}
	for _, table := range []schema.Table{schema.NodeMinute, schema.PodMinute, schema.ContainerMinute, schema.VolumeMinute} {
		of := kept{Table: table, pulled: pulled[table.Name]}
		if table.Name == schema.VolumeMinute.Name {
			of.journal = f.volumes.Journal()
		} else {
			of.journal = f.journals[table.Name].(journal)
		}
		tables = append(tables, of)
	}
	return tables, lead, nil
}

// retainRaw deletes readings, and what is kept of pods that ended before them.
func (f *Follower) retainRaw(ctx context.Context, horizon time.Time) error {
	if !horizon.After(f.retention.raw) {
		return nil
	}
	raw := f.store.Database(schema.RawDB)
	old := schema.Window{From: time.Unix(0, 1), To: horizon}
	err := errors.Join(raw.Delete(ctx, schema.Raw.Name, nil, old), raw.Delete(ctx, schema.VolumeReading.Name, nil, old))
	if err != nil {
		return err
	}
	tables, pods, err := meter.OldPods(ctx, rows{raw}, f.meter.Living(), horizon)
	if err != nil {
		return err
	}
	for _, table := range tables {
		if err := raw.ClearAny(ctx, table, schema.PodUID, pods); err != nil {
			return err
		}
	}
	f.retention.raw = horizon
	f.log.Info("old readings deleted", "before", horizon, "pods", len(pods))
	return nil
}

// retainMinutes deletes the minutes before the horizon, of each table what was pulled:
// where there never was a leader, all of them.
func (f *Follower) retainMinutes(ctx context.Context, tables []kept, lead bool, horizon time.Time) error {
	for _, t := range tables {
		keep, until := horizon, time.Time{}
		if head, ok := t.Head(); ok { // its rows stay with it: a leader that comes follows it
			keep = schema.Earlier(keep, head.Window.From.Truncate(day))
		}
		if lead {
			until = schema.Later(t.pulled, time.Unix(0, 1))
			if unread, found := t.Unread(until); found {
				keep = schema.Earlier(keep, unread.Truncate(day))
			}
		}
		oldest, found := t.Unread(time.Time{})
		if !found || !oldest.Before(keep) {
			continue
		}
		if err := f.begin(begun{Before: horizon}); err != nil {
			return err
		}
		if err := f.deleteMinutes(ctx, t, schema.Window{From: oldest.Truncate(day), To: keep}, t.Stay(keep, until)); err != nil {
			return err
		}
		windows, err := t.Prune(ctx, keep, until)
		if err != nil {
			return err
		}
		f.log.Info("old minutes deleted", "table", t.Name, "before", keep, "windows", windows)
	}
	if err := f.begin(begun{}); err != nil {
		return err
	}
	// What the leader gave us of them is of no use without them.
	return f.store.Database(schema.ResultsDB).Delete(ctx, schema.EnergyMinute.Name, nil, schema.Window{From: time.Unix(0, 1), To: horizon})
}

// deleteMinutes deletes a table's rows by the day, but for those of windows that stay,
// in order. What pods that live on used is kept for their runs.
func (f *Follower) deleteMinutes(ctx context.Context, t kept, w schema.Window, stay []schema.Window) error {
	for _, part := range w.Split(day) {
		if t.Name == schema.PodMinute.Name {
			if err := f.facts.Carry(ctx, part); err != nil {
				return err
			}
		}
		for _, piece := range without(part, stay) {
			if err := f.store.Database(t.DB).Delete(ctx, t.Name, nil, piece); err != nil {
				return err
			}
		}
		f.met.deleted.Inc()
	}
	return nil
}

// without is a window less others, which are in order.
func without(w schema.Window, less []schema.Window) []schema.Window {
	var pieces []schema.Window
	for _, l := range less {
		if l.Overlap(w.From, w.To) <= 0 {
			continue
		}
		if w.From.Before(l.From) {
			pieces = append(pieces, schema.Window{From: w.From, To: l.From})
		}
		w.From = l.To
	}
	if w.From.Before(w.To) {
		pieces = append(pieces, w)
	}
	return pieces
}

// overBudget says whether the embedded store takes more of the disk than it may.
func (f *Follower) overBudget(now time.Time) (bool, error) {
	if f.config.DiskBudget <= 0 || f.config.InfluxURL != "" {
		return false, nil
	}
	used, err := diskUse(filepath.Join(f.config.Dir, "influxdb"))
	if err != nil {
		return false, fmt.Errorf("disk use: %w", err)
	}
	f.met.disk.Set(float64(used))
	if used <= f.config.DiskBudget {
		f.retention.overSince = time.Time{}
		return false, nil
	}
	if f.retention.overSince.IsZero() {
		f.retention.overSince = now
		f.log.Warn("the store takes more than its disk budget: minutes go before their time", "bytes", used, "budget", f.config.DiskBudget)
	}
	return true, nil
}

func diskUse(dir string) (int64, error) {
	var used int64
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return ignoreGone(err)
		}
		info, err := entry.Info()
		if err == nil {
			used += info.Size()
		}
		return ignoreGone(err)
	})
	return used, err
}

// ignoreGone passes over a file that the engine removed meanwhile.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// oneMore is the end of the oldest day that there is, but never of the last two.
func (f *Follower) oneMore(tables []kept, present time.Time) time.Time {
	var first time.Time
	for _, t := range tables {
		if oldest, found := t.Unread(time.Time{}); found && (first.IsZero() || oldest.Before(first)) {
			first = oldest
		}
	}
	if first.IsZero() {
		return first
	}
	return schema.Earlier(first.Truncate(day).Add(day), present.Add(-leastMinutes).Truncate(day))
}

// diskReason is why windows have no rows any more: the ledger of the centre shows it.
const diskReason = "disk budget: deleted before it was pulled"

// journalAtOnce bounds the entries of one request.
const journalAtOnce = 500

// force deletes minutes before their leader has pulled them, the oldest day that has
// any but never of the last two, as the disk has no room for more: each window gets a
// revision without rows that says so.
func (f *Follower) force(ctx context.Context, tables []kept, present time.Time) error {
	var first time.Time
	for _, t := range tables {
		if oldest, found := t.Unpulled(t.pulled); found && (first.IsZero() || oldest.Before(first)) {
			first = oldest
		}
	}
	w := schema.WindowAt(first, day)
	if first.IsZero() || w.To.After(present.Add(-leastMinutes)) {
		return nil
	}
	if err := f.begin(begun{Forced: w.From}); err != nil {
		return err
	}
	return f.forceDay(ctx, tables, w)
}

// forceDay deletes the minutes of a day that are not pulled, or ends what was begun of
// that: between the revision that says so and the deletion a leader would find rows that
// no journal names.
func (f *Follower) forceDay(ctx context.Context, tables []kept, w schema.Window) error {
	for _, t := range tables {
		stay, err := f.giveUp(ctx, t, w)
		if err == nil {
			err = f.deleteMinutes(ctx, t, w, stay)
		}
		if err != nil {
			return err
		}
	}
	f.log.Error("minutes deleted that no leader has pulled: the disk budget is exceeded", "day", w.From.Format(time.DateOnly))
	return f.begin(begun{})
}

// giveUp gives each window of a table that nobody has pulled a revision without rows.
// What was pulled stays, and goes with its entries.
func (f *Follower) giveUp(ctx context.Context, t kept, w schema.Window) (stay []schema.Window, err error) {
	var entries []influxsync.Entry
	for _, window := range t.Windows(w) {
		switch latest, ok := t.Latest(window); {
		case !ok || latest.Rows == 0:
		case latest.Time.After(t.pulled):
			entries = append(entries, influxsync.Entry{Window: window, Reason: diskReason})
		default:
			stay = append(stay, window)
		}
	}
	for len(entries) > 0 {
		n := min(len(entries), journalAtOnce)
		if _, err := t.Append(ctx, entries[:n]...); err != nil {
			return stay, err
		}
		entries = entries[n:]
	}
	return stay, nil
}
