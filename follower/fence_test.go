package follower

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// energyRow is the one row that the leaders of these tests write.
func energyRow(millijoules int64) influxsync.Point {
	return influxsync.NewPoint("energy", map[string]string{"cluster": "edge"},
		map[string]influxsync.Value{"energy_active_millijoules": influxsync.Int(millijoules)}, epoch)
}

// energy is what stands in it.
func (r *rig) energy() int64 {
	r.Helper()
	var got int64
	err := r.client(r.token("viewer")).Database(schema.ResultsDB).TimeQuery(r.Context(), "energy", schema.Window{}, nil, func(p influxsync.Point) error {
		got = p.Int("energy_active_millijoules")
		return nil
	})
	if err != nil {
		r.Fatal(err)
	}
	return got
}

// TestFence: of two leaders the older is refused from the moment on at which the
// newer has written, also after a restart, and with a store of another process.
func TestFence(t *testing.T) {
	for name, external := range map[string]bool{"embedded": false, "external": true} {
		t.Run(name, func(t *testing.T) {
			clk := clock.NewManual(epoch.Add(time.Hour))
			dir := t.TempDir()
			var change func(*Config, *Input)
			if external {
				store := httptest.NewServer(&httputil.ReverseProxy{Director: func(*http.Request) {},
					Transport: influxtest.Open(t, t.TempDir()).Transport()})
				t.Cleanup(store.Close)
				change = func(c *Config, _ *Input) { c.InfluxURL = store.URL }
			}
			r := start(t, dir, clk, change)
			write := func(number, value int64) error {
				return r.fenced(r.token("leader"), number).Database(schema.ResultsDB).Write(t.Context(), []influxsync.Point{energyRow(value)})
			}
			const older, newer = 1793534400000000000, 1793534400000000001
			for _, step := range []struct {
				number, value int64
				want          error
			}{{older, 1, nil}, {older, 2, nil}, {newer, 3, nil}, {older, 4, influxsync.ErrFenced}, {newer, 5, nil}} {
				if err := write(step.number, step.value); !errors.Is(err, step.want) {
					t.Errorf("%d writes %d: %v, want %v", step.number, step.value, err, step.want)
				}
			}
			if got := r.energy(); got != 5 {
				t.Errorf("the row is %d, want the newer leader's 5", got)
			}
			r.stop()
			r = start(t, dir, clk, change)
			if got := r.Status().Fence; got != newer {
				t.Errorf("fence %d after a restart", got)
			}
			err := write(older, 6)
			if !errors.Is(err, influxsync.ErrFenced) || !strings.Contains(err.Error(), "1793534400000000000") || !strings.Contains(err.Error(), "1793534400000000001") {
				t.Errorf("the older after a restart: %v; want both numbers", err)
			}
			if got := r.energy(); got != 5 {
				t.Errorf("the row is %d, want the newer leader's 5", got)
			}
			// Control: past the fence the older overwrites.
			if err := r.store.Database(schema.ResultsDB).Write(t.Context(), []influxsync.Point{energyRow(7)}); err != nil {
				t.Fatal(err)
			}
			if got := r.energy(); got != 7 {
				t.Errorf("the row is %d: nothing is there to be protected", got)
			}
		})
	}
}

// TestFenceHeader: a write without one number is refused, and told what to send.
func TestFenceHeader(t *testing.T) {
	r := start(t, t.TempDir(), clock.NewManual(epoch.Add(time.Hour)), nil)
	for _, given := range [][]string{nil, {""}, {"0"}, {"-1"}, {"1.5"}, {"0x10"}, {"9223372036854775808"}, {"1", "2"}} {
		response := r.post("/write?db=results", "energy,cluster=edge a=1i 1", http.Header{schema.FenceHeader: given})
		if text, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), "decimal integer") {
			t.Errorf("%q: %d %s", given, response.StatusCode, text)
		}
	}
	if got := r.Status().Fence; got != 0 {
		t.Errorf("fence %d", got)
	}
}

func (r *rig) post(path, body string, header http.Header) *http.Response {
	r.Helper()
	request, err := http.NewRequest(http.MethodPost, r.server.URL+path, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	request.Header = header
	request.Header.Set("Authorization", "Bearer "+r.token("leader"))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = response.Body.Close() })
	return response
}

// TestFenceWaits: while a lower number is being written, a higher one waits for
// it, and a lower one that comes after the higher one is refused.
func TestFenceWaits(t *testing.T) {
	server := influxtest.New(t)
	if err := server.Create(t.Context(), schema.MinuteDB); err != nil {
		t.Fatal(err)
	}
	f, err := openFence(t.Context(), server.Database(schema.MinuteDB), "edge")
	if err != nil {
		t.Fatal(err)
	}
	var running atomic.Bool
	done := make(chan error)
	err = f.pass(t.Context(), 1, func() error {
		running.Store(true)
		go func() {
			done <- f.pass(t.Context(), 2, func() error {
				if running.Load() {
					t.Error("the higher one is written while the lower one is")
				}
				return nil
			})
		}()
		for f.writes.TryAcquire(1) { // until somebody waits for all of it
			f.writes.Release(1)
			runtime.Gosched()
		}
		running.Store(false)
		return nil
	})
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	var fenced *fencedError
	if err := f.pass(t.Context(), 1, func() error { t.Error("it is written"); return nil }); !errors.As(err, &fenced) || fenced.highest != 2 {
		t.Errorf("the lower one afterwards: %v", err)
	}
}

func pack(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestPackedOverThePort: lines and answers may be packed; what unpacks to more
// than the limit, and what is no gzip, is refused and not written.
func TestPackedOverThePort(t *testing.T) {
	r := start(t, t.TempDir(), clock.NewManual(epoch.Add(time.Hour)), nil)
	line := "energy,cluster=edge energy_active_millijoules=5i 1793534400000000000\n"
	for _, tc := range []struct {
		encoding, body string
		want           int
	}{
		{"gzip", pack(t, line), 204},
		{"", line, 204},
		{"gzip", pack(t, strings.Repeat(line, maxWriteBytes/len(line)+1)), 413}, // 200 kB become 33 MB
		{"", strings.Repeat(line, maxWriteBytes/len(line)+1), 413},
		{"gzip", line, 400},
		{"gzip", pack(t, line)[:30], 400},
		{"deflate", line, 415},
		{"gzip, gzip", pack(t, pack(t, line)), 415},
	} {
		header := http.Header{schema.FenceHeader: {"1"}}
		if tc.encoding != "" {
			header.Set("Content-Encoding", tc.encoding)
		}
		if response := r.post("/write?db=results", tc.body, header); response.StatusCode != tc.want {
			text, _ := io.ReadAll(response.Body)
			t.Errorf("%d bytes in %q: %d %s, want %d", len(tc.body), tc.encoding, response.StatusCode, text, tc.want)
		}
	}
	query := "/query?db=results&q=" + url.QueryEscape("SELECT * FROM energy")
	for accept, want := range map[string]string{"": "", "identity": "", "gzip": "gzip", "deflate, gzip;q=0.5": "gzip", "gzip;q=0": ""} {
		response := r.post(query, "", http.Header{"Accept-Encoding": {accept}})
		if got := response.Header.Get("Content-Encoding"); got != want {
			t.Errorf("accepting %q: encoding %q", accept, got)
		}
	}
	compressing, err := influxsync.New(influxsync.Config{URL: r.server.URL, Token: influxsync.Secret(r.token("leader")), Transport: numbered(1), Compress: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := compressing.Database(schema.ResultsDB).Write(t.Context(), []influxsync.Point{energyRow(9)}); err != nil {
		t.Fatal(err)
	}
	var got int64
	err = compressing.Database(schema.ResultsDB).TimeQuery(t.Context(), "energy", schema.WindowAt(epoch, schema.Minute), nil, func(p influxsync.Point) error {
		got = p.Int("energy_active_millijoules")
		return nil
	})
	if err != nil || got != 9 {
		t.Errorf("%d, %v", got, err)
	}
}

// TestAuthorizationBehindAProxy: the proxy of an API server keeps Authorization.
func TestAuthorizationBehindAProxy(t *testing.T) {
	r := start(t, t.TempDir(), clock.NewManual(epoch.Add(time.Hour)), nil)
	for token, want := range map[string]int{r.token("viewer"): 204, "wrong": 401} {
		request, err := http.NewRequest(http.MethodGet, r.server.URL+"/ping", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set(schema.AuthorizationHeader, "Bearer "+token)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%d, want %d", response.StatusCode, want)
		}
	}
}

// TestTooManyIntervals: what GROUP BY time would cut into millions of rows, most
// of them empty, is an error of the engine.
func TestTooManyIntervals(t *testing.T) {
	r := start(t, t.TempDir(), clock.NewManual(epoch.Add(time.Hour)), nil)
	if response := r.post("/write?db=results", "energy,cluster=edge a=1i 1793534400000000000", http.Header{schema.FenceHeader: {"1"}}); response.StatusCode != http.StatusNoContent {
		t.Fatal(response.Status)
	}
	query := "SELECT sum(a) FROM energy WHERE time > 0 AND time < 1793534400000000001 GROUP BY time(1s)"
	response := r.post("/query?db=results&q="+url.QueryEscape(query), "", http.Header{})
	if text, _ := io.ReadAll(response.Body); !strings.Contains(string(text), "max-select-buckets limit exceeded") {
		t.Errorf("answer of %d bytes: %.200s", len(text), text)
	}
}
