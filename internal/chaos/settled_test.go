package chaos

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/accumulus-metering/accumulus/influxsync"
)

// key is a row's identity in its table.
type key string

func keyOf(p influxsync.Point) key {
	var b strings.Builder
	for _, tag := range p.Tags {
		b.WriteString(tag.Key + "\x00" + tag.Value + "\x01")
	}
	b.WriteString(strconv.FormatInt(p.Time.UnixNano(), 10))
	return key(b.String())
}

// same says whether two versions of a row are equal: fields, types and bits.
func same(a, b influxsync.Point) bool { return slices.Equal(a.Fields, b.Fields) }

// books is what a follower's store holds of a table, as the model knows it.
type books struct {
	rows    map[key][]influxsync.Point // all versions, the last is stored
	windows map[int]map[key]bool       // which rows a window has
	settled map[int][]settlement       // by window, one for each revision
	entries []influxsync.Entry         // the journal
}

// settlement is a window as it was settled.
type settlement struct {
	entry influxsync.Entry
	rows  map[key]int // which version of each row
}

func newBooks() *books {
	return &books{rows: make(map[key][]influxsync.Point), windows: make(map[int]map[key]bool), settled: make(map[int][]settlement)}
}

func (b *books) clone() *books {
	c := &books{rows: maps.Clone(b.rows), windows: make(map[int]map[key]bool), settled: maps.Clone(b.settled), entries: slices.Clone(b.entries)}
	for k, versions := range c.rows {
		c.rows[k] = slices.Clip(versions)
	}
	for w, settled := range c.settled {
		c.settled[w] = slices.Clip(settled)
	}
	for w, keys := range b.windows {
		c.windows[w] = maps.Clone(keys)
	}
	return c
}

// wrote remembers versions that were stored.
func (b *books) wrote(p *plan, rows []influxsync.Point) {
	for _, row := range rows {
		k, w := keyOf(row), p.index(row.Time)
		if stored := b.rows[k]; len(stored) > 0 {
			row = merge(stored[len(stored)-1], row)
		}
		b.rows[k] = append(b.rows[k], row)
		if b.windows[w] == nil {
			b.windows[w] = make(map[key]bool)
		}
		b.windows[w][k] = true
	}
}

// merge is a row after another one of its key was written over it: fields that
// only the former has stay.
func merge(former, row influxsync.Point) influxsync.Point {
	fields := slices.Clone(row.Fields)
	for _, field := range former.Fields {
		if _, ok := row.Field(field.Name); !ok {
			fields = append(fields, field)
		}
	}
	row.Fields = fields
	row.Sort()
	return row
}

// entry is what a journal has to say of a window as it is.
func (b *books) entry(p *plan, window int) influxsync.Entry {
	e := influxsync.Entry{Window: p.window(window), Coverage: 1000, Reason: "settled"}
	for k := range b.windows[window] {
		versions := b.rows[k]
		e.Rows++
		e.Digest.Add(versions[len(versions)-1])
	}
	return e
}

// journalled remembers entries as they were stored, of windows as they are.
func (b *books) journalled(p *plan, entries []influxsync.Entry) {
	for _, e := range entries {
		w := p.index(e.Window.From)
		s := settlement{entry: e, rows: make(map[key]int)}
		for k := range b.windows[w] {
			s.rows[k] = len(b.rows[k]) - 1
		}
		b.settled[w] = append(b.settled[w], s)
		b.entries = append(b.entries, e)
	}
}

// newest is the last settlement of a window.
func (b *books) newest(window int) (settlement, bool) {
	all := b.settled[window]
	if len(all) == 0 {
		return settlement{}, false
	}
	return all[len(all)-1], true
}

// at is the last settlement of a window whose entry is among the first n.
func (b *books) at(window, n int) settlement {
	all := b.settled[window]
	for len(all) > 1 && n > 0 && all[len(all)-1].entry.Time.After(b.entries[n-1].Time) {
		all = all[:len(all)-1]
	}
	return all[len(all)-1]
}

// dirty says whether a window has changed since it was settled.
func (b *books) dirty(window int) bool {
	s, ok := b.newest(window)
	if !ok {
		return false
	}
	for k := range b.windows[window] {
		if version, ok := s.rows[k]; !ok || version != len(b.rows[k])-1 {
			return true
		}
	}
	return false
}

// unsettled are the windows that have changed since they were settled.
func (b *books) unsettled(p *plan) []int {
	var windows []int
	for window := range p.windows {
		if b.dirty(window) {
			windows = append(windows, window)
		}
	}
	return windows
}

// find is how many entries end with the mark's, or -1: the mark is of another
// journal. No mark is 0.
func (b *books) find(mark influxsync.Mark, store string) int {
	if mark == (influxsync.Mark{}) || mark.Store == store && mark.Hash == "" {
		return 0
	}
	if mark.Store != store {
		return -1
	}
	for i, e := range b.entries {
		if e.Hash == mark.Hash && e.Time.Equal(mark.Time) {
			return i + 1
		}
	}
	return -1
}
