package followers

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"sync"
)

// connections are those to one follower. When a file of certificates changes,
// new ones take the place of the old, which end when nobody uses them.
type connections struct {
	ca, certificate, key string // files

	mu        sync.Mutex
	read      [3]string // the files' content when transport was made
	transport *http.Transport
}

// check says what is wrong with the files.
func (c *connections) check() error {
	_, err := c.current()
	return err
}

// RoundTrip sends the request with the certificates as they are now.
func (c *connections) RoundTrip(request *http.Request) (*http.Response, error) {
	transport, err := c.current()
	if err != nil {
		if request.Body != nil {
			_ = request.Body.Close()
		}
		return nil, err
	}
	return transport.RoundTrip(request)
}

// CloseIdleConnections closes those that nobody uses.
func (c *connections) CloseIdleConnections() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.transport != nil {
		c.transport.CloseIdleConnections()
	}
}

// current is the transport for the files as they are now. Errors: *FileError.
func (c *connections) current() (*http.Transport, error) {
	transport, err := c.fromFiles()
	if err != nil {
		return nil, &FileError{err}
	}
	return transport, nil
}

func (c *connections) fromFiles() (*http.Transport, error) {
	var read [3]string
	for i, file := range []struct{ field, path string }{{"caFile", c.ca}, {"clientCertFile", c.certificate}, {"clientKeyFile", c.key}} {
		if file.path == "" {
			continue
		}
		text, err := readFile(file.path)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file.field, err)
		}
		read[i] = string(text)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.transport != nil && c.read == read {
		return c.transport, nil
	}
	made, err := c.make(read)
	if err != nil {
		return nil, err
	}
	if c.transport != nil {
		c.transport.CloseIdleConnections()
	}
	c.transport, c.read = made, read
	return made, nil
}

func (c *connections) make(read [3]string) (*http.Transport, error) {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 8
	base.DisableCompression = true // the store's requests say themselves whether they want it
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.ca != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(read[0])) {
			return nil, fmt.Errorf("caFile %s holds no PEM certificate", c.ca)
		}
	}
	if (c.certificate == "") != (c.key == "") {
		return nil, errors.New("clientCertFile and clientKeyFile: give both or none")
	}
	if c.certificate != "" {
		pair, err := tls.X509KeyPair([]byte(read[1]), []byte(read[2]))
		if err != nil { // its text names no content
			return nil, fmt.Errorf("clientCertFile %s with clientKeyFile %s: %w", c.certificate, c.key, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	base.TLSClientConfig = config
	return base, nil
}
