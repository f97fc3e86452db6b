package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/embedded"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/google/go-cmp/cmp"
	"github.com/influxdata/influxdb1-client/models"
)

// serverVariable holds the address of a process that is a server, whose
// directory is its working directory.
const serverVariable = "ACCUMULUS_BENCH_SYNC_SERVER"

// TestMain is the main of a server, of a client, or of the tests.
func TestMain(m *testing.M) {
	if text := os.Getenv(jobVariable); text != "" {
		os.Exit(say(child(text)))
	}
	if address := os.Getenv(serverVariable); address != "" {
		fmt.Fprintln(os.Stderr, serve(address))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// serve is the embedded engine behind a port.
func serve(address string) error {
	store, err := embedded.Open(embedded.Config{Dir: "."}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	handler := http.NewServeMux()
	handler.HandleFunc("/debug/pprof/heap", func(http.ResponseWriter, *http.Request) { runtime.GC() })
	handler.Handle("/", &httputil.ReverseProxy{Transport: store.Transport(), FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "embedded" }})
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return http.Serve(listener, handler)
}

func launchEmbedded(dir string, port int) (*exec.Cmd, error) {
	command := exec.Command(os.Args[0])
	command.Dir = dir
	command.Env = append(os.Environ(), fmt.Sprintf("%s=127.0.0.1:%d", serverVariable, port))
	return command, nil
}

func smallRun(t *testing.T) config {
	binary, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	os.Args[0] = binary
	return config{launch: launchEmbedded, client: func(ctx context.Context) *exec.Cmd { return exec.CommandContext(ctx, binary) },
		pods: 40, rows: 2000, runs: 1, tick: 3, ticks: 2, wide: 3, long: 2, quiet: time.Millisecond, progress: t.Output()}
}

// TestRun is every case on a few rows: each finds in its sink what the source
// has, and the file has the figures of all.
func TestRun(t *testing.T) {
	c := smallRun(t)
	// The concurrencies in between would say nothing more.
	c.only = regexp.MustCompile(`^naive|^(read|write|sync-.*)-4|tick-(naive|sync-readback-1x1)|wide-(write|sync-stream-1x1)|long-.*-4x4`)
	measurements, err := run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	r := newReport(measurements, c)
	var table bytes.Buffer
	if err := r.print(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", &table)
	path := filepath.Join(t.TempDir(), "build", "bench-sync.json")
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Rows  int
		Cases []struct {
			Name, Verify             string
			RowsPerSecond            float64
			CPUSecondsPerMillionRows map[string]float64
			PeakClientMiB            float64
		}
		Ratios map[string]float64
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if want := 13 * (4*40 + 2); got.Rows != want {
		t.Errorf("rows: got %d, want %d", got.Rows, want)
	}
	names := make(map[string]bool)
	for _, c := range got.Cases {
		names[c.Name] = true
		_, client := c.CPUSecondsPerMillionRows["client"]
		_, source := c.CPUSecondsPerMillionRows["source"]
		_, sink := c.CPUSecondsPerMillionRows["sink"]
		if c.Verify == "" || c.RowsPerSecond <= 0 || c.PeakClientMiB <= 0 || !client || !source || !sink {
			t.Errorf("case %+v lacks a figure", c)
		}
	}
	for _, name := range []string{"naive", "naive-chunked", "read-4", "write-4", "sync-readback-4x4", "sync-stream-4x4", "sync-none-4x4",
		"tick-naive", "tick-sync-readback-1x1", "wide-write", "wide-sync-stream-1x1", "long-sync-readback-4x4"} {
		if !names[name] {
			t.Errorf("no case %s", name)
		}
	}
	if got.Ratios["peakClientMiB"] <= 0 || got.Ratios["readback.cpu/naive"] <= 0 || got.Ratios["peakLongToFull.4x4"] <= 0 {
		t.Errorf("ratios: %v", got.Ratios)
	}
}

func TestARunThatCannotBeIsRefused(t *testing.T) {
	for name, change := range map[string]func(*config){
		"no case": func(c *config) { c.only = regexp.MustCompile("^x") }, "no runs": func(c *config) { c.runs = 0 }, "less than ticks need": func(c *config) { c.rows = 1 },
		"more than a day": func(c *config) { c.long = 1000 }, "negative": func(c *config) { c.wide = -1 },
	} {
		c := smallRun(t)
		change(&c)
		if _, err := run(t.Context(), c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestCheckSeesWhatIsMissing is the control of what makes a case an error.
func TestCheckSeesWhatIsMissing(t *testing.T) {
	const minutes = 4
	server := influxtest.New(t)
	if err := server.Create(t.Context(), sinkDB); err != nil {
		t.Fatal(err)
	}
	set, db := narrow("set", 20, minutes), server.Database(sinkDB)
	put := func(t *testing.T, table *table, minute int, change func(*influxsync.Point)) {
		for series := range table.keys {
			var p influxsync.Point
			table.point(&p, series, minute)
			change(&p)
			if err := db.Write(t.Context(), []influxsync.Point{p}); err != nil {
				t.Fatal(err)
			}
		}
	}
	whole := func(*influxsync.Point) {}
	for _, table := range set.tables {
		for m := range minutes {
			put(t, table, m, whole)
		}
	}
	if err := set.check(t.Context(), db, 0, minutes); err != nil {
		t.Fatalf("what is whole: %v", err)
	}
	for name, span := range map[string][2]int{"a minute less": {0, minutes - 1}, "another minute": {1, minutes}} {
		if err := set.check(t.Context(), db, span[0], span[1]); err == nil {
			t.Errorf("%s than the store holds: no error", name)
		}
	}
	mem := set.tables[1]
	put(t, mem, 2, func(p *influxsync.Point) { p.Fields[1].Value = influxsync.Int(p.Fields[1].Value.Int() + 1) })
	if err := set.check(t.Context(), db, 0, minutes); err == nil {
		t.Error("other values: no error")
	}
	put(t, mem, 2, whole)
	put(t, mem, 3, func(p *influxsync.Point) { p.Time = p.Time.Add(time.Minute) })
	if err := set.check(t.Context(), db, 0, minutes); err == nil {
		t.Error("a minute too many: no error")
	}
}

// TestLinesAreTheRows: what is loaded, and what the floor writes, is what the
// journal counts.
func TestLinesAreTheRows(t *testing.T) {
	for _, set := range []dataset{narrow("narrow", 20, 2), wide("wide", 20, 2)} {
		for _, table := range set.tables {
			for series := range table.keys {
				var want influxsync.Point
				table.point(&want, series, 1)
				parsed, err := models.ParsePoints(table.appendLine(nil, series, 1))
				if err != nil {
					t.Fatal(err)
				}
				fields, err := parsed[0].Fields()
				if err != nil {
					t.Fatal(err)
				}
				values := make(map[string]influxsync.Value)
				for name, value := range fields {
					switch value := value.(type) {
					case int64:
						values[name] = influxsync.Int(value)
					case float64:
						values[name] = influxsync.Float(value)
					}
				}
				got := influxsync.NewPoint(string(parsed[0].Name()), parsed[0].Tags().Map(), values, parsed[0].Time())
				if got.Hash() != want.Hash() {
					t.Fatalf("got %+v, want %+v", got, want)
				}
			}
		}
	}
}

func TestStat(t *testing.T) {
	got, err := parseStat([]byte("42 (in (fl) ux) S 1 2 3 4 5 6 7 8 9 10 250 30 0 0 20 0 9 0 100"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(2800*time.Millisecond, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"", "1 (a) S 1", "1 (a) S 1 2 3 4 5 6 7 8 9 10 x 30"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
