package follower

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"golang.org/x/sync/semaphore"
)

// The fence's row: in the database minute, which nobody writes over the port,
// beside the store's id and so as old as the data that it protects.
const (
	fenceTable  = "fence"
	fenceNumber = "number"
)

// everyWrite is what a higher number takes: no write is passed on meanwhile.
const everyWrite = 1 << 20

// fence keeps a leader that has been replaced from writing. Each leader's
// writes carry a number that was fixed, durably, when it started, higher than
// that of any leader before. The highest that was seen is kept in the store
// before the first write with it is passed on, and a lower one is refused.
type fence struct {
	writes  *semaphore.Weighted // each write has 1 while it is passed on
	highest atomic.Int64        // 0: none was seen; changed by who has all of writes
	table   *influxsync.Database
	cluster string
}

// fencedError is a write of a leader that was replaced.
type fencedError struct{ number, highest int64 }

func (e *fencedError) Error() string {
	return fmt.Sprintf("fence %d is lower than %d: a leader that started later writes here, this one has been replaced", e.number, e.highest)
}

// openFence reads the highest number that was seen.
func openFence(ctx context.Context, db *influxsync.Database, cluster string) (*fence, error) {
	f := &fence{writes: semaphore.NewWeighted(everyWrite), table: db, cluster: cluster}
	query := influxsync.Query{Select: []string{fenceNumber}, From: fenceTable, Where: []influxsync.Condition{{Tag: schema.Cluster, Value: cluster}}}
	err := db.Query(ctx, query, func(row influxsync.Point) error {
		number, _ := row.Field(fenceNumber)
		f.highest.Store(max(f.highest.Load(), number.Int()))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read fence: %w", err)
	}
	return f, nil
}

// pass runs a write of a leader with that number, or refuses it as
// *fencedError. While it runs no higher number is let in, so that a lower one
// never writes behind it; one that is higher waits until the others are done.
func (f *fence) pass(ctx context.Context, number int64, write func() error) error {
	for {
		if err := f.writes.Acquire(ctx, 1); err != nil {
			return err
		}
		if highest := f.highest.Load(); number <= highest {
			defer f.writes.Release(1)
			if number < highest {
				return &fencedError{number, highest}
			}
			return write()
		}
		f.writes.Release(1)
		if err := f.raise(ctx, number); err != nil {
			return err
		}
	}
}

// raise keeps a higher number.
func (f *fence) raise(ctx context.Context, number int64) error {
	if err := f.writes.Acquire(ctx, everyWrite); err != nil {
		return err
	}
	defer f.writes.Release(everyWrite)
	if number <= f.highest.Load() {
		return nil
	}
	row := influxsync.NewPoint(fenceTable, map[string]string{schema.Cluster: f.cluster},
		map[string]influxsync.Value{fenceNumber: influxsync.Int(number)}, time.Unix(0, 0))
	if err := f.table.Write(ctx, []influxsync.Point{row}); err != nil {
		return fmt.Errorf("keep fence %d: %w", number, err)
	}
	f.highest.Store(number)
	return nil
}

// fenceAhead is how far a number may lie ahead: numbers are times of start.
const fenceAhead = 24 * time.Hour

// fenceOf is the number that a request carries. One that no leader can have had
// by now is refused: it would keep out every leader to come.
func fenceOf(r *http.Request, now time.Time) (int64, error) {
	const want = "send the leader's fence number, a decimal integer of at least 1, with each write"
	given := r.Header.Values(schema.FenceHeader)
	if len(given) != 1 {
		return 0, fmt.Errorf("the header %s is given %d times: %s", schema.FenceHeader, len(given), want)
	}
	number, err := strconv.ParseInt(given[0], 10, 64)
	if err != nil || number < 1 || strconv.FormatInt(number, 10) != given[0] {
		return 0, fmt.Errorf("the header %s is %q: %s", schema.FenceHeader, given[0], want)
	}
	if latest := now.Add(fenceAhead); number > latest.UnixNano() {
		return 0, fmt.Errorf("the header %s is %d, a start at %s: look at the leader's clock", schema.FenceHeader, number, time.Unix(0, number).UTC().Format(time.RFC3339))
	}
	return number, nil
}
