package ahead

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

const brokenJob = "edge-a/batch/Job/nightly-101"

// unmadeNow are the events that are unmade, by subject.
func (a *announced) unmadeNow(t *testing.T) map[string]registry.RunEvent {
	t.Helper()
	events, err := a.books.RunEvents(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]registry.RunEvent)
	for _, e := range events {
		if e.State == registry.EventUnmade {
			found[e.Subject] = e
		}
	}
	return found
}

// TestARunWithoutAReport: a run whose report cannot be made holds back no other, is
// tried again later and later and not for ever, and is then given up where it is seen:
// logged, counted, listed. Who sends the events again has it tried once more.
func TestARunWithoutAReport(t *testing.T) {
	a := newAnnounced(t)
	var log bytes.Buffer
	a.log = slog.New(slog.NewTextHandler(&log, nil))
	a.engine.broken = map[string]bool{"nightly-101-abcde": true}
	tick := func() {
		t.Helper()
		if err := a.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	tick()
	if got, want := subjects(a.told(t)), "edge-a/batch/Job/nightly-102 edge-a/batch/Job/failed"; got != want {
		t.Fatalf("told of %s, want %s", got, want)
	}
	if e := a.unmadeNow(t)[brokenJob]; e.Attempts != 1 || !strings.Contains(e.Error, "no cost of it") || !e.Next.Equal(now.Add(2*time.Minute)) {
		t.Errorf("%+v", e)
	}
	tick()
	if a.engine.asked != 1 {
		t.Errorf("tried %d times at once", a.engine.asked)
	}
	var waited time.Duration
	for a.unmadeNow(t)[brokenJob].Attempts > 0 {
		if waited += 10 * time.Minute; waited > 48*time.Hour {
			t.Fatal("it is tried for ever")
		}
		a.clock.Advance(10 * time.Minute)
		tick()
	}
	given, err := a.books.DismissedRunEvents(t.Context(), 10)
	if err != nil || a.engine.asked != mostMade || len(given) != 1 || given[0].Subject != brokenJob || given[0].Attempts != mostMade || !strings.Contains(given[0].Error, "no cost of it") {
		t.Errorf("tried %d times, given up %+v, %v", a.engine.asked, given, err)
	}
	if n := testutil.ToFloat64(a.Announcer.told.WithLabelValues("dismissed")); n != 1 || strings.Count(log.String(), "event of a run given up") != 1 || !strings.Contains(log.String(), brokenJob) {
		t.Errorf("counted %g times, logged %s", n, &log)
	}
	a.clock.Advance(24 * time.Hour)
	if tick(); a.engine.asked != mostMade {
		t.Error("tried after it was given up")
	}
	a.engine.broken = nil
	if n, err := a.books.RetryEvents(t.Context(), now.Add(-AnnounceConfig{}.Reach())); err != nil || n != 1 {
		t.Errorf("retried %d, %v", n, err)
	}
	tick()
	all := a.told(t)
	if given, err = a.books.DismissedRunEvents(t.Context(), 10); len(all) != 3 || all[2].Subject != brokenJob || all[2].ID != a.id(brokenJob) || len(given) != 0 || err != nil {
		t.Errorf("told of %s; given up %+v, %v", subjects(all), given, err)
	}
}

// id is that of the event of a Job.
func (a *announced) id(subject string) string {
	for _, p := range a.desk.facts.(finished) {
		if r := runOf(p); r.subject() == subject {
			return r.eventID()
		}
	}
	return ""
}

// amnesiac books note nothing of what could not be made, or forget how often it was
// tried.
type amnesiac struct {
	*registry.Registry
	none bool
}

var errNoNote = errors.New("it is not noted")

func (b amnesiac) RunEventUnmade(ctx context.Context, e registry.RunEvent) error {
	if b.none {
		return errNoNote
	}
	e.Attempts = 0
	return b.Registry.RunEventUnmade(ctx, e)
}

// TestARunWithoutAReportControl: without the note the first such run stops all later
// ones; without its count it is tried for ever.
func TestARunWithoutAReportControl(t *testing.T) {
	a := newAnnounced(t)
	a.engine.broken = map[string]bool{"nightly-101-abcde": true}
	a.Announcer.books = amnesiac{a.books, true}
	for range 3 {
		if err := a.Tick(t.Context()); !errors.Is(err, errNoNote) || len(a.hook.bodies) != 0 {
			t.Errorf("told %d times, %v", len(a.hook.bodies), err)
		}
	}
	a.Announcer.books = amnesiac{a.books, false}
	for range 3 * mostMade {
		a.clock.Advance(longestWait)
		if err := a.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if a.engine.asked < 2*mostMade || len(a.unmadeNow(t)) != 1 {
		t.Errorf("tried %d times, %+v", a.engine.asked, a.unmadeNow(t))
	}
}

// TestAnEventIsGivenUpByAge: what could not be made before the look-back ended, and what
// was not taken in 40 days, are given up, once; what is noted then is sent all the same.
func TestAnEventIsGivenUpByAge(t *testing.T) {
	a := newAnnounced(t)
	a.engine.broken = map[string]bool{"nightly-101-abcde": true}
	a.hook.status = http.StatusForbidden
	if err := a.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.engine.now = now.Add(24 * time.Hour) // the Job ended 50 hours before now
	if err := a.Tick(t.Context()); err != nil || len(a.unmadeNow(t)) != 0 {
		t.Fatalf("%+v, %v", a.unmadeNow(t), err)
	}
	given, err := a.books.DismissedRunEvents(t.Context(), 10)
	if err != nil || len(given) != 1 || !strings.HasPrefix(given[0].Error, "its report could not be made before the look-back ended: ") {
		t.Errorf("%+v, %v", given, err)
	}
	a.clock.Advance(39 * 24 * time.Hour)
	for _, want := range []int{1, 3, 3} {
		if err := a.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
		if given, err = a.books.DismissedRunEvents(t.Context(), 10); err != nil || len(given) != want || given[0].Body != "" {
			t.Fatalf("%d given up, want %d: %+v, %v", len(given), want, given, err)
		}
		a.clock.Advance(48 * time.Hour)
	}
	if !strings.HasPrefix(given[0].Error, "it was not taken in 40 days: 403") || testutil.ToFloat64(a.Announcer.told.WithLabelValues("dismissed")) != 3 {
		t.Errorf("%+v", given)
	}
	if n, err := a.books.RetryEvents(t.Context(), a.clock.Now().Add(-AnnounceConfig{}.Reach())); err != nil || n != 0 {
		t.Errorf("%d that ended long ago are tried again, %v", n, err)
	}
}

// TestAGroupWithoutAReport: it holds back nothing, and when more of it has ended the
// next event tells of all.
func TestAGroupWithoutAReport(t *testing.T) {
	a := newAnnounced(t)
	a.desk.facts = finished{ended(kindPod, "a", 5, time.Hour, 0), ended(kindJob, "nightly-102", 3, time.Hour, 0)}
	life := func(from, to time.Duration) schema.Window {
		return schema.Window{From: now.Add(-from), To: now.Add(-to)}
	}
	a.engine.pods = map[string]schema.Window{"a": life(6*time.Hour, 5*time.Hour)}
	a.engine.broken = map[string]bool{"a": true}
	if err := a.Tick(t.Context()); err != nil || subjects(a.told(t)) != "edge-a/batch/Job/nightly-102" {
		t.Fatalf("told of %s, %v", subjects(a.told(t)), err)
	}
	first := a.unmadeNow(t)["Group/batch=big"]
	if first.Attempts != 1 {
		t.Fatalf("%+v", a.unmadeNow(t))
	}
	a.desk.facts = append(a.desk.facts.(finished), ended(kindPod, "b", 1, time.Hour, 0))
	a.engine.pods = map[string]schema.Window{"a": life(6*time.Hour, 5*time.Hour), "b": life(2*time.Hour, time.Hour)}
	a.restart(t)
	a.clock.Advance(time.Hour)
	if err := a.Tick(t.Context()); err != nil || len(a.unmadeNow(t)) != 1 {
		t.Fatalf("%+v, %v", a.unmadeNow(t), err)
	}
	if again := a.unmadeNow(t)["Group/batch=big"]; again.ID == first.ID || again.Attempts != 2 {
		t.Errorf("%+v", again)
	}
	a.engine.broken = nil
	a.clock.Advance(time.Hour)
	if err := a.Tick(t.Context()); err != nil || len(a.unmadeNow(t)) != 0 {
		t.Fatalf("%+v, %v", a.unmadeNow(t), err)
	}
	if all := a.told(t); len(all) != 2 || all[1].Subject != "Group/batch=big" || len(all[1].Data.Report.Runs) != 2 {
		t.Errorf("%+v", all)
	}
}
