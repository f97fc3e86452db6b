package influxsync_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// operation is one that may be cancelled, on a source and a sink.
type operation func(ctx context.Context, source, sink *influxsync.Server) error

// TestCancel: whichever request of an operation hangs, before its answer or in
// the middle of it, the end of its context ends the operation at once with the
// context's error, and leaves no goroutine: a bubble with one fails.
func TestCancel(t *testing.T) {
	rows := func(ctx context.Context, db *influxsync.Database) error {
		return db.TimeQuery(ctx, "pod", schema.Window{}, nil, func(influxsync.Point) error { return nil })
	}
	for name, do := range map[string]operation{
		"Sync": func(ctx context.Context, source, sink *influxsync.Server) error {
			_, err := influxsync.Sync(ctx, influxsync.SyncRequest{Source: source.Database("minute"), Sink: sink.Database("minute"),
				Table: cancelled, Cluster: "c", Span: 2 * time.Minute, Parallel: 2})
			return err
		},
		"Sync after another store": func(ctx context.Context, source, sink *influxsync.Server) error {
			_, err := influxsync.Sync(ctx, influxsync.SyncRequest{Source: source.Database("minute"), Sink: sink.Database("minute"),
				Table: cancelled, Cluster: "c", Mark: influxsync.Mark{Store: "another", Hash: "x", Time: start}})
			return err
		},
		"SyncFull": func(ctx context.Context, source, sink *influxsync.Server) error {
			_, err := influxsync.SyncFull(ctx, source.Database("minute"), sink.Database("minute"), schema.Window{From: start, To: start.Add(time.Hour)})
			return err
		},
		"Write": func(ctx context.Context, _, sink *influxsync.Server) error {
			var points []influxsync.Point
			for day := range 3 {
				points = append(points, cancelRow(start.AddDate(0, 0, day), 0))
			}
			return sink.Database("minute").Write(ctx, points)
		},
		"Query": func(ctx context.Context, source, _ *influxsync.Server) error {
			return rows(ctx, source.Database("minute"))
		},
		"Create": func(ctx context.Context, _, sink *influxsync.Server) error { return sink.Create(ctx, "other") },
		"Ping":   func(ctx context.Context, _, sink *influxsync.Server) error { return sink.Ping(ctx) },
	} {
		for _, compress := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%t", name, compress), func(t *testing.T) { cancelEverywhere(t, do, compress) })
		}
	}
}

var cancelled = schema.PodMinute

func cancelRow(at time.Time, pod int) influxsync.Point {
	return influxsync.NewPoint(cancelled.Name, map[string]string{"cluster": "c", "pod": fmt.Sprint("p", pod)},
		map[string]influxsync.Value{"cpu_core_microseconds": influxsync.Int(int64(pod))}, at)
}

func cancelEverywhere(t *testing.T, do operation, compress bool) {
	tape := influxtest.NewTape()
	record(t, tape, do, compress)
	for n := 1; ; n++ {
		for _, half := range []bool{false, true} {
			player := tape.Play(n, half)
			synctest.Test(t, func(t *testing.T) {
				source, sink := clients(t, player, player, compress)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- do(ctx, source, sink) }()
				synctest.Wait()
				if !player.Hung() {
					if err := <-done; err != nil {
						t.Fatalf("where nothing hangs: %v", err)
					}
					return
				}
				select {
				case err := <-done:
					// The middle of an answer that nobody reads on is no place to hang.
					if !half {
						t.Errorf("request %d hangs, and it ended with %v", n, err)
					}
					return
				default:
				}
				cancel()
				synctest.Wait()
				select {
				case err := <-done:
					if !errors.Is(err, context.Canceled) {
						t.Errorf("request %d hangs, half: %t: %v, want the context's error", n, half, err)
					}
				default:
					t.Errorf("request %d hangs, half: %t: the end of the context does not end it", n, half)
				}
			})
			if !player.Hung() {
				t.Logf("%d requests", n-1)
				return
			}
		}
	}
}

// record runs the operation once on real servers.
func record(t *testing.T, tape *influxtest.Tape, do operation, compress bool) {
	t.Helper()
	stores := [2]http.RoundTripper{influxtest.Open(t, t.TempDir()).Transport(), influxtest.Open(t, t.TempDir()).Transport()}
	source, sink := clients(t, stores[0], stores[1], compress)
	for _, server := range []*influxsync.Server{source, sink} {
		if err := server.Create(t.Context(), "minute"); err != nil {
			t.Fatal(err)
		}
	}
	db := source.Database("minute")
	journal, err := influxsync.OpenJournal(t.Context(), db, "c", cancelled, clock.NewManual(start))
	if err != nil {
		t.Fatal(err)
	}
	for minute := range 5 {
		window := schema.WindowAt(start.Add(time.Duration(minute)*time.Minute), schema.Minute)
		var points []influxsync.Point
		for pod := range 3 {
			points = append(points, cancelRow(window.From, pod))
		}
		if err := db.Write(t.Context(), points); err != nil {
			t.Fatal(err)
		}
		entry := influxsync.Entry{Window: window, Rows: int64(len(points)), Reason: "settled"}
		for _, point := range points {
			entry.Digest += influxsync.Digest(point.Hash())
		}
		if _, err := journal.Append(t.Context(), entry); err != nil {
			t.Fatal(err)
		}
	}
	source, sink = clients(t, tape.Record(stores[0]), tape.Record(stores[1]), compress)
	if err := do(t.Context(), source, sink); err != nil {
		t.Fatal(err)
	}
}

func clients(t *testing.T, source, sink http.RoundTripper, compress bool) (*influxsync.Server, *influxsync.Server) {
	t.Helper()
	var servers []*influxsync.Server
	for host, transport := range []http.RoundTripper{source, sink} {
		server, err := influxsync.New(influxsync.Config{URL: fmt.Sprintf("http://%d", host), Transport: transport, Compress: compress})
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, server)
	}
	return servers[0], servers[1]
}
