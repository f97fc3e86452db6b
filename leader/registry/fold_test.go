package registry

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	gocmp "github.com/google/go-cmp/cmp"
)

// answers are all that the ledger can be asked, of one window.
type answers struct {
	Ledger       map[string][]LedgerEntry
	Extents      map[string]schema.Window
	First        map[string]int64
	Completeness []Completeness
	Before       map[string]LedgerEntry
	After        map[string]LedgerEntry
}

func ask(t *testing.T, r *Registry, w schema.Window) answers {
	t.Helper()
	a := answers{Ledger: make(map[string][]LedgerEntry), Extents: make(map[string]schema.Window),
		Before: make(map[string]LedgerEntry), After: make(map[string]LedgerEntry)}
	var errs []error
	names, err := loadNumbers(t.Context(), r.reader, "alpha")
	errs = append(errs, err)
	for _, table := range schema.Pulled {
		a.Ledger[table.Name], err = r.Ledger(t.Context(), "alpha", table.Name, w)
		errs = append(errs, err)
		a.Extents[table.Name], _, err = r.Extent(t.Context(), "alpha", table.Name)
		errs = append(errs, err)
		before, _, err := windowBefore(t.Context(), r.reader, "alpha", table.Name, nanos(w.From))
		a.Before[table.Name] = before.entry(names.names())
		errs = append(errs, err)
		after, _, err := windowAfter(t.Context(), r.reader, "alpha", table.Name, nanos(w.From))
		a.After[table.Name] = after.entry(names.names())
		errs = append(errs, err)
	}
	a.First, err = firstQuarters(t.Context(), r.reader)
	errs = append(errs, err)
	parts, err := r.Completeness(t.Context(), "alpha", w)
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	a.Completeness = byDay(parts)
	return a
}

// byDay adds parts up to days, so that quarters and days can be compared.
func byDay(parts []Completeness) []Completeness {
	var days []Completeness
	for _, c := range parts {
		at := c.Quarter.Truncate(day)
		last := len(days) - 1
		if last < 0 || days[last].Table != c.Table || !days[last].Quarter.Equal(at) {
			days = append(days, Completeness{Table: c.Table, Quarter: at, ExpectedBy: c.ExpectedBy})
			last++
		}
		d := &days[last]
		d.Expected, d.Received, d.Audited, d.Rated = d.Expected+c.Expected, d.Received+c.Received, d.Audited+c.Audited, d.Rated+c.Rated
		d.Windows, d.Rows, d.Revisions, d.Refused = d.Windows+c.Windows, d.Rows+c.Rows, d.Revisions+c.Revisions, d.Refused+c.Refused
		d.Extra, d.Overlaps, d.Missing = d.Extra+c.Extra, d.Overlaps+c.Overlaps, append(d.Missing, c.Missing...)
		if c.Newest.After(d.Newest) {
			d.Newest = c.Newest
		}
	}
	for i := range days {
		days[i].Missing = joined(days[i].Missing)
	}
	return days
}

// joined puts gaps together that a quarter's end cut.
func joined(gaps []Gap) []Gap {
	gaps = slices.Clone(gaps)
	slices.SortStableFunc(gaps, func(a, b Gap) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Reason, b.Reason), a.From.Compare(b.From))
	})
	var all []Gap
	for _, g := range gaps {
		if last := len(all) - 1; last >= 0 && all[last].To.Equal(g.From) && all[last].Node == g.Node && all[last].Reason == g.Reason && all[last].Message == g.Message {
			all[last].To, all[last].Windows = g.To, all[last].Windows+g.Windows
			continue
		}
		all = append(all, g)
	}
	return all
}

// twins are two registries with the same history, one of which folds.
type twins struct {
	t              *testing.T
	world          *ledgerWorld
	folding, plain *Registry
	clk            *clock.Manual
}

func newTwins(t *testing.T, seed uint64) *twins {
	t.Helper()
	w := &twins{t: t, world: newLedgerWorld(seed, 50*time.Hour), clk: clock.NewManual(noon)}
	for _, r := range []**Registry{&w.folding, &w.plain} {
		opened, err := Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), w.clk)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = opened.Close() })
		*r = opened
		describe(t, opened)
		if seed%4 > 0 { // else nobody tells of the nodes
			if err := opened.PutObjects(t.Context(), w.world.objects()); err != nil {
				t.Fatal(err)
			}
		}
	}
	return w
}

// both does something to both.
func (w *twins) both(do func(r *Registry) error) {
	w.t.Helper()
	if err := errors.Join(do(w.folding), do(w.plain)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *twins) receive(table, store string, windows []influxsync.Confirmed) {
	w.t.Helper()
	w.both(func(r *Registry) error {
		return r.Received(w.t.Context(), "alpha", table, Receipt{Mark: influxsync.Mark{Store: store, Time: noon, Hash: "h"}, Windows: windows}, nil)
	})
}

// part are the windows of a random stretch.
func (w *twins) part() []schema.Window {
	random, whole := w.world.random, w.world.window
	from := whole.From.Add(time.Duration(random.Int64N(int64(whole.Length())))).Truncate(schema.Minute)
	return schema.Window{From: from, To: from.Add(time.Duration(1+random.IntN(100)) * schema.Minute)}.Split(schema.Minute)
}

// live is a history: all arrives, days fold, revisions of folded days come, are
// audited, and parts of it are rated.
func (w *twins) live() {
	random := w.world.random
	tables := append(slices.Clone(minuteTables), schema.Object)
	for _, table := range tables {
		w.clk.Advance(time.Second)
		var windows []influxsync.Confirmed
		for _, minute := range w.world.window.Split(schema.Minute) {
			if lost := within(minute.From, w.world.lost[table.Name]); !lost && (table.DB == schema.MinuteDB || random.IntN(50) == 0) {
				c := w.world.confirmed(table.Name, minute, 1)
				if c.Refused = 0; table.DB != schema.MinuteDB || random.IntN(2000) == 0 {
					c.Values = nil
				}
				windows = append(windows, c)
			}
		}
		w.receive(table.Name, "s1", windows)
	}
	w.clk.Set(w.world.window.To.Add(2 * day))
	for range 6 {
		w.clk.Advance(time.Duration(1+random.IntN(40)) * time.Hour)
		table := tables[random.IntN(len(tables))]
		switch random.IntN(4) {
		case 0:
			var windows []influxsync.Confirmed
			for _, minute := range w.part() {
				windows = append(windows, w.world.confirmed(table.Name, minute, int64(1+random.IntN(3))))
			}
			w.receive(table.Name, []string{"s1", "s2"}[random.IntN(2)], windows)
		case 1:
			part, at := w.part(), w.clk.Now().Add(time.Duration(random.IntN(3)-1)*time.Hour)
			w.both(func(r *Registry) error { return r.MarkAudited(w.t.Context(), "alpha", table.Name, part, at) })
		case 2:
			quarter := quarterOf(w.part()[0].From)
			w.both(func(r *Registry) error {
				d := Due{Processor: ProcessorCost, Scope: "alpha", Quarter: quarter, Sequence: 1}
				return r.Done(w.t.Context(), d, "f", nil)
			})
		}
		if _, err := w.folding.FoldLedger(w.t.Context(), w.clk.Now()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// difference is what the twins answer differently, and how many days are folded.
func (w *twins) difference() (string, int) {
	text := ""
	whole := w.world.window
	for _, window := range []schema.Window{whole, {From: whole.From.Add(-day), To: whole.To.Add(day)}, {From: w.part()[0].From, To: whole.To},
		{From: whole.From.Add(17*time.Minute + time.Second), To: w.part()[0].From.Add(time.Second)}} {
		text += gocmp.Diff(ask(w.t, w.plain, window), ask(w.t, w.folding, window))
	}
	var days int
	if err := w.folding.reader.QueryRow("SELECT count(*) FROM ledger_day").Scan(&days); err != nil {
		w.t.Fatal(err)
	}
	return text, days
}

// TestFoldingChangesNoAnswer: whatever is asked, a ledger that folds answers as
// one that does not.
func TestFoldingChangesNoAnswer(t *testing.T) {
	folded := 0
	for seed := range uint64(5) {
		w := newTwins(t, seed)
		w.live()
		diff, days := w.difference()
		if diff != "" {
			t.Fatalf("seed %d (-plain +folding):\n%s", seed, diff)
		}
		folded += days
	}
	if folded < 10 {
		t.Errorf("%d days were folded", folded)
	}
}

// TestPackingControl: each column of a packed day is needed.
func TestPackingControl(t *testing.T) {
	whole := columns
	defer func() { columns = whole }()
	rows := randomRows(rand.New(rand.NewPCG(1, 2)), 100)
	back := func() []ledgerRow {
		packed, err := pack(rows)
		if err != nil {
			t.Fatal(err)
		}
		got, err := unpack(packed)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	same := func(got []ledgerRow) bool { return gocmp.Equal(rows, got, gocmp.AllowUnexported(ledgerRow{})) }
	if got := back(); !same(got) {
		t.Error(gocmp.Diff(rows, got, gocmp.AllowUnexported(ledgerRow{})))
	}
	for i := range whole {
		columns = slices.Delete(slices.Clone(whole), i, i+1)
		if same(back()) {
			t.Errorf("column %d is not needed", i)
		}
	}
	columns = whole
	packed, err := pack(rows)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(packed) {
		if _, err := unpack(packed[:cut]); !errors.Is(err, errPacked) {
			t.Fatalf("cut after %d bytes: %v", cut, err)
		}
	}
}

func randomRows(random *rand.Rand, n int) []ledgerRow {
	rows := make([]ledgerRow, n)
	for i := range rows {
		from := nanos(noon) + int64(i)*int64(schema.Minute)
		rows[i] = ledgerRow{from: from, to: from + int64(schema.Minute) + int64(random.IntN(2)), store: []string{"", "a", "b"}[random.IntN(3)],
			reason: []string{"", "settled"}[random.IntN(2)], revision: random.Int64N(5), rows: random.Int64N(100), digest: int64(random.Uint64()),
			coverage: random.Int64N(1001), entered: from + random.Int64N(1e10), received: from + random.Int64N(1e11), audited: random.Int64(),
			refused: random.Int64N(2), extra: random.Int64N(2), overlaps: random.Int64N(2), era: random.Int64N(3), unexplained: random.Int64N(2)}
		switch random.IntN(3) {
		case 0:
			rows[i].nodes = nodeSet{}
		case 1:
			rows[i].nodes = nodeSet{byte(1 + random.IntN(255))}
		}
	}
	return rows
}

// TestFoldingWaits: for age, for due work, for rows in quarantine, and for the
// journal to go on.
func TestFoldingWaits(t *testing.T) {
	r, clk := open(t)
	apply(t, r, small()...)
	midnight := noon.Truncate(day)
	first := schema.Window{From: midnight, To: midnight.Add(day)}
	receive(t, r, "alpha", schema.NodeMinute, "s", first)
	fold := func(after time.Duration) int {
		t.Helper()
		clk.Set(first.To.Add(after))
		folded, err := r.FoldLedger(t.Context(), clk.Now())
		if err != nil {
			t.Fatal(err)
		}
		return folded.Days
	}
	if n := fold(FoldAfter - time.Second); n != 0 {
		t.Errorf("%d days folded before they are old enough", n)
	}
	box := Due{Processor: ProcessorPower, Scope: "box-1", Quarter: noon, Reason: "x"}
	add(t, r, box)
	if n := fold(FoldAfter); n != 0 {
		t.Errorf("%d days folded while the power of a box is due", n)
	}
	done(t, r, r.list(t)[0], "f")
	refused := entry(noon, 7, 1)
	refused.Table, refused.Refused = "node", 2
	take(t, r, "node", "s", []influxsync.Confirmed{refused})
	if n := fold(FoldAfter); n != 0 {
		t.Errorf("%d days folded with rows in quarantine", n)
	}
	refused.Revision, refused.Refused = 8, 0
	take(t, r, "node", "s", []influxsync.Confirmed{refused})
	if n := fold(FoldAfter); n != 1 {
		t.Errorf("%d days folded, want 1", n)
	}
	half := schema.Window{From: first.To, To: first.To.Add(day / 2)}
	receive(t, r, "alpha", schema.NodeMinute, "s", half)
	if n := fold(30 * day); n != 0 {
		t.Errorf("%d days folded of which the journal has not gone on", n)
	}
}
