package influxtest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// Tape keeps what servers answered, so that it can be played without them: in a
// bubble of testing/synctest, in which the engine's own goroutines cannot live.
type Tape struct {
	mu      sync.Mutex
	answers map[string][]answer // of equal requests, in order
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// NewTape is an empty tape.
func NewTape() *Tape { return &Tape{answers: make(map[string][]answer)} }

func keyOf(request *http.Request) (string, error) {
	if request.Body == nil {
		return request.Method + " " + request.URL.String(), nil
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return "", err
	}
	_ = request.Body.Close()
	request.Body = io.NopCloser(bytes.NewReader(body))
	return request.Method + " " + request.URL.String() + "\n" + string(body), nil
}

// Record is a transport that keeps what base answers.
func (t *Tape) Record(base http.RoundTripper) http.RoundTripper { return &recorder{t, base} }

type recorder struct {
	tape *Tape
	base http.RoundTripper
}

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	key, err := keyOf(request)
	if err != nil {
		return nil, err
	}
	response, err := r.base.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	_ = response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(body))
	r.tape.mu.Lock()
	defer r.tape.mu.Unlock()
	r.tape.answers[key] = append(r.tape.answers[key], answer{response.StatusCode, response.Header.Clone(), body})
	return response, nil
}

// Player plays a tape. Its n-th request (from 1) hangs until its context ends.
type Player struct {
	tape *Tape
	hang int
	half bool

	mu   sync.Mutex
	seen map[string]int
	n    int
}

// Play hangs at the n-th request; with half, in the middle of its answer if that
// has a body. 0 hangs nowhere.
func (t *Tape) Play(n int, half bool) *Player {
	return &Player{tape: t, hang: n, half: half, seen: make(map[string]int)}
}

// Hung says whether there was such a request.
func (p *Player) Hung() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hang > 0 && p.n >= p.hang
}

// RoundTrip answers as it was recorded.
func (p *Player) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx := request.Context()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	request = request.Clone(ctx)
	key, err := keyOf(request)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.n++
	hangs := p.n == p.hang
	all, i := p.tape.answers[key], p.seen[key]
	p.seen[key]++
	p.mu.Unlock()
	if hangs && !p.half {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if i >= len(all) {
		return nil, fmt.Errorf("not on the tape: %.200s", key)
	}
	played := all[i]
	body := io.Reader(bytes.NewReader(played.body))
	if hangs && len(played.body) > 0 {
		body = io.MultiReader(bytes.NewReader(played.body[:len(played.body)/2]), hanging{ctx.Done(), ctx.Err})
	}
	return &http.Response{StatusCode: played.status, Status: http.StatusText(played.status), Header: played.header.Clone(),
		Body: io.NopCloser(body), ContentLength: -1, Request: request}, nil
}

// hanging is the rest of an answer that does not come.
type hanging struct {
	ended <-chan struct{}
	err   func() error
}

func (h hanging) Read([]byte) (int, error) {
	<-h.ended
	return 0, h.err()
}
