// Package followers reaches the followers of a fleet: each cluster's URL, bearer
// token and certificate authority, from its registry object.
//
// A token is read from its file at each request, so that it can be replaced
// without a restart. It keeps connections, and no state of a cluster.
package followers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// ErrUnauthorized is a follower that refuses the leader's token.
var ErrUnauthorized = errors.New("the follower refuses the token")

// StatusError is another answer than a status: of a proxy, or of something that
// is no follower.
type StatusError struct{ Status int }

// Error is the status in numbers and words.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status))
}

// maxStatus bounds a follower's status, in bytes.
const maxStatus = 4 << 20

// Follower is the connection to one cluster's follower.
type Follower struct {
	Store *influxsync.Server // queries on minute, facts, results; writes on results
	url   string
	http  *http.Client
}

// Pool makes and keeps connections. It is safe for concurrent use.
type Pool struct {
	clock clock.Clock
	mu    sync.Mutex
	known map[string]entry
}

type entry struct {
	spec     fleet.Cluster
	follower *Follower
}

// NewPool is an empty pool. Requests carry the clock's time as Date, from which
// a follower learns its own clock's offset.
func NewPool(clk clock.Clock) *Pool { return &Pool{clock: clk, known: make(map[string]entry)} }

// Get is the connection to a cluster's follower. Errors: a file that cannot be
// read, a URL that is none.
func (p *Pool) Get(cluster fleet.Cluster) (*Follower, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if held, ok := p.known[cluster.Name]; ok && held.spec == cluster {
		return held.follower, nil
	}
	transport, err := p.transport(cluster)
	if err != nil {
		return nil, fmt.Errorf("reach the follower of %s: %w", cluster.Name, err)
	}
	store, err := influxsync.New(influxsync.Config{URL: cluster.URL, Transport: transport})
	if err != nil {
		return nil, fmt.Errorf("reach the follower of %s: %w", cluster.Name, err)
	}
	follower := &Follower{Store: store, url: strings.TrimSuffix(cluster.URL, "/"), http: &http.Client{Transport: transport}}
	p.known[cluster.Name] = entry{cluster, follower}
	return follower, nil
}

func (p *Pool) transport(cluster fleet.Cluster) (http.RoundTripper, error) {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 8
	base.DisableCompression = true // it costs the follower more CPU than a local network saves
	if cluster.CAFile != "" {
		pem, err := os.ReadFile(cluster.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read caFile: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("caFile %s holds no PEM certificate", cluster.CAFile)
		}
		base.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &bearer{base: base, clock: p.clock, file: cluster.TokenFile}, nil
}

// bearer adds the token of a file, and the time, to each request.
type bearer struct {
	base  http.RoundTripper
	clock clock.Clock
	file  string
}

func (b *bearer) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.Header.Set("Date", b.clock.Now().Format(http.TimeFormat))
	if b.file != "" {
		token, err := os.ReadFile(b.file)
		if err != nil {
			if request.Body != nil {
				_ = request.Body.Close()
			}
			return nil, fmt.Errorf("read tokenFile: %w", err)
		}
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	return b.base.RoundTrip(request)
}

// Status decodes the follower's own status into out. Errors: ErrUnauthorized,
// what the network says, a body that is no status.
func (f *Follower) Status(ctx context.Context, out any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+"/api/v1/status", nil)
	if err != nil {
		return fmt.Errorf("ask the follower: %w", err)
	}
	response, err := f.http.Do(request)
	if err != nil {
		return fmt.Errorf("ask the follower: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("ask the follower: %w: %s", ErrUnauthorized, response.Status)
	default:
		return fmt.Errorf("ask the follower: %w", &StatusError{response.StatusCode})
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxStatus)).Decode(out); err != nil {
		return fmt.Errorf("read the follower's status: %w", err)
	}
	return nil
}
