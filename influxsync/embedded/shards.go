package embedded

import (
	"context"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/influxdata/influxdb/coordinator"
	"github.com/influxdata/influxdb/models"
	"github.com/influxdata/influxdb/tsdb"
	"github.com/influxdata/influxql"
)

// A shard's cache is made by the first write to it, and given free when the shard
// has rested (tsm1.Cache: init and Free). The engine marks it as made before it is
// there. What is written in between, by another request of the same moment, goes
// nowhere: it is acknowledged, and is in the log but in no answer, until the cache
// is written as a file; then the log goes, and the rows with it. What is written
// while the cache is given free meets the same end, and if the two cross, so does
// all that follows. So here a cache is made, and given free, by one at a time and
// while nobody writes to the shard.

// restInterval is how often shards that rest are looked for, as in the engine.
const restInterval = 10 * time.Second

// shards is the store as those that write to it see it.
type shards struct {
	coordinator.LocalTSDBStore
	write func(ctx context.Context, id uint64, points []models.Point) error
	// deletes is held for writing by deletions, which make a cache too, of any
	// shard; for reading by who makes or frees one.
	deletes sync.RWMutex

	mu    sync.Mutex
	gates map[uint64]*gate
}

// gate is held for reading by who writes to a shard, and for writing by who makes
// or frees its cache.
type gate struct {
	sync.RWMutex
	made bool // the cache
}

func newShards(store *tsdb.Store) *shards {
	return &shards{LocalTSDBStore: coordinator.LocalTSDBStore{Store: store}, write: store.WriteToShardWithContext, gates: make(map[uint64]*gate)}
}

func (s *shards) gate(id uint64) *gate {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.gates[id]
	if !ok {
		g = &gate{}
		s.gates[id] = g
	}
	return g
}

// WriteToShard writes the points. The first that does so makes the cache, alone.
func (s *shards) WriteToShard(id uint64, points []models.Point) error {
	return s.WriteToShardWithContext(context.Background(), id, points)
}

// WriteToShardWithContext is WriteToShard. The engine's writer asks for it.
func (s *shards) WriteToShardWithContext(ctx context.Context, id uint64, points []models.Point) error {
	g := s.gate(id)
	g.RLock()
	if g.made {
		defer g.RUnlock()
		return s.write(ctx, id, points)
	}
	g.RUnlock()
	s.deletes.RLock()
	defer s.deletes.RUnlock()
	g.Lock()
	defer g.Unlock()
	err := s.write(ctx, id, points)
	g.made = g.made || err == nil
	return err
}

// DeleteSeries deletes rows while nobody makes or frees a cache.
func (s *shards) DeleteSeries(database string, sources []influxql.Source, condition influxql.Expr) error {
	s.deletes.Lock()
	defer s.deletes.Unlock()
	return s.Store.DeleteSeries(database, sources, condition)
}

// DeleteMeasurement deletes a table while nobody makes or frees a cache.
func (s *shards) DeleteMeasurement(database, name string) error {
	s.deletes.Lock()
	defer s.deletes.Unlock()
	return s.Store.DeleteMeasurement(database, name)
}

// watch lets shards rest, from now until the function that it returns was called.
func (s *shards) watch() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for clock.System().Sleep(ctx, restInterval) == nil {
			for _, id := range s.ShardIDs() {
				if shard := s.Shard(id); shard != nil {
					s.rest(shard)
				}
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// rest frees what a shard holds in memory where it rests, and else lets it write
// and merge its files: what the engine's own watch does.
func (s *shards) rest(shard *tsdb.Shard) {
	if idle, _ := shard.IsIdle(); !idle {
		shard.SetCompactionsEnabled(true)
		return
	}
	s.free(shard)
}

// free frees the shard's memory if it rests when nobody writes to it.
func (s *shards) free(shard *tsdb.Shard) {
	s.deletes.RLock()
	defer s.deletes.RUnlock()
	g := s.gate(shard.ID())
	g.Lock()
	defer g.Unlock()
	if idle, _ := shard.IsIdle(); !idle {
		return
	}
	g.made = false
	_ = shard.Free() // advice to the kernel about mapped files: nothing hangs on it
}
