// Package followers reaches the followers of a fleet: by each cluster's URL,
// which may have a path, bearer token, own headers, certificate authority and
// client certificate, from its registry object; or through the service proxy of
// its API server, with the credentials that the leader keeps of it.
//
// Every file is read again at each request, and credentials are looked up at
// each, so that they can be replaced without a restart. Writes carry the leader's fence number. It keeps connections, and no
// state of a cluster.
package followers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
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

// FileError is a file of a cluster's link that cannot be read, or does not hold
// what it is for. Its text names the file and nothing that is in it.
type FileError struct{ Err error }

// Error is what is wrong with the file.
func (e *FileError) Error() string { return e.Err.Error() }

// Unwrap is for errors.Is.
func (e *FileError) Unwrap() error { return e.Err }

// maxStatus bounds a follower's status, in bytes.
const maxStatus = 4 << 20

// Follower is the connection to one cluster's follower.
type Follower struct {
	Store  *influxsync.Server // queries on minute, facts, results; writes on results
	status string             // URL
	http   *http.Client
}

// Pool makes and keeps connections. It is safe for concurrent use; the exported
// fields are set before the first Get.
type Pool struct {
	// Transport carries the requests in place of connections of its own; the
	// certificates of a cluster are not used then, its token and headers are.
	Transport http.RoundTripper
	// Fence is the leader's number, at least 1: a follower that has seen a higher
	// one refuses its writes, one that sees none refuses them too.
	Fence int64
	// Credentials of clusters that are reached through their API server; nil when
	// there are none.
	Credentials Credentials

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

// Get is the connection to a cluster's follower. Errors: *FileError, a URL that is
// none.
func (p *Pool) Get(cluster fleet.Cluster) (*Follower, error) {
	if held, ok := p.held(cluster.Name); ok && held.spec == cluster {
		return held.follower, nil
	}
	follower, err := p.connect(cluster) // reads files: nobody else waits for it
	if err != nil {
		return nil, fmt.Errorf("reach the follower of %s: %w", cluster.Name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	held, ok := p.known[cluster.Name]
	switch {
	case ok && held.spec == cluster: // somebody was faster
		return held.follower, nil
	case ok:
		held.follower.http.CloseIdleConnections()
	}
	p.known[cluster.Name] = entry{cluster, follower}
	return follower, nil
}

func (p *Pool) held(cluster string) (entry, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	held, ok := p.known[cluster]
	return held, ok
}

// Check says what is wrong with the files that a cluster names, without
// connecting: a *FileError, or nil. One that is reached through its API server
// names none.
func (p *Pool) Check(cluster fleet.Cluster) error {
	if cluster.Via == fleet.ViaServiceProxy {
		return nil
	}
	return p.link(cluster).check()
}

func (p *Pool) link(cluster fleet.Cluster) *link {
	l := &link{clock: p.clock, fence: p.Fence, token: cluster.TokenFile, headers: cluster.HeaderFile, base: p.Transport}
	switch {
	case cluster.Via == fleet.ViaServiceProxy:
		l.base = &proxied{p.Credentials, cluster.Name}
	case p.Transport == nil:
		l.base = &connections{ca: cluster.CAFile, certificate: cluster.ClientCertFile, key: cluster.ClientKeyFile}
	}
	return l
}

func (p *Pool) connect(cluster fleet.Cluster) (*Follower, error) {
	address := cluster.URL
	if cluster.Via == fleet.ViaServiceProxy {
		if address = proxiedURL; p.Credentials == nil {
			return nil, errors.New("this leader keeps no credentials of clusters")
		}
	}
	transport := p.link(cluster)
	if err := transport.check(); err != nil {
		return nil, err
	}
	store, err := influxsync.New(influxsync.Config{URL: address, Transport: transport, Compress: cluster.Compress})
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	return &Follower{Store: store, status: base.JoinPath("api/v1/status").String(), http: &http.Client{Transport: transport,
		// A redirect could carry the token to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// Status decodes the follower's own status into out. Errors: ErrUnauthorized,
// what the network says, a body that is no status.
func (f *Follower) Status(ctx context.Context, out any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.status, nil)
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
