package influxsync_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

var syncCases = flag.Int("sync-cases", 25, "random histories of TestSyncIsExactOverFaults")

// faulty is a link that loses things. Zero loses nothing.
type faulty struct {
	next   http.RoundTripper
	random *rand.Rand
	// silent faults end an answer at a place where it could have ended, and
	// drop lines of a write that is answered well. Loud ones are errors.
	loud, silent float64
	struck       int
}

func (f *faulty) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.random.Float64() < f.loud {
		f.struck++
		switch {
		case f.random.IntN(3) == 0:
			return nil, io.ErrUnexpectedEOF
		case r.URL.Path == "/write" && f.random.IntN(2) == 0: // done, but nobody knows
			if response, err := f.next.RoundTrip(r); err == nil {
				_ = response.Body.Close()
			}
			return nil, io.ErrUnexpectedEOF
		}
		response, err := f.next.RoundTrip(r)
		if err == nil {
			response.Body = &cut{ReadCloser: response.Body, left: f.random.IntN(400)}
		}
		return response, err
	}
	if f.random.Float64() < f.silent {
		f.struck++
		return f.lie(r)
	}
	return f.next.RoundTrip(r)
}

// lie drops a line of a write, or the last series of an answer.
func (f *faulty) lie(r *http.Request) (*http.Response, error) {
	if r.URL.Path == "/write" {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		lines := bytes.SplitAfter(bytes.TrimSuffix(body, []byte("\n")), []byte("\n"))
		i := f.random.IntN(len(lines))
		r = r.Clone(r.Context())
		body = bytes.Join(append(lines[:i:i], lines[i+1:]...), nil)
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		response, err := f.next.RoundTrip(r)
		if err == nil {
			response.StatusCode = http.StatusNoContent
		}
		return response, err
	}
	response, err := f.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	if end := bytes.LastIndex(body, []byte("\x81\xa7results")); end > 0 {
		body = body[:end]
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, err
}

// cut ends an answer with an error after some bytes.
type cut struct {
	io.ReadCloser
	left int
}

func (c *cut) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.ReadCloser.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// history is one random case: a writer with revisions, late rows and rows that
// go to zero, and a puller over a link that loses things.
type history struct {
	random  *rand.Rand
	links   [2]*faulty
	writer  *writer
	request influxsync.SyncRequest
	clean   influxsync.SyncRequest
	ready   []schema.Window // written, not yet journalled
	// One of these is a control: a puller with a bug.
	sync      func(context.Context, influxsync.SyncRequest) (influxsync.SyncResult, error)
	markFirst bool
}

func (h *history) step(t *testing.T) string {
	switch h.random.IntN(4) {
	case 0, 1:
		window := minute(h.random.IntN(12))
		for range 1 + h.random.IntN(3) {
			h.writer.put(window, fmt.Sprint("pod-", h.random.IntN(4)), h.random.Int64N(3))
		}
		h.ready = append(h.ready, window)
	case 2:
		h.writer.settle(h.ready...)
		h.ready = nil
	default:
		return h.pull(t)
	}
	return ""
}

// pull syncs once, and checks what was confirmed against the sink itself.
func (h *history) pull(t *testing.T) string {
	head, settled := h.writer.journal.Head()
	result, err := h.sync(t.Context(), h.request)
	if err == nil {
		h.request.Mark = result.Mark
		for _, e := range result.Windows {
			var got influxsync.Entry
			err := h.clean.Sink.TimeQuery(t.Context(), h.request.Table.Name, e.Window, nil, func(p influxsync.Point) error {
				got.Rows++
				got.Digest.Add(p)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if got.Rows != e.Rows || got.Digest != e.Digest {
				return fmt.Sprintf("confirmed window %s: sink holds %d rows, journal says %d", e.Window, got.Rows, e.Rows)
			}
		}
	}
	if h.markFirst && settled {
		store, err := influxsync.StoreID(t.Context(), h.clean.Source)
		if err != nil {
			t.Fatal(err)
		}
		h.request.Mark = influxsync.Mark{Store: store, Time: head.Time, Hash: head.Hash, Era: h.request.Mark.Era}
		if err := influxsync.NoteReach(t.Context(), h.clean.Sink, h.clean.Cluster, h.clean.Table.Name, h.request.Mark); err != nil {
			t.Fatal(err)
		}
	}
	return ""
}

// finish settles everything and pulls without faults; then both are equal.
func (h *history) finish(t *testing.T) string {
	if len(h.ready) > 0 {
		h.writer.settle(h.ready...)
	}
	h.clean.Mark = h.request.Mark
	for more := true; more; {
		result, err := influxsync.Sync(t.Context(), h.clean)
		if err != nil {
			return err.Error()
		}
		more, h.clean.Mark = result.More, result.Mark
	}
	return equalTables(t, h.clean.Source, h.clean.Sink, h.request.Table.Name)
}

// failures counts the histories that went wrong, and the faults that struck.
func failures(t *testing.T, x target, cases int, prepare func(*history)) (wrong int, first string, struck int) {
	source, sink := create(t, x.Server, "source"), create(t, x.Server, "sink")
	for i := range cases {
		random := rand.New(rand.NewPCG(uint64(i), 7))
		h := &history{random: random, sync: influxsync.Sync}
		for l := range h.links {
			h.links[l] = &faulty{next: x.transport, random: rand.New(rand.NewPCG(uint64(i), uint64(l))), loud: 0.05, silent: 0.05}
		}
		table := schema.Table{Name: fmt.Sprint("pod", i)}
		h.clean = influxsync.SyncRequest{Source: source, Sink: sink, Table: table, Cluster: "edge", Limit: 3}
		h.request = h.clean
		h.request.Source, h.request.Sink = client(t, x.url, h.links[0]).Database("source"), client(t, x.url, h.links[1]).Database("sink")
		h.writer = newWriter(t, source, table, "edge")
		prepare(h)
		problem := ""
		for range 30 {
			if problem == "" {
				problem = h.step(t)
			}
		}
		if problem == "" {
			problem = h.finish(t)
		}
		if problem != "" {
			wrong++
			first = fmt.Sprintf("history %d: %s", i, problem)
		}
		struck += h.links[0].struck + h.links[1].struck
	}
	return wrong, first, struck
}

// TestSyncIsExactOverFaults: whatever the link loses, a confirmed window is the
// sink's, and at the end both are equal.
func TestSyncIsExactOverFaults(t *testing.T) { targets(t, testSyncIsExactOverFaults) }

func testSyncIsExactOverFaults(t *testing.T, x target) {
	wrong, first, struck := failures(t, x, *syncCases, func(*history) {})
	if wrong > 0 {
		t.Errorf("%d of %d histories: %s", wrong, *syncCases, first)
	}
	if struck < *syncCases {
		t.Errorf("%d faults in %d histories: the test shows nothing", struck, *syncCases)
	}
	t.Logf("%d histories, %d faults", *syncCases, struck)
}

// The controls put a bug back; the same test has to find it.
func TestSyncIsExactOverFaultsFindsBugs(t *testing.T) {
	for name, bug := range map[string]func(*history){
		"mark before the write": func(h *history) { h.markFirst = true },
		"digests ignored":       func(h *history) { h.sync = influxsync.SyncWithoutComparing },
	} {
		wrong, _, _ := failures(t, embeddedTarget(t), *syncCases/2, bug)
		if wrong == 0 {
			t.Errorf("%s: not found in %d histories", name, *syncCases/2)
		}
		t.Logf("%s: found in %d of %d histories", name, wrong, *syncCases/2)
	}
}
