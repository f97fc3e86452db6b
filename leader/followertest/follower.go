// Package followertest stands in for a follower in tests of the leader: a real
// store with rows that a test settles by hand, journalled, behind a real port
// where one is wanted. It meters nothing.
package followertest

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/embedded"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/output"
)

// Follower is one cluster's.
type Follower struct {
	Cluster string
	Store   *influxsync.Server

	t      testing.TB
	engine *embedded.Server
	tables map[string]*output.Table

	mu     sync.Mutex
	status map[string]any
	code   int
}

// New is a follower with an empty store.
func New(t testing.TB, cluster string, clk clock.Clock) *Follower {
	t.Helper()
	f := &Follower{Cluster: cluster, t: t, engine: influxtest.Open(t, t.TempDir()), tables: make(map[string]*output.Table),
		status: map[string]any{"cluster": cluster, "seed": map[string]any{"loaded": true}, "clock": map[string]any{"trusted": true}}}
	var err error
	if f.Store, err = f.engine.Client(); err != nil {
		t.Fatal(err)
	}
	if err := f.Store.Create(t.Context(), schema.MinuteDB, schema.FactsDB, schema.ResultsDB); err != nil {
		t.Fatal(err)
	}
	for _, table := range schema.Pulled {
		f.tables[table.Name] = output.New(f.Store.Database(table.DB), table, clk)
	}
	return f
}

// Settle makes rows the content of the minutes of a table, as a meter does.
func (f *Follower) Settle(table schema.Table, minutes schema.Window, rows ...influxsync.Point) {
	f.t.Helper()
	all := func(influxsync.Point) bool { return true }
	if _, err := f.tables[table.Name].Replace(f.t.Context(), f.Cluster, minutes, all, rows, "settled"); err != nil {
		f.t.Fatal(err)
	}
}

// Row is a whole row of a table: each required field that is not given is zero.
func Row(table schema.Table, at time.Time, tags map[string]string, values map[string]int64) influxsync.Point {
	fields := make(map[string]influxsync.Value)
	for _, field := range table.Fields {
		value, given := values[field.Name]
		switch {
		case field.Type == schema.String:
			fields[field.Name] = influxsync.Str("{}")
		case given || !field.Optional:
			fields[field.Name] = influxsync.Int(value)
		}
	}
	return influxsync.NewPoint(table.Name, tags, fields, at)
}

// Tell sets what the follower says of itself, over what it said before; nil
// values are left out.
func (f *Follower) Tell(status map[string]any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.Copy(f.status, status)
}

// Refuse makes every answer an HTTP error; 0 ends that.
func (f *Follower) Refuse(code int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.code = code
}

// Serve opens a loopback port with the follower's status and its store. It is
// closed when the test ends, if it was not before.
func (f *Follower) Serve() *httptest.Server {
	server := httptest.NewServer(f)
	f.t.Cleanup(server.Close)
	return server
}

// ServeHTTP answers as a follower's port does.
func (f *Follower) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	code, status := f.code, maps.Clone(f.status)
	f.mu.Unlock()
	switch {
	case code != 0:
		http.Error(w, "refused", code)
	case r.URL.Path == "/api/v1/status":
		_ = json.NewEncoder(w).Encode(status) // a client that went away sees to itself
	default:
		f.forward(w, r)
	}
}

func (f *Follower) forward(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	request := r.Clone(r.Context())
	request.RequestURI, request.Body = "", io.NopCloser(bytes.NewReader(body))
	request.URL.Scheme, request.URL.Host = "http", "store"
	response, err := f.engine.Transport().RoundTrip(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = response.Body.Close() }()
	maps.Copy(w.Header(), response.Header)
	w.WriteHeader(response.StatusCode)
	_, _ = io.Copy(w, response.Body)
}
