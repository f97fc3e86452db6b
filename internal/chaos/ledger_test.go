package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// checkQuarantine: what was confirmed and not taken is kept.
func (w *world) checkQuarantine() error {
	kept, err := w.centre.registry.Quarantined(w.ctx, registry.QuarantineFilter{Cluster: cluster}, 0, 1<<20)
	if err != nil {
		return err
	}
	there := make(map[string]map[uint64]bool)
	for _, row := range kept {
		if there[row.Table] == nil {
			there[row.Table] = make(map[uint64]bool)
		}
		there[row.Table][row.Hash] = true
	}
	for _, m := range w.models {
		for _, rows := range m.apart {
			if !slices.ContainsFunc(rows, func(row influxsync.Point) bool { return there[m.table.Name][row.Hash()] }) {
				return fmt.Errorf("after pull %d the quarantine misses %s of %q", w.pulls, describe(rows[0]), m.table.Name)
			}
		}
	}
	return nil
}

// always is a window that holds every one of the schedule's.
func (w *world) always() schema.Window {
	return schema.Window{From: w.plan.start.Add(-day), To: w.plan.start.Add(2 * day)}
}

// checkLedger: each window's newest entry is there as the store that has it
// settled it, and the completeness adds up.
func (w *world) checkLedger() error {
	for i, t := range w.plan.tables {
		entries, err := w.centre.registry.Ledger(w.ctx, cluster, t.Name, w.always())
		if err != nil {
			return err
		}
		held, err := w.centre.held(w.ctx, t)
		if err != nil {
			return err
		}
		if err := w.models[i].entered(w.source.books[i], w.source.store(i), entries, held); err != nil {
			return fmt.Errorf("the ledger of %q %w", t.Name, err)
		}
	}
	return w.checkCompleteness()
}

// entered compares the ledger's windows with what was confirmed, and with the rows
// that the centre holds of them.
func (m *model) entered(b *books, store string, entries []registry.LedgerEntry, held map[key]influxsync.Point) error {
	for window := range b.settled {
		s, _ := b.newest(window)
		m.last[window] = []received{{s.entry, store}}
	}
	if len(entries) != len(m.last) {
		return fmt.Errorf("has %d windows, want %d", len(entries), len(m.last))
	}
	for _, got := range entries {
		window := m.plan.index(got.Window.From)
		agrees := func(want received) bool {
			return got.Window == want.Window && got.Revision == want.Revision && got.Rows == want.Rows && got.Digest == want.Digest &&
				got.Store == want.store && got.Coverage == want.Coverage && got.Reason == want.Reason && got.Entered.Equal(want.Time)
		}
		if !slices.ContainsFunc(m.last[window], agrees) {
			return fmt.Errorf("has %+v, want one of %+v", got, m.last[window])
		}
		if s, ok := b.newest(window); ok {
			if err := m.counted(b, s, got, held); err != nil {
				return err
			}
		}
	}
	return nil
}

// counted compares what the ledger says of a window's rows.
func (m *model) counted(b *books, s settlement, got registry.LedgerEntry, held map[key]influxsync.Point) error {
	nodes := make(map[string]bool)
	var refused, extra int64
	for k, version := range s.rows {
		row := b.rows[k][version]
		switch {
		case m.isForeign(row):
			continue
		case m.conflicts(row):
			refused++
		}
		nodes[row.Tag(schema.Node)] = true
	}
	for k, row := range held {
		version, ok := s.rows[k]
		if !ok && got.Window.Contains(row.Time) || ok && m.grown(row, b.rows[k][version]) {
			extra++
		}
	}
	if got.Refused != refused || got.Extra != extra {
		return fmt.Errorf("has %d refused rows and %d beyond the source's in %+v, want %d and %d", got.Refused, got.Extra, got, refused, extra)
	}
	delete(nodes, "")
	if want := slices.Sorted(maps.Keys(nodes)); slices.Contains(m.table.Tags, schema.Node) && !slices.Equal(got.Nodes, want) {
		return fmt.Errorf("has nodes %q in %s, want %q", got.Nodes, got.Window, want)
	}
	return nil
}

// checkCompleteness: what was received and what is missing make up what must
// exist, and the sums are those of the ledger.
func (w *world) checkCompleteness() error {
	all, err := w.centre.registry.Completeness(w.ctx, cluster, schema.Window{From: w.plan.start.Add(-time.Hour), To: w.plan.window(w.plan.windows).From})
	if err != nil {
		return err
	}
	first := w.plan.windows
	for i, t := range w.plan.tables {
		for window := range w.models[i].last {
			if registry := slices.ContainsFunc(schema.Pulled, func(known schema.Table) bool { return known.Name == t.Name }); registry && t.DB == schema.MinuteDB {
				first = min(first, window)
			}
		}
	}
	for i, t := range w.plan.tables {
		if !slices.ContainsFunc(schema.Pulled, func(known schema.Table) bool { return known.Name == t.Name }) {
			continue
		}
		entries, err := w.centre.registry.Ledger(w.ctx, cluster, t.Name, w.always())
		if err != nil {
			return err
		}
		if err := w.models[i].adds(all, entries, first); err != nil {
			return fmt.Errorf("the completeness of %q %w", t.Name, err)
		}
	}
	return nil
}

// adds compares a table's completeness with its ledger. First is the window from
// which on each minute must have one.
func (m *model) adds(all []registry.Completeness, entries []registry.LedgerEntry, first int) error {
	var want, got registry.Completeness
	for _, e := range entries {
		want.Windows++
		want.Rows += e.Rows
		want.Revisions += e.Revision
		want.Refused += e.Refused
		want.Extra += e.Extra
		want.Overlaps += e.Overlaps
	}
	missing, lacking := make(map[int]bool), 0
	for _, part := range all {
		if part.Table != m.table.Name {
			continue
		}
		got.Windows += part.Windows
		got.Rows += part.Rows
		got.Revisions += part.Revisions
		got.Refused += part.Refused
		got.Extra += part.Extra
		got.Overlaps += part.Overlaps
		got.Expected += part.Expected
		got.Received += part.Received
		for _, gap := range part.Missing {
			if gap.Reason == registry.GapQuarantined || gap.Reason == registry.GapUnexplained { // windows that came
				continue
			}
			lacking += gap.Windows
			for at := gap.From; gap.Node == "" && at.Before(gap.To); at = at.Add(schema.Minute) {
				missing[m.plan.index(at)] = true
			}
		}
	}
	if m.table.DB == schema.MinuteDB {
		if got.Expected != got.Received+lacking {
			return fmt.Errorf("expects %d, has %d and misses %d", got.Expected, got.Received, lacking)
		}
		for window := first; window < m.plan.windows; window++ {
			if _, came := m.last[window]; came == missing[window] {
				return fmt.Errorf("says that window %d is missing: %t, that it came: %t", window, missing[window], came)
			}
		}
	}
	got.Expected, got.Received = 0, 0
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("is %+v, the ledger's sums are %+v", got, want)
	}
	return nil
}

// snapshot is all that a pull may change, as text.
func (w *world) snapshot() (string, error) {
	var b strings.Builder
	for _, t := range w.plan.tables {
		held, err := w.centre.held(w.ctx, t)
		if err != nil {
			return "", err
		}
		for _, k := range slices.Sorted(maps.Keys(held)) {
			fmt.Fprintf(&b, "%q %s\n", t.Name, describe(held[k]))
		}
		mark, err := w.centre.registry.Mark(w.ctx, cluster, t.Name)
		if err != nil {
			return "", err
		}
		entries, err := w.centre.registry.Ledger(w.ctx, cluster, t.Name, w.always())
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "mark of %q %+v\nledger %+v\n", t.Name, mark, entries)
	}
	count, err := w.centre.registry.QuarantineCount(w.ctx, cluster)
	fmt.Fprintf(&b, "quarantined %d\n", count)
	return b.String(), err
}
