package influxsync_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// encodings notes what crossed packed.
type encodings struct {
	base          http.RoundTripper
	writes, reads int
}

func (e *encodings) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Content-Encoding") == "gzip" {
		e.writes++
	}
	response, err := e.base.RoundTrip(r)
	if err == nil && response.Header.Get("Content-Encoding") == "gzip" {
		e.reads++
	}
	return response, err
}

// TestCompress: rows come back as they went in, packed both ways, and refusals
// are understood.
func TestCompress(t *testing.T) { targets(t, testCompress) }

func testCompress(t *testing.T, x target) {
	wire := &encodings{base: x.transport}
	server, err := influxsync.New(influxsync.Config{URL: x.url, Transport: wire, Compress: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Create(t.Context(), "packed"); err != nil {
		t.Fatal(err)
	}
	db := server.Database("packed")
	var want, got []influxsync.Point
	for i := range 20000 {
		want = append(want, influxsync.NewPoint("t", map[string]string{"k": "v"},
			map[string]influxsync.Value{"n": influxsync.Int(int64(i))}, start.Add(time.Duration(i)*time.Second)))
	}
	wire.reads = 0
	if err := db.Write(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if err := db.TimeQuery(t.Context(), "t", schema.Window{}, nil, collect(&got)); err != nil {
		t.Fatal(err)
	}
	compare(t, got, want)
	if wire.writes == 0 || wire.reads != 1 {
		t.Errorf("%d writes and %d reads were packed", wire.writes, wire.reads)
	}
	if _, err := server.Databases(t.Context()); err != nil {
		t.Error(err)
	}
	if err := server.Database("none").Write(t.Context(), want[:1]); !errors.Is(err, influxsync.ErrNotFound) {
		t.Errorf("a database that does not exist: %v", err)
	}
}
