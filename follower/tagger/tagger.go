// Package tagger knows the facts of a cluster's nodes: the box a node stands
// in and its hardware. They come as a seed, SQL text in a directory (the mount
// of a ConfigMap), from which a SQLite file is rebuilt whenever the text
// changes: statement by statement in a transaction into a new file, checked,
// then renamed over the old one. Look-ups are in memory, in a map that is filled
// from the file and replaced whole when the seed changes.
//
// A bad seed changes nothing: the last good one stays, also over a restart,
// and Status says what is wrong. The seed is foreign text: it may create
// tables and indexes and insert rows, nothing else.
//
// The leader sends a seed packed, as seed.sql.gz with its signature in
// seed.sql.gz.sig. Where the leader's public key is configured, nothing else is
// taken: neither plain *.sql files, nor a seed of another cluster, nor one whose
// generation is lower than that of the seed in use, which somebody kept.
//
// The schema of a seed:
//
//	CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT);   -- keys cluster, version, generation (optional)
//	CREATE TABLE node(cluster TEXT, node TEXT, box TEXT, cpu_type TEXT, ram_type TEXT,
//	                  disk_type TEXT, valid_from, valid_to); -- half-open
//
// valid_from and valid_to are Unix nanoseconds or RFC 3339 text; NULL, 0 and
// the empty string leave that end open.
package tagger

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/prometheus/client_golang/prometheus"
)

// Config says where the seed is.
type Config struct {
	Dir       string            // directory of the seed; "" for none
	PublicKey ed25519.PublicKey // of the leader; nil takes seeds that nobody signed
	Path      string            // the SQLite file that is built
	Cluster   string            // the seed's meta.cluster must be this
	Interval  time.Duration     // how often Run looks for a change
}

// ParsePublicKey reads a key as the leader prints it.
func ParsePublicKey(text string) (ed25519.PublicKey, error) {
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%q is not the base64 of a key of %d bytes; `accumulus seed key` prints it", text, ed25519.PublicKeySize)
	}
	return key, nil
}

// Status is what is known of the seed.
type Status struct {
	Loaded     bool      `json:"loaded"`            // some seed is in use
	Version    string    `json:"version,omitempty"` // its meta.version
	Generation int64     `json:"generation,omitzero,string"`
	Signed     bool      `json:"signed"`          // by the leader whose public key is configured
	Nodes      int       `json:"nodes"`           // that it names
	Hash       string    `json:"hash,omitempty"`  // SHA-256 of the files it was built from
	Since      time.Time `json:"since,omitzero"`  // when it was taken into use
	Error      string    `json:"error,omitempty"` // why the newest text is not in use
}

// Tagger answers for a node's facts. It is safe for concurrent use.
type Tagger struct {
	config Config
	clock  clock.Clock
	log    *slog.Logger

	mu      sync.RWMutex
	used    content // its nodes are nil until a seed was good
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
	t := &Tagger{config: config, clock: clk, log: log,
		builds: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_tagger_seed_builds_total",
			Help: "Changed seeds that were read, by result (used, refused)."}, []string{"result"})}
	registry.MustRegister(t.builds, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "accumulus_tagger_seed_refused",
		Help: "1 while the seed in the directory is not the one in use: it is missing or was refused."}, func() float64 {
		if t.Status().Error != "" {
			return 1
		}
		return 0
	}))
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
	there, err := readDir(t.config.Dir)
	t.mu.RLock()
	inUse := err == nil && t.used.origin == t.origin(there.hash)
	refused := err == nil && there.hash == t.refused
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
		err = t.take(ctx, there)
	}
	if ctx.Err() != nil {
		return false
	}
	return t.record(there.hash, err)
}

// origin is that of a seed which is taken now.
func (t *Tagger) origin(hash string) origin {
	return origin{hash: hash, key: base64.StdEncoding.EncodeToString(t.config.PublicKey)}
}

// record keeps the result of a look at a changed directory.
func (t *Tagger) record(hash string, err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.status.Error, t.refused = "", ""
		t.builds.WithLabelValues("used").Inc()
		t.log.Info("seed taken into use", "version", t.status.Version, "generation", t.status.Generation, "nodes", t.status.Nodes, "hash", hash)
		return true
	}
	if t.status.Error != err.Error() {
		t.builds.WithLabelValues("refused").Inc()
		t.log.Warn("seed not usable, the last good one stays", "err", err)
	}
	t.status.Error, t.refused = err.Error(), hash
	return false
}

// take builds what a directory holds into a database and brings it into use.
func (t *Tagger) take(ctx context.Context, there found) error {
	files, err := there.files(t.config.Cluster, t.config.PublicKey)
	if err != nil {
		return err
	}
	fresh := t.config.Path + ".new"
	made, err := build(ctx, fresh, t.config.Cluster, files, t.origin(there.hash))
	if err == nil {
		err = t.newer(made)
	}
	if err != nil {
		return errors.Join(err, remove(fresh))
	}
	if err := publish(fresh, t.config.Path); err != nil {
		return err
	}
	t.use(made)
	return nil
}

// newer refuses a signed seed that came before the one in use, which was signed
// by the same key: anybody may have kept it and put it back.
func (t *Tagger) newer(made content) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if made.key == "" || made.key != t.used.key || made.generation >= t.used.generation {
		return nil
	}
	return fmt.Errorf("seed: generation %d is older than %d, which is in use: if the leader's registry was restored from a copy, run `accumulus seed renew %s`",
		made.generation, t.used.generation, t.config.Cluster)
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// reopen takes the file at Path into use.
func (t *Tagger) reopen(ctx context.Context) (err error) {
	db, err := sql.Open("sqlite3", dsn(t.config.Path, "ro"))
	if err != nil {
		return fmt.Errorf("open seed: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("open seed: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	kept, err := check(ctx, conn, t.config.Cluster)
	if err != nil {
		return err
	}
	t.use(kept)
	return nil
}

// use answers from a seed from now on.
func (t *Tagger) use(c content) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used = c
	t.status = Status{Loaded: true, Version: c.version, Generation: c.generation, Signed: c.key != "" && c.origin == t.origin(c.hash),
		Nodes: len(c.nodes), Hash: c.hash, Since: t.clock.Now()}
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

// unknown are a node's facts where none can come.
var unknown = reading.Facts{Box: schema.Unknown, CPUType: schema.Unknown, RAMType: schema.Unknown, DiskType: schema.Unknown}

// FactsAt are the node's facts at a time, and whether the seed has them. Where
// neither a directory nor an earlier seed is there, or where the seed names no
// node at all, as that of a cluster that was just added does, nothing is worth
// waiting for: every node's facts are "unknown", and that is known.
func (t *Tagger) FactsAt(node string, at time.Time) (reading.Facts, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.config.Dir == "" && !t.status.Loaded || t.status.Loaded && len(t.used.nodes) == 0 {
		return unknown, true
	}
	for _, v := range t.used.nodes[node] {
		if !at.Before(v.from) && (v.to.IsZero() || at.Before(v.to)) {
			return v.facts, true
		}
	}
	return reading.Facts{}, false
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
