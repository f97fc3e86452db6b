package follower

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	maxQueryBytes = 1 << 20  // of a query's form
	maxWriteBytes = 32 << 20 // of one request that writes results, as it unpacks to
	// viewerQueries is how many queries of viewers run at once, each at most for
	// viewerTime: others wait. A leader's are not held up by them.
	viewerQueries = 4
	viewerTime    = time.Minute
	// writeTime is how long a write may go on whose leader went away.
	writeTime = time.Minute
	// hangs is how many slots the loop may be silent before /livez fails.
	hangs = 8
)

// Handler is the follower's port:
//
//	GET  /healthz /livez /readyz    no token
//	GET  /metrics                   no token: counts without names of pods
//	GET  /api/v1/status             viewer or leader
//	GET  /, /api/v1/usage …         the cluster's own people: package customer
//	GET, POST /query                viewer or leader; see readOnly
//	POST /write?db=results          leader, with its fence number; see fence
//	GET, HEAD /ping                 viewer or leader
//
// The user "viewer" of InfluxDB's clients is a viewer too; see credentialOf.
// Where something on the way keeps the header Authorization for itself, as the
// proxy of an API server does, Accumulus-Authorization stands for it. Bodies of
// writes may be packed with gzip, and answers of queries are for who accepts it.
// A leader's request may carry its time as Date header, from which the
// follower learns its own clock's offset. Before Run has opened the store,
// what needs it answers 503.
func (f *Follower) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /livez", f.livez)
	mux.HandleFunc("GET /readyz", f.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(f.reg, promhttp.HandlerOpts{}))
	mux.Handle("GET /api/v1/status", f.need(viewer, f.serveStatus))
	mux.Handle("GET /ping", f.need(viewer, ping))
	mux.Handle("GET /query", f.need(viewer, f.query))
	mux.Handle("POST /query", f.need(viewer, f.query))
	mux.Handle("POST /write", f.need(leader, f.write))
	f.customer.Mount(mux)
	return mux
}

// ping answers as the InfluxDB does whose language the port speaks: clients
// look at the version.
func ping(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("X-Influxdb-Version", "1.8.10")
	w.WriteHeader(http.StatusNoContent)
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // a reader that went away needs no answer
}

// refuse answers in the form of InfluxDB, which its clients understand.
func refuse(w http.ResponseWriter, status int, text string) {
	answer(w, status, map[string]string{"error": text})
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // a reader that went away needs no answer
}

// need lets in who has a token of the role, and learns the time from a leader.
func (f *Follower) need(least role, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		have := f.roleOf(r)
		switch {
		case have == nobody:
			w.Header().Set("WWW-Authenticate", `Bearer realm="accumulus-follower"`)
			refuse(w, http.StatusUnauthorized, "a bearer token is needed")
			return
		case have < least:
			refuse(w, http.StatusForbidden, "the viewer's token does not allow this")
			return
		}
		if date, err := http.ParseTime(r.Header.Get("Date")); err == nil && have == leader {
			f.trust.saw("leader", date.Sub(f.clock.Now().Truncate(time.Second)))
		}
		next(w, r)
	})
}

func (f *Follower) livez(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	state := f.state
	f.mu.Unlock()
	if state.started.IsZero() {
		plain(w, http.StatusServiceUnavailable, "not started")
		return
	}
	if silent := f.clock.Now().Sub(state.beat); silent > hangs*f.config.Interval {
		plain(w, http.StatusServiceUnavailable, "the loop is silent for "+silent.Round(time.Second).String())
		return
	}
	plain(w, http.StatusOK, "ok")
}

func (f *Follower) readyz(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	state := f.state
	f.mu.Unlock()
	switch {
	case !state.open:
		plain(w, http.StatusServiceUnavailable, "the store is not open")
	case state.lastTick.IsZero():
		plain(w, http.StatusServiceUnavailable, "the first slot is not done")
	default:
		plain(w, http.StatusOK, "ok")
	}
}

func (f *Follower) serveStatus(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, f.Status())
}

// usable says whether the store can be asked; if not, it has answered.
func (f *Follower) usable(w http.ResponseWriter) bool {
	f.mu.Lock()
	open := f.state.open
	f.mu.Unlock()
	if !open {
		refuse(w, http.StatusServiceUnavailable, "the store is not open")
	}
	return open
}

func (f *Follower) query(w http.ResponseWriter, r *http.Request) {
	if !f.usable(w) {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxQueryBytes)
	if err := r.ParseForm(); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	parameters := url.Values{}
	for _, name := range []string{"db", "q", "epoch", "chunked", "chunk_size", "pretty"} {
		if values := r.Form[name]; len(values) > 1 {
			refuse(w, http.StatusBadRequest, "parameter "+name+" is given twice")
			return
		} else if len(values) == 1 {
			parameters.Set(name, values[0])
		}
	}
	if err := readOnly(parameters.Get("db"), parameters.Get("q")); err != nil {
		refuse(w, http.StatusForbidden, err.Error())
		return
	}
	ctx := r.Context()
	if f.roleOf(r) == viewer {
		timed, cancel := context.WithTimeout(ctx, viewerTime)
		defer cancel()
		if err := f.viewers.Acquire(timed, 1); err != nil {
			refuse(w, http.StatusServiceUnavailable, "too many queries run")
			return
		}
		defer f.viewers.Release(1)
		ctx = timed
	}
	response, err := f.store.upstream.send(ctx, "query", parameters, nil, r.Header.Get("Accept"))
	if errors.Is(err, context.DeadlineExceeded) {
		refuse(w, http.StatusServiceUnavailable, "the query took longer than "+viewerTime.String())
		return
	}
	f.pass(w, response, err, acceptsGzip(r))
}

func (f *Follower) write(w http.ResponseWriter, r *http.Request) {
	if !f.usable(w) {
		return
	}
	if status, why := writable(r.URL.RawQuery); why != "" {
		refuse(w, status, why)
		return
	}
	number, err := fenceOf(r, f.clock.Now())
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	// The whole body, so that a leader that stops in the middle of one holds up
	// nobody.
	body, err := readBody(w, r, maxWriteBytes)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the lines are more than %d bytes: send fewer at once", maxWriteBytes))
		return
	case errors.Is(err, errEncoding):
		refuse(w, http.StatusUnsupportedMediaType, err.Error())
		return
	case err != nil:
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	f.writeResults(w, r, number, body)
}

// writable says why a write with these parameters is refused, and with which
// status; "" is no reason. What it does not know would not be obeyed.
func writable(raw string) (int, string) {
	asked, err := url.ParseQuery(raw)
	if err != nil {
		return http.StatusBadRequest, "parse parameters: " + err.Error()
	}
	if db := asked.Get("db"); db != schema.ResultsDB || len(asked["db"]) != 1 {
		return http.StatusForbidden, "only the database results is written over this port"
	}
	for name, values := range asked {
		switch {
		case name != "db" && name != "precision" && name != "rp" && name != "consistency":
			return http.StatusBadRequest, fmt.Sprintf("parameter %q is not known: db and precision are", name)
		case len(values) > 1:
			return http.StatusBadRequest, "parameter " + name + " is given twice"
		}
	}
	if asked.Get("rp") != "" {
		return http.StatusBadRequest, "rows go into the database's default retention policy: leave rp out"
	}
	if precision := asked.Get("precision"); precision != "" && precision != "ns" && precision != "n" {
		return http.StatusBadRequest, "times are in nanoseconds"
	}
	return 0, "" // consistency is of several servers, and here is one
}

func (f *Follower) writeResults(w http.ResponseWriter, r *http.Request, number int64, body []byte) {
	parameters := url.Values{"db": {schema.ResultsDB}, "precision": {"ns"}}
	var response *http.Response
	err := f.fence.pass(r.Context(), number, func() (err error) {
		// A leader that went away must not end the wait for what the store does
		// with its lines.
		timed, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), writeTime)
		defer cancel()
		defer f.pushed.wrote(body) // also where it fails: some of it may be there
		if response, err = f.store.upstream.send(timed, "write", parameters, bytes.NewReader(body), ""); err != nil {
			return err
		}
		return held(response)
	})
	var fenced *fencedError
	if errors.As(err, &fenced) {
		f.log.Warn("a replaced leader writes", "fence", fenced.number, "highest", fenced.highest)
		answer(w, http.StatusConflict, map[string]any{"error": fenced.Error(), "fence": strconv.FormatInt(fenced.number, 10),
			"highest": strconv.FormatInt(fenced.highest, 10)})
		return
	}
	f.pass(w, response, err, false)
}

// held reads the answer to a write, so that it does not end with what it was
// asked under.
func held(response *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(response.Body, maxQueryBytes))
	response.Body = io.NopCloser(bytes.NewReader(text))
	return err
}

// pass streams the store's answer, each piece as it comes.
func (f *Follower) pass(w http.ResponseWriter, response *http.Response, err error, packed bool) {
	if err != nil {
		f.log.Warn("store does not answer", "err", err)
		refuse(w, http.StatusBadGateway, "the store does not answer")
		return
	}
	defer func() { _ = response.Body.Close() }()
	var packer *gzip.Writer
	for _, name := range []string{"Content-Type", "X-Influxdb-Version", "X-Influxdb-Error"} {
		if value := response.Header.Get(name); value != "" {
			w.Header().Set(name, value)
		}
	}
	if packed && response.StatusCode == http.StatusOK {
		packing := f.packers.answer(w)
		w, packer = packing, packing.packer
		defer f.packers.Put(packer)
	}
	w.WriteHeader(response.StatusCode)
	flush := http.NewResponseController(w)
	piece := make([]byte, 64<<10)
	for {
		n, err := response.Body.Read(piece)
		if _, failed := w.Write(piece[:n]); failed != nil {
			return
		}
		_ = flush.Flush() // a writer without it sends at the end
		if errors.Is(err, io.EOF) {
			if packer != nil {
				_ = packer.Close() // a reader that went away needs no end
			}
			return
		}
		if err != nil { // the reader must see that the answer is cut: a packed one gets no end
			f.log.Warn("store's answer ended early", "err", err)
			panic(http.ErrAbortHandler)
		}
	}
}
