package chaos

import (
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

const day = 24 * time.Hour

// model is what a table of the centre must hold, by what the source held when
// it was pulled from and by what the mark says of that.
type model struct {
	plan  *plan
	table *table
	mark  influxsync.Mark
	// may are the versions that a row may have there. A pull that fails may leave
	// any version that the source then had, of the windows that it was to copy.
	may map[key][]influxsync.Point
	// must are the rows of windows that were confirmed. Nothing takes them away.
	must map[key]bool
	// apart are rows that are not taken: foreign ones, and those that the centre
	// refuses. They are to be in the quarantine once their window is confirmed.
	apart map[key][]influxsync.Point
	// last are, by window, the entries that the ledger may have of it: that of
	// the mark, or a newer one that the centre was seen to agree with.
	last map[int][]received
	// again: a pull may copy windows that were confirmed, as a new era may have
	// begun: the source is another, or what the centre noted of the era was lost.
	again bool
}

// received is an entry and the store whose journal has it.
type received struct {
	influxsync.Entry
	store string
}

func newModel(p *plan, t *table) *model {
	return &model{plan: p, table: t, may: make(map[key][]influxsync.Point), must: make(map[key]bool),
		apart: make(map[key][]influxsync.Point), last: make(map[int][]received)}
}

// taken says whether the centre takes a row.
func (m *model) taken(row influxsync.Point) bool { return !m.isForeign(row) && !m.conflicts(row) }

func (m *model) isForeign(row influxsync.Point) bool { return row.Tag(schema.Cluster) != cluster }

// conflicts: the field has another type in the shard of the first day.
func (m *model) conflicts(row influxsync.Point) bool {
	if m.table.conflict == "" || !row.Time.Truncate(day).Equal(m.plan.start.Truncate(day)) {
		return false
	}
	_, has := row.Field(m.table.conflict)
	return has
}

// before is what a table's books were before a pull: how many versions each row
// had.
type before map[key]int

func versions(b *books) before {
	n := make(before, len(b.rows))
	for k, all := range b.rows {
		n[k] = len(all)
	}
	return n
}

// pulled takes in a pull over which the mark went on to the given one, and says
// what was wrong with that. The versions before it are given; some may have come
// while it ran.
func (m *model) pulled(b *books, store string, were before, mark influxsync.Mark) error {
	from := max(0, b.find(m.mark, store))
	if m.again || mark.Era != m.mark.Era {
		from = 0
	}
	for _, e := range b.entries[from:] {
		for k := range b.windows[m.plan.index(e.Window.From)] {
			m.touched(b.rows[k][max(0, were[k]-1):], k)
		}
	}
	if mark == m.mark {
		return nil
	}
	to := b.find(mark, store)
	if to < 0 {
		return fmt.Errorf("the mark %+v is of no entry of the source's journal", mark)
	}
	switch former := b.find(m.mark, store); {
	case mark.Era < m.mark.Era || former < 0 && m.mark.Store != "" && mark.Era == m.mark.Era:
		return fmt.Errorf("the mark went from %+v to %+v: that is no new era", m.mark, mark)
	case mark.Era == m.mark.Era && to < former:
		return fmt.Errorf("the mark went back from entry %d to %d", former, to)
	case mark.Era == m.mark.Era:
		from = max(0, former)
	}
	for _, e := range b.entries[from:to] {
		m.confirmed(b, store, m.plan.index(e.Window.From), to, were)
	}
	m.mark = mark
	return nil
}

// touched: a pull that read these versions may have written them.
func (m *model) touched(versions []influxsync.Point, k key) {
	for _, row := range versions {
		if m.taken(row) && !slices.ContainsFunc(m.may[k], func(other influxsync.Point) bool { return same(row, other) }) {
			m.may[k] = append(m.may[k], row)
		}
	}
}

// confirmed: the centre holds the window as the newest of the first n entries
// settled it, or newer where it was written while the pull ran.
func (m *model) confirmed(b *books, store string, window, n int, were before) {
	s := b.at(window, n)
	for k, version := range s.rows {
		seen := slices.Clone(b.rows[k][max(version, were[k]-1):])
		if !m.taken(seen[0]) {
			m.apart[k] = seen
			continue
		}
		m.must[k], m.may[k] = true, seen
	}
	m.last[window] = nil
	for _, later := range b.settled[window] {
		if !later.entry.Time.Before(s.entry.Time) {
			m.last[window] = append(m.last[window], received{later.entry, store})
		}
	}
}

// compare says what is wrong with the rows of the centre.
func (m *model) compare(held map[key]influxsync.Point) error {
	for k := range m.must {
		if _, ok := held[k]; !ok && !m.replaced(k) {
			return fmt.Errorf("lost %s, which was confirmed", describe(m.may[k][0]))
		}
	}
	for k, row := range held {
		if !m.allows(m.may[k], row) {
			if len(m.may[k]) == 0 {
				return fmt.Errorf("holds %s, which no pull can have brought", describe(row))
			}
			return fmt.Errorf("holds %s, want %s", describe(row), describe(m.may[k][0]))
		}
	}
	return nil
}

// allows says whether a row is one of some versions, or, where versions have
// different fields, made of several: a write takes no field away.
func (m *model) allows(versions []influxsync.Point, row influxsync.Point) bool {
	from := func(field influxsync.FieldValue) func(influxsync.Point) bool {
		return func(version influxsync.Point) bool {
			value, ok := version.Field(field.Name)
			return ok && value == field.Value
		}
	}
	if m.grown(row, versions...) {
		return true
	}
	mixed := m.plan.loose && len(versions) > 1
	for _, field := range row.Fields {
		mixed = mixed && slices.ContainsFunc(versions, from(field))
	}
	return mixed || slices.ContainsFunc(versions, func(version influxsync.Point) bool { return same(row, version) })
}

// grown says whether a row is one of some versions with fields of former ones,
// where the centre cannot take them away.
func (m *model) grown(row influxsync.Point, versions ...influxsync.Point) bool {
	return m.plan.loose && !m.table.mends() && slices.ContainsFunc(versions, func(version influxsync.Point) bool {
		return len(version.Fields) < len(row.Fields) && same(merge(row, version), row)
	})
}

// replaced says whether a pull that failed may have been replacing a row by one
// with fewer fields, which is to delete it first.
func (m *model) replaced(k key) bool { return m.plan.loose && len(m.may[k]) > 1 }

// exact says what is wrong with the rows of the centre when everything that is
// settled was pulled: each row of each window as it was settled last.
func (m *model) exact(b *books, held map[key]influxsync.Point) error {
	for window := range b.settled {
		s, _ := b.newest(window)
		for k, version := range s.rows {
			want := b.rows[k][version]
			got, ok := held[k]
			switch {
			case !m.taken(want) && ok:
				return fmt.Errorf("holds %s, which is to be refused", describe(got))
			case m.taken(want) && !ok:
				return fmt.Errorf("misses %s", describe(want))
			case m.taken(want) && !same(got, want) && !m.grown(got, want):
				return fmt.Errorf("holds %s, settled is %s", describe(got), describe(want))
			}
		}
	}
	return nil
}

func describe(p influxsync.Point) string {
	var fields []string
	for _, f := range p.Fields {
		fields = append(fields, fmt.Sprintf("%s=%v", f.Name, f.Value))
	}
	return fmt.Sprintf("row %q at %s with %.300q", p.Tags, p.Time.Format("15:04:05.999999999"), fields)
}
