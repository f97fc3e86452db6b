package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

func open(t *testing.T, dir string) (*Server, *influxsync.Database) {
	t.Helper()
	s, err := Open(Config{Dir: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	client, err := s.Client()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Create(t.Context(), schema.MinuteDB); err != nil {
		t.Fatal(err)
	}
	return s, client.Database(schema.MinuteDB)
}

func rows(n int) []influxsync.Point {
	points := make([]influxsync.Point, n)
	for i := range points {
		points[i] = influxsync.NewPoint("t", map[string]string{"k": fmt.Sprint(i % 100)},
			map[string]influxsync.Value{"f": influxsync.Int(int64(i))}, time.Unix(1_750_000_000+int64(i/100), 0))
	}
	return points
}

func count(t *testing.T, db *influxsync.Database) int {
	t.Helper()
	n := 0
	err := db.TimeQuery(t.Context(), "t", schema.Window{}, nil, func(influxsync.Point) error {
		n++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestReopenHoldsAllRows(t *testing.T) {
	dir, before := t.TempDir(), runtime.NumGoroutine()
	for i := range 3 {
		s, db := open(t, dir)
		if got := count(t, db); got != i*5000 {
			t.Errorf("opened for the %d. time: %d rows, want %d", i+1, got, i*5000)
		}
		if err := db.Write(t.Context(), rows(15000)[i*5000:(i+1)*5000]); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
		if err := db.Write(t.Context(), rows(1)); !errors.Is(err, ErrClosed) {
			t.Errorf("write after close: %v; want ErrClosed", err)
		}
	}
	if after := runtime.NumGoroutine(); after > before+5 {
		t.Errorf("%d goroutines before, %d after", before, after)
	}
}

func TestOneProcessPerDirectory(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	_, err := Open(Config{Dir: dir}, nil)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second open: %v; want ErrLocked with the directory's name", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
}

func TestCloseEndsARunningQuery(t *testing.T) {
	s, db := open(t, t.TempDir())
	if err := db.Write(t.Context(), rows(60000)); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	n := 0
	err := db.TimeQuery(t.Context(), "t", schema.Window{}, nil, func(influxsync.Point) error {
		if n++; n == 1 {
			closed <- s.Close() // returns although nobody reads on
		}
		return nil
	})
	if err == nil || n == 60000 {
		t.Errorf("query over a closed store: %d rows, %v; want an error", n, err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestLeavingEndsTheQuery(t *testing.T) {
	s, db := open(t, t.TempDir())
	if err := db.Write(t.Context(), rows(60000)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := db.TimeQuery(ctx, "t", schema.Window{}, nil, func(influxsync.Point) error {
		n++
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("after %d rows: %v; want context.Canceled", n, err)
	}
	enough := errors.New("enough")
	if err := db.TimeQuery(t.Context(), "t", schema.Window{}, nil, func(influxsync.Point) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("reader that left: %v", err)
	}
	s.transport.wait() // no handler hangs
}

// TestTransportStreams: bytes arrive before the handler is done, and it waits
// for its reader.
func TestTransportStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written := 0
		transport := newTransport(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				_, err := w.Write(make([]byte, 16<<10))
				if err != nil {
					return
				}
				written++
				w.(http.Flusher).Flush()
			}
		}))
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/query", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(response.Body, make([]byte, 40<<10)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if written < 2 || written > 5 {
			t.Errorf("%d writes done when 2.5 were read: want a handler that waits for its reader", written)
		}
		if err := response.Body.Close(); err != nil {
			t.Fatal(err)
		}
		transport.wait()
		if written == 100 {
			t.Error("handler went on after its reader left")
		}
	})
}

func TestOnlyTheNamedPathsAreServed(t *testing.T) {
	s, _ := open(t, t.TempDir())
	for path, want := range map[string]int{"/ping": 204, "/debug/vars": 404, "/metrics": 404, "/api/v2/query": 404, "/debug/pprof/": 404} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := s.Transport().RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, response.StatusCode, want)
		}
		_ = response.Body.Close()
	}
}

func TestTagsAreNotLimited(t *testing.T) {
	s, _ := open(t, t.TempDir())
	if c := s.engine.store.EngineOptions.Config; c.MaxValuesPerTag != 0 || c.MaxSeriesPerDatabase != 0 || c.Index != "tsi1" {
		t.Errorf("values per tag %d, series %d, index %s; want no limit and tsi1", c.MaxValuesPerTag, c.MaxSeriesPerDatabase, c.Index)
	}
}
