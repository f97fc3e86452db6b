// Package registry is the leader's memory apart from the measured rows: the
// fleet's objects with their validity, how far each cluster has been pulled
// (marks), what has been received (ledger), what is to be computed (due) and
// of what it was last computed (fingerprints), the rows that were refused
// (quarantine), and the clusters' own objects for look-ups by label.
//
// It is one SQLite file in WAL mode with one writer. What it guarantees:
//
//   - What belongs together is one transaction: a mark with its ledger entries
//     and the work that they make due; work done with its fingerprint and the
//     work that follows from it; a changed object with its audit row and the
//     quarters that it makes due.
//   - An object's past is never edited before the moment from which a change
//     holds, and a version that is replaced is kept.
//   - Work that is added again while it is being done is not lost (Done).
//
// Durability: a change of the fleet was acknowledged to a person, so it is
// synced to the disk before it returns (synchronous FULL). Marks, ledger and
// due work are written at each tick and may lose the last transactions, never
// their order, when the power fails (NORMAL): then the mark is older too, and
// the journal of the follower gives the same windows again.
//
// It computes no usage and speaks to no network.
package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	_ "github.com/mattn/go-sqlite3" // the driver "sqlite3"
)

// busyTimeout is how long a statement waits for a lock of another process,
// such as a backup.
const busyTimeout = 10 * time.Second

// readers is how many reads run at once beside the writer.
const readers = 4

// Registry is the open file. It is safe for concurrent use.
type Registry struct {
	clock  clock.Clock
	writer *sql.DB // one connection
	reader *sql.DB

	mu         sync.Mutex
	generation uint64         // of the objects
	objects    []fleet.Object // of that generation; nil until read

	stateGeneration uint64 // of the models
	states          []ModelState

	filling map[string]schema.Window // by cluster; not kept over a restart
}

// Open opens or makes the file at path and brings its schema up to date.
func Open(ctx context.Context, path string, clk clock.Clock) (*Registry, error) {
	writer, err := sql.Open("sqlite3", dsn(path, "_txlock=immediate&_journal_mode=WAL"))
	if err != nil {
		return nil, fmt.Errorf("open registry %s: %w", path, err)
	}
	writer.SetMaxOpenConns(1)
	r := &Registry{clock: clk, writer: writer}
	if err := migrate(ctx, writer); err != nil {
		return nil, errors.Join(fmt.Errorf("open registry %s: %w", path, err), writer.Close())
	}
	r.reader, err = sql.Open("sqlite3", dsn(path, "_query_only=true&_stmt_cache_size=64"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open registry %s: %w", path, err), writer.Close())
	}
	r.reader.SetMaxOpenConns(readers)
	return r, nil
}

func dsn(path, options string) string {
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: fmt.Sprintf(
		"_busy_timeout=%d&_foreign_keys=on&%s", busyTimeout.Milliseconds(), options)}
	return u.String()
}

// Close waits for running statements and closes the file.
func (r *Registry) Close() error { return errors.Join(r.reader.Close(), r.writer.Close()) }

// durability of a transaction when the power fails.
type durability string

const (
	synced  durability = "FULL"   // on the disk when it returns
	ordered durability = "NORMAL" // the last ones may be lost, in order
)

// write runs f in a transaction, alone.
func (r *Registry) write(ctx context.Context, d durability, f func(tx *sql.Tx) error) (err error) {
	conn, err := r.writer.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if _, err := conn.ExecContext(ctx, "PRAGMA synchronous = "+string(d)); err != nil {
		return err
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// queryer is a transaction or a pool.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// inserted executes an INSERT OR IGNORE of one row and says whether the row is new.
func inserted(ctx context.Context, tx *sql.Tx, statement string, args ...any) (bool, error) {
	result, err := tx.ExecContext(ctx, statement, args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// each runs a query and scans every row of it.
func each(ctx context.Context, q queryer, row func(scan func(...any) error) error, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// names are the values of a query's one column of text.
func names(ctx context.Context, q queryer, query string, args ...any) ([]string, error) {
	var all []string
	err := each(ctx, q, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		all = append(all, name)
		return err
	}, query, args...)
	return all, err
}

// nanos is a time as it is stored.
func nanos(t time.Time) int64 { return t.UnixNano() }

// moment is a stored time.
func moment(ns int64) time.Time { return time.Unix(0, ns).UTC() }
