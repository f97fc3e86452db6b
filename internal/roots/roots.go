// Package roots reads the authorities that somebody names in a file, and makes HTTP
// clients that trust them. It keeps nothing: a renewed file counts at the next call.
package roots

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
)

// Read is the certificates of a PEM file. Errors: that of reading it, and that there
// is none in it.
func Read(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return pool, nil
}

// Client is base but for trusting the file's authorities alone; base itself where no
// file is named. It keeps no connections, since nobody would close them. Errors:
// those of Read.
func Client(base *http.Client, path string) (*http.Client, error) {
	if path == "" {
		return base, nil
	}
	pool, err := Read(path)
	if err != nil {
		return nil, err
	}
	own := *base
	own.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	return &own, nil
}
