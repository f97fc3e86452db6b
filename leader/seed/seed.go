// Package seed writes what one cluster may know of the fleet: the facts of its
// own nodes, as the SQL text from which its follower builds a database.
//
// Need to know: a seed holds rows of one cluster only. A box appears under a
// random name that is this cluster's own, so that a box shared with another
// cluster cannot be recognised; customers, prices, watts, meters and sites are
// not in it. The text is a function of the registry's content alone: the same
// fleet gives the same bytes.
//
// It consists of CREATE TABLE, CREATE INDEX and INSERT statements:
//
//	meta(key, value)   keys cluster, schema, version (a hash of the node rows)
//	node(cluster, node, box, cpu_type, ram_type, disk_type, valid_from, valid_to)
//
// Times are Unix nanoseconds, NULL where open; a validity is half-open.
package seed

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// File is the seed's name in its directory.
const File = "seed.sql"

// schemaVersion is the seed's meta.schema.
const schemaVersion = "1"

// Seed is one cluster's seed.
type Seed struct {
	Cluster string
	Version string // hash of what it says
	Text    string // SQL
}

// row is a node's facts in [from, to); zero times are open.
type row struct {
	node, box, cpu, ram, disk string
	from, to                  time.Time
}

// Of is the seed of a cluster, with the whole history of its nodes' facts. It
// makes random names for boxes that have none in this cluster yet.
func Of(ctx context.Context, r *registry.Registry, cluster string) (Seed, error) {
	nodes, err := r.History(ctx, fleet.KindNode, schema.Window{})
	if err != nil {
		return Seed{}, fmt.Errorf("seed of %s: %w", cluster, err)
	}
	hardware, err := r.History(ctx, fleet.KindHardware, schema.Window{})
	if err != nil {
		return Seed{}, fmt.Errorf("seed of %s: %w", cluster, err)
	}
	var rows []row
	for _, o := range nodes {
		n, ok := o.Spec.(fleet.Node)
		if !ok || n.Cluster != cluster {
			continue
		}
		box := ""
		if n.Box != "" {
			if box, err = r.BoxID(ctx, cluster, n.Box); err != nil {
				return Seed{}, fmt.Errorf("seed of %s: %w", cluster, err)
			}
		}
		rows = append(rows, facts(o, n, box, hardware)...)
	}
	return build(cluster, join(rows)), nil
}

// facts cuts a node's validity where its hardware changes.
func facts(o fleet.Object, n fleet.Node, box string, hardware []fleet.Object) []row {
	cuts := []time.Time{o.ValidFrom}
	for _, h := range hardware {
		if h.Name() != n.Hardware {
			continue
		}
		for _, t := range []time.Time{h.ValidFrom, h.ValidTo} {
			if !t.IsZero() && t.After(o.ValidFrom) && (o.ValidTo.IsZero() || t.Before(o.ValidTo)) {
				cuts = append(cuts, t)
			}
		}
	}
	slices.SortFunc(cuts, time.Time.Compare)
	cuts = append(slices.CompactFunc(cuts, time.Time.Equal), o.ValidTo)
	var rows []row
	for i, from := range cuts[:len(cuts)-1] {
		piece := row{node: n.Node, box: box, from: from, to: cuts[i+1]}
		for _, h := range hardware {
			if hw, ok := h.Spec.(fleet.Hardware); ok && h.Name() == n.Hardware && h.Overlaps(piece.from, piece.to) {
				piece.cpu, piece.ram, piece.disk = hw.CPUType, hw.RAMType, hw.DiskType
			}
		}
		rows = append(rows, piece)
	}
	return rows
}

// join orders the rows and makes one of neighbours that say the same, such as
// two versions that differ only in what a cluster may not know.
func join(rows []row) []row {
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(strings.Compare(a.node, b.node), a.from.Compare(b.from))
	})
	var joined []row
	for _, r := range rows {
		if last := len(joined) - 1; last >= 0 && !r.from.IsZero() && joined[last].to.Equal(r.from) {
			same := r
			same.from, same.to = joined[last].from, joined[last].to
			if same == joined[last] {
				joined[last].to = r.to
				continue
			}
		}
		joined = append(joined, r)
	}
	return joined
}

func build(cluster string, rows []row) Seed {
	var body strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&body, "INSERT INTO node VALUES (%s, %s, %s, %s, %s, %s, %s, %s);\n", quote(cluster), quote(r.node),
			quote(r.box), quote(r.cpu), quote(r.ram), quote(r.disk), stamp(r.from), stamp(r.to))
	}
	sum := sha256.Sum256([]byte(schemaVersion + "\n" + cluster + "\n" + body.String()))
	version := hex.EncodeToString(sum[:8])
	var text strings.Builder
	text.WriteString(`CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE node (cluster TEXT NOT NULL, node TEXT NOT NULL, box TEXT NOT NULL, cpu_type TEXT NOT NULL, ram_type TEXT NOT NULL, disk_type TEXT NOT NULL, valid_from INTEGER, valid_to INTEGER);
CREATE INDEX node_name ON node (cluster, node, valid_from);
`)
	for _, pair := range [][2]string{{"cluster", cluster}, {"schema", schemaVersion}, {"version", version}} {
		fmt.Fprintf(&text, "INSERT INTO meta VALUES (%s, %s);\n", quote(pair[0]), quote(pair[1]))
	}
	text.WriteString(body.String())
	return Seed{Cluster: cluster, Version: version, Text: text.String()}
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

// Write puts the seed into a directory, which it makes, as File: the file is
// whole or as before, also when the machine stops. A file that says the same is
// left alone.
func (s Seed) Write(dir string) error {
	if err := s.write(dir); err != nil {
		return fmt.Errorf("write seed of %s: %w", s.Cluster, err)
	}
	return nil
}

func (s Seed) write(dir string) (err error) {
	path := filepath.Join(dir, File)
	if former, err := os.ReadFile(path); err == nil && string(former) == s.Text {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+File+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.WriteString(s.Text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
