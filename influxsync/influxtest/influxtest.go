// Package influxtest gives tests the real InfluxDB engine: in this process, or
// as a process of its own, of the distribution's package and built from the
// module (`make servers`).
package influxtest

import (
	"log/slog"
	"testing"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/embedded"
)

// New is an empty embedded server in a directory of the test's own, closed
// when the test ends.
func New(t testing.TB) *influxsync.Server {
	t.Helper()
	server, err := Open(t, t.TempDir()).Client()
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// Open is an embedded server in dir, for tests that open a directory again or
// need its transport. It is closed when the test ends, if it was not before.
func Open(t testing.TB, dir string) *embedded.Server {
	t.Helper()
	store, err := embedded.Open(embedded.Config{Dir: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("close embedded server: %v", err)
		}
	})
	return store
}
