package volumes

import (
	"fmt"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

// world is the watch of a fixture.
type world struct {
	claims []watch.ClaimInfo
	pods   []reading.PodInfo
}

func (w *world) Claims() []watch.ClaimInfo { return append([]watch.ClaimInfo(nil), w.claims...) }
func (w *world) Pods() []reading.PodInfo   { return w.pods }

type fixture struct {
	*testing.T
	stores Stores
	clock  *clock.Manual
	world  world
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	server := influxtest.New(t)
	if err := server.Create(t.Context(), schema.RawDB, schema.MinuteDB); err != nil {
		t.Fatal(err)
	}
	return &fixture{T: t, clock: clock.NewManual(noon), stores: Stores{Raw: server.Database(schema.RawDB), Minute: server.Database(schema.MinuteDB)}}
}

func (f *fixture) writer() *Writer {
	f.Helper()
	w, err := New("edge", f.stores, &f.world, f.clock, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err == nil {
		err = w.Restore(f.Context())
	}
	if err != nil {
		f.Fatal(err)
	}
	return w
}

func (f *fixture) claim(name string, bound int, bytes int64) *watch.ClaimInfo {
	from := at(bound)
	f.world.claims = append(f.world.claims, watch.ClaimInfo{UID: "uid-" + name, Namespace: "shop", Name: name,
		ClaimSpec: watch.ClaimSpec{Class: "fast", Storage: watch.StorageLocal, Bound: &from, ClaimedBytes: bytes}})
	return &f.world.claims[len(f.world.claims)-1]
}

func (f *fixture) read(w *Writer, claim string, second int, used int64) {
	f.Helper()
	body := reading.Body{Node: "n1", Received: at(second), Volumes: []reading.Volume{{Namespace: "shop", Claim: claim, Time: at(second), UsedBytes: used, Capacity: 1 << 40}}}
	if err := w.Add(f.Context(), []reading.Body{body}); err != nil {
		f.Fatal(err)
	}
}

// settle lets the minutes before a second settle, long after they ended.
func (f *fixture) settle(w *Writer, second int) int {
	f.Helper()
	f.clock.Set(at(second).Add(time.Hour))
	n, err := w.Settle(f.Context(), noon, at(second))
	if err != nil {
		f.Fatal(err)
	}
	return n
}

// rows are a field of a claim's rows by minute.
func (f *fixture) rows(claim, field string) map[int]int64 {
	f.Helper()
	all := map[int]int64{}
	where := []influxsync.Condition{{Tag: schema.Claim, Value: claim}}
	err := f.stores.Minute.TimeQuery(f.Context(), schema.VolumeMinute.Name, schema.Window{}, where, func(p influxsync.Point) error {
		all[int(p.Time.Sub(noon)/time.Minute)] = p.Int(field)
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
	return all
}

// check is the law of the journal: each window's newest entry counts its rows.
func (f *fixture) check() error {
	entries, err := influxsync.ReadJournal(f.Context(), f.stores.Minute, "edge", schema.VolumeMinute.Name, time.Time{}, 0)
	if err != nil {
		return err
	}
	if err := influxsync.VerifyChain(entries, ""); err != nil {
		return err
	}
	told, stored := map[int64]influxsync.Digest{}, map[int64]influxsync.Digest{}
	for _, e := range entries {
		told[e.Window.From.Unix()] = e.Digest
	}
	err = f.stores.Minute.TimeQuery(f.Context(), schema.VolumeMinute.Name, schema.Window{}, nil, func(p influxsync.Point) error {
		p.Table = schema.VolumeMinute.Name
		digest := stored[p.Time.Unix()]
		digest.Add(p)
		stored[p.Time.Unix()] = digest
		return nil
	})
	if err != nil {
		return err
	}
	if diff := cmp.Diff(stored, told); diff != "" {
		return fmt.Errorf("journal differs from its rows (-stored +journal):\n%s", diff)
	}
	return nil
}

func (f *fixture) want(claim, field string, want map[int]int64) {
	f.Helper()
	if diff := cmp.Diff(want, f.rows(claim, field)); diff != "" {
		f.Errorf("%s of %s by minute (-want +got):\n%s", field, claim, diff)
	}
}

// TestMinutesOfAClaim: bound in the middle of a minute, expanded in the next,
// deleted in the third; measured for a part.
func TestMinutesOfAClaim(t *testing.T) {
	f := newFixture(t)
	w := f.writer()
	c := f.claim("data", 30, 3<<20)
	c.Past = []watch.PastClaim{{Until: at(90), ClaimedBytes: 1 << 20}}
	end := at(150)
	c.End = &end
	f.claim("idle", 0, 1<<30)
	unbound := f.claim("waits", 0, 1<<30)
	unbound.Bound = nil
	f.world.pods = []reading.PodInfo{{Namespace: "shop", Start: at(60), End: at(100), Claims: []string{"data"}}, {Namespace: "shop", Start: at(80), Claims: []string{"data"}},
		{Namespace: "shop", Claims: []string{"data"}}, {Namespace: "else", Start: noon, Claims: []string{"data"}}}
	f.read(w, "data", 45, 512<<10)
	f.read(w, "data", 105, 1024<<10)
	f.read(w, "data", 400, 1024<<10) // too far from the one before
	if n := f.settle(w, 180); n != 3 {
		t.Errorf("%d minutes settled, want 3", n)
	}
	f.want("data", schema.Claimed, map[int]int64{0: 1024 * 30, 1: 1024*30 + 3072*30, 2: 3072 * 30})
	f.want("data", schema.Uptime, map[int]int64{0: 30_000, 1: 60_000, 2: 30_000})
	f.want("data", schema.Coverage, map[int]int64{0: 15, 1: 45, 2: 0})
	f.want("data", schema.Used, map[int]int64{0: 15 * (512 + 640) / 2, 1: 45 * (640 + 1024) / 2, 2: 0})
	f.want("data", schema.Mounted, map[int]int64{0: 0, 1: 40_000 + 40_000, 2: 60_000})
	f.want("idle", schema.Claimed, map[int]int64{0: 60 << 20, 1: 60 << 20, 2: 60 << 20})
	f.want("idle", schema.Coverage, map[int]int64{0: 0, 1: 0, 2: 0})
	f.want("waits", schema.Claimed, map[int]int64{})
	if err := f.check(); err != nil {
		t.Error(err)
	}
}

// TestWhenAMinuteSettles: when the pods' have, and a measurement after it can
// have come; a cluster without claims has no window.
func TestWhenAMinuteSettles(t *testing.T) {
	f := newFixture(t)
	w := f.writer()
	settle := func(now, mark, want int) {
		t.Helper()
		f.clock.Set(at(now))
		if n, err := w.Settle(t.Context(), noon, at(mark)); err != nil || n != want {
			t.Errorf("at %d s with the mark at %d s: %d minutes, %v, want %d", now, mark, n, err, want)
		}
	}
	settle(60+180, 60, 0) // nothing is bound
	f.claim("data", 60, 1<<20)
	settle(299, 120, 0)
	settle(300, 60, 0)
	settle(300, 120, 1)
	settle(301, 120, 0)
	w = f.writer()
	settle(420, 300, 2)
	f.want("data", schema.Uptime, map[int]int64{1: 60_000, 2: 60_000, 3: 60_000})
	if _, err := (&Writer{}).Settle(t.Context(), noon, at(60)); err == nil {
		t.Error("it settled before Restore")
	}
}

// TestCrashBetweenRowsAndEntry: rows that became durable without their entry are
// counted by the next start, also those that it would not make again.
func TestCrashBetweenRowsAndEntry(t *testing.T) {
	f := newFixture(t)
	f.claim("data", 0, 1<<20)
	f.claim("gone", 0, 1<<20)
	w := f.writer()
	f.settle(w, 60)
	var rows []influxsync.Point
	for _, c := range f.world.claims {
		rows = append(rows, w.row(c, schema.WindowAt(at(60), schema.Minute), nil, nil))
	}
	if err := f.stores.Minute.Write(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	if f.check() == nil { // the control
		t.Error("rows without an entry were not noticed")
	}
	f.world.claims = f.world.claims[:1]
	if n := f.settle(f.writer(), 180); n != 2 {
		t.Errorf("%d minutes, want 2", n)
	}
	if err := f.check(); err != nil {
		t.Error(err)
	}
	f.want("gone", schema.Uptime, map[int]int64{0: 60_000, 1: 60_000})
}

// TestIntegrate: parts of a time sum to its whole but for what each floors, and
// the largest volume fits.
func TestIntegrate(t *testing.T) {
	samples := []sample{{at(-7), 100 << 20}, {at(53), 300 << 20}, {at(111), 50 << 20}, {at(111), 51 << 20}, {at(170), 0}}
	whole, covered := integrate(samples, schema.Window{From: noon, To: at(180)})
	var sum int64
	var parts time.Duration
	for _, minute := range (schema.Window{From: noon, To: at(180)}).Split(schema.Minute) {
		used, part := integrate(samples, minute)
		sum, parts = sum+used, parts+part
	}
	if covered != 170*time.Second || parts != covered || whole-sum < 0 || whole-sum > 3 {
		t.Errorf("whole %d over %s, parts %d over %s", whole, covered, sum, parts)
	}
	vast := []sample{{noon, math.MaxInt64}, {at(60), math.MaxInt64}}
	if used, _ := integrate(vast, schema.Window{From: noon, To: at(60)}); used != math.MaxInt64/1024*60+59 {
		t.Errorf("8 EiB for a minute are %d KiB·s", used)
	}
}
