package follower

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// upstream is the store's HTTP API, to which the port passes what is allowed.
type upstream struct {
	base      *url.URL
	authorize func(*http.Request) error
	client    *http.Client
	transport interface{ CloseIdleConnections() }
}

// newUpstream is the API at base; a nil transport is one of its own, without
// compression, which would cost the source more than the bytes are worth.
func newUpstream(base string, authorize func(*http.Request) error, transport http.RoundTripper) (upstream, error) {
	parsed, err := url.Parse(base)
	if err != nil {
		return upstream{}, fmt.Errorf("parse store's URL: %w", err)
	}
	up := upstream{base: parsed, authorize: authorize}
	if transport == nil {
		own := http.DefaultTransport.(*http.Transport).Clone()
		own.DisableCompression = true
		transport, up.transport = own, own
	}
	up.client = &http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return up, nil
}

// send passes a request on; parameters go in the form of a POST, or beside a
// body in the URL.
func (u upstream) send(ctx context.Context, path string, parameters url.Values, body io.Reader, accept string) (*http.Response, error) {
	target := u.base.JoinPath(path)
	contentType := "text/plain; charset=utf-8"
	if body == nil {
		body, contentType = strings.NewReader(parameters.Encode()), "application/x-www-form-urlencoded"
	} else {
		target.RawQuery = parameters.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("Accept-Encoding", "identity")
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	if err := u.authorize(request); err != nil {
		return nil, err
	}
	return u.client.Do(request)
}
