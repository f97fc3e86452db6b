package chaos

import (
	"testing"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// TestSize: each schedule is as large as it has to be.
func TestSize(t *testing.T) {
	for seed := range uint64(50) {
		p := newPlan(seed)
		rows, pulls := make(map[key]bool), 0
		for _, s := range p.settling() {
			for _, row := range s.rows {
				rows[key(row.Table)+keyOf(row)] = true
			}
		}
		for _, s := range p.steps {
			if s.kind == pulling {
				pulls++
			}
		}
		for _, table := range p.tables {
			if len(table.series) < 5 {
				t.Errorf("schedule %d: %q has %d series", seed, table.Name, len(table.series))
			}
		}
		end := p.window(p.windows).From
		if len(p.tables) < 3 || len(rows) < leastRows || end.Sub(p.start) < 2*schema.Quarter || end.Truncate(day).Equal(p.start.Truncate(day)) {
			t.Errorf("schedule %d: %d tables, %d rows, windows from %s to %s", seed, len(p.tables), len(rows), p.start, end)
		}
		if pulls < 2 {
			t.Errorf("schedule %d: %d pulls", seed, pulls)
		}
	}
}
