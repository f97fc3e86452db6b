package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/accumulus-metering/accumulus/influxsync/embedded"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// wire is how a sub-process tells its parent what it does. At a point it waits
// for the parent's word, so that the parent can kill it there.
type wire struct {
	mu  sync.Mutex
	out io.Writer
	in  *bufio.Reader
}

func newWire() *wire { return &wire{out: os.Stdout, in: bufio.NewReader(os.Stdin)} }

func (w *wire) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = fmt.Fprintf(w.out, format+"\n", args...) // without a parent nobody listens
}

// point tells where the process is and waits.
func (w *wire) point(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = fmt.Fprintln(w.out, "at", name)
	if _, err := w.in.ReadString('\n'); err != nil {
		os.Exit(0) // the parent has gone
	}
}

// tap stands between a process and its store, which is the embedded engine in
// the same process, and tells of each write before and after it.
type tap struct {
	wire   *wire
	engine *embedded.Server
	// journalFirst is the fault of the control: rows of minutes are written
	// after the journal has told of them.
	journalFirst bool
	held         []*http.Request
	bodies       [][]byte
}

// openTap opens the store and serves it on loopback.
func openTap(dir string, w *wire, journalFirst bool) (address string, err error) {
	engine, err := embedded.Open(embedded.Config{Dir: dir}, quiet())
	if err != nil {
		return "", err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() { _ = http.Serve(listener, &tap{wire: w, engine: engine, journalFirst: journalFirst}) }() // until the process ends
	return "http://" + listener.Addr().String(), nil
}

// kind says what a write is of: raw, minute, journal, or its database.
func kind(db string, body []byte) string {
	table, _, _ := bytes.Cut(body, []byte(","))
	switch {
	case string(table) == "journal":
		return "journal of " + db
	case db == schema.RawDB && string(table) != schema.Raw.Name:
		return "notes"
	}
	return db
}

func (p *tap) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if !strings.HasSuffix(r.URL.Path, "/write") {
		p.forward(w, r, body)
		return
	}
	what := kind(r.URL.Query().Get("db"), body)
	p.wire.point("before " + what)
	if p.journalFirst && what == schema.MinuteDB {
		p.held, p.bodies = append(p.held, r), append(p.bodies, body)
		w.WriteHeader(http.StatusNoContent)
	} else {
		p.forward(w, r, body)
	}
	p.wire.point("after " + what)
	if p.journalFirst && what == "journal of "+schema.MinuteDB {
		for i, late := range p.held {
			p.forward(discard{}, late, p.bodies[i])
		}
		p.held, p.bodies = nil, nil
	}
}

// forward does the request on the engine.
func (p *tap) forward(w http.ResponseWriter, r *http.Request, body []byte) {
	ctx := r.Context()
	if _, late := w.(discard); late {
		ctx = context.Background() // the client has its answer
	}
	request, err := http.NewRequestWithContext(ctx, r.Method, "http://embedded"+r.URL.Path+"?"+r.URL.RawQuery, bytes.NewReader(body))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	request.Header = r.Header.Clone()
	answer, err := p.engine.Transport().RoundTrip(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = answer.Body.Close() }()
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(w, answer.Body) // a client that went away needs no answer
}

// discard is a writer of an answer that nobody waits for.
type discard struct{}

func (discard) Header() http.Header         { return make(http.Header) }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}
