package influxsync_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// blind is a link over which rows of the table pod are written and not read.
type blind struct{ next http.RoundTripper }

func (b blind) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == "/query" && strings.Contains(r.URL.Query().Get("q"), `FROM "pod"`) {
		return nil, io.ErrUnexpectedEOF
	}
	return b.next.RoundTrip(r)
}

// TestSyncRollsBackWithItsSource: a call wrote a revision and failed before it
// confirmed it; then the source went back to a copy that still has the mark's
// entry, and never had that revision. Nothing behind the mark names the window,
// but the sink must come to hold what the source holds.
func TestSyncRollsBackWithItsSource(t *testing.T) {
	store := influxtest.Open(t, t.TempDir())
	link := func(transport http.RoundTripper) *influxsync.Server {
		s, err := influxsync.New(influxsync.Config{URL: "http://store", Transport: transport})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	clean, half := link(store.Transport()), link(blind{store.Transport()})
	source, later, sink := create(t, clean, "source"), create(t, clean, "later"), create(t, clean, "sink")
	w := newWriter(t, source, podTable, "edge")
	w.settleEach(0, 2, "a", "b")
	request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge"}
	result, err := influxsync.Sync(t.Context(), request)
	if err != nil || result.Mark.Era != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	request.Mark = result.Mark
	for _, at := range []time.Time{time.Unix(0, 0), start} {
		if _, err := influxsync.SyncFull(t.Context(), source, later, schema.WindowAt(at, 24*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	w.put(minute(0), "a", 99)
	w.put(minute(0), "c", 99)
	w.settle(minute(0))
	request.Sink = half.Database("sink")
	if _, err := influxsync.Sync(t.Context(), request); err == nil {
		t.Fatal("a copy that was not read back was confirmed")
	}
	request.Source, request.Sink = later, sink
	for call := range 2 { // the first one's mark is lost
		result, err = influxsync.Sync(t.Context(), request)
		if err != nil || !result.NewEra || result.Mark.Era != 1 || result.Extra != 1 || result.Windows[0].Unexplained {
			t.Fatalf("call %d: %+v, %v; want an era, and one row that it explains", call, result, err)
		}
	}
	request.Mark = result.Mark
	if result, err = influxsync.Sync(t.Context(), request); err != nil || result.NewEra || result.Mark != request.Mark {
		t.Errorf("afterwards: %+v, %v", result, err)
	}
	for key, row := range held(t, later, "pod") {
		if got := held(t, sink, "pod")[key]; got.Hash() != row.Hash() {
			t.Errorf("sink holds %+v, source %+v", got, row)
		}
	}
}

// forgetful is a link over which writes of the table reach are acknowledged, and
// lost.
type forgetful struct{ next http.RoundTripper }

func (f forgetful) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == "/write" {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(string(body), "reach") {
			return &http.Response{StatusCode: http.StatusNoContent, Header: make(http.Header), Body: http.NoBody, Request: r}, nil
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
	}
	return f.next.RoundTrip(r)
}

// TestSyncSeesItsReach: nothing is written before the sink was seen to hold how
// far the copy means to go.
func TestSyncSeesItsReach(t *testing.T) {
	store := influxtest.Open(t, t.TempDir())
	lying := client(t, "http://store", forgetful{store.Transport()})
	source, sink := create(t, lying, "source"), create(t, lying, "sink")
	w := newWriter(t, source, podTable, "edge")
	w.settleEach(0, 2, "a", "b")
	request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge"}
	result, err := influxsync.Sync(t.Context(), request)
	if rows := len(held(t, sink, "pod")); !errors.Is(err, influxsync.ErrMismatch) || rows > 0 || result.Mark != (influxsync.Mark{}) {
		t.Errorf("%+v, %v, %d rows written", result, err, rows)
	}
	request.Verify = influxsync.VerifyStream // control: who does not look sees nothing
	if _, err := influxsync.Sync(t.Context(), request); err != nil {
		t.Errorf("control: %v", err)
	}
}
