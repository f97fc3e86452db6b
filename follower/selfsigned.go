package follower

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

// How long a certificate that is made in memory holds.
const (
	selfSignedYears = 10
	// selfSignedRest is what is left of a certificate when the next one is made.
	selfSignedRest = 365 * 24 * time.Hour
	// selfSignedBefore is from when on it holds: who reads it may have a clock
	// that is behind.
	selfSignedBefore = 24 * time.Hour
)

// selfSigned gives a certificate whose key never leaves the memory. Nobody
// vouches for it: it encrypts, and says nothing of who answers. The proxy of an
// API server, for which it is made, verifies none.
type selfSigned struct {
	names []string
	clock clock.Clock
	log   *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
}

// newSelfSigned makes the first certificate, for loopback and the names: DNS
// names and IP addresses.
func newSelfSigned(names []string, clk clock.Clock, log *slog.Logger) (*selfSigned, error) {
	s := &selfSigned{names: append([]string{"localhost", "127.0.0.1", "::1"}, names...), clock: clk, log: log}
	_, err := s.certificate(nil)
	return s, err
}

// certificate is the one that holds now. It is made anew when a year is left of
// it, and when the clock was set back to before it.
func (s *selfSigned) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	if c := s.current; c != nil && now.After(c.Leaf.NotBefore) && now.Before(c.Leaf.NotAfter.Add(-selfSignedRest)) {
		return c, nil
	}
	made, err := selfSign(s.names, now)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	s.current = made
	sum := sha256.Sum256(made.Leaf.Raw)
	s.log.Info("certificate made", "sha256", hex.EncodeToString(sum[:]), "until", made.Leaf.NotAfter)
	return made, nil
}

// selfSign makes an ECDSA P-256 key and a certificate of it.
func selfSign(names []string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "accumulus-follower"},
		NotBefore: now.Add(-selfSignedBefore), NotAfter: now.AddDate(selfSignedYears, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
