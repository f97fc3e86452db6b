package volumes

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// revisions are how many entries the journal has of each minute.
func (f *fixture) revisions() map[int]int {
	f.Helper()
	entries, err := influxsync.ReadJournal(f.Context(), f.stores.Minute, "edge", schema.VolumeMinute.Name, time.Time{}, 0)
	if err != nil {
		f.Fatal(err)
	}
	all := make(map[int]int)
	for _, e := range entries {
		all[int(e.Window.From.Sub(noon)/time.Minute)]++
	}
	return all
}

// late is something that becomes known when minutes have settled.
type late struct {
	learn func(f *fixture, w *Writer)
	field string
	want  map[int]int64 // of the claim data
	again []int         // the minutes that are revised
}

func lateThings() map[string]late {
	return map[string]late{
		"a pod's end": {func(f *fixture, _ *Writer) { f.world.pods[0].End = at(90) },
			schema.Mounted, map[int]int64{0: 60_000, 1: 30_000, 2: 0, 3: 0, 4: 0}, []int{1, 2, 3, 4}},
		"a pod that ran meanwhile": {func(f *fixture, _ *Writer) {
			f.world.pods = append(f.world.pods, reading.PodInfo{UID: "q", Namespace: "shop", Start: at(130), End: at(150), Claims: []string{"data"}})
		}, schema.Mounted, map[int]int64{0: 60_000, 1: 60_000, 2: 80_000, 3: 60_000, 4: 60_000}, []int{2}},
		"a pod's start was later": {func(f *fixture, _ *Writer) { f.world.pods[0].Start = at(75) },
			schema.Mounted, map[int]int64{0: 0, 1: 45_000, 2: 60_000, 3: 60_000, 4: 60_000}, []int{0, 1}},
		"a claim's end": {func(f *fixture, _ *Writer) { end := at(150); f.world.claims[0].End = &end },
			schema.Claimed, map[int]int64{0: 60 << 10, 1: 60 << 10, 2: 30 << 10, 3: 0, 4: 0}, []int{2, 3, 4}},
		"a size": {func(f *fixture, _ *Writer) {
			c := &f.world.claims[0]
			c.Past, c.ClaimedBytes = []watch.PastClaim{{Until: at(210), ClaimedBytes: 1 << 20}}, 3<<20
		}, schema.Claimed, map[int]int64{0: 60 << 10, 1: 60 << 10, 2: 60 << 10, 3: 30<<10 + 90<<10, 4: 180 << 10}, []int{3, 4}},
		"a reading": {func(f *fixture, w *Writer) { f.read(w, "data", 200, 1<<20) },
			schema.Coverage, map[int]int64{0: 0, 1: 0, 2: 60, 3: 20, 4: 0}, []int{2, 3}},
		"a reading between two": {func(f *fixture, w *Writer) {
			f.read(w, "data", 390, 1<<20)
			f.read(w, "data", 260, 1<<20)
		}, schema.Coverage, map[int]int64{0: 0, 1: 0, 2: 60, 3: 60, 4: 60}, []int{2, 3, 4}},
		"nothing": {func(*fixture, *Writer) {}, schema.Claimed, map[int]int64{0: 60 << 10, 1: 60 << 10, 2: 60 << 10, 3: 60 << 10, 4: 60 << 10}, nil},
	}
}

// startLate settles five minutes of a claim that one pod mounts, read once.
func startLate(t *testing.T) (*fixture, *Writer) {
	f := newFixture(t)
	w := f.writer()
	f.claim("data", 0, 1<<20)
	f.world.pods = []reading.PodInfo{{UID: "p", Namespace: "shop", Start: noon, Claims: []string{"data"}}}
	f.read(w, "data", 120, 1<<20)
	f.settle(w, 300)
	return f, w
}

// TestWhatBecomesKnownLate revises the minutes that it touches, and no others; the
// rows are those that a writer would have made that knew it from the beginning,
// and the journal counts them. Without the look at what became known, which is the
// control, they stay as they were.
func TestWhatBecomesKnownLate(t *testing.T) {
	for name, late := range lateThings() {
		t.Run(name, func(t *testing.T) {
			f, w := startLate(t)
			before := f.rows("data", late.field)
			late.learn(f, w)
			control := history{claims: map[string]watch.ClaimInfo{}, pods: map[string]reading.PodInfo{}}
			for _, c := range f.world.claims {
				control.claims[c.UID] = c
			}
			for _, p := range f.world.pods {
				control.pods[p.UID] = p
			}
			known, dirty := w.known, w.dirty
			w.known, w.dirty = control, make(map[time.Time]bool)
			f.settle(w, 300)
			f.want("data", late.field, before)
			w.known, w.dirty = known, dirty

			f.settle(w, 300)
			f.want("data", late.field, late.want)
			want := map[int]int{0: 1, 1: 1, 2: 1, 3: 1, 4: 1}
			for _, minute := range late.again {
				want[minute]++
			}
			if diff := cmp.Diff(want, f.revisions()); diff != "" {
				t.Errorf("journal entries by minute (-want +got):\n%s", diff)
			}
			if err := f.check(); err != nil {
				t.Error(err)
			}
			f.settle(f.writer(), 300) // a start builds them anew, to the same
			if diff := cmp.Diff(want, f.revisions()); diff != "" {
				t.Errorf("after a start (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAClaimThatNobodySaw: one that was made while nobody watched has its minutes
// when it is told of, and where the volume's place becomes known later its rows
// have it, and the former ones become zeros.
func TestAClaimThatNobodySaw(t *testing.T) {
	f := newFixture(t)
	w := f.writer()
	f.settle(w, 180)
	c := f.claim("data", 60, 1<<20)
	c.Storage = ""
	f.settle(w, 240)
	f.want("data", schema.Uptime, map[int]int64{1: 60_000, 2: 60_000, 3: 60_000})
	f.world.claims[0].Storage = watch.StorageCentral
	f.settle(w, 240)
	sums := map[string]int64{}
	err := f.stores.Minute.TimeQuery(t.Context(), schema.VolumeMinute.Name, schema.Window{}, nil, func(p influxsync.Point) error {
		sums[p.Tag(schema.Storage)] += p.Int(schema.Uptime)
		return nil
	})
	if diff := cmp.Diff(map[string]int64{schema.Unknown: 0, watch.StorageCentral: 180_000}, sums); diff != "" || err != nil {
		t.Errorf("by storage (-want +got):\n%s%v", diff, err)
	}
	if err := f.check(); err != nil {
		t.Error(err)
	}
}

// TestALostRevision: what was learned before a start and had not revised its
// minutes does so after it; before the first minute of all there is nothing.
func TestALostRevision(t *testing.T) {
	f, _ := startLate(t)
	f.world.pods[0].End = at(90)
	f.world.claims[0].Bound = pointerTo(at(-600))
	f.settle(f.writer(), 300)
	f.want("data", schema.Mounted, map[int]int64{0: 60_000, 1: 30_000, 2: 0, 3: 0, 4: 0})
	if err := f.check(); err != nil {
		t.Error(err)
	}
}

func pointerTo(t time.Time) *time.Time { return &t }
