package meters

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// maxAnswer bounds a device's answer in bytes.
const maxAnswer = 1 << 20

// clients are the HTTP clients by the text of the CA that they trust.
type clients struct {
	base *http.Client
	mu   *sync.Mutex
	byCA map[string]*http.Client
}

func newClients(base *http.Client) clients {
	return clients{base: base, mu: new(sync.Mutex), byCA: make(map[string]*http.Client)}
}

// of is the client for a meter. The CA file is read each time, so that a
// renewed one counts.
func (c clients) of(m fleet.Meter) (*http.Client, error) {
	if m.CAFile == "" {
		return c.base, nil
	}
	pem, err := os.ReadFile(m.CAFile)
	if err != nil {
		return nil, fmt.Errorf("CA of meter: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if client, ok := c.byCA[string(pem)]; ok {
		return client, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA of meter: %s holds no certificate", m.CAFile)
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if own, ok := c.base.Transport.(*http.Transport); ok {
		transport = own.Clone()
	}
	if transport.TLSClientConfig == nil {
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	transport.TLSClientConfig.RootCAs = pool
	client := &http.Client{Transport: transport, CheckRedirect: c.base.CheckRedirect, Timeout: c.base.Timeout}
	c.byCA[string(pem)] = client
	return client, nil
}

// authorize adds the meter's bearer token.
func authorize(request *http.Request, m fleet.Meter) error {
	if m.TokenFile == "" {
		return nil
	}
	token, err := os.ReadFile(m.TokenFile)
	if err != nil {
		return fmt.Errorf("token of meter: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	return nil
}

// fetch is the body of the answer at an address.
func fetch(ctx context.Context, client *http.Client, m fleet.Meter, address string) (body []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("read meter: %w", err)
	}
	request.Header.Set("Accept", "application/json")
	if err := authorize(request, m); err != nil {
		return nil, err
	}
	user, password, err := credentials(m)
	if err != nil {
		return nil, err
	}
	response, err := do(client, request, user, password)
	if err != nil {
		return nil, fmt.Errorf("read meter: %w", err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", address, err)
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("read %s: %s: %s", address, response.Status, strings.TrimSpace(string(body[:min(len(body), 200)])))
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("read %s: the answer is longer than %d bytes", address, maxAnswer)
	}
	return body, nil
}
