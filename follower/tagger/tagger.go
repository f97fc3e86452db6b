// Package tagger knows the facts of a cluster's nodes: the box a node stands
// in and its hardware. They come as a seed, SQL text in a directory (the mount
// of a ConfigMap), from which a SQLite file is rebuilt whenever the text
// changes: statement by statement in a transaction into a new file, checked,
// then renamed over the old one. Look-ups are parameterised and cached; the
// cache is purged whole when the seed changes.
//
// A bad seed changes nothing: the last good one stays, also over a restart,
// and Status says what is wrong. The seed is foreign text: it may create
// tables and indexes and insert rows, nothing else.
//
// The schema of a seed:
//
//	CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT);   -- keys cluster, version
//	CREATE TABLE node(cluster TEXT, node TEXT, box TEXT, cpu_type TEXT, ram_type TEXT,
//	                  disk_type TEXT, valid_from, valid_to); -- half-open
//
// valid_from and valid_to are Unix nanoseconds or RFC 3339 text; NULL, 0 and
// the empty string leave that end open.
package tagger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/prometheus/client_golang/prometheus"
)

// Config says where the seed is.
type Config struct {
	Dir      string        // directory of *.sql files; "" for none
	Path     string        // the SQLite file that is built
	Cluster  string        // the seed's meta.cluster must be this
	Interval time.Duration // how often Run looks for a change
}

// Status is what is known of the seed.
type Status struct {
	Loaded  bool      `json:"loaded"`            // some seed is in use
	Version string    `json:"version,omitempty"` // its meta.version
	Hash    string    `json:"hash,omitempty"`    // SHA-256 of the text it was built from; "" when it was found at start
	Since   time.Time `json:"since,omitzero"`    // when it was taken into use
	Error   string    `json:"error,omitempty"`   // why the newest text is not in use
}

// Tagger answers for a node's facts. It is safe for concurrent use.
type Tagger struct {
	config Config
	clock  clock.Clock
	log    *slog.Logger

	mu      sync.RWMutex
	db      *sql.DB // nil until a seed was good
	cache   map[string][]validity
	status  Status
	refused string // hash of the text that status.Error speaks of

	builds *prometheus.CounterVec
}

// validity is a node's facts in [from, to); a zero time is open.
type validity struct {
	from, to time.Time
	facts    reading.Facts
}

// New makes a tagger that knows nothing yet.
func New(config Config, clk clock.Clock, log *slog.Logger, registry prometheus.Registerer) *Tagger {
	t := &Tagger{config: config, clock: clk, log: log, cache: make(map[string][]validity),
		builds: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_tagger_seed_builds_total",
			Help: "Changed seeds that were read, by result (used, refused)."}, []string{"result"})}
	registry.MustRegister(t.builds)
	return t
}

// Open takes the last good seed of an earlier run into use and then looks at
// the directory. A bad seed or none is no error, only part of the Status; an
// unusable directory of the file is.
func (t *Tagger) Open(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(t.config.Path), 0o700); err != nil {
		return fmt.Errorf("open tagger: %w", err)
	}
	if _, err := os.Stat(t.config.Path); err == nil {
		if err := t.reopen(ctx); err != nil {
			t.log.Warn("earlier seed is not usable", "err", err)
		}
	}
	t.Refresh(ctx)
	return nil
}

// Close lets go of the file.
func (t *Tagger) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.db == nil {
		return nil
	}
	db := t.db
	t.db, t.cache = nil, make(map[string][]validity)
	return db.Close()
}

// Run looks for a changed seed every interval, until ctx ends.
func (t *Tagger) Run(ctx context.Context) error {
	for {
		if err := t.clock.Sleep(ctx, t.config.Interval); err != nil {
			return nil
		}
		t.Refresh(ctx)
	}
}

// Refresh looks at the directory now and says whether another seed came into
// use. What is wrong with the text stands in the Status.
func (t *Tagger) Refresh(ctx context.Context) bool {
	if t.config.Dir == "" {
		return false
	}
	files, hash, err := readDir(t.config.Dir)
	t.mu.RLock()
	inUse := err == nil && hash == t.status.Hash && t.db != nil
	refused := err == nil && hash == t.refused
	t.mu.RUnlock()
	if inUse {
		t.mu.Lock()
		t.status.Error, t.refused = "", ""
		t.mu.Unlock()
	}
	if inUse || refused {
		return false
	}
	if err == nil {
		err = t.take(ctx, files, hash)
	}
	if ctx.Err() != nil {
		return false
	}
	return t.record(hash, err)
}

// record keeps the result of a look at a changed directory.
func (t *Tagger) record(hash string, err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.status.Error, t.refused = "", ""
		t.builds.WithLabelValues("used").Inc()
		t.log.Info("seed taken into use", "version", t.status.Version, "hash", hash)
		return true
	}
	if t.status.Error != err.Error() {
		t.builds.WithLabelValues("refused").Inc()
		t.log.Warn("seed not usable, the last good one stays", "err", err)
	}
	t.status.Error, t.refused = err.Error(), hash
	return false
}

// take builds the files into a database and brings it into use.
func (t *Tagger) take(ctx context.Context, files []file, hash string) error {
	fresh := t.config.Path + ".new"
	if _, err := build(ctx, fresh, t.config.Cluster, files); err != nil {
		return errors.Join(err, remove(fresh))
	}
	if err := publish(fresh, t.config.Path); err != nil {
		return err
	}
	if err := t.reopen(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	t.status.Hash = hash
	t.mu.Unlock()
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// reopen reads the file at Path from now on and forgets what was cached.
func (t *Tagger) reopen(ctx context.Context) error {
	db, err := sql.Open("sqlite3", dsn(t.config.Path, "ro"))
	if err != nil {
		return fmt.Errorf("open seed: %w", err)
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("open seed: %w", err), db.Close())
	}
	version, err := check(ctx, conn, t.config.Cluster)
	if err := errors.Join(err, conn.Close()); err != nil {
		return errors.Join(err, db.Close())
	}
	t.mu.Lock()
	old := t.db
	t.db, t.cache = db, make(map[string][]validity)
	t.status = Status{Loaded: true, Version: version, Since: t.clock.Now()}
	t.mu.Unlock()
	if old != nil {
		return old.Close()
	}
	return nil
}

// Status is the state of the seed.
func (t *Tagger) Status() Status {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.status
}

// Facts are the node's facts at present, and whether the seed has them.
func (t *Tagger) Facts(node string) (reading.Facts, bool) {
	return t.FactsAt(node, t.clock.Now())
}

// unknown are a node's facts where no seed can come.
var unknown = reading.Facts{Box: schema.Unknown, CPUType: schema.Unknown, RAMType: schema.Unknown, DiskType: schema.Unknown}

// FactsAt are the node's facts at a time, and whether the seed has them. Where
// neither a directory nor an earlier seed is there, nothing is worth waiting
// for: every node's facts are "unknown", and that is known.
func (t *Tagger) FactsAt(node string, at time.Time) (reading.Facts, bool) {
	if t.config.Dir == "" && !t.Status().Loaded {
		return unknown, true
	}
	for _, v := range t.validities(node) {
		if !at.Before(v.from) && (v.to.IsZero() || at.Before(v.to)) {
			return v.facts, true
		}
	}
	return reading.Facts{}, false
}

// validities are the node's rows, cached. The look-up holds the lock, so that a
// seed that comes meanwhile cannot be filled with rows of the old one.
func (t *Tagger) validities(node string) []validity {
	t.mu.RLock()
	rows, ok := t.cache[node]
	t.mu.RUnlock()
	if ok {
		return rows
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if rows, ok := t.cache[node]; ok || t.db == nil {
		return rows
	}
	rows, err := load(context.Background(), t.db, node)
	if err != nil {
		t.log.Warn("look up facts", "node", node, "err", err)
		return nil
	}
	t.cache[node] = rows
	return rows
}

// load reads a node's rows, oldest first.
func load(ctx context.Context, q querier, node string) (list []validity, err error) {
	rows, err := q.QueryContext(ctx, `SELECT coalesce(box, ''), coalesce(cpu_type, ''), coalesce(ram_type, ''),
		coalesce(disk_type, ''), coalesce(valid_from, ''), coalesce(valid_to, '') FROM node WHERE node = ?`, node)
	if err != nil {
		return nil, fmt.Errorf("facts of %s: %w", node, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var v validity
		var from, to any
		if err := rows.Scan(&v.facts.Box, &v.facts.CPUType, &v.facts.RAMType, &v.facts.DiskType, &from, &to); err != nil {
			return nil, fmt.Errorf("facts of %s: %w", node, err)
		}
		if v.from, err = instant(from); err != nil {
			return nil, fmt.Errorf("facts of %s: valid_from: %w", node, err)
		}
		if v.to, err = instant(to); err != nil {
			return nil, fmt.Errorf("facts of %s: valid_to: %w", node, err)
		}
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b validity) int { return a.from.Compare(b.from) })
	return list, rows.Err()
}

// instant is a time as a seed writes it.
func instant(value any) (time.Time, error) {
	switch v := value.(type) {
	case int64:
		if v == 0 {
			return time.Time{}, nil
		}
		return time.Unix(0, v).UTC(), nil
	case []byte:
		return instant(string(v))
	case string:
		if v == "" || v == "0" {
			return time.Time{}, nil
		}
		t, err := time.Parse(time.RFC3339Nano, v)
		return t.UTC(), err
	case time.Time:
		return v.UTC(), nil
	}
	return time.Time{}, fmt.Errorf("%v is no time", value)
}
