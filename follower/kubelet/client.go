package kubelet

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxBody bounds one body: cAdvisor writes about 49 kB per pod, a node has some
// hundred pods.
const maxBody = 256 << 20

// ErrStatus is in every error that an answer other than 200 made.
var ErrStatus = errors.New("status other than 200")

// NodeError is why one node could not be read.
type NodeError struct {
	Node   string
	URL    string
	Status int // of the answer; 0 when none came
	Err    error
}

// Error names the node, and for a status what to do about it.
func (e *NodeError) Error() string {
	switch e.Status {
	case 0, http.StatusOK:
		return fmt.Sprintf("scrape node %s: %v", e.Node, e.Err)
	case http.StatusUnauthorized:
		return fmt.Sprintf("scrape node %s: 401 from kubelet: its token is missing, expired or for another audience", e.Node)
	case http.StatusForbidden:
		resource := "nodes/metrics"
		if strings.HasSuffix(e.URL, summaryPath) {
			resource = "nodes/stats"
		}
		return fmt.Sprintf("scrape node %s: 403 from kubelet: the service account needs get on %s", e.Node, resource)
	}
	return fmt.Sprintf("scrape node %s: %d from %s", e.Node, e.Status, e.URL)
}

// Unwrap is the cause.
func (e *NodeError) Unwrap() error { return e.Err }

// client asks kubelets. The CA and the token are read from their files at each
// sweep, since both are renewed while the process runs.
type client struct {
	config Config

	mu        sync.Mutex
	ca        []byte
	transport *http.Transport
	token     string
}

// refresh reads the files again and makes a new transport if the CA changed.
func (c *client) refresh() error {
	token, err := readOptional(c.config.TokenFile)
	if err != nil {
		return fmt.Errorf("read token: %w", err)
	}
	ca, err := readOptional(c.config.CAFile)
	if err != nil {
		return fmt.Errorf("read CA: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = strings.TrimSpace(string(token))
	if c.transport != nil && bytes.Equal(ca, c.ca) {
		return nil
	}
	options := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.config.InsecureSkipVerify} //nolint:gosec // explicit in the configuration
	if len(ca) > 0 {
		options.RootCAs = x509.NewCertPool()
		if !options.RootCAs.AppendCertsFromPEM(ca) {
			return fmt.Errorf("read CA: no certificate in %s", c.config.CAFile)
		}
	}
	if c.transport != nil {
		c.transport.CloseIdleConnections()
	}
	c.ca = ca
	c.transport = &http.Transport{
		TLSClientConfig:     options,
		DialContext:         (&net.Dialer{Timeout: c.config.Timeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: c.config.Timeout,
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     5 * time.Minute,
		DisableCompression:  true, // the way is short, and packing would cost the kubelet CPU
		DisableKeepAlives:   c.config.DisableKeepAlives,
		ForceAttemptHTTP2:   true,
	}
	return nil
}

func readOptional(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	return os.ReadFile(path)
}

// Paths of a kubelet.
const (
	cadvisorPath = "/metrics/cadvisor"
	summaryPath  = "/stats/summary"
)

// get hands one of a node's bodies to read, with the time that the node's clock
// showed when it answered (zero: the answer does not say). An error is a *NodeError.
func (c *client) get(ctx context.Context, target Target, path, accept string, read func(text io.Reader, date time.Time) error) error {
	address := url.URL{Scheme: "https", Host: net.JoinHostPort(target.Address, strconv.Itoa(target.Port)), Path: path}
	fault := &NodeError{Node: target.Node, URL: address.String()}
	c.mu.Lock()
	transport, token := c.transport, c.token
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fault.URL, nil)
	if err != nil {
		fault.Err = err
		return fault
	}
	request.Header.Set("Accept", accept)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		fault.Err = err
		return fault
	}
	defer response.Body.Close()
	fault.Status = response.StatusCode
	if response.StatusCode != http.StatusOK {
		fault.Err = fmt.Errorf("%w: %s", ErrStatus, response.Status)
		return fault
	}
	date, _ := http.ParseTime(response.Header.Get("Date")) // zero where it does not say
	limited := &io.LimitedReader{R: response.Body, N: maxBody}
	if err := read(limited, date); err != nil {
		fault.Err = err
		return fault
	}
	if limited.N == 0 {
		fault.Err = fmt.Errorf("read body: longer than %d bytes", maxBody)
		return fault
	}
	return nil
}
