package push

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

func client(t *testing.T, host string, transport http.RoundTripper) *influxsync.Server {
	t.Helper()
	server, err := influxsync.New(influxsync.Config{URL: "http://" + host, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// TestPushCancelled: whichever request of a push hangs, at the centre or at the
// follower, the end of its context ends it at once with the context's error, and
// leaves no goroutine: a bubble with one fails.
func TestPushCancelled(t *testing.T) {
	stores := [2]http.RoundTripper{influxtest.Open(t, t.TempDir()).Transport(), influxtest.Open(t, t.TempDir()).Transport()}
	c := newCentreOn(t, client(t, "centre", stores[0]))
	c.energyOf("a", 3, 10)
	if err := client(t, "follower", stores[1]).Create(t.Context(), schema.ResultsDB); err != nil {
		t.Fatal(err)
	}
	tape := influxtest.NewTape()
	c.centre = client(t, "centre", tape.Record(stores[0]))
	if rows := c.push(client(t, "follower", tape.Record(stores[1]))); rows != 3 {
		t.Fatalf("%d rows", rows)
	}
	for n := 1; ; n++ {
		player := tape.Play(n, false)
		synctest.Test(t, func(t *testing.T) { pushHangs(t, player, n) })
		if !player.Hung() {
			t.Logf("%d requests", n-1)
			return
		}
	}
}

func pushHangs(t *testing.T, player *influxtest.Player, n int) {
	books, err := registry.Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), clock.NewManual(start.Add(time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = books.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := New(books, client(t, "centre", player)).Push(ctx, "a", client(t, "follower", player))
		done <- err
	}()
	synctest.Wait()
	if !player.Hung() {
		if err := <-done; err != nil {
			t.Errorf("where nothing hangs: %v", err)
		}
		return
	}
	cancel()
	synctest.Wait()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("request %d hangs: %v, want the context's error", n, err)
		}
	default:
		t.Errorf("request %d hangs: the end of the context does not end it", n)
		<-done
	}
}
