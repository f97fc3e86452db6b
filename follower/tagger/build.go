package tagger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"
)

// required are the tables and columns that every seed has.
var required = map[string][]string{
	"meta": {"key", "value"},
	"node": {"cluster", "node", "box", "cpu_type", "ram_type", "disk_type", "valid_from", "valid_to"},
}

// A seed's database holds at most maxPages pages (64 MiB) and is built within
// buildTimeout: a seed can neither fill the disk nor hang the follower.
const (
	maxPages     = 16 << 10
	buildTimeout = 30 * time.Second
)

// origin is where an accepted seed came from. It stands in the database, in a
// table that a seed cannot make.
type origin struct {
	hash string // of the seed's files
	key  string // the public key that it was signed for, base64; "" = it was not asked for
}

// content is what an accepted seed says.
type content struct {
	origin
	version    string
	generation int64 // 0 where it has none
	nodes      map[string][]validity
}

// build makes a new database file at path of a seed's files. Every statement
// runs in one transaction under an authorizer that allows nothing but what a
// seed needs; the result is checked before the file counts as made.
func build(ctx context.Context, path, cluster string, files []file, from origin) (made content, err error) {
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	for _, leftover := range []string{path, path + "-journal"} {
		if err := os.Remove(leftover); err != nil && !errors.Is(err, os.ErrNotExist) {
			return content{}, fmt.Errorf("build seed: %w", err)
		}
	}
	db, err := sql.Open("sqlite3", dsn(path, "rwc"))
	if err != nil {
		return content{}, fmt.Errorf("build seed: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return content{}, fmt.Errorf("build seed: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA max_page_count = %d", maxPages)); err != nil {
		return content{}, fmt.Errorf("build seed: %w", err)
	}
	if err := execute(ctx, conn, files, from); err != nil {
		return content{}, err
	}
	return check(ctx, conn, cluster)
}

func dsn(path, mode string) string {
	return (&url.URL{Scheme: "file", Opaque: url.PathEscape(path), RawQuery: "mode=" + mode}).String()
}

// execute runs the statements in one transaction.
func execute(ctx context.Context, conn *sql.Conn, files []file, from origin) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("build seed: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := authorize(conn, allowed); err != nil {
		return err
	}
	err = statements(ctx, tx, files)
	if err := errors.Join(err, authorize(conn, nil)); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "CREATE TABLE origin (hash TEXT NOT NULL, key TEXT NOT NULL)"); err != nil {
		return fmt.Errorf("build seed: %w", err)
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO origin VALUES (?, ?)", from.hash, from.key); err != nil {
		return fmt.Errorf("build seed: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("build seed: %w", err)
	}
	return nil
}

func statements(ctx context.Context, tx *sql.Tx, files []file) error {
	for _, f := range files {
		list, err := Split(f.text)
		if err != nil {
			return fmt.Errorf("seed %s: %w", f.name, err)
		}
		for i, statement := range list {
			if err := accepted(statement); err != nil {
				return fmt.Errorf("seed %s statement %d: %w", f.name, i+1, err)
			}
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("seed %s statement %d: %w", f.name, i+1, err)
			}
		}
	}
	return nil
}

func authorize(conn *sql.Conn, callback func(op int, arg1, arg2, arg3 string) int) error {
	err := conn.Raw(func(driver any) error {
		c, ok := driver.(*sqlite3.SQLiteConn)
		if !ok {
			return fmt.Errorf("driver is %T", driver)
		}
		c.RegisterAuthorizer(callback)
		return nil
	})
	if err != nil {
		return fmt.Errorf("set authorizer: %w", err)
	}
	return nil
}

// sqliteReindex is an action code that the driver does not name, sqlite3.h.
const sqliteReindex = 27

// allowed is the second fence behind accepted: what the engine itself is about
// to do. No function is called, nothing recurs, no other file is attached. (A
// VALUES of several rows is a SELECT to the engine.)
func allowed(op int, table, _, _ string) int {
	switch op {
	case sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_INSERT,
		sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqliteReindex:
		return sqlite3.SQLITE_OK
	case sqlite3.SQLITE_UPDATE:
		if strings.HasPrefix(table, "sqlite_") { // its own, as a part of CREATE
			return sqlite3.SQLITE_OK
		}
	}
	return sqlite3.SQLITE_DENY
}

// check is the database's integrity, its tables and columns, its cluster, and
// that each node has one set of facts at any time. It returns what it read.
func check(ctx context.Context, conn *sql.Conn, cluster string) (content, error) {
	var integrity string
	if err := conn.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&integrity); err != nil {
		return content{}, fmt.Errorf("check seed: integrity: %w", err)
	}
	if integrity != "ok" {
		return content{}, fmt.Errorf("check seed: integrity: %s", integrity)
	}
	for table, columns := range required {
		have, err := column[string](ctx, conn, "SELECT name FROM pragma_table_info(?)", table)
		if err != nil {
			return content{}, fmt.Errorf("check seed: %w", err)
		}
		for _, name := range columns {
			if !slices.Contains(have, name) {
				return content{}, fmt.Errorf("check seed: table %s has no column %s", table, name)
			}
		}
	}
	var c content
	if err := c.readMeta(ctx, conn, cluster); err != nil {
		return content{}, fmt.Errorf("check seed: %w", err)
	}
	var err error
	if c.nodes, err = load(ctx, conn, cluster); err != nil {
		return content{}, fmt.Errorf("check seed: %w", err)
	}
	return c, nil
}

func (c *content) readMeta(ctx context.Context, conn *sql.Conn, cluster string) error {
	var of, generation string
	for key, into := range map[string]*string{"cluster": &of, "version": &c.version, "generation": &generation} {
		err := conn.QueryRowContext(ctx, "SELECT value FROM meta WHERE key = ?", key).Scan(into)
		if err != nil && !(key == "generation" && errors.Is(err, sql.ErrNoRows)) {
			return fmt.Errorf("meta %s: %w", key, err)
		}
	}
	if of != cluster {
		return fmt.Errorf("it is of cluster %q, this is %q", of, cluster)
	}
	if generation != "" {
		n, err := strconv.ParseInt(generation, 10, 64)
		if err != nil {
			return fmt.Errorf("meta generation: %w", err)
		}
		c.generation = n
	}
	var there int // not in a database of an earlier version of this program
	if err := conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name = 'origin'").Scan(&there); err != nil || there == 0 {
		return err
	}
	return conn.QueryRowContext(ctx, "SELECT hash, key FROM origin").Scan(&c.hash, &c.key)
}

// load reads the nodes' rows in one pass, of each node the oldest first.
func load(ctx context.Context, q querier, cluster string) (map[string][]validity, error) {
	rows, err := q.QueryContext(ctx, `SELECT coalesce(cluster, ''), coalesce(node, ''), coalesce(box, ''), coalesce(cpu_type, ''),
		coalesce(ram_type, ''), coalesce(disk_type, ''), coalesce(valid_from, ''), coalesce(valid_to, '') FROM node`)
	if err != nil {
		return nil, fmt.Errorf("facts: %w", err)
	}
	defer func() { _ = rows.Close() }()
	nodes := make(map[string][]validity)
	words := make(map[string]string) // one copy of those that come again
	var of, node string
	for rows.Next() {
		var v validity
		var from, to any
		facts := []*string{&v.facts.Box, &v.facts.CPUType, &v.facts.RAMType, &v.facts.DiskType}
		if err := rows.Scan(&of, &node, facts[0], facts[1], facts[2], facts[3], &from, &to); err != nil {
			return nil, fmt.Errorf("facts: %w", err)
		}
		if of != cluster {
			return nil, fmt.Errorf("rows of another cluster, %q", of)
		}
		if v.from, err = instant(from); err != nil {
			return nil, fmt.Errorf("facts of %s: valid_from: %w", node, err)
		}
		if v.to, err = instant(to); err != nil {
			return nil, fmt.Errorf("facts of %s: valid_to: %w", node, err)
		}
		for _, word := range facts {
			if _, ok := words[*word]; !ok {
				words[*word] = *word
			}
			*word = words[*word]
		}
		nodes[node] = append(nodes[node], v)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("facts: %w", err)
	}
	return nodes, ordered(nodes)
}

// ordered sorts each node's rows and says whether two hold at the same time.
func ordered(nodes map[string][]validity) error {
	for node, rows := range nodes {
		slices.SortFunc(rows, func(a, b validity) int { return a.from.Compare(b.from) })
		for i := 1; i < len(rows); i++ {
			if rows[i-1].to.IsZero() || rows[i].from.Before(rows[i-1].to) {
				return fmt.Errorf("node %s has two sets of facts at %s", node, rows[i].from.Format(time.RFC3339))
			}
		}
	}
	return nil
}

// querier is a connection or the pool.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func column[T any](ctx context.Context, q querier, query string, args ...any) (values []T, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var value T
		if err := rows.Scan(&value); err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, rows.Err()
}

// publish makes the file durable and puts it in the place of the old one.
func publish(from, to string) error {
	f, err := os.OpenFile(from, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("publish seed: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("publish seed: %w", err)
	}
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("publish seed: %w", err)
	}
	return nil
}
