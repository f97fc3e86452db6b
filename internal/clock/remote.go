package clock

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Paths of the clock endpoint that Remote asks.
const (
	RemotePath     = "/clock"      // GET: now, RFC 3339 with nanoseconds
	RemoteWaitPath = "/clock/wait" // GET ?until=: the same, when the clock shows until, or after RemotePatience
)

// RemotePatience bounds one long poll, in the machine's time. Who waits longer
// asks again.
const RemotePatience = 20 * time.Second

// remoteRetry is how long Remote waits, in the machine's time, before it asks
// an endpoint again that did not answer.
const remoteRetry = 50 * time.Millisecond

// At sleeps until c shows t or later. A clock that is moved between a look at
// Now and a Sleep would oversleep by that move; At does not, where the clock
// can wait for a moment.
func At(ctx context.Context, c Clock, t time.Time) error {
	if waiter, ok := c.(interface {
		SleepUntil(context.Context, time.Time) error
	}); ok {
		return waiter.SleepUntil(ctx, t)
	}
	return c.Sleep(ctx, t.Sub(c.Now()))
}

// SleepUntil waits until the clock shows t or later.
func (m *Manual) SleepUntil(ctx context.Context, t time.Time) error {
	m.mu.Lock()
	if !t.After(m.now) {
		m.mu.Unlock()
		return ctx.Err()
	}
	wake := make(chan struct{})
	m.sleepers[wake] = t
	m.mu.Unlock()
	select {
	case <-wake:
		return nil
	case <-ctx.Done():
		m.mu.Lock()
		delete(m.sleepers, wake)
		m.mu.Unlock()
		return ctx.Err()
	}
}

// Remote is a clock that another process shows over HTTP, so that a test can
// drive the time of several processes at once.
type Remote struct {
	url    string
	client *http.Client

	mu   sync.Mutex
	last time.Time
	err  error
}

// NewRemote is the clock at url (scheme and host; RemotePath is appended). The
// client must let a request take longer than RemotePatience.
func NewRemote(url string, client *http.Client) *Remote {
	return &Remote{url: strings.TrimSuffix(url, "/"), client: client}
}

// Now is the endpoint's time; while it does not answer, the last time that it
// showed, and Err says why. It is zero if it never answered.
func (r *Remote) Now() time.Time {
	ctx, cancel := context.WithTimeout(context.Background(), RemotePatience)
	defer cancel()
	_, err := r.get(ctx, RemotePath)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
	return r.last
}

// Err is why the endpoint did not answer the last time that it was asked for
// the time; nil if it did.
func (r *Remote) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Sleep waits until the remote clock was moved by d.
func (r *Remote) Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	return r.SleepUntil(ctx, r.Now().Add(d))
}

// SleepUntil waits until the remote clock shows t or later. An endpoint that
// does not answer is asked again.
func (r *Remote) SleepUntil(ctx context.Context, t time.Time) error {
	path := RemoteWaitPath + "?until=" + url.QueryEscape(t.UTC().Format(time.RFC3339Nano))
	for {
		now, err := r.get(ctx, path)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && !now.Before(t) {
			return nil
		}
		if err == nil {
			continue
		}
		if err := System().Sleep(ctx, remoteRetry); err != nil {
			return err
		}
	}
}

func (r *Remote) get(ctx context.Context, path string) (time.Time, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+path, nil)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask clock %s: %w", r.url, err)
	}
	response, err := r.client.Do(request)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask clock: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 256))
	if err != nil {
		return time.Time{}, fmt.Errorf("read clock %s: %w", r.url, err)
	}
	if response.StatusCode != http.StatusOK {
		return time.Time{}, fmt.Errorf("ask clock %s: %s", r.url, response.Status)
	}
	now, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(string(body)))
	if err != nil {
		return time.Time{}, fmt.Errorf("read clock %s: %w", r.url, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = now.UTC()
	return r.last, nil
}

// Handler shows c under RemotePath and RemoteWaitPath, for Remote.
func Handler(c Clock) http.Handler {
	show := func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, c.Now().Format(time.RFC3339Nano)) // a reader that went away needs no time
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+RemotePath, func(w http.ResponseWriter, _ *http.Request) { show(w) })
	mux.HandleFunc("GET "+RemoteWaitPath, func(w http.ResponseWriter, r *http.Request) {
		until, err := time.Parse(time.RFC3339Nano, r.URL.Query().Get("until"))
		if err != nil {
			http.Error(w, "until is no RFC 3339 time", http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), RemotePatience)
		defer cancel()
		if err := At(ctx, c, until); err != nil && r.Context().Err() != nil {
			return
		}
		show(w)
	})
	return mux
}
