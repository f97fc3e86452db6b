package chaos

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// What befalls a request. What "was done" reached the server.
const (
	lost        = "request lost"
	unanswered  = "done, answer lost"
	cutLoud     = "answer cut with an error"
	cutSilent   = "answer cut in silence"
	cutDocument = "answer ends after a whole document"
	slow        = "slow"
	refused     = "status"
	doneRefused = "done, status"
	page        = "a page instead of an answer"
	twice       = "write twice"
	twiceLate   = "write again later"
	dropped     = "lines dropped in silence"
	torn        = "write torn"
)

// Faults of reads and of writes, as often as they stand here.
var (
	readFaults  = []string{lost, cutLoud, cutLoud, cutSilent, cutSilent, cutDocument, slow, refused, refused, page}
	writeFaults = []string{lost, unanswered, unanswered, refused, doneRefused, twice, twiceLate, dropped, dropped, torn, page}
	statuses    = []int{http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout}
)

// link carries requests to a store, which may be replaced, and does to each
// what its seed, the pull and the request itself decide.
type link struct {
	side string
	seed uint64

	mu     sync.Mutex
	next   http.RoundTripper
	pull   int            // number of the running pull
	rate   int            // of 1000 requests
	nth    map[uint64]int // how often a request came in this pull
	about  map[int]int    // how many requests about a table came in this pull
	struck map[string]int // faults by their kind
	lies   map[int]bool   // tables whose lines were dropped in silence
	trace  []string       // of this schedule, in no order
	held   map[int]held
	late   sync.Mutex           // is held while a copy that was held back is delivered
	hook   func(table, nth int) // is told before each request about a table
	// answer stands in for the store, for controls; false leaves it to it.
	answer func(request *http.Request, table int) (*http.Response, error, bool)
}

func newLink(side string, p *plan) *link {
	return &link{side: side, seed: p.seed, nth: make(map[uint64]int), about: make(map[int]int),
		struck: make(map[string]int), lies: make(map[int]bool), held: make(map[int]held)}
}

// lead makes the link one to another store.
func (l *link) lead(next http.RoundTripper) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = next
}

// begin is the start of a pull in some weather.
func (l *link) begin(pull, rate int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pull, l.rate = pull, rate
	clear(l.nth)
	clear(l.about)
}

// faults is how many have struck.
func (l *link) faults() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, times := range l.struck {
		n += times
	}
	return n
}

// held is a copy of a write that is still on its way.
type held struct {
	message
	long bool // it comes before the table's next write, not before its next request
}

// aboutTable is the key of a context's table: which one a call of Sync copies.
type aboutTable struct{}

// lied says whether lines about a table were dropped in silence.
func (l *link) lied(table int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lies[table]
}

// message is a request that was read.
type message struct {
	*http.Request
	body  []byte
	text  string // statement or lines
	write bool
	table int // -1: not of Sync
}

func (l *link) read(r *http.Request) (message, error) {
	m := message{Request: r, write: strings.HasSuffix(r.URL.Path, "/write"), table: -1}
	if table, ok := r.Context().Value(aboutTable{}).(int); ok {
		m.table = table
	}
	if r.Body != nil {
		var err error
		if m.body, err = io.ReadAll(r.Body); err != nil {
			return m, err
		}
		_ = r.Body.Close()
	}
	switch form, err := url.ParseQuery(string(m.body)); {
	case m.write:
		m.text = string(m.body)
	case r.URL.Query().Get("q") != "":
		m.text = r.URL.Query().Get("q")
	case err == nil:
		m.text = form.Get("q")
	}
	return m, nil
}

// forward sends the request with a body to the store.
func (l *link) forward(m message, body []byte) (*http.Response, error) {
	ctx := m.Context()
	if m.Method == http.MethodPost { // what a store has begun to change it changes before the pull is over
		ctx = context.WithoutCancel(ctx)
	}
	r := m.Clone(ctx)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	l.mu.Lock()
	answer, next := l.answer, l.next
	l.mu.Unlock()
	if answer != nil {
		if response, err, done := answer(r, m.table); done {
			return response, err
		}
	}
	return next.RoundTrip(r)
}

// RoundTrip decides by the request's own text, and by how often it came, so that
// requests side by side do not change each other's fate.
func (l *link) RoundTrip(request *http.Request) (*http.Response, error) {
	m, err := l.read(request)
	if err != nil {
		return nil, err
	}
	if m.table >= 0 {
		l.mu.Lock()
		l.about[m.table]++
		nth, hook := l.about[m.table], l.hook
		l.mu.Unlock()
		if hook != nil {
			hook(m.table, nth)
		}
		if err := l.release(m.table, m.Method == http.MethodPost); err != nil {
			return nil, err
		}
	}
	random, fault := l.decide(m)
	if fault == "" {
		return l.forward(m, m.body)
	}
	response, hit, err := l.strike(m, random, fault)
	if hit {
		l.mu.Lock()
		l.struck[fault]++
		l.lies[m.table] = l.lies[m.table] || fault == dropped
		l.trace = append(l.trace, fmt.Sprintf("schedule %d, pull %d: %s: %s: %.200q", l.seed, l.pull, l.side, fault, m.text))
		l.mu.Unlock()
	}
	return response, err
}

// decide is what befalls the request, or "".
func (l *link) decide(m message) (*rand.Rand, string) {
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, l.side, m.table, m.write, m.URL.Query().Get("db"), m.text)
	l.mu.Lock()
	defer l.mu.Unlock()
	nth := 0 // tables side by side may ask the same; only one's own requests have an order
	if m.table >= 0 {
		l.nth[h.Sum64()]++
		nth = l.nth[h.Sum64()]
	}
	random := rand.New(rand.NewPCG(l.seed<<20^uint64(l.pull), h.Sum64()+uint64(nth)))
	if !chance(random, l.rate) {
		return random, ""
	}
	if m.write {
		return random, pick(random, writeFaults)
	}
	return random, pick(random, readFaults)
}

// strike does the fault to the request, and says whether it made a difference
// that could be seen.
func (l *link) strike(m message, random *rand.Rand, fault string) (*http.Response, bool, error) {
	switch fault {
	case lost:
		return nil, true, fmt.Errorf("connection reset before the request")
	case refused:
		return refusal(m, random), true, nil
	case page:
		return answered(m, http.StatusOK, http.Header{"Content-Type": {"text/html"}}, []byte("<html>Sign in to the network</html>")), true, nil
	case dropped, torn:
		return l.half(m, random, fault)
	case twice:
		if err := l.deliver(m, m.body); err != nil {
			return nil, true, err
		}
	case twiceLate:
		l.mu.Lock()
		copied := m
		copied.Request = m.Clone(context.WithoutCancel(m.Context()))
		l.held[m.table] = held{copied, random.IntN(2) == 0}
		l.mu.Unlock()
	}
	response, err := l.forward(m, m.body)
	if err != nil {
		return nil, true, err
	}
	switch fault {
	case unanswered, doneRefused:
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if fault == unanswered {
			return nil, true, io.ErrUnexpectedEOF
		}
		return refusal(m, random), true, nil
	case cutLoud, cutSilent, cutDocument:
		return cutShort(response, random, fault)
	case slow:
		response.Body = &drops{ReadCloser: response.Body, random: random}
	}
	return response, true, nil
}

// half delivers a part of a write's lines: all but some, answered well, or the
// first ones and no answer.
func (l *link) half(m message, random *rand.Rand, fault string) (*http.Response, bool, error) {
	lines := splitLines(m.body)
	from := random.IntN(len(lines))
	if fault == torn {
		if err := l.deliver(m, bytes.Join(lines[:from], nil)); err != nil {
			return nil, true, err
		}
		return nil, true, io.ErrUnexpectedEOF
	}
	to := from + 1 + random.IntN(len(lines)-from)
	if err := l.deliver(m, bytes.Join(slices.Concat(lines[:from], lines[to:]), nil)); err != nil {
		return nil, true, err
	}
	return answered(m, http.StatusNoContent, nil, nil), true, nil
}

// splitLines cuts lines at the newlines that are not in a text.
func splitLines(body []byte) [][]byte {
	var lines [][]byte
	quoted, escaped, from := false, false, 0
	space := false // before the first space of a line, quotes are no texts
	for i, c := range body {
		switch {
		case escaped:
			escaped = false
		case c == '\\':
			escaped = true
		case c == ' ' && !quoted:
			space = true
		case c == '"' && space:
			quoted = !quoted
		case c == '\n' && !quoted:
			lines = append(lines, body[from:i+1])
			from, space = i+1, false
		}
	}
	if from < len(body) {
		lines = append(lines, body[from:])
	}
	return lines
}

// deliver sends lines whose answer nobody gets.
func (l *link) deliver(m message, lines []byte) error {
	if len(lines) == 0 {
		return nil
	}
	response, err := l.forward(m, lines)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, response.Body)
	return response.Body.Close()
}

// release delivers the copy of a write that was held back, at the latest before
// the table's next change, whichever part of the table it is of. One that comes
// after newer rows would undo them; no sink could tell it from a write.
func (l *link) release(table int, changes bool) error {
	l.late.Lock()
	defer l.late.Unlock()
	l.mu.Lock()
	again, ok := l.held[table]
	if ok = ok && (changes || !again.long); ok {
		delete(l.held, table)
	}
	l.mu.Unlock()
	if !ok {
		return nil
	}
	return l.deliver(again.message, again.body)
}

// calm delivers what is held back and ends all faults.
func (l *link) calm() {
	l.begin(-1, 0)
	l.mu.Lock()
	tables := slices.Collect(maps.Keys(l.held))
	l.mu.Unlock()
	for _, i := range tables {
		_ = l.release(i, true) // a store that is gone has no use for it
	}
}

func answered(m message, status int, header http.Header, body []byte) *http.Response {
	if header == nil {
		header = make(http.Header)
	}
	return &http.Response{Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: m.Request}
}

// refusal is a 5xx or 429, of the server or of something before it.
func refusal(m message, random *rand.Rand) *http.Response {
	status := pick(random, statuses)
	header := http.Header{"Content-Type": {"application/json"}}
	body := `{"error":"timeout"}`
	if random.IntN(2) == 0 {
		header.Set("Content-Type", "text/html")
		body = "<html>Bad Gateway</html>"
	}
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		header.Set("Retry-After", "30")
	}
	return answered(m, status, header, []byte(body))
}

// cutShort ends an answer after any of its bytes, or after a whole document of
// several.
func cutShort(response *http.Response, random *rand.Rand, fault string) (*http.Response, bool, error) {
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		return nil, true, err
	}
	end := random.IntN(max(1, len(body)))
	if fault == cutDocument {
		var ends []int
		begin := []byte("\x81\xa7results")
		for at := 1; at < len(body); at++ {
			if bytes.HasPrefix(body[at:], begin) {
				ends = append(ends, at)
			}
		}
		if end = len(body); len(ends) > 0 {
			end = pick(random, ends)
		}
	}
	response.Body = &ends{bytes.NewReader(body[:end]), fault == cutLoud}
	return response, end < len(body), nil
}

// ends is the beginning of an answer.
type ends struct {
	*bytes.Reader
	loud bool
}

func (e *ends) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if err == io.EOF && e.loud {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (e *ends) Close() error { return nil }

// drops gives an answer a few bytes at a time, and sometimes none.
type drops struct {
	io.ReadCloser
	random *rand.Rand
	none   bool // at the last reading
}

func (d *drops) Read(p []byte) (int, error) {
	if d.none = !d.none && d.random.IntN(8) == 0; d.none || len(p) == 0 {
		return 0, nil
	}
	return d.ReadCloser.Read(p[:min(len(p), 1+d.random.IntN(64))])
}
