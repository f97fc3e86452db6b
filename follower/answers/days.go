package answers

import (
	"context"
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

// days remember the sums of whole days, so that a month is not read again by
// the minute at each look. What is remembered of a day holds for its revision.
type days struct {
	mu     sync.Mutex
	held   map[dayKey]daySums
	groups int
}

type dayKey struct {
	question string // table, columns, tags and conditions
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

// put remembers a day. When there is no room, any others go: they are only read
// again.
func (d *days) put(key dayKey, sums daySums) {
	if len(sums.points) > maxGroups/40 { // a month of such days would drive out itself
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.groups -= len(d.held[key].points)
	delete(d.held, key)
	for other, held := range d.held {
		if d.groups+len(sums.points) <= maxGroups {
			break
		}
		d.groups -= len(held.points)
		delete(d.held, other)
	}
	if d.held == nil {
		d.held = make(map[dayKey]daySums)
	}
	d.held[key] = sums
	d.groups += len(sums.points)
}

// sums hands out the sums of a question without steps; those of a window of
// several days come day by day, so that each group comes more than once. Its
// points must not be changed.
func (e *Engine) sums(ctx context.Context, db string, q influxsync.Query, each func(influxsync.Point) error) error {
	source := e.store.Database(db)
	if q.Every != 0 || e.revisions == nil || q.Window.Length() <= day {
		return source.Query(ctx, q, each)
	}
	question := fmt.Sprintf("%s\x00%s\x00%q\x00%q\x00%q", db, q.From, q.Select, q.Group, q.Where)
	for _, part := range q.Window.Split(day) {
		q.Window = part
		if part.Length() < day {
			if err := source.Query(ctx, q, each); err != nil {
				return err
			}
			continue
		}
		key, revision := dayKey{question, part.From.Unix()}, e.revisions.Revision(db, q.From, part)
		points, ok := e.days.get(key, revision)
		if !ok {
			if err := source.Query(ctx, q, func(p influxsync.Point) error {
				points = append(points, p)
				return nil
			}); err != nil {
				return err
			}
			e.days.put(key, daySums{revision, points})
		}
		for _, p := range points {
			if err := each(p); err != nil {
				return err
			}
		}
	}
	return nil
}
