// Package pseudonym gives names that may leave a cluster in place of its own: a
// keyed hash (HMAC-SHA-256) of kind, namespace and name, so that the same object
// has the same pseudonym for as long as the key is the same, and nobody without
// the key can tell or guess a name from it. Key and table of names stay in the
// cluster; Table.Resolve is for who may see them.
//
// Names of nodes, resources, storage classes and kinds are not replaced, nor the
// namespaces of Kubernetes itself and of the metering; UIDs are random by
// themselves. Label keys stay, their values are replaced.
package pseudonym

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/base32"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	_ "github.com/mattn/go-sqlite3" // the driver
)

// Prefix begins every pseudonym. No name of Kubernetes begins so by chance: it
// tells a reader what he sees.
const Prefix = "anon-"

const (
	minKey = 16 // bytes
	// maxCache bounds how many pseudonyms are held in memory.
	maxCache = 200_000
)

// kept are namespaces that say nothing of a customer.
var kept = map[string]bool{"kube-system": true, "kube-public": true, "kube-node-lease": true, "default": true}

// Name is what a pseudonym stands for. Of a label's value, Namespace is the
// label's key.
type Name struct {
	Kind, Namespace, Name string
}

// Config is where key and table are.
type Config struct {
	KeyFile string // at least 16 bytes; white space around them does not count
	Path    string // of the table, a SQLite file
	Own     string // namespace of the metering, which keeps its name; "" = unknown
}

// Table gives pseudonyms and remembers whom they stand for. It is safe for
// concurrent use.
type Table struct {
	config Config
	key    []byte

	mu    sync.Mutex
	cache map[Name]string
	fresh map[string]Name // not yet in the file
	db    *sql.DB
}

// New makes a table; it does no I/O. Open comes before the first Alias.
func New(config Config) *Table {
	return &Table{config: config, cache: make(map[Name]string), fresh: make(map[string]Name)}
}

// Open reads the key and opens the file. The table of another key is not used: a
// key that changed would make every object a new one, so that is refused until
// the old table was put away.
func (t *Table) Open(ctx context.Context) error {
	text, err := os.ReadFile(t.config.KeyFile)
	if err != nil {
		return fmt.Errorf("pseudonym-key-file: %w", err)
	}
	t.key = []byte(strings.TrimSpace(string(text)))
	if len(t.key) < minKey {
		return fmt.Errorf("pseudonym-key-file: %s has %d bytes, %d are needed: make one with `openssl rand -hex 32`", t.config.KeyFile, len(t.key), minKey)
	}
	if err := os.MkdirAll(filepath.Dir(t.config.Path), 0o700); err != nil {
		return fmt.Errorf("pseudonyms: %w", err)
	}
	file, err := os.OpenFile(t.config.Path, os.O_CREATE|os.O_RDWR, 0o600) // SQLite would make it readable to all
	if err != nil {
		return fmt.Errorf("pseudonyms: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("pseudonyms: %w", err)
	}
	if t.db, err = sql.Open("sqlite3", "file:"+t.config.Path+"?_journal_mode=WAL&_synchronous=FULL&_busy_timeout=5000"); err != nil {
		return fmt.Errorf("pseudonyms: %w", err)
	}
	t.db.SetMaxOpenConns(1)
	if err := t.prepare(ctx); err != nil {
		return errors.Join(err, t.Close())
	}
	return nil
}

// prepare makes the tables and compares the key with the one they were made by.
func (t *Table) prepare(ctx context.Context) error {
	_, err := t.db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS name (pseudonym TEXT PRIMARY KEY, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL) WITHOUT ROWID;
		CREATE TABLE IF NOT EXISTS made_by (fingerprint TEXT NOT NULL)`)
	if err != nil {
		return fmt.Errorf("pseudonyms %s: %w", t.config.Path, err)
	}
	mine, found := t.hash("key", "", ""), ""
	switch err := t.db.QueryRowContext(ctx, "SELECT fingerprint FROM made_by").Scan(&found); {
	case errors.Is(err, sql.ErrNoRows):
		if _, err := t.db.ExecContext(ctx, "INSERT INTO made_by VALUES (?)", mine); err != nil {
			return fmt.Errorf("pseudonyms %s: %w", t.config.Path, err)
		}
	case err != nil:
		return fmt.Errorf("pseudonyms %s: %w", t.config.Path, err)
	case found != mine:
		return fmt.Errorf("pseudonyms: %s was made with another key than %s holds, and every name would be a new one: put the old key back, or move the file away to begin anew",
			t.config.Path, t.config.KeyFile)
	}
	return nil
}

// hash is the pseudonym of a name: 100 bits of its HMAC.
func (t *Table) hash(kind, namespace, name string) string {
	mac := hmac.New(sha256.New, t.key)
	for _, part := range []string{"accumulus pseudonym 1", kind, namespace, name} {
		fmt.Fprintf(mac, "%d:%s", len(part), part)
	}
	return Prefix + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(mac.Sum(nil)))[:20]
}

// Alias is the pseudonym of a name. It stands for it in the table once Save has
// returned.
func (t *Table) Alias(kind, namespace, name string) string {
	if kind == "Namespace" && (kept[name] || name == t.config.Own && name != "") {
		return name
	}
	key := Name{kind, namespace, name}
	t.mu.Lock()
	defer t.mu.Unlock()
	if alias, ok := t.cache[key]; ok {
		return alias
	}
	alias := t.hash(kind, namespace, name)
	if len(t.cache) >= maxCache {
		clear(t.cache)
	}
	t.cache[key], t.fresh[alias] = alias, key
	return alias
}

// Save makes the names that Alias was asked for durable: before the rows that
// hold their pseudonyms are.
func (t *Table) Save(ctx context.Context) error {
	t.mu.Lock()
	fresh := t.fresh
	t.fresh = make(map[string]Name)
	t.mu.Unlock()
	if len(fresh) == 0 {
		return nil
	}
	err := t.insert(ctx, fresh)
	if err != nil {
		t.mu.Lock()
		for alias, name := range fresh {
			t.fresh[alias] = name
		}
		t.mu.Unlock()
		return fmt.Errorf("save %d pseudonyms: %w", len(fresh), err)
	}
	return nil
}

func (t *Table) insert(ctx context.Context, fresh map[string]Name) error {
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for alias, n := range fresh {
		if _, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO name VALUES (?, ?, ?, ?)", alias, n.Kind, n.Namespace, n.Name); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

// Resolve is what a pseudonym stands for; false for what is none of this table.
func (t *Table) Resolve(ctx context.Context, pseudonym string) (Name, bool, error) {
	if !strings.HasPrefix(pseudonym, Prefix) {
		return Name{}, false, nil
	}
	t.mu.Lock()
	n, ok := t.fresh[pseudonym]
	t.mu.Unlock()
	if ok {
		return n, true, nil
	}
	err := t.db.QueryRowContext(ctx, "SELECT kind, namespace, name FROM name WHERE pseudonym = ?", pseudonym).Scan(&n.Kind, &n.Namespace, &n.Name)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Name{}, false, nil
	case err != nil:
		return Name{}, false, fmt.Errorf("resolve pseudonym: %w", err)
	}
	return n, true, nil
}

// Close closes the file.
func (t *Table) Close() error {
	if t.db == nil {
		return nil
	}
	return t.db.Close()
}
