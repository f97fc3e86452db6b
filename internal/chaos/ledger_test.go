package chaos

import (
	"encoding/json"
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
	kept, err := w.centre.registry.Quarantined(w.ctx, cluster, 1<<20)
	if err != nil {
		return err
	}
	texts := make(map[string]bool)
	for _, q := range kept {
		texts[q.Table+" "+string(q.Point)] = true
	}
	for _, m := range w.models {
		for _, rows := range m.apart {
			there := func(row influxsync.Point) bool { return texts[m.table.Name+" "+pointText(row)] }
			if !slices.ContainsFunc(rows, there) {
				return fmt.Errorf("after pull %d the quarantine misses %s of %q", w.pulls, describe(rows[0]), m.table.Name)
			}
		}
	}
	return nil
}

// pointText is a row as the registry shows it.
func pointText(p influxsync.Point) string {
	tags, fields := make(map[string]string), make(map[string]any)
	for _, tag := range p.Tags {
		tags[tag.Key] = tag.Value
	}
	for _, field := range p.Fields {
		switch field.Value.Type {
		case schema.Integer:
			fields[field.Name] = field.Value.Int()
		case schema.Float:
			fields[field.Name] = fmt.Sprint(field.Value.Float())
		case schema.Boolean:
			fields[field.Name] = field.Value.Bool()
		default:
			fields[field.Name] = field.Value.Str()
		}
	}
	text, _ := json.Marshal(map[string]any{"time": p.Time, "tags": tags, "fields": fields})
	return string(text)
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
		if err := w.models[i].entered(w.source.books[i], w.source.store(i), entries); err != nil {
			return fmt.Errorf("the ledger of %q %w", t.Name, err)
		}
	}
	return w.checkCompleteness()
}

func (m *model) entered(b *books, store string, entries []registry.LedgerEntry) error {
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
				got.Store == want.store && got.Coverage == want.Coverage && got.Reason == want.Reason
		}
		if !slices.ContainsFunc(m.last[window], agrees) {
			return fmt.Errorf("has %+v, want one of %+v", got, m.last[window])
		}
	}
	return nil
}

// checkCompleteness: of each table of minutes, what was received and what is
// missing make up what must exist.
func (w *world) checkCompleteness() error {
	quarters, err := w.centre.registry.Completeness(w.ctx, cluster, schema.Window{From: w.plan.start.Add(-time.Hour), To: w.plan.window(w.plan.windows).From})
	if err != nil {
		return err
	}
	first := w.plan.windows
	for i, t := range w.plan.tables {
		if t.DB == schema.MinuteDB && t.exact && len(w.models[i].last) > 0 {
			first = min(first, slices.Min(slices.Collect(maps.Keys(w.models[i].last))))
		}
	}
	for i, t := range w.plan.tables {
		if !t.exact {
			continue
		}
		var sum registry.Completeness
		var missing time.Duration
		for _, q := range quarters {
			if q.Table != t.Name {
				continue
			}
			sum.Expected += q.Expected
			sum.Received += q.Received
			sum.Rows += q.Rows
			for _, gap := range q.Missing {
				missing += gap.To.Sub(gap.From)
			}
		}
		if first == w.plan.windows {
			continue
		}
		m := w.models[i]
		if want := w.plan.windows - first; sum.Expected != want || sum.Received != len(m.last) || missing != time.Duration(want-len(m.last))*schema.Minute {
			return fmt.Errorf("the completeness of %q is %d of %d windows and %s missing, want %d of %d", t.Name, sum.Received, sum.Expected, missing, len(m.last), want)
		}
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
