// Package issuer knows callers by tokens of an issuer of OpenID Connect: signed by
// one of its keys, for the leader's audience, not ended. The keys are read when a
// token names one that is not known, so that an issuer may change them at any time.
//
// It guarantees that an issuer that does not answer is identity.ErrUnavailable and
// not a token that is not known; callers whose key is known go on meanwhile. A token
// is never kept, logged or put into an error.
package issuer

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/roots"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/coreos/go-oidc/v3/oidc"
)

const (
	// again is how soon an issuer that did not answer is asked again.
	again = 5 * time.Second
	// timeout is how long one answer of it may take.
	timeout = 10 * time.Second
	// longestToken is far above what a header may carry beside others.
	longestToken = 32 << 10
)

// asymmetric are the algorithms that a token may be signed by: none with a secret
// that the leader would have to share.
var asymmetric = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA}

// Issuer is one issuer. It is safe for concurrent use.
type Issuer struct {
	config identity.OIDC
	host   string
	clock  clock.Clock
	client *http.Client

	mu         sync.Mutex
	keys       oidc.KeySet // nil before it was found
	algorithms []string
	failed     time.Time // when it last did not answer
	failure    error
}

// New makes an issuer; it is asked at the first token. Errors: a CA that cannot be
// read.
func New(config identity.OIDC, clk clock.Clock) (*Issuer, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if config.CAFile != "" {
		pool, err := roots.Read(config.CAFile)
		if err != nil {
			return nil, fmt.Errorf("CA of issuer %s: %w", config.Issuer, err)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	u, err := url.Parse(config.Issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	return &Issuer{config: config, host: u.Host, clock: clk, client: &http.Client{Transport: transport, Timeout: timeout}}, nil
}

// Knows says whether a token says that it is of this issuer.
func (i *Issuer) Knows(token string) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(token) > longestToken {
		return false
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Issuer string `json:"iss"`
	}
	return err == nil && json.Unmarshal(text, &claims) == nil && claims.Issuer == i.config.Issuer
}

// Who is the caller. Errors: identity.ErrUnknown, ErrExpired, ErrNoRole,
// ErrUnavailable.
func (i *Issuer) Who(ctx context.Context, token string) (identity.Principal, error) {
	keys, algorithms, err := i.found(ctx)
	if err != nil {
		return identity.Anonymous, fmt.Errorf("%w: issuer %s: %w", identity.ErrUnavailable, i.config.Issuer, err)
	}
	skew := cmp.Or(time.Duration(i.config.Skew), time.Minute)
	watched := &watchedKeys{KeySet: keys}
	verifier := oidc.NewVerifier(i.config.Issuer, watched, &oidc.Config{ClientID: i.config.Audience, SupportedSigningAlgs: algorithms,
		Now: func() time.Time { return i.clock.Now().Add(-skew) }})
	verified, err := verifier.Verify(ctx, token)
	var expired *oidc.TokenExpiredError
	switch {
	case watched.failed != nil:
		return identity.Anonymous, fmt.Errorf("%w: keys of issuer %s: %w", identity.ErrUnavailable, i.config.Issuer, watched.failed)
	case errors.As(err, &expired):
		return identity.Anonymous, identity.ErrExpired
	case err != nil: // its text may have a part of the token
		return identity.Anonymous, identity.ErrUnknown
	}
	claims := make(map[string]any)
	if err := verified.Claims(&claims); err != nil {
		return identity.Anonymous, identity.ErrUnknown
	}
	return i.principal(verified, claims)
}

// principal is who the claims are of.
func (i *Issuer) principal(verified *oidc.IDToken, claims map[string]any) (identity.Principal, error) {
	name := verified.Subject
	if i.config.Name != "" {
		name = strings.Join(identity.Values(claims, i.config.Name), ",")
	}
	if name == "" {
		return identity.Anonymous, fmt.Errorf("%w: the token has no claim %s that names him", identity.ErrNoRole, cmp.Or(i.config.Name, "sub"))
	}
	for _, rule := range i.config.Roles {
		given, fits := rule.Fits(claims)
		if !fits {
			continue
		}
		role, err := identity.ParseRole(given.Role)
		if err != nil {
			return identity.Anonymous, fmt.Errorf("%w: %w", identity.ErrNoRole, err)
		}
		return identity.Principal{Name: name, Role: role, Via: identity.ViaOIDC + ":" + i.host, Scope: given.Scope, Expires: verified.Expiry.UTC()}, nil
	}
	return identity.Anonymous, identity.ErrNoRole
}

// found is what the issuer says of itself. It is asked until it has answered once,
// not more often than every few seconds, and not by the caller's patience.
func (i *Issuer) found(ctx context.Context) (oidc.KeySet, []string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.keys != nil {
		return i.keys, i.algorithms, nil
	}
	if i.failure != nil && i.clock.Now().Sub(i.failed) < again {
		return nil, nil, i.failure
	}
	asking := oidc.ClientContext(context.WithoutCancel(ctx), i.client)
	provider, err := oidc.NewProvider(asking, i.config.Issuer)
	var says struct {
		Keys       string   `json:"jwks_uri"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
	}
	if err == nil {
		err = provider.Claims(&says)
	}
	if err == nil && says.Keys == "" {
		err = errors.New("it names no jwks_uri")
	}
	if err != nil {
		i.failed, i.failure = i.clock.Now(), err
		return nil, nil, err
	}
	i.algorithms = slices.DeleteFunc(says.Algorithms, func(name string) bool { return !slices.Contains(asymmetric, name) })
	if len(i.algorithms) == 0 {
		i.algorithms = []string{oidc.RS256}
	}
	i.keys = oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), i.client), says.Keys) // it outlives the request
	return i.keys, i.algorithms, nil
}

// watchedKeys tells keys that could not be read from a signature that is wrong.
type watchedKeys struct {
	oidc.KeySet
	failed error
}

// VerifySignature checks a signature.
func (w *watchedKeys) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := w.KeySet.VerifySignature(ctx, token)
	if err != nil && strings.HasPrefix(err.Error(), "fetching keys") { // go-oidc has no type for it; a test holds it to this text
		w.failed = err
	}
	return payload, err
}
