package influxsync_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

func minute(i int) schema.Window {
	return schema.WindowAt(start.Add(time.Duration(i)*time.Minute), time.Minute)
}

func openJournal(t testing.TB, db *influxsync.Database, clk clock.Clock) *influxsync.Journal {
	t.Helper()
	j, err := influxsync.OpenJournal(t.Context(), db, "edge", schema.PodMinute, clk)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func readAll(t testing.TB, db *influxsync.Database) []influxsync.Entry {
	t.Helper()
	entries, err := influxsync.ReadJournal(t.Context(), db, "edge", "pod", time.Time{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestJournalChainsRevisionsAndReopens(t *testing.T) {
	servers(t, func(t *testing.T, s *influxsync.Server) {
		db, clk := create(t, s, "minute"), clock.NewManual(start)
		j := openJournal(t, db, clk)
		if _, ok := j.Head(); ok {
			t.Error("an empty journal has a head")
		}
		var want []influxsync.Entry
		appendTo := func(j *influxsync.Journal, entries ...influxsync.Entry) {
			t.Helper()
			got, err := j.Append(t.Context(), entries...)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, got...)
		}
		appendTo(j, influxsync.Entry{Window: minute(0), Rows: 3, Digest: 1 << 63, Coverage: 1000, Reason: `first "x", y`},
			influxsync.Entry{Window: minute(1), Rows: 4, Digest: 7})
		appendTo(j, influxsync.Entry{Window: minute(0), Rows: 5, Digest: 8, Reason: "late"}, influxsync.Entry{Window: minute(0), Rows: 6})
		clk.Set(start.Add(-time.Hour)) // a clock that steps back does not reorder
		j = openJournal(t, db, clk)
		appendTo(j, influxsync.Entry{Window: minute(1), Rows: 9})
		clk.Set(start.Add(24 * time.Hour).Truncate(24 * time.Hour).Add(-1))
		appendTo(j, influxsync.Entry{Window: minute(2)}, influxsync.Entry{Window: minute(3)})

		got := readAll(t, db)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("journal (-returned +stored):\n%s", diff)
		}
		if err := influxsync.VerifyChain(got, ""); err != nil {
			t.Error(err)
		}
		var revisions []string
		for _, e := range got {
			revisions = append(revisions, fmt.Sprintf("%d:%d", int(e.Window.From.Sub(start).Minutes()), e.Revision))
		}
		if diff := cmp.Diff("0:1 1:1 0:2 0:3 1:2 2:1 3:1", strings.Join(revisions, " ")); diff != "" {
			t.Errorf("window:revision (-want +got):\n%s", diff)
		}
		if a, b := got[5].Time, got[6].Time; !a.Truncate(24 * time.Hour).Equal(b.Truncate(24 * time.Hour)) {
			t.Errorf("one Append is in two shards: %s, %s", a, b)
		}
		j = openJournal(t, db, clk)
		if latest, ok := j.Latest(minute(0)); !ok || cmp.Diff(want[3], latest) != "" {
			t.Errorf("latest of the first window: %+v, want %+v", latest, want[3])
		}
		if head, ok := j.Head(); !ok || cmp.Diff(want[6], head) != "" {
			t.Errorf("head: %+v, want %+v", head, want[6])
		}
		after, err := influxsync.ReadJournal(t.Context(), db, "edge", "pod", want[1].Time, 2)
		if err != nil || cmp.Diff(want[2:4], after) != "" {
			t.Errorf("two entries after the second: %v, %v", after, err)
		}
	})
}

func TestVerifyChainFindsEachChange(t *testing.T) { servers(t, testVerifyChainFindsEachChange) }

func testVerifyChainFindsEachChange(t *testing.T, s *influxsync.Server) {
	db, clk := create(t, s, "minute"), clock.NewManual(start)
	j := openJournal(t, db, clk)
	for i := range 4 {
		if _, err := j.Append(t.Context(), influxsync.Entry{Window: minute(i), Rows: 1, Reason: "settled"}); err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range map[string]func([]influxsync.Entry) []influxsync.Entry{
		"rows":     func(e []influxsync.Entry) []influxsync.Entry { e[1].Rows++; return e },
		"digest":   func(e []influxsync.Entry) []influxsync.Entry { e[1].Digest++; return e },
		"window":   func(e []influxsync.Entry) []influxsync.Entry { e[1].Window = minute(9); return e },
		"reason":   func(e []influxsync.Entry) []influxsync.Entry { e[1].Reason = ""; return e },
		"time":     func(e []influxsync.Entry) []influxsync.Entry { e[1].Time = e[1].Time.Add(1); return e },
		"cluster":  func(e []influxsync.Entry) []influxsync.Entry { e[1].Cluster = "other"; return e },
		"coverage": func(e []influxsync.Entry) []influxsync.Entry { e[3].Coverage = 1; return e },
		"removed":  func(e []influxsync.Entry) []influxsync.Entry { return append(e[:1:1], e[2:]...) },
		"start":    func(e []influxsync.Entry) []influxsync.Entry { return e[1:] },
		"swapped":  func(e []influxsync.Entry) []influxsync.Entry { e[1], e[2] = e[2], e[1]; return e },
	} {
		if err := influxsync.VerifyChain(change(readAll(t, db)), ""); !errors.Is(err, influxsync.ErrChain) {
			t.Errorf("%s: %v; want ErrChain", name, err)
		}
	}
}

// TestAppendAfterUnknownOutcome: a request may have been stored although its
// answer was lost, or not; in both cases the chain goes on without a fork.
func TestAppendAfterUnknownOutcome(t *testing.T) { targets(t, testAppendAfterUnknownOutcome) }

func testAppendAfterUnknownOutcome(t *testing.T, x target) {
	for _, stored := range []bool{false, true} {
		faulty := &losing{next: x.transport, stored: stored}
		db := create(t, client(t, x.url, faulty), fmt.Sprint("minute", stored))
		j := openJournal(t, db, clock.NewManual(start))
		for i := range 10 {
			faulty.lose(i%3 == 1)
			_, err := j.Append(t.Context(), influxsync.Entry{Window: minute(i / 2), Rows: int64(i)})
			if (err != nil) != (i%3 == 1) {
				t.Errorf("append %d: %v", i, err)
			}
		}
		entries := readAll(t, db)
		if err := influxsync.VerifyChain(entries, ""); err != nil {
			t.Errorf("stored %v: %v", stored, err)
		}
		if len(entries) != 10 {
			t.Errorf("stored %v: %d entries, want 10", stored, len(entries))
		}
		j = openJournal(t, db, clock.NewManual(start))
		if latest, _ := j.Latest(minute(0)); latest.Revision != 2 || latest.Rows != 1 {
			t.Errorf("stored %v: latest %+v", stored, latest)
		}
	}
}

// losing answers writes with an error, after or instead of doing them.
type losing struct {
	next   http.RoundTripper
	stored bool
	mu     sync.Mutex
	on     bool
}

func (l *losing) lose(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.on = on
}

func (l *losing) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.on || r.URL.Path != "/write" {
		return l.next.RoundTrip(r)
	}
	if l.stored {
		response, err := l.next.RoundTrip(r)
		if err == nil {
			_ = response.Body.Close()
		}
	}
	return nil, io.ErrUnexpectedEOF
}

func TestStoreIDIsMadeOnceAndKept(t *testing.T) { servers(t, testStoreIDIsMadeOnceAndKept) }

func testStoreIDIsMadeOnceAndKept(t *testing.T, s *influxsync.Server) {
	one, other := create(t, s, "one"), create(t, s, "other")
	var ids []string
	for _, db := range []*influxsync.Database{one, one, other} {
		id, err := influxsync.StoreID(t.Context(), db)
		if err != nil || len(id) != 32 {
			t.Fatalf("id %q, %v", id, err)
		}
		ids = append(ids, id)
	}
	if ids[0] != ids[1] || ids[0] == ids[2] {
		t.Errorf("ids %v: want the same twice, then another", ids)
	}
}

func TestJournalAppendsConcurrently(t *testing.T) { servers(t, testJournalAppendsConcurrently) }

func testJournalAppendsConcurrently(t *testing.T, s *influxsync.Server) {
	db := create(t, s, "minute")
	j := openJournal(t, db, clock.NewManual(start))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 5 {
				if _, err := j.Append(t.Context(), influxsync.Entry{Window: minute(i % 3)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	entries := readAll(t, db)
	if err := influxsync.VerifyChain(entries, ""); err != nil || len(entries) != 40 {
		t.Errorf("%d entries, %v; want 40", len(entries), err)
	}
}
