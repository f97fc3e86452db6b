// Package client asks a leader's API: what the command line is built on. It
// knows the addresses of the answers and turns problems into errors that say
// what to do. It keeps no state and retries nothing.
package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/leader/allocation"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/seed"
	"github.com/accumulus-metering/accumulus/leader/status"
)

// Defaults of a leader on this machine.
const (
	DefaultServer    = "http://127.0.0.1:8080"
	DefaultTokenFile = "accumulus-data/leader/operator.token"
)

// Config says where the leader is and how to be let in.
type Config struct {
	Server string // URL; "" = DefaultServer
	// TokenFile holds the bearer token. With "" the default file is taken where
	// it is, else the viewer's beside it, else none: the demo lets viewers in.
	TokenFile string
	CAFile    string // PEM; "" = the system's roots
	Timeout   time.Duration
}

// Client asks one leader.
type Client struct {
	base  *url.URL
	token api.Secret
	http  *http.Client
}

// New reads the token and the CA; it does not speak to the leader yet.
func New(config Config) (*Client, error) {
	if config.Server == "" {
		config.Server = DefaultServer
	}
	base, err := url.Parse(config.Server)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("server %q is not a URL such as %s", config.Server, DefaultServer)
	}
	token, err := readToken(config.TokenFile)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second}
	if config.CAFile != "" {
		pem, err := os.ReadFile(config.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read CA: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA file %s holds no certificate", config.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	if config.Timeout == 0 {
		config.Timeout = 2 * time.Minute
	}
	return &Client{base: base, token: token, http: &http.Client{Transport: transport, Timeout: config.Timeout,
		// A redirect would make a GET of what was to change something.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

func readToken(path string) (api.Secret, error) {
	candidates := []string{path}
	if path == "" {
		candidates = []string{DefaultTokenFile, filepath.Join(filepath.Dir(DefaultTokenFile), api.ViewerFile)}
	}
	for _, candidate := range candidates {
		text, err := os.ReadFile(candidate)
		if err == nil {
			token := strings.TrimSpace(string(text))
			if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
				return "", fmt.Errorf("read token: %s holds no token, which is one word on one line", candidate)
			}
			return api.Secret(token), nil
		}
		if path != "" {
			return "", fmt.Errorf("read token: %w; --token-file or ACCUMULUS_TOKEN_FILE names its file, operator.token or viewer.token of the leader's directory", err)
		}
	}
	return "", nil
}

// Error is a problem that the leader answered with.
type Error struct {
	Problem api.Problem
	token   bool // one was sent
}

func (e *Error) Error() string {
	text := e.Problem.Detail
	if text == "" {
		text = e.Problem.Title
	}
	for _, wrong := range e.Problem.Errors {
		text += "\n  " + wrong
	}
	return text
}

// Hint is what to do about an error of this package, or "".
func Hint(err error) string {
	var answered *Error
	if errors.As(err, &answered) {
		if answered.Problem.Status == http.StatusUnauthorized && !answered.token {
			return "No token was sent: run this where " + DefaultTokenFile + " is, or name the file with --token-file."
		}
		return cmp.Or(answered.Problem.Command, answered.Problem.Hint)
	}
	var unreachable *UnreachableError
	if errors.As(err, &unreachable) {
		return unreachable.hint()
	}
	return ""
}

// UnreachableError is a leader that did not answer.
type UnreachableError struct {
	Server string
	Err    error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("leader at %s does not answer: %v", e.Server, e.Err)
}
func (e *UnreachableError) Unwrap() error { return e.Err }

func (e *UnreachableError) hint() string {
	var certificate *tls.CertificateVerificationError
	var network *net.OpError
	switch {
	case errors.As(e.Err, &certificate):
		return "Its certificate is not trusted: give the CA with --ca-file."
	case errors.As(e.Err, &network) && network.Op == "dial":
		return "Start one (`accumulus demo`, or `accumulus leader`), or say where it is with --server or ACCUMULUS_SERVER."
	}
	return "Is it busy or stopping? Look at its log, or try again."
}

// leadsElsewhere is an error of a path in which a name is empty, or . or .., so that it
// would be another one's.
func leadsElsewhere(path string) error {
	for _, name := range strings.Split(strings.TrimPrefix(path, "/"), "/")[1:] {
		switch name {
		case "":
			return fmt.Errorf("a name that the request needs is empty (%s): say it", path)
		case ".", "..":
			return fmt.Errorf("%q is no name (%s): name what is meant as its list does", name, path)
		}
	}
	return nil
}

// Do sends a request and returns the answer's body and its media type. Errors:
// *Error, *UnreachableError.
func (c *Client) Do(ctx context.Context, method, path string, query url.Values, body []byte) ([]byte, string, error) {
	if err := leadsElsewhere(path); err != nil {
		return nil, "", err
	}
	target := c.base.JoinPath(path)
	target.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, "", fmt.Errorf("make request: %w", err)
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+string(c.token))
	}
	answer, err := c.http.Do(request)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, "", &UnreachableError{Server: c.base.String(), Err: err}
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, "", &UnreachableError{Server: c.base.String(), Err: fmt.Errorf("the answer broke off: %w", err)}
	}
	media, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type")) // "" is as good as a broken one
	if answer.StatusCode < 300 {
		return text, media, nil
	}
	failure := &Error{token: c.token != "", Problem: api.Problem{Status: answer.StatusCode, Title: answer.Status}}
	if media == "application/problem+json" && json.Unmarshal(text, &failure.Problem) == nil {
		failure.Problem.Status = answer.StatusCode
		return nil, "", failure
	}
	failure.Problem.Detail = fmt.Sprintf("%s answered %s, which is not Accumulus", c.base, answer.Status)
	return nil, "", failure
}

// get decodes the answer of a GET.
func (c *Client) get(ctx context.Context, path string, query url.Values, into any) error {
	text, _, err := c.Do(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read answer of %s: %w", path, err)
	}
	return nil
}

// Usage asks for all pages of an answer.
func (c *Client) Usage(ctx context.Context, values url.Values) (query.Answer, error) {
	var all query.Answer
	if err := c.get(ctx, "/api/v1/usage", values, &all); err != nil {
		return query.Answer{}, err
	}
	if values.Get("limit") != "" {
		return all, nil
	}
	values = cloneValues(values) // the later pages are of the very same window
	values.Set("window", all.From.Format(time.RFC3339)+","+all.To.Format(time.RFC3339))
	for all.Next != "" {
		values.Set("page", all.Next)
		var page query.Answer
		if err := c.get(ctx, "/api/v1/usage", values, &page); err != nil {
			return query.Answer{}, err
		}
		all.Rows, all.Next = append(all.Rows, page.Rows...), page.Next
	}
	return all, nil
}

func cloneValues(values url.Values) url.Values {
	clone := make(url.Values, len(values))
	for name, list := range values {
		clone[name] = append([]string(nil), list...)
	}
	return clone
}

// Allocation asks OpenCost's question; see leader/allocation.
func (c *Client) Allocation(ctx context.Context, values url.Values) (allocation.Response, error) {
	var answer allocation.Response
	err := c.get(ctx, "/allocation", values, &answer)
	return answer, err
}

// Overview asks how the leader and its clusters are.
func (c *Client) Overview(ctx context.Context) (status.Overview, error) {
	var answer status.Overview
	err := c.get(ctx, "/api/v1/status", nil, &answer)
	return answer, err
}

// Boxes asks for the energy of each box.
func (c *Client) Boxes(ctx context.Context, window string) (query.BoxAnswer, error) {
	var answer query.BoxAnswer
	err := c.get(ctx, "/api/v1/boxes", url.Values{"window": {window}}, &answer)
	return answer, err
}

// Completeness asks what arrived of a cluster.
func (c *Client) Completeness(ctx context.Context, cluster, window string) (query.Completeness, error) {
	var answer query.Completeness
	path, err := clusterPath(cluster)
	if err != nil {
		return answer, err
	}
	err = c.get(ctx, path+"/completeness", url.Values{"window": {window}}, &answer)
	return answer, err
}

// clusterPath is where a cluster is. A name that could lead elsewhere is refused
// before anything is asked.
func clusterPath(name string) (string, error) {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r != '-' && r != '.' && (r < 'a' || r > 'z') && (r < '0' || r > '9') }) ||
		strings.Trim(name, ".") == "" {
		return "", fmt.Errorf("cluster %q: a name has small letters, digits, - and . only; `accumulus cluster list` shows those that there are", name)
	}
	return "/api/v1/clusters/" + name, nil
}

// Objects asks for the objects of a kind, "all" for every kind, and for one
// name where it is not "".
func (c *Client) Objects(ctx context.Context, kind, name string, values url.Values) ([]fleet.Object, error) {
	path := "/api/v1/fleet/" + url.PathEscape(kind)
	if name != "" {
		path += "/" + url.PathEscape(name)
	}
	var answer api.ObjectList
	err := c.get(ctx, path, values, &answer)
	return answer.Items, err
}

// Apply applies objects, or says what that would change.
func (c *Client) Apply(ctx context.Context, objects []byte, dryRun bool) (api.Applied, error) {
	return c.ApplyChange(ctx, objects, dryRun, Change{})
}

// AddCluster adds a cluster.
func (c *Client) AddCluster(ctx context.Context, name string, spec fleet.Cluster) error {
	body, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("write cluster %s: %w", name, err)
	}
	path, err := clusterPath(name)
	if err != nil {
		return err
	}
	_, _, err = c.Do(ctx, http.MethodPut, path, nil, body)
	return err
}

// CheckCluster says what AddCluster would not take, and changes nothing.
func (c *Client) CheckCluster(ctx context.Context, name string, spec fleet.Cluster) error {
	if _, err := clusterPath(name); err != nil {
		return err
	}
	object, err := json.Marshal(fleet.NewObject(name, spec))
	if err != nil {
		return fmt.Errorf("write cluster %s: %w", name, err)
	}
	_, err = c.Apply(ctx, object, true)
	return err
}

// Export asks for a period's cost in a format, csv or json, as it is.
func (c *Client) Export(ctx context.Context, period, format string) ([]byte, error) {
	text, _, err := c.Do(ctx, http.MethodGet, "/api/v1/export", url.Values{"period": {period}, "format": {format}}, nil)
	return text, err
}

// ExportComplete is Export of a period of which all is here; else it is an
// *Error with the gaps.
func (c *Client) ExportComplete(ctx context.Context, period, format string) ([]byte, error) {
	values := url.Values{"period": {period}, "format": {format}, "requireComplete": {"true"}}
	text, _, err := c.Do(ctx, http.MethodGet, "/api/v1/export", values, nil)
	return text, err
}

// SeedKey is the public key by which followers know the leader's seeds.
func (c *Client) SeedKey(ctx context.Context) (string, error) {
	var answer api.SeedKey
	err := c.get(ctx, "/api/v1/seed/key", nil, &answer)
	return answer.PublicKey, err
}

// Seed is what a cluster's follower may know, packed and signed; renewed, with a
// higher generation than before.
func (c *Client) Seed(ctx context.Context, cluster string, renewed bool) (seed.Signed, error) {
	path, err := clusterPath(cluster)
	if err != nil {
		return seed.Signed{}, err
	}
	method, path := http.MethodGet, path+"/seed"
	if renewed {
		method, path = http.MethodPost, path+"/renew"
	}
	text, _, err := c.Do(ctx, method, path, nil, nil)
	if err != nil {
		return seed.Signed{}, err
	}
	var signed seed.Signed
	if err := json.Unmarshal(text, &signed); err != nil {
		return seed.Signed{}, fmt.Errorf("read seed of %s: %w", cluster, err)
	}
	return signed, nil
}

// ExportFiles asks for an export that is files, as a tar archive; focus.Fetch
// unpacks it.
func (c *Client) ExportFiles(ctx context.Context, values url.Values) ([]byte, error) {
	archive, media, err := c.Do(ctx, http.MethodGet, "/api/v1/export", values, nil)
	if err == nil && media != api.FilesType {
		err = fmt.Errorf("the answer is %q and no archive of files: the leader is older than this program", media)
	}
	return archive, err
}
