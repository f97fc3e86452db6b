package meter

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// stores are databases that a meter can be opened on, again and again.
type stores struct {
	raw, minute Store
	journals    func(clock.Clock) map[string]Journal
}

func influxStores(t testing.TB) stores {
	t.Helper()
	server := influxtest.New(t)
	must(t, server.Create(t.Context(), schema.RawDB, schema.MinuteDB))
	minute := server.Database(schema.MinuteDB)
	return stores{raw: Influx(server.Database(schema.RawDB)), minute: Influx(minute),
		journals: func(clk clock.Clock) map[string]Journal {
			all := map[string]Journal{}
			for _, table := range tables {
				j, err := influxsync.OpenJournal(t.Context(), minute, testConfig.Cluster, table, clk)
				must(t, err)
				all[table.Name] = j
			}
			return all
		}}
}

func (s stores) open(t testing.TB, w *world, clk clock.Clock) *Meter {
	t.Helper()
	m, err := New(testConfig, Deps{Clock: clk, Raw: s.raw, Minute: s.minute, Journals: s.journals(clk), Watch: w, Tagger: w},
		quiet, prometheus.NewRegistry())
	must(t, err)
	must(t, m.Restore(t.Context()))
	return m
}

// dump is all that the stores hold of a table.
func dump(t testing.TB, s Store, table string) map[string]influxsync.Point {
	t.Helper()
	rows := map[string]influxsync.Point{}
	always := schema.Window{From: time.Unix(0, 0), To: simStart.AddDate(1, 0, 0)}
	must(t, s.Rows(context.Background(), table, "", always, func(p influxsync.Point) error {
		p.Tags, p.Fields = append([]influxsync.Tag{}, p.Tags...), append([]influxsync.FieldValue{}, p.Fields...)
		rows[p.Time.Format(time.RFC3339Nano)+rowKey(p)] = p
		return nil
	}))
	return rows
}

// TestStores runs one story on the fake and on the real engine: a fleet whose
// pods restart and end, a node that falls silent, and a follower that is
// restarted again and again. Both hold the same rows and the same journal, so
// what the crash model found on the fake holds on the engine.
func TestStores(t *testing.T) {
	const seed = 5
	o := simOptions{nodes: 2, pods: 3, containers: 2, seconds: 400, resets: true, ends: true, silence: true, clocks: true}
	d := newDisk(seed)
	fake := stores{raw: d.raw, minute: d.minute, journals: func(clock.Clock) map[string]Journal { return d.journals() }}
	real := influxStores(t)
	for name, st := range map[string]stores{"fake": fake, "influxdb": real} {
		s := newSimulation(seed, o)
		w, clk := s.world(), clock.NewManual(s.start)
		m := st.open(t, w, clk)
		for second := 3; second < o.seconds+200; second += 15 {
			clk.Set(s.at(second))
			w.pods = s.podsAt(second)
			var bodies []reading.Body
			for i, n := range s.nodes {
				if second >= o.seconds {
					continue
				}
				if b, ok := s.body(rand.New(rand.NewPCG(seed, uint64(second*10+i))), n, second); ok {
					bodies = append(bodies, b)
				}
			}
			if second%4 == 1 {
				m = st.open(t, w, clk)
			}
			if err := m.Add(t.Context(), bodies); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := m.Settle(t.Context()); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if name == "fake" {
			must(t, d.check(m.Status().From, m.Status().Mark))
		}
	}
	for _, table := range []string{schema.Raw.Name, identityTable, lifetimeTable, unseenTable, laneTable} {
		if diff := cmp.Diff(dump(t, fake.raw, table), dump(t, real.raw, table), cmp.AllowUnexported(influxsync.Value{})); diff != "" {
			t.Errorf("%s (-fake +influxdb):\n%.2000s", table, diff)
		}
	}
	for _, table := range tables {
		got := dump(t, real.minute, table.Name)
		if diff := cmp.Diff(dump(t, fake.minute, table.Name), got, cmp.AllowUnexported(influxsync.Value{})); diff != "" {
			t.Errorf("%s (-fake +influxdb):\n%.2000s", table.Name, diff)
		}
		if len(got) == 0 {
			t.Errorf("no row of %s", table.Name)
		}
		journal := real.journals(clock.NewManual(simStart))[table.Name]
		for w, i := range d.journal[table.Name].latest {
			want := d.journal[table.Name].entries[i]
			e, ok := journal.Latest(window(w))
			if !ok || e.Rows != want.Rows || e.Digest != want.Digest || e.Revision != want.Revision {
				t.Errorf("journal of %s at %v: %+v, want %+v", table.Name, at(w), e, want)
			}
		}
	}
}

// TestFields: every row has exactly the tables' required fields, and tags and
// fields in the order that their hash relies on.
func TestFields(t *testing.T) {
	s := newStage(t)
	for second := 0; second <= 120; second += 15 {
		s.tick(second, true)
	}
	for _, table := range tables {
		var want []string
		for _, f := range table.Fields {
			if !f.Optional || f.Name == schema.CPUMax || f.Name == schema.MemoryMax {
				want = append(want, f.Name)
			}
		}
		known := map[string]bool{}
		for _, tag := range table.Tags {
			known[tag] = true
		}
		for _, p := range s.d.minute.rows[table.Name] {
			for _, name := range want {
				if _, ok := p.Field(name); !ok || len(p.Fields) != len(want) {
					t.Errorf("%s: %d fields, want %d with %s: %+v", table.Name, len(p.Fields), len(want), name, p.Fields)
				}
			}
			hash := p.Hash()
			if p.Sort(); p.Hash() != hash {
				t.Errorf("%s: tags or fields are not sorted: %+v", table.Name, p)
			}
			for _, tag := range p.Tags {
				if !known[tag.Key] {
					t.Errorf("%s: tag %s is not the table's", table.Name, tag.Key)
				}
			}
		}
	}
}
