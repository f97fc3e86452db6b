package answers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Revisions tell when the rows of a day have changed, for what is remembered of
// them.
type Revisions interface {
	// Revision is another number after each change of a table's rows in a day, as
	// long as the process lives. It is asked for before the rows are read.
	Revision(db, table string, day schema.Window) uint64
}

// day is how long windows are whose sums are remembered: of UTC.
const day = 24 * time.Hour

// maxGroups bounds what is remembered, in rows of sums; each has some 300 bytes.
const maxGroups = 20_000

// groupBytes is how many bytes of texts count as one row more.
const groupBytes = 300

// weight is what points count for maxGroups.
func weight(points []influxsync.Point) int {
	sum := len(points)
	for _, p := range points {
		for _, field := range p.Fields {
			sum += len(field.Value.Str()) / groupBytes
		}
	}
	return sum
}

// days remember the sums of whole days, so that a month is not read again by
// the minute at each look. What is remembered of a day holds for its revision.
type days struct {
	mu     sync.Mutex
	held   map[dayKey]daySums
	groups int
}

type dayKey struct {
	question string // table, columns, tags, conditions and steps
	day      int64
}

type daySums struct {
	revision uint64
	points   []influxsync.Point
}

func (d *days) get(key dayKey, revision uint64) ([]influxsync.Point, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	found, ok := d.held[key]
	if !ok || found.revision != revision {
		return nil, false
	}
	return found.points, true
}

// put remembers a day, and says whether it does. When there is no room, any others go: they are only read
// again.
func (d *days) put(key dayKey, sums daySums) bool {
	groups := weight(sums.points)
	if groups > maxGroups/40 { // a month of such days would drive out itself
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.groups -= weight(d.held[key].points)
	delete(d.held, key)
	for other, held := range d.held {
		if d.groups+groups <= maxGroups {
			break
		}
		d.groups -= weight(held.points)
		delete(d.held, other)
	}
	if d.held == nil {
		d.held = make(map[dayKey]daySums)
	}
	d.held[key] = sums
	d.groups += groups
	return true
}

// SlowError is a question that ran out of its time while it read whole days,
// some of which are remembered now: asked again it goes on after them.
type SlowError struct {
	Days int // that were read for it
	Err  error
}

func (e *SlowError) Error() string { return fmt.Sprintf("after %d days: %v", e.Days, e.Err) }
func (e *SlowError) Unwrap() error { return e.Err }

// remembers says whether a question's sums are remembered by the day: its steps,
// which begin at whole multiples since 1970, must not cross one.
func (e *Engine) remembers(q influxsync.Query) bool {
	return e.revisions != nil && q.Window.Length() > day && (q.Every == 0 || day%q.Every == 0)
}

// sums hands out the sums of a question; those of a window of several days come
// day by day, so that each group comes more than once. Its points must not be
// changed.
func (t *tally) sums(ctx context.Context, db string, q influxsync.Query, each func(influxsync.Point) error) error {
	e := t.engine
	source := e.store.Database(db)
	if !e.remembers(q) {
		return source.Query(ctx, q, each)
	}
	question := fmt.Sprintf("%s\x00%s\x00%q\x00%q\x00%#v\x00%q\x00%s", db, q.From, q.Select, q.Group, q.Where, q.Holds, q.Every)
	for _, part := range q.Window.Split(day) {
		q.Window = part
		if part.Length() < day {
			if err := source.Query(ctx, q, each); err != nil {
				return err
			}
			continue
		}
		points, err := t.day(ctx, db, question, q)
		if err != nil {
			return err
		}
		for _, p := range points {
			if err := each(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// day are the sums of a whole day, as they are remembered or read.
func (t *tally) day(ctx context.Context, db, question string, q influxsync.Query) ([]influxsync.Point, error) {
	e := t.engine
	key, revision := dayKey{question, q.Window.From.Unix()}, e.revisions.Revision(db, q.From, q.Window)
	if points, ok := e.days.get(key, revision); ok {
		return points, nil
	}
	var points []influxsync.Point
	err := e.store.Database(db).Query(ctx, q, func(p influxsync.Point) error {
		points = append(points, p)
		return nil
	})
	if err != nil && t.kept > 0 && errors.Is(err, context.DeadlineExceeded) {
		return nil, &SlowError{Days: t.kept, Err: err}
	}
	if err == nil && e.days.put(key, daySums{revision, points}) {
		t.kept++
	}
	return points, err
}
