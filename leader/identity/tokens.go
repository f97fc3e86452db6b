package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// tokenMark is what each named token begins with: it tells them from others, and
// lets scanners of secrets find one that was published.
const tokenMark = "acc_"

// Store keeps named tokens: *registry.Registry.
type Store interface {
	AddToken(ctx context.Context, t registry.Token, hash []byte) error
	TokenOf(ctx context.Context, prefix string) (registry.Token, []byte, error)
	UseToken(ctx context.Context, prefix string, at time.Time) error
}

// Tokens are the named tokens. It is safe for concurrent use.
type Tokens struct {
	store Store
	clock clock.Clock
	log   *slog.Logger

	mu   sync.Mutex
	used map[string]time.Time // when use was last noted, by prefix
}

// NewTokens makes the named tokens over a store.
func NewTokens(store Store, clk clock.Clock, log *slog.Logger) *Tokens {
	return &Tokens{store: store, clock: clk, log: log, used: make(map[string]time.Time)}
}

// Wish is a token that is to be made.
type Wish struct {
	Name    string        `json:"name"`
	Role    string        `json:"role"` // viewer, tenant, billing, operator or meters
	Scope   usage.Scope   `json:"scope,omitzero"`
	Expires time.Duration `json:"-"` // from now; 0 is never
}

// longestLife bounds how far ahead a token may end.
const longestLife = 10 * 366 * 24 * time.Hour

// validate says what is wrong with a wish, as an *usage.InputError.
func (w Wish) validate() error {
	role, err := ParseRole(w.Role)
	switch {
	case w.Name == "" || len(w.Name) > 100 || !usage.IsText(w.Name) || strings.ContainsAny(w.Name, "/ "):
		return usage.Wrong("name", w.Name, "name the token by one word without / of at most 100 bytes, such as grafana")
	case err != nil:
		return usage.Wrong("role", w.Role, "use one of viewer, tenant, billing, operator, meters")
	case role == Tenant:
		if err := w.Scope.Validate(); err != nil {
			return err
		}
	case !w.Scope.Empty():
		return usage.Wrong("scope", w.Scope.String(), "a scope is a tenant's: the role "+w.Role+" has none")
	}
	if w.Expires < 0 || w.Expires > longestLife {
		return usage.Wrong("expires", w.Expires.String(), "use a time such as 90d, of ten years at most")
	}
	return nil
}

// Create makes a token. The secret is nowhere but in the answer. Errors:
// *usage.InputError, registry.ErrTaken.
func (t *Tokens) Create(ctx context.Context, wish Wish, by string) (secret string, made registry.Token, err error) {
	if err := wish.validate(); err != nil {
		return "", registry.Token{}, err
	}
	var bits [39]byte
	if _, err := rand.Read(bits[:]); err != nil {
		return "", registry.Token{}, fmt.Errorf("make token: %w", err)
	}
	prefix := tokenMark + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(bits[:7]))
	secret = prefix + "_" + base64.RawURLEncoding.EncodeToString(bits[7:])
	made = registry.Token{Name: wish.Name, Prefix: prefix, Role: wish.Role, Scope: wish.Scope, Created: t.clock.Now().UTC(), CreatedBy: by}
	if wish.Expires > 0 {
		made.Expires = made.Created.Add(wish.Expires)
	}
	hash := sha256.Sum256([]byte(secret))
	if err := t.store.AddToken(ctx, made, hash[:]); err != nil {
		return "", registry.Token{}, err
	}
	return secret, made, nil
}

// prefixOf is what a named token is found by, and whether it looks like one.
func prefixOf(token string) (string, bool) {
	rest, ok := strings.CutPrefix(token, tokenMark)
	id, secret, cut := strings.Cut(rest, "_")
	return tokenMark + id, ok && cut && len(id) == 12 && len(secret) == 43
}

// IsNamed says whether a token looks like a named one.
func IsNamed(token string) bool {
	_, ok := prefixOf(token)
	return ok
}

// Knows says whether a token is of this kind, without looking it up.
func (t *Tokens) Knows(token string) bool { return IsNamed(token) }

// Who is the caller with a named token. Errors: ErrUnknown, ErrExpired,
// ErrRevoked, ErrUnavailable.
func (t *Tokens) Who(ctx context.Context, token string) (Principal, error) {
	prefix, ok := prefixOf(token)
	if !ok {
		return Anonymous, ErrUnknown
	}
	known, hash, err := t.store.TokenOf(ctx, prefix)
	given := sha256.Sum256([]byte(token))
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return Anonymous, ErrUnknown
	case err != nil:
		return Anonymous, fmt.Errorf("%w: %w", ErrUnavailable, err)
	case subtle.ConstantTimeCompare(given[:], hash) != 1:
		return Anonymous, ErrUnknown
	case !known.Revoked.IsZero():
		return Anonymous, ErrRevoked
	}
	now := t.clock.Now()
	if !known.Expires.IsZero() && !now.Before(known.Expires) {
		return Anonymous, ErrExpired
	}
	role, err := ParseRole(known.Role)
	if err != nil {
		return Anonymous, ErrUnknown
	}
	t.note(ctx, prefix, now)
	return Principal{Name: known.Name, Role: role, Via: ViaToken, Scope: known.Scope, Expires: known.Expires}, nil
}

// note remembers the use of a token, once a minute.
func (t *Tokens) note(ctx context.Context, prefix string, now time.Time) {
	minute := now.Truncate(time.Minute)
	t.mu.Lock()
	fresh := !t.used[prefix].Equal(minute)
	t.used[prefix] = minute
	t.mu.Unlock()
	if !fresh {
		return
	}
	if err := t.store.UseToken(ctx, prefix, minute); err != nil {
		t.log.Warn("the use of a token is not noted", "token", prefix, "err", err)
	}
}
