package influxsync

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// The journal's table. Its tags are the cluster and the table that it is of.
const (
	journalTable = "journal"
	tableTag     = "table"
)

// Entry is one line of a journal: that the rows of a window were durable.
type Entry struct {
	Cluster, Table string
	Window         schema.Window
	Revision       int64 // from 1, per window
	Rows           int64
	Digest         Digest // of the window's rows
	Coverage       int64  // 1/1000 of the window
	Reason         string
	Previous       string // hash of the entry before, "" for the first
	Hash           string // of Previous and of everything above and below
	Time           time.Time
}

// hash is the first 128 bits of the SHA-256 of the entry in canonical form, in
// hex. Integers are little-endian, texts have their length before them.
func (e Entry) hash() string {
	var canonical []byte
	for _, text := range []string{e.Previous, e.Cluster, e.Table, e.Reason} {
		canonical = binary.LittleEndian.AppendUint64(canonical, uint64(len(text)))
		canonical = append(canonical, text...)
	}
	for _, number := range []int64{e.Window.From.UnixNano(), e.Window.To.UnixNano(), e.Revision, e.Rows,
		int64(e.Digest), e.Coverage, e.Time.UnixNano()} {
		canonical = binary.LittleEndian.AppendUint64(canonical, uint64(number))
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:16])
}

func (e Entry) point() Point {
	return NewPoint(journalTable, map[string]string{schema.Cluster: e.Cluster, tableTag: e.Table},
		map[string]Value{
			"window_from": Int(e.Window.From.UnixNano()), "window_to": Int(e.Window.To.UnixNano()),
			"revision": Int(e.Revision), "rows": Int(e.Rows), "digest": Int(int64(e.Digest)),
			"coverage": Int(e.Coverage), "reason": Str(e.Reason), "previous": Str(e.Previous), "hash": Str(e.Hash),
		}, e.Time)
}

func entryOf(p Point) Entry {
	text := func(name string) string {
		value, _ := p.Field(name)
		return value.Str()
	}
	return Entry{
		Cluster: p.Tag(schema.Cluster), Table: p.Tag(tableTag), Time: p.Time,
		Window:   schema.Window{From: time.Unix(0, p.Int("window_from")).UTC(), To: time.Unix(0, p.Int("window_to")).UTC()},
		Revision: p.Int("revision"), Rows: p.Int("rows"), Digest: Digest(p.Int("digest")),
		Coverage: p.Int("coverage"), Reason: text("reason"), Previous: text("previous"), Hash: text("hash"),
	}
}

// VerifyChain checks entries in their order of time: each one's Previous is
// the hash of the one before, previousHash for the first, and each hash is that
// of its content. Anything else is ErrChain.
func VerifyChain(entries []Entry, previousHash string) error {
	for i, e := range entries {
		if err := e.follows(previousHash); err != nil {
			return err
		}
		if i > 0 && !e.Time.After(entries[i-1].Time) {
			return fmt.Errorf("entry of %s at %s is not after the one before: %w", e.Table, e.Time, ErrChain)
		}
		previousHash = e.Hash
	}
	return nil
}

func (e Entry) follows(previous string) error {
	switch {
	case !e.Window.From.Before(e.Window.To):
		return fmt.Errorf("entry of %s at %s is of the window %s, which is none: %w", e.Table, e.Time, e.Window, ErrChain)
	case e.Previous != previous:
		return fmt.Errorf("entry of %s at %s follows %q, not %q: %w", e.Table, e.Time, e.Previous, previous, ErrChain)
	case e.Hash != e.hash():
		return fmt.Errorf("entry of %s at %s has not the hash of its content: %w", e.Table, e.Time, ErrChain)
	}
	return nil
}
