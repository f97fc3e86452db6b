package follower

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"time"

	"github.com/accumulus-metering/accumulus/internal/reread"
)

// validateListen holds the port to loopback, unless TLS or an explicit word
// says otherwise: tokens would cross the network in the clear.
func (c Config) validateListen() []error {
	var errs []error
	if (c.TLSCert == "") != (c.TLSKey == "") {
		errs = append(errs, errors.New("tls-cert and tls-key: give both or none"))
	}
	if c.TLSSelfSigned && (c.TLSCert != "" || c.TLSKey != "") {
		errs = append(errs, errors.New("tls-self-signed: not with tls-cert and tls-key; give one of them"))
	}
	if len(c.TLSNames) > 0 && !c.TLSSelfSigned {
		errs = append(errs, errors.New("tls-names: these are of the certificate that tls-self-signed makes"))
	}
	for _, name := range c.TLSNames {
		if net.ParseIP(name) == nil && !dnsName.MatchString(name) {
			errs = append(errs, fmt.Errorf("tls-names: %q is neither a DNS name nor an IP address", name))
		}
	}
	if c.Listen == "" {
		return errs
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return append(errs, fmt.Errorf("listen: %w", err))
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return errs
	}
	if !c.encrypted() && !c.Insecure {
		errs = append(errs, fmt.Errorf("listen: %s is not a loopback address: give tls-cert and tls-key, or tls-self-signed, or insecure-listen to send tokens and data in the clear", c.Listen))
	}
	return errs
}

// dnsName is a host's name, or one with a wildcard in front.
var dnsName = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`)

// encrypted is a port that speaks TLS.
func (c Config) encrypted() bool { return c.TLSCert != "" || c.TLSSelfSigned }

// How long a client may take.
const (
	headerTimeout   = 10 * time.Second
	idleTimeout     = 2 * time.Minute // between two requests of a connection
	shutdownTimeout = 5 * time.Second
)

// listen opens the port, so that an address in use is an error before anything
// else runs.
func (f *Follower) listen() (net.Listener, error) {
	if f.config.Listen == "" {
		return nil, nil
	}
	listener, err := net.Listen("tcp", f.config.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if !f.config.encrypted() {
		return listener, nil
	}
	config, err := f.tlsConfig()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen: %w", err), listener.Close())
	}
	return tls.NewListener(listener, config), nil
}

// tlsConfig has the certificate of the files as they are at a handshake, or one that is made here.
func (f *Follower) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.config.TLSSelfSigned {
		made, err := newSelfSigned(f.config.TLSNames, f.clock, f.log)
		if err != nil {
			return nil, err
		}
		config.GetCertificate = made.certificate
		return config, nil
	}
	pair, err := reread.OpenKeyPair(f.config.TLSCert, f.config.TLSKey, f.log)
	if err != nil {
		return nil, err
	}
	config.GetCertificate = pair.Certificate
	return config, nil
}

// serve answers on the listener until ctx ends.
func (f *Follower) serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{Handler: f.Handler(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		BaseContext: func(net.Listener) context.Context { return ctx }}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := server.Shutdown(stop)
	if err != nil {
		err = server.Close()
	}
	<-done
	return err
}
