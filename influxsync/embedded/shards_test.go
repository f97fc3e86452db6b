package embedded

import (
	"context"
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/influxdata/influxdb/models"
	"github.com/influxdata/influxdb/tsdb"
	"github.com/influxdata/influxdb/tsdb/engine/tsm1"
	"golang.org/x/sync/errgroup"
)

// onlyShard is the one that the store has, with its engine.
func onlyShard(t *testing.T, s *Server) (*tsdb.Shard, *tsm1.Engine) {
	t.Helper()
	ids := s.engine.store.ShardIDs()
	if len(ids) != 1 {
		t.Fatalf("shards %v, want one", ids)
	}
	shard := s.engine.store.Shard(ids[0])
	engine, err := shard.Engine()
	if err != nil {
		t.Fatal(err)
	}
	return shard, engine.(*tsm1.Engine)
}

// TestRestingShardKeepsWhatComes: a row that comes when the shard was just seen to
// rest is not given free with its memory.
func TestRestingShardKeepsWhatComes(t *testing.T) {
	for name, free := range map[string]func(*shards, *tsdb.Shard){
		"ours":    (*shards).free,
		"control": func(_ *shards, shard *tsdb.Shard) { _ = shard.Free() }, // what the engine's watch does then
	} {
		s, db := open(t, t.TempDir())
		if err := db.Write(t.Context(), rows(1)); err != nil {
			t.Fatal(err)
		}
		shard, _ := onlyShard(t, s)
		free(s.engine.shards, shard)
		if got, want := count(t, db), map[string]int{"ours": 1, "control": 0}[name]; got != want {
			t.Errorf("%s: %d rows, want %d", name, got, want)
		}
	}
}

// TestRestingShardIsFreed: what rests is freed, can be read, and takes rows again.
func TestRestingShardIsFreed(t *testing.T) {
	s, db := open(t, t.TempDir())
	if err := db.Write(t.Context(), rows(100)); err != nil {
		t.Fatal(err)
	}
	shard, engine := onlyShard(t, s)
	g := s.engine.shards.gate(shard.ID())
	if !g.made {
		t.Error("a write made no cache")
	}
	if err := engine.WriteSnapshot(); err != nil {
		t.Fatal(err)
	}
	if s.engine.shards.rest(shard); g.made {
		t.Error("a shard at rest keeps its cache")
	}
	if got := count(t, db); got != 100 {
		t.Errorf("%d of 100 rows at rest", got)
	}
	if err := db.Write(t.Context(), rows(200)); err != nil {
		t.Fatal(err)
	}
	if got := count(t, db); got != 200 || !g.made {
		t.Errorf("%d of 200 rows afterwards, cache %t", got, g.made)
	}
	if s.engine.shards.rest(shard); !g.made {
		t.Error("rows that wait in memory are no rest")
	}
}

// TestEngineLosesWhatComesTooEarly is the control of what follows: where the engine
// has marked a shard's cache as made and it is not there yet, it takes rows that
// nobody finds. The moment is made here; between two writes it is short.
func TestEngineLosesWhatComesTooEarly(t *testing.T) {
	s, db := open(t, t.TempDir())
	if err := db.Write(t.Context(), rows(100)); err != nil {
		t.Fatal(err)
	}
	_, engine := onlyShard(t, s)
	if err := engine.WriteSnapshot(); err != nil {
		t.Fatal(err)
	}
	engine.Cache.Free()
	made := reflect.ValueOf(engine.Cache).Elem().FieldByName("initializedCount")
	*(*uint32)(unsafe.Pointer(made.UnsafeAddr())) = 1
	if err := db.Write(t.Context(), rows(200)); err != nil {
		t.Fatal(err)
	}
	if got := count(t, db); got != 100 {
		t.Errorf("%d rows, want the 100 of before: does the engine make its cache in another way?", got)
	}
}

// early is a shard's cache that is made like the engine's, and takes its time.
type early struct {
	made, there atomic.Bool
	lost        atomic.Int64
}

func (e *early) write(context.Context, uint64, []models.Point) error {
	if e.made.CompareAndSwap(false, true) {
		for range 1000 {
			runtime.Gosched()
		}
		e.there.Store(true)
	}
	if !e.there.Load() {
		e.lost.Add(1)
	}
	return nil
}

// TestFirstWritesSideBySide: none of several who are the first to write to a shard
// comes before its cache is there. Control: without the gates some do.
func TestFirstWritesSideBySide(t *testing.T) {
	together := func(write func(context.Context, uint64, []models.Point) error) {
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() { _ = write(t.Context(), 1, nil) }) // it gives no error
		}
		group.Wait()
	}
	var gated, free int64
	for range 100 {
		var ours, engines early
		s := &shards{write: ours.write, gates: make(map[uint64]*gate)}
		together(s.WriteToShardWithContext)
		together(engines.write)
		gated, free = gated+ours.lost.Load(), free+engines.lost.Load()
	}
	if gated > 0 || free == 0 {
		t.Errorf("%d writes came too early, and %d without gates", gated, free)
	}
}

// TestManyShardsAreBegun: rows that many write at once into shards of their own and
// of others are all there.
func TestManyShardsAreBegun(t *testing.T) {
	const days, writers = 12, 4
	_, db := open(t, t.TempDir())
	var group errgroup.Group
	for day := range days {
		for w := range writers {
			at := time.Unix(1_750_000_000, 0).AddDate(0, 0, day)
			row := influxsync.NewPoint("t", map[string]string{"k": fmt.Sprint(w)}, map[string]influxsync.Value{"f": influxsync.Int(1)}, at)
			group.Go(func() error { return db.Write(t.Context(), []influxsync.Point{row}) })
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := count(t, db); got != days*writers {
		t.Errorf("%d of %d rows", got, days*writers)
	}
}
