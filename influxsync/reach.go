package influxsync

import (
	"context"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// reachTable notes in the sink, by cluster and table, how far calls have meant
// to copy a journal, before they wrote, and in which era. A mark only says what
// is known to be there; this says what may be. Its one row stands at time 0.
const reachTable = "reach"

// reach is that row; the zero one where nothing was copied yet.
type reach struct {
	era   int64
	store string
	at    time.Time
	hash  string
}

func (c *copier) readReach(ctx context.Context) (reach, error) {
	var held reach
	where := []Condition{{Tag: schema.Cluster, Value: c.Cluster}, {Tag: tableTag, Value: c.SinkTable}}
	err := c.Sink.TimeQuery(ctx, reachTable, schema.Window{}, where, func(p Point) error {
		store, _ := p.Field("store")
		hash, _ := p.Field("hash")
		held = reach{p.Int("era"), store.Str(), time.Unix(0, p.Int("at")).UTC(), hash.Str()}
		return nil
	})
	return held, err
}

// raiseReach notes that the sink may hold what an entry names, unless it was
// noted to hold later ones of this journal.
func (c *copier) raiseReach(ctx context.Context, store string, e Entry) error {
	if c.reach.store == store && c.reach.hash != "" && !e.Time.After(c.reach.at) {
		return nil
	}
	return c.writeReach(ctx, reach{c.reach.era, store, e.Time, e.Hash})
}

func (c *copier) writeReach(ctx context.Context, r reach) error {
	c.reach = r
	noted := r.point(c.Cluster, c.SinkTable)
	line, err := appendLine(nil, noted)
	if err != nil {
		return err
	}
	if err := c.attempt(ctx, line); err != nil {
		return fmt.Errorf("note how far the copy is to reach, in table %s (a row at time 0: the database must keep rows for ever): %w", reachTable, err)
	}
	if c.Verify != VerifyReadBack {
		return nil
	}
	// Rows that are written now and lost to the source later are explained by
	// nothing else, so what the sink said is not enough here either.
	held, err := c.readReach(ctx)
	if err == nil && held.point(c.Cluster, c.SinkTable).Hash() != noted.Hash() {
		err = fmt.Errorf("the sink took the row in table %s and does not return it: %w", reachTable, ErrMismatch)
	}
	return err
}

func (r reach) point(cluster, table string) Point {
	at := int64(0)
	if r.hash != "" {
		at = r.at.UnixNano()
	}
	return NewPoint(reachTable, map[string]string{schema.Cluster: cluster, tableTag: table},
		map[string]Value{"era": Int(r.era), "store": Str(r.store), "at": Int(at), "hash": Str(r.hash)}, time.Unix(0, 0))
}

// NoteReach notes in the sink that a copy of the cluster's journal may have gone
// as far as the mark, as Sync does by itself before it writes. It is for who
// fills a sink's table by other means and has Sync go on from there; where the
// rows are not there, they are lost to the sync.
func NoteReach(ctx context.Context, sink *Database, cluster, table string, mark Mark) error {
	if err := sink.Write(ctx, []Point{reach{mark.Era, mark.Store, mark.Time, mark.Hash}.point(cluster, table)}); err != nil {
		return fmt.Errorf("note the reach of %s %s: %w", cluster, table, err)
	}
	return nil
}

// beginEra numbers a new era, before anything is written in it. Until a mark
// has the number, each call begins it anew: none takes the former mark for one
// of this journal.
func (s *syncer) beginEra(ctx context.Context) error {
	if !s.result.NewEra {
		return nil
	}
	era := s.reach.era
	if s.Mark.Era >= era {
		era = s.Mark.Era + 1
	}
	if s.reach == (reach{era: era, at: time.Unix(0, 0).UTC()}) {
		return nil
	}
	return s.writeReach(ctx, reach{era: era})
}
