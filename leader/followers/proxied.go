package followers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/credentials"
)

// Credentials tell how the followers of clusters are reached through their API
// servers: *credentials.Store.
type Credentials interface {
	// Link is how it is reached now; it may be another at each call.
	Link(ctx context.Context, cluster string) (credentials.Link, error)
	// ReadTokens reads the follower's tokens again.
	ReadTokens(ctx context.Context, cluster string) error
}

// ProxyError is an answer of the API server in front of a follower, not of the
// follower.
type ProxyError struct {
	Status  int
	Reason  string // as the API names it: NotFound, ServiceUnavailable
	Message string
}

// Error says who answered, what, and where to look.
func (e *ProxyError) Error() string {
	return fmt.Sprintf("the cluster's API server answers %d: %s (%s)", e.Status, e.Message, e.hint())
}

// NoWay says whether the API server could not reach the follower in time, as
// where a firewall stands between it and the nodes.
func (e *ProxyError) NoWay() bool {
	return e.Status == http.StatusServiceUnavailable && (strings.Contains(e.Message, "timeout") || strings.Contains(e.Message, "timed out") ||
		strings.Contains(e.Message, "no route to host") || strings.Contains(e.Message, "deadline exceeded"))
}

func (e *ProxyError) hint() string {
	switch {
	case e.Status == http.StatusUnauthorized:
		return "it does not know the leader's credentials: have they expired, or was the service account made again? `accumulus cluster add NAME --context CONTEXT` gives new ones"
	case e.Status == http.StatusForbidden:
		return "the leader's service account may not use the follower's service proxy: apply `accumulus cluster access --print` again"
	case e.Status == http.StatusNotFound:
		return "the follower is not installed"
	case e.NoWay():
		return "it cannot reach the follower's pod: let it through the firewall to port 8443 of the pods"
	case e.Status == http.StatusServiceUnavailable:
		return "no follower is ready: is it installed, and does its pod run?"
	}
	return "try again, or look at the API server"
}

// proxied carries requests to a follower through its API server's service proxy.
// The URL of a request is relative to proxiedURL.
type proxied struct {
	credentials Credentials
	cluster     string
}

// proxiedURL stands for the follower's own in requests, whatever the server of
// the credentials is: they may be replaced.
const proxiedURL = "https://service-proxy/"

// RoundTrip sends the request with the credentials as they are now. An error of
// the API server is *ProxyError.
func (p *proxied) RoundTrip(request *http.Request) (*http.Response, error) {
	link, err := p.credentials.Link(request.Context(), p.cluster)
	if err != nil {
		if request.Body != nil {
			_ = request.Body.Close()
		}
		return nil, err
	}
	response, err := through(link, request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusUnauthorized {
		// The Secret may have been changed in the cluster. Who asks again sends
		// what it holds now; why it cannot be read is less than the refusal itself.
		_ = p.credentials.ReadTokens(request.Context(), p.cluster)
	}
	return response, nil
}

// through sends a request over a link; an answer of the API server itself is
// *ProxyError.
func through(link credentials.Link, request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	target := link.Base.JoinPath(request.URL.Path)
	target.RawQuery = request.URL.RawQuery
	request.URL, request.Host = target, ""
	request.Header.Del("Authorization") // it is the API server's
	request.Header.Set(schema.AuthorizationHeader, "Bearer "+link.Token)
	if request.Header.Get("Accept-Encoding") == "" { // else the transport would ask for what costs the follower CPU
		request.Header.Set("Accept-Encoding", "identity")
	}
	response, err := link.Transport.RoundTrip(request)
	if err != nil || response.StatusCode < http.StatusBadRequest {
		return response, err
	}
	if err := proxyError(response); err != nil {
		return nil, err
	}
	return response, nil
}

// maxRefusal is how much of an error's body is looked at.
const maxRefusal = 64 << 10

// proxyError is an API server's error, by its body of kind Status, or nil; then
// the body is as it was.
func proxyError(response *http.Response) error {
	media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")) // "" is as good as a broken one
	if media != "application/json" {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxRefusal))
	if err != nil {
		return errors.Join(err, response.Body.Close())
	}
	var status struct {
		Kind, APIVersion, Message, Reason string
	}
	if json.Unmarshal(text, &status) != nil || status.Kind != "Status" || status.APIVersion != "v1" {
		response.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(text), response.Body), response.Body}
		return nil
	}
	_ = response.Body.Close()
	return &ProxyError{Status: response.StatusCode, Reason: status.Reason, Message: status.Message}
}

// Accepted asks a follower over a link for its status: nil when it takes the
// link's token.
func Accepted(ctx context.Context, link credentials.Link) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, proxiedURL+"api/v1/status", nil)
	if err != nil {
		return err
	}
	response, err := through(link, request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	switch response.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: %s", ErrUnauthorized, response.Status)
	}
	return &StatusError{response.StatusCode}
}
