// Package embedded is the real InfluxDB 1.8 engine in this process: meta
// store, TSM shards, TSI index, InfluxQL and the HTTP handler, without a TCP
// port. Requests reach the handler in memory, and answers stream.
//
// It guarantees that one process at a time has a directory open, that a write
// is on disk when it was answered, and that a directory opened again holds all
// that was written. What the engine does by the wall clock on its own is off:
// retention, monitoring, reporting, and continuous queries unless asked for.
package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/gofrs/flock"
	"github.com/influxdata/influxdb/coordinator"
	"github.com/influxdata/influxdb/query"
	"github.com/influxdata/influxdb/services/continuous_querier"
	"github.com/influxdata/influxdb/services/httpd"
	"github.com/influxdata/influxdb/services/meta"
	"github.com/influxdata/influxdb/toml"
	"github.com/influxdata/influxdb/tsdb"
	_ "github.com/influxdata/influxdb/tsdb/engine" // registers tsm1
	_ "github.com/influxdata/influxdb/tsdb/index"  // registers tsi1
	"go.uber.org/zap"
)

// ErrLocked: another process, or another server of this one, has the directory
// open.
var ErrLocked = errors.New("directory is in use by another process")

// ErrClosed: the server was closed.
var ErrClosed = errors.New("embedded server is closed")

// Config says where the data is. Zero values are the defaults.
type Config struct {
	// Dir holds everything; it is made when it is missing.
	Dir string
	// ContinuousQueries runs them, by the wall clock.
	ContinuousQueries bool
	// CacheBytes is how much of a shard may wait in memory before it is
	// written as a file; 8 MiB by default.
	CacheBytes uint64
	// MaxBuckets bounds the intervals of one statement's GROUP BY time; 0 is
	// no bound.
	MaxBuckets int
}

// Server is an open store.
type Server struct {
	lock      *flock.Flock
	meta      *meta.Client
	store     *tsdb.Store
	points    *coordinator.PointsWriter
	executor  *query.Executor
	cq        *continuous_querier.Service // nil when off
	transport *transport
	close     sync.Once
	closeErr  error
}

// Open locks the directory and opens the store in it. What the engine logs
// goes to the logger at debug. The caller closes the server.
func Open(c Config, logger *slog.Logger) (*Server, error) {
	if c.Dir == "" {
		return nil, errors.New("open embedded store: no directory")
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 8 << 20
	}
	if err := os.MkdirAll(filepath.Join(c.Dir, "meta"), 0o750); err != nil {
		return nil, fmt.Errorf("open embedded store: %w", err)
	}
	lock := flock.New(filepath.Join(c.Dir, "lock"))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", c.Dir, err)
	}
	if !locked {
		return nil, fmt.Errorf("open embedded store %s: %w", c.Dir, ErrLocked)
	}
	s := &Server{lock: lock}
	if err := s.open(c, engineLog(logger)); err != nil {
		return nil, errors.Join(fmt.Errorf("open embedded store %s: %w", c.Dir, err), s.Close())
	}
	return s, nil
}

func (s *Server) open(c Config, log *zap.Logger) error {
	metaConfig := meta.NewConfig()
	metaConfig.Dir = filepath.Join(c.Dir, "meta")
	metaConfig.LoggingEnabled = false
	s.meta = meta.NewClient(metaConfig)
	s.meta.WithLogger(log)
	if err := s.meta.Open(); err != nil {
		return err
	}
	data := storeConfig(c)
	if err := mendLogs(data.WALDir); err != nil {
		return err
	}
	s.store = tsdb.NewStore(data.Dir)
	s.store.EngineOptions.Config = data
	s.store.EngineOptions.EngineVersion, s.store.EngineOptions.IndexVersion = data.Engine, data.Index
	s.store.WithLogger(log)
	if err := s.store.Open(); err != nil {
		return err
	}
	s.points = coordinator.NewPointsWriter()
	s.points.WriteTimeout = time.Minute
	s.points.TSDBStore, s.points.MetaClient = s.store, s.meta
	s.points.WithLogger(log)
	if err := s.points.Open(); err != nil {
		return err
	}
	s.executor = query.NewExecutor()
	s.executor.WithLogger(log)
	s.executor.StatementExecutor = &coordinator.StatementExecutor{
		MetaClient: s.meta, TaskManager: s.executor.TaskManager, TSDBStore: s.store, PointsWriter: s.points,
		ShardMapper: &coordinator.LocalShardMapper{
			MetaClient: s.meta, TSDBStore: coordinator.LocalTSDBStore{Store: s.store}},
		StrictErrorHandling: true, MaxSelectBucketsN: c.MaxBuckets,
	}
	if c.ContinuousQueries {
		config := continuous_querier.NewConfig()
		config.LogEnabled = false
		s.cq = continuous_querier.NewService(config)
		s.cq.MetaClient, s.cq.QueryExecutor = s.meta, s.executor
		s.cq.WithLogger(log)
		if err := s.cq.Open(); err != nil {
			return err
		}
	}
	s.transport = newTransport(s.handler(log))
	return nil
}

// storeConfig keeps memory small and tags unlimited, and syncs each write.
func storeConfig(c Config) tsdb.Config {
	data := tsdb.NewConfig()
	data.Dir, data.WALDir = filepath.Join(c.Dir, "data"), filepath.Join(c.Dir, "wal")
	data.Index = tsdb.TSI1IndexName
	data.QueryLogEnabled = false
	data.WALFsyncDelay = 0
	data.MaxSeriesPerDatabase, data.MaxValuesPerTag = 0, 0
	// The index's cache of the series of a tag's value loses those that are
	// added while a query fills it, and queries by that value miss their rows
	// until it is evicted or the store is opened again.
	data.SeriesIDSetCacheSize = 0
	data.CacheSnapshotMemorySize = toml.Size(c.CacheBytes)
	data.CacheMaxMemorySize = toml.Size(max(256<<20, 4*c.CacheBytes)) // beyond it writes are refused
	data.CacheSnapshotWriteColdDuration = toml.Duration(5 * time.Minute)
	data.MaxConcurrentCompactions = 1
	data.StrictErrorHandling = true
	return data
}

func (s *Server) handler(log *zap.Logger) *httpd.Handler {
	config := httpd.NewConfig()
	config.LogEnabled, config.PprofEnabled, config.FluxEnabled = false, false, false
	config.MaxRowLimit = 0
	handler := httpd.NewHandler(config)
	handler.Version, handler.BuildType = "1.8.10", "OSS"
	handler.MetaClient, handler.QueryExecutor, handler.PointsWriter = s.meta, s.executor, s.points
	handler.QueryAuthorizer, handler.WriteAuthorizer = meta.NewQueryAuthorizer(s.meta), meta.NewWriteAuthorizer(s.meta)
	handler.Logger = log
	return handler
}

// Transport carries requests to the engine, whatever their host: /query,
// /write and /ping. After Close each request fails with ErrClosed.
func (s *Server) Transport() http.RoundTripper { return s.transport }

// Client is the store as a server.
func (s *Server) Client() (*influxsync.Server, error) {
	return influxsync.New(influxsync.Config{URL: "http://embedded", Transport: s.transport})
}

// Close ends running requests, closes the store and gives the directory free.
// A second call returns what the first did.
func (s *Server) Close() error {
	s.close.Do(func() { s.closeErr = s.shutdown() })
	return s.closeErr
}

func (s *Server) shutdown() error {
	var errs []error
	if s.cq != nil {
		errs = append(errs, s.cq.Close())
	}
	if s.transport != nil {
		s.transport.shut()
	}
	if s.executor != nil {
		errs = append(errs, s.executor.Close())
	}
	if s.transport != nil {
		s.transport.wait()
	}
	if s.points != nil {
		errs = append(errs, s.points.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.meta != nil {
		errs = append(errs, s.meta.Close())
	}
	errs = append(errs, s.lock.Unlock())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close embedded store: %w", err)
	}
	return nil
}
