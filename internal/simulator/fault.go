package simulator

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

// Fault is what is wrong with an endpoint. The zero value: nothing. The truth
// goes on behind it.
type Fault struct {
	Down     bool          // connections break without an answer
	Status   int           // every answer has this code: 403, 500, …
	Delay    time.Duration // before an answer, in the machine's time
	Truncate int           // the body breaks off after as many bytes
	Offset   time.Duration // of the endpoint's clock: samples, start times, Date
	Frozen   time.Time     // the body is that of this moment, again and again
	Expired  bool          // of an API server: a watch from a version gets 410
}

// faults holds an endpoint's present fault.
type faults struct {
	mu      sync.Mutex
	fault   Fault
	changed chan struct{} // closed by the next set
}

func (f *faults) set(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

func (f *faults) get() (Fault, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.fault, f.changed
}

// begin sets the Date, waits, and breaks the connection off, as the fault
// says; false if the request is answered already.
func (f Fault) begin(w http.ResponseWriter, r *http.Request, now time.Time) bool {
	w.Header().Set("Date", now.Add(f.Offset).UTC().Format(http.TimeFormat))
	if f.Delay > 0 && clock.System().Sleep(r.Context(), f.Delay) != nil {
		return false
	}
	if f.Down {
		panic(http.ErrAbortHandler)
	}
	if f.Status != 0 && f.Status != http.StatusForbidden {
		http.Error(w, http.StatusText(f.Status), f.Status)
		return false
	}
	return true
}

// moment is the time whose truth is shown.
func (f Fault) moment(now time.Time) time.Time {
	if !f.Frozen.IsZero() {
		return f.Frozen
	}
	return now
}

// write sends a body, or the beginning of it.
func (f Fault) write(w http.ResponseWriter, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if f.Truncate > 0 && f.Truncate < len(body) {
		_, _ = w.Write(body[:f.Truncate])
		if flusher, ok := w.(http.Flusher); ok {
			flusher.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(body) // a client that went away needs no answer
}

// tokens are a cluster's two bearer tokens.
type tokens struct{ good, denied string }

// check is 200, 401 or 403.
func (t *tokens) check(r *http.Request, fault Fault) int {
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case !bearer || (token != t.good && token != t.denied):
		return http.StatusUnauthorized
	case token == t.denied || fault.Status == http.StatusForbidden:
		return http.StatusForbidden
	}
	return http.StatusOK
}

// kubelet is a node's: HTTPS, a bearer token, /metrics/cadvisor and of
// /stats/summary what tells of storage.
type kubelet struct {
	sim     *Simulator
	clock   clock.Clock
	cluster string
	node    *Node
	tokens  *tokens
	url     string
	fault   faults
}

func (k *kubelet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := k.clock.Now()
	fault, _ := k.fault.get()
	if !k.node.alive(now) {
		fault.Down = true
	}
	if !fault.begin(w, r, now) {
		return
	}
	switch k.tokens.check(r, fault) {
	case http.StatusUnauthorized:
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
		return
	case http.StatusForbidden:
		http.Error(w, "Forbidden (user=system:serviceaccount:accumulus:follower, verb=get, resource=nodes, subresource(s)=[metrics])", http.StatusForbidden)
		return
	}
	at := fault.moment(k.clock.Now())
	if r.URL.Path == "/stats/summary" && r.Method == http.MethodGet {
		body, err := k.sim.summary(k.cluster, k.node, at, fault.Offset)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fault.write(w, "application/json", body)
		return
	}
	if r.URL.Path != "/metrics/cadvisor" || r.Method != http.MethodGet {
		http.NotFound(w, r)
		return
	}
	body := cadvisor(k.node, k.sim.bootID(k.cluster, k.node, at), k.sim.samples(k.cluster, k.node, at, false), at, fault.Offset)
	fault.write(w, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", body)
}

// bootID is the kernel's random id of the node's boot.
func (s *Simulator) bootID(cluster string, n *Node, t time.Time) string {
	_, boots := n.booted(t)
	return uid(s.fleet.Seed, "boot", cluster, n.Name, strconv.Itoa(boots))
}

// until waits until the clock shows t, the fault changes or ctx ends; false
// for the two last.
func until(ctx context.Context, c clock.Clock, changed <-chan struct{}, t time.Time) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- clock.At(ctx, c, t) }()
	select {
	case err := <-done:
		return err == nil
	case <-changed:
		cancel()
		<-done
		return false
	}
}
