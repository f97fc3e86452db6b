// Package embedded is the real InfluxDB 1.8 engine in this process: meta
// store, TSM shards, TSI index, InfluxQL and the HTTP handler, without a TCP
// port. Requests reach the handler in memory, and answers stream.
//
// It guarantees that one process at a time has a directory open, that a write
// is on disk when it was answered, and that a directory opened again holds all
// that was written; a volume that was full is taken up again when it has room
// (see volume.go). What the engine does by the wall clock on its own is off:
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
	config    Config
	log       *slog.Logger
	lock      *flock.Flock
	meta      *meta.Client
	transport *transport
	close     sync.Once
	closeErr  error

	// use is held for reading while a request is in the engine, and for writing
	// while another engine takes its place.
	use    sync.RWMutex
	engine *engine // nil: it could not be opened again yet

	mu   sync.Mutex
	hurt string // why the engine takes no writes, or ""
}

// engine is what is opened again after its volume was full.
type engine struct {
	store    *tsdb.Store
	shards   *shards
	unwatch  func() // ends the watch over the shards
	points   *coordinator.PointsWriter
	executor *query.Executor
	cq       *continuous_querier.Service // nil when off
	handler  *httpd.Handler
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
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{config: c, log: logger, lock: lock}
	if err := s.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open embedded store %s: %w", c.Dir, err), s.Close())
	}
	return s, nil
}

func (s *Server) open() (err error) {
	config := meta.NewConfig()
	config.Dir = filepath.Join(s.config.Dir, "meta")
	config.LoggingEnabled = false
	s.meta = meta.NewClient(config)
	s.meta.WithLogger(engineLog(s.log))
	if err := s.meta.Open(); err != nil {
		return err
	}
	if s.engine, err = openEngine(s.config, s.meta, engineLog(s.log)); err != nil {
		return err
	}
	s.transport = newTransport(http.HandlerFunc(s.serve))
	return nil
}

// openEngine opens what of the store is not its list of databases. After an
// error nothing is open.
func openEngine(c Config, client *meta.Client, log *zap.Logger) (_ *engine, err error) {
	e := &engine{}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	data := storeConfig(c)
	if err := mendLogs(data.WALDir); err != nil {
		return nil, err
	}
	e.store = tsdb.NewStore(data.Dir)
	e.store.EngineOptions.Config = data
	e.store.EngineOptions.EngineVersion, e.store.EngineOptions.IndexVersion = data.Engine, data.Index
	e.store.WithLogger(log)
	e.store.EngineOptions.MonitorDisabled = true // see shards
	if err := e.store.Open(); err != nil {
		return nil, err
	}
	e.shards = newShards(e.store)
	e.unwatch = e.shards.watch()
	e.points = coordinator.NewPointsWriter()
	e.points.WriteTimeout = time.Minute
	e.points.TSDBStore, e.points.MetaClient = e.shards, client
	e.points.WithLogger(log)
	if err := e.points.Open(); err != nil {
		return nil, err
	}
	e.executor = query.NewExecutor()
	e.executor.WithLogger(log)
	e.executor.StatementExecutor = &coordinator.StatementExecutor{
		MetaClient: client, TaskManager: e.executor.TaskManager, TSDBStore: e.shards, PointsWriter: e.points,
		ShardMapper: &coordinator.LocalShardMapper{
			MetaClient: client, TSDBStore: e.shards},
		StrictErrorHandling: true, MaxSelectBucketsN: c.MaxBuckets,
	}
	if c.ContinuousQueries {
		config := continuous_querier.NewConfig()
		config.LogEnabled = false
		e.cq = continuous_querier.NewService(config)
		e.cq.MetaClient, e.cq.QueryExecutor = client, e.executor
		e.cq.WithLogger(log)
		if err := e.cq.Open(); err != nil {
			return nil, err
		}
	}
	e.handler = e.newHandler(client, log)
	return e, nil
}

// close ends it once nobody uses it any more. Some of it may never have opened.
func (e *engine) close() error {
	if e.unwatch != nil {
		e.unwatch()
	}
	var errs []error
	if e.cq != nil {
		errs = append(errs, e.cq.Close())
	}
	if e.executor != nil {
		errs = append(errs, e.executor.Close())
	}
	if e.points != nil {
		errs = append(errs, e.points.Close())
	}
	if e.store != nil {
		errs = append(errs, e.store.Close())
	}
	return errors.Join(errs...)
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

func (e *engine) newHandler(client *meta.Client, log *zap.Logger) *httpd.Handler {
	config := httpd.NewConfig()
	config.LogEnabled, config.PprofEnabled, config.FluxEnabled = false, false, false
	config.MaxRowLimit = 0
	handler := httpd.NewHandler(config)
	handler.Version, handler.BuildType = "1.8.10", "OSS"
	handler.MetaClient, handler.QueryExecutor, handler.PointsWriter = client, e.executor, e.points
	handler.QueryAuthorizer, handler.WriteAuthorizer = meta.NewQueryAuthorizer(client), meta.NewWriteAuthorizer(client)
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
	if s.transport != nil {
		s.transport.shut()
	}
	e := s.present()
	if e != nil {
		if e.cq != nil {
			errs = append(errs, e.cq.Close())
			e.cq = nil
		}
		errs = append(errs, e.executor.Close()) // ends the queries that run
	}
	if s.transport != nil {
		s.transport.wait()
	}
	if e := s.present(); e != nil {
		errs = append(errs, e.close())
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
