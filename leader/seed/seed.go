// Package seed writes what one cluster may know of the fleet: the facts of its
// own nodes, as the SQL text from which its follower builds a database. It packs
// and signs the text, and keeps it as a ConfigMap in the clusters themselves.
//
// Need to know: a seed holds rows of one cluster only, selected by a query of
// the registry. A box appears under a random name that is this cluster's own, so
// that a box shared with another cluster cannot be recognised; customers,
// prices, watts, meters and sites are not in it. The text is a function of the
// registry's content alone: the same fleet gives the same bytes, packed and
// signed too.
//
// It consists of CREATE TABLE, CREATE INDEX and INSERT statements:
//
//	meta(key, value)   keys cluster, schema, version (a hash of the node rows),
//	                   generation (higher than that of any other seed before it)
//	node(cluster, node, box, cpu_type, ram_type, disk_type, valid_from, valid_to)
//
// Times are Unix nanoseconds, NULL where open; a validity is half-open.
package seed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/leader/registry"
)

// File is the name of a seed that is neither packed nor signed.
const File = "seed.sql"

// schemaVersion is the seed's meta.schema.
const schemaVersion = "1"

// Seed is one cluster's seed.
type Seed struct {
	Cluster    string
	Version    string // hash of what it says of the nodes
	Generation int64  // registry.Knowledge
	Text       string // SQL
}

// Of is the seed of a cluster, with the whole history of its nodes' facts. It
// makes random names for boxes that have none in this cluster yet.
func Of(ctx context.Context, r *registry.Registry, cluster string) (Seed, error) {
	k, err := r.Knowledge(ctx, cluster, func(rows []registry.NodeFacts) string { return version(cluster, inserts(cluster, rows)) })
	if err != nil {
		return Seed{}, fmt.Errorf("seed of %s: %w", cluster, err)
	}
	return New(cluster, k), nil
}

// New is the seed that says what a cluster may know.
func New(cluster string, k registry.Knowledge) Seed {
	rows := inserts(cluster, k.Nodes)
	s := Seed{Cluster: cluster, Version: version(cluster, rows), Generation: k.Generation}
	var text strings.Builder
	text.WriteString(`CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE node (cluster TEXT NOT NULL, node TEXT NOT NULL, box TEXT NOT NULL, cpu_type TEXT NOT NULL, ram_type TEXT NOT NULL, disk_type TEXT NOT NULL, valid_from INTEGER, valid_to INTEGER);
CREATE INDEX node_name ON node (cluster, node, valid_from);
`)
	for _, pair := range [][2]string{{"cluster", cluster}, {"schema", schemaVersion}, {"version", s.Version}, {"generation", strconv.FormatInt(s.Generation, 10)}} {
		fmt.Fprintf(&text, "INSERT INTO meta VALUES (%s, %s);\n", quote(pair[0]), quote(pair[1]))
	}
	text.WriteString(rows)
	s.Text = text.String()
	return s
}

// inserts are the rows as statements, one a line.
func inserts(cluster string, rows []registry.NodeFacts) string {
	var text strings.Builder
	for _, r := range rows {
		for i, word := range []string{cluster, r.Node, r.Box, r.CPUType, r.RAMType, r.DiskType} {
			text.WriteString([]string{"INSERT INTO node VALUES (", ", "}[min(i, 1)])
			text.WriteString(quote(word))
		}
		text.WriteString(", " + stamp(r.From) + ", " + stamp(r.To) + ");\n")
	}
	return text.String()
}

func version(cluster, rows string) string {
	sum := sha256.Sum256([]byte(schemaVersion + "\n" + cluster + "\n" + rows))
	return hex.EncodeToString(sum[:8])
}

// quote is an SQL literal of any text. A zero byte ends a statement's text for
// SQLite, so it is left out; bytes that are not UTF-8 become U+FFFD.
func quote(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "")
	return "'" + strings.ReplaceAll(text, "'", "''") + "'"
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "NULL"
	}
	return strconv.FormatInt(t.UnixNano(), 10)
}

// Write puts the seed into a directory, which it makes, as File: for a follower
// that asks for no signature.
func (s Seed) Write(dir string) error {
	if err := write(dir, File, []byte(s.Text)); err != nil {
		return fmt.Errorf("write seed of %s: %w", s.Cluster, err)
	}
	return nil
}

// write makes a file that is whole or as before, also when the machine stops. A
// file that says the same is left alone.
func write(dir, name string, content []byte) (err error) {
	path := filepath.Join(dir, name)
	if former, err := os.ReadFile(path); err == nil && string(former) == string(content) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+name+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
