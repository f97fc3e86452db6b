package influxsync

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// baseTable notes, by cluster and table, where a journal begins whose older entries
// were deleted. Its one row stands at time 0.
const baseTable = "journal_base"

// Base is where a journal begins: at its first entry that is there, which follows one
// of the given hash. The zero Base is a journal that has all its entries.
type Base struct {
	At       time.Time
	Previous string
}

// After is the moment after which the journal's entries are.
func (b Base) After() time.Time {
	if b.At.IsZero() {
		return b.At
	}
	return b.At.Add(-1)
}

// ReadBase is where the journal of a table begins.
func ReadBase(ctx context.Context, db *Database, cluster, table string) (Base, error) {
	var base Base
	where := []Condition{{Tag: schema.Cluster, Value: cluster}, {Tag: tableTag, Value: table}}
	err := db.TimeQuery(ctx, baseTable, schema.Window{}, where, func(p Point) error {
		previous, _ := p.Field("previous")
		base = Base{time.Unix(0, p.Int("at")).UTC(), previous.Str()}
		return nil
	})
	if err != nil {
		return base, fmt.Errorf("read where the journal of %s begins: %w", table, err)
	}
	return base, nil
}

// Unread is the begin of the oldest window that has an entry after a moment; false
// where there is none. With the zero time it is the oldest window of all.
func (j *Journal) Unread(after time.Time) (time.Time, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	oldest, found := int64(0), false
	for s, l := range j.latest {
		if (after.IsZero() || l.time > after.UnixNano()) && (!found || s.from < oldest) {
			oldest, found = s.from, true
		}
	}
	return time.Unix(0, oldest).UTC(), found
}

// Unpulled is the begin of the oldest window that has rows by an entry after a moment;
// false where there is none.
func (j *Journal) Unpulled(after time.Time) (time.Time, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	oldest, found := int64(0), false
	for s, l := range j.latest {
		if l.rows > 0 && l.time > after.UnixNano() && (!found || s.from < oldest) {
			oldest, found = s.from, true
		}
	}
	return time.Unix(0, oldest).UTC(), found
}

// Windows are those that the journal names and that begin in w, by their begin.
func (j *Journal) Windows(w schema.Window) []schema.Window {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []schema.Window
	for s := range j.latest {
		if window := s.window(); w.Contains(window.From) {
			list = append(list, window)
		}
	}
	sortByBegin(list)
	return list
}

// Stay are the windows before keep whose newest entry Prune would not delete, as they
// were revised late, by their begin: who follows the journal from its new begin looks
// for their rows.
func (j *Journal) Stay(keep, until time.Time) []schema.Window {
	j.mu.Lock()
	defer j.mu.Unlock()
	first, _ := j.firstLeft(keep, until)
	var list []schema.Window
	for s, l := range j.latest {
		if s.from < keep.UnixNano() && l.time >= first {
			list = append(list, s.window())
		}
	}
	sortByBegin(list)
	return list
}

func sortByBegin(list []schema.Window) {
	slices.SortFunc(list, func(a, b schema.Window) int { return a.From.Compare(b.From) })
}

// Prune deletes the entries that are older than all those of windows which begin at
// keep or later, and not newer than until (the zero time: whatever their age). Rows of
// the windows that they name are to be gone before; those of Stay are to be there. Where the journal begins then is
// noted before the first entry goes, so that its chain can be verified. The last entry
// stays. It returns how many windows the journal names no more.
func (j *Journal) Prune(ctx context.Context, keep, until time.Time) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	first, previous := j.firstLeft(keep, until)
	if first == 0 {
		return 0, nil
	}
	base := NewPoint(baseTable, map[string]string{schema.Cluster: j.cluster, tableTag: j.table},
		map[string]Value{"at": Int(first), "previous": Str(previous)}, time.Unix(0, 0))
	if err := j.db.Write(ctx, []Point{base}); err != nil {
		return 0, fmt.Errorf("prune journal of %s: %w", j.table, err)
	}
	where := []Condition{{Tag: schema.Cluster, Value: j.cluster}, {Tag: tableTag, Value: j.table}}
	if err := j.db.Delete(ctx, journalTable, where, schema.Window{From: time.Unix(0, 1), To: time.Unix(0, first)}); err != nil {
		return 0, fmt.Errorf("prune journal of %s: %w", j.table, err)
	}
	forgotten := 0
	for s, l := range j.latest {
		if l.time < first {
			delete(j.latest, s)
			forgotten++
		}
	}
	return forgotten, nil
}

// firstLeft is the first entry that Prune leaves, with the hash before it; 0 where it
// deletes none.
func (j *Journal) firstLeft(keep, until time.Time) (first int64, previous string) {
	first, previous = j.firstKept(keep)
	if !until.IsZero() && first > until.UnixNano() {
		first, previous = j.firstFrom(until)
	}
	return first, previous
}

// firstKept is the oldest entry of those that windows from keep on have, with the hash
// before it: the last one of all where there is none.
func (j *Journal) firstKept(keep time.Time) (first int64, previous string) {
	if j.head.Hash == "" {
		return 0, ""
	}
	first, previous = j.head.Time.UnixNano(), j.head.Previous
	for s, l := range j.latest {
		if s.from >= keep.UnixNano() && l.time < first {
			first, previous = l.time, l.before()
		}
	}
	return first, previous
}

// firstFrom is the oldest known entry at a moment or later.
func (j *Journal) firstFrom(at time.Time) (first int64, previous string) {
	first, previous = j.head.Time.UnixNano(), j.head.Previous
	for _, l := range j.latest {
		if l.time >= at.UnixNano() && l.time < first {
			first, previous = l.time, l.before()
		}
	}
	if first < at.UnixNano() {
		return 0, ""
	}
	return first, previous
}
