package identity

import (
	"context"
	"errors"
	"time"

	"github.com/accumulus-metering/accumulus/internal/usage"
)

// Errors of who calls. None says anything of the token.
var (
	ErrUnknown     = errors.New("the token is not known")
	ErrExpired     = errors.New("the token has expired")
	ErrRevoked     = errors.New("the token was revoked")
	ErrNoRole      = errors.New("the caller is known, and has no role here")
	ErrUnavailable = errors.New("who calls cannot be told now")
)

// How a caller is known.
const (
	ViaFile       = "file"       // a token file
	ViaToken      = "token"      // a named token
	ViaOIDC       = "oidc"       // an issuer of OpenID Connect
	ViaKubernetes = "kubernetes" // the API server
	ViaDemo       = "demo"       // this machine, without a token
	ViaDevice     = "device"     // the token of a heat source
)

// Principal is a caller.
type Principal struct {
	Name  string      `json:"name"`
	Role  Role        `json:"-"`
	Via   string      `json:"via"`
	Scope usage.Scope `json:"scope,omitzero"` // of a tenant
	// Expires is when he must show another token; the zero time is never.
	Expires time.Time `json:"expires,omitzero"`
}

// Anonymous is nobody.
var Anonymous = Principal{Role: Nobody}

// Shared says that the token which was shown is one that several may have: the name is
// of the token, and of nobody.
func (p Principal) Shared() bool { return p.Via == ViaFile || p.Via == ViaDemo }

// Key names the principal among all, for what is counted by caller.
func (p Principal) Key() string { return p.Via + "/" + p.Name }

type principalKey struct{}

// With is the context of a principal's request.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// Of is whose request it is, Anonymous where nobody was told.
func Of(ctx context.Context) Principal {
	if p, ok := ctx.Value(principalKey{}).(Principal); ok {
		return p
	}
	return Anonymous
}
