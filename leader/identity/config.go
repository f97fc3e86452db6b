package identity

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"sigs.k8s.io/yaml"
)

// Config says who is known beside the token files and the named tokens, and how
// much each may take: the access file.
type Config struct {
	Limits     Limits      `json:"limits,omitzero"`
	Proxies    []string    `json:"proxies,omitempty"` // networks whose X-Forwarded-For is believed; none is nobody
	OIDC       []OIDC      `json:"oidc,omitempty"`
	Kubernetes *Kubernetes `json:"kubernetes,omitempty"` // the leader's own cluster; none is not asked
}

// OIDC is an issuer of OpenID Connect. A token of it must be signed by one of its
// keys, be for the audience, and not have ended.
type OIDC struct {
	Issuer   string         `json:"issuer"` // its URL, as it stands in tokens
	Audience string         `json:"audience"`
	Name     string         `json:"name,omitempty"`   // claim that names the caller; "" = sub
	CAFile   string         `json:"caFile,omitempty"` // PEM; "" = the system's roots
	Skew     fleet.Duration `json:"skew,omitempty"`   // how far its clock may be from the leader's; 0 = 1m
	Roles    []Claimed      `json:"roles"`
}

// Given is a role with, of a tenant, its scope.
type Given struct {
	Role  string      `json:"role"`
	Scope usage.Scope `json:"scope,omitzero"`
}

// Claimed gives a role to whose token has a claim with a value. The first that fits
// decides.
type Claimed struct {
	Claim string `json:"claim"`           // such as groups, or realm_access.roles
	Value string `json:"value,omitempty"` // one of the claim's; "" = any
	Given
	// CustomersFrom is the claim that names the customers of a tenant; the rest of
	// his scope stands in Scope.
	CustomersFrom string `json:"customersFrom,omitempty"`
}

// Kubernetes is the leader's own cluster: its API server says whose a token is
// (TokenReview).
type Kubernetes struct {
	Audiences []string  `json:"audiences,omitempty"` // one of which a token must be for; none: the API server's own
	Roles     []Account `json:"roles"`
}

// Account gives a role to a user or a group as the cluster names them. The first
// that fits decides.
type Account struct {
	User  string `json:"user,omitempty"` // such as system:serviceaccount:monitoring:prometheus
	Group string `json:"group,omitempty"`
	Given
}

// ReadConfig reads an access file; "" is none.
func ReadConfig(path string) (Config, error) {
	var c Config
	if path == "" {
		return c, nil
	}
	text, err := os.ReadFile(path)
	if err == nil {
		err = yaml.UnmarshalStrict(text, &c)
	}
	if err == nil {
		err = c.Validate()
	}
	if err != nil {
		return Config{}, fmt.Errorf("access file %s: %w", path, err)
	}
	return c, nil
}

// maxSkew bounds how far two clocks may be apart.
const maxSkew = 5 * time.Minute

// Validate lists all that is wrong.
func (c Config) Validate() error {
	var wrong []error
	seen := make(map[string]bool)
	for i, o := range c.OIDC {
		at := func(err error) { wrong = append(wrong, fmt.Errorf("oidc %d: %w", i+1, err)) }
		u, err := url.Parse(o.Issuer)
		switch {
		case err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && isLocal(u.Hostname())):
			at(fmt.Errorf("issuer %q: give its URL with https://", o.Issuer))
		case seen[o.Issuer]:
			at(fmt.Errorf("issuer %s stands there twice", o.Issuer))
		}
		seen[o.Issuer] = true
		if o.Audience == "" {
			at(errors.New("audience: name it, or tokens for other programs would be good here too"))
		}
		if skew := time.Duration(o.Skew); skew < 0 || skew > maxSkew {
			at(fmt.Errorf("skew %s: use at most %s", skew, maxSkew))
		}
		if len(o.Roles) == 0 {
			at(errors.New("roles: without one nobody gets in"))
		}
		for j, r := range o.Roles {
			if err := r.validate(); err != nil {
				at(fmt.Errorf("role %d: %w", j+1, err))
			}
		}
	}
	if c.Kubernetes != nil {
		wrong = append(wrong, c.Kubernetes.validate()...)
	}
	if _, err := ParseProxies(c.Proxies); err != nil {
		wrong = append(wrong, err)
	}
	return errors.Join(wrong...)
}

func isLocal(host string) bool { return host == "127.0.0.1" || host == "::1" || host == "localhost" }

func (k Kubernetes) validate() (wrong []error) {
	if len(k.Roles) == 0 {
		wrong = append(wrong, errors.New("kubernetes: roles: without one nobody gets in"))
	}
	for i, a := range k.Roles {
		err := a.Given.validate(false)
		if (a.User == "") == (a.Group == "") {
			err = errors.Join(err, errors.New("name a user or a group"))
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("kubernetes: role %d: %w", i+1, err))
		}
	}
	return wrong
}

func (c Claimed) validate() error {
	err := c.Given.validate(c.CustomersFrom != "")
	if c.Claim == "" {
		err = errors.Join(err, errors.New("claim: name it"))
	}
	if c.CustomersFrom != "" && (c.Role != "tenant" || len(c.Scope.Customers) > 0) {
		err = errors.Join(err, errors.New("customersFrom is of a tenant, without customers in his scope"))
	}
	return err
}

// validate checks a role; named says that its customers come from a claim.
func (g Given) validate(named bool) error {
	role, err := ParseRole(g.Role)
	switch {
	case err != nil:
		return err
	case role != Tenant && !g.Scope.Empty():
		return fmt.Errorf("a scope is a tenant's: the role %s has none", g.Role)
	case role != Tenant:
		return nil
	}
	scope := g.Scope
	if named {
		scope.Customers = []string{"x"} // will be there
	}
	return hinted(scope.Validate())
}

// hinted is an error of a question with its hint in its text.
func hinted(err error) error {
	var input *usage.InputError
	if errors.As(err, &input) {
		return fmt.Errorf("%w: %s", err, input.Hint)
	}
	return err
}

// Fits says what a token's claims give by this rule.
func (c Claimed) Fits(claims map[string]any) (Given, bool) {
	values := Values(claims, c.Claim)
	if len(values) == 0 || c.Value != "" && !slices.Contains(values, c.Value) {
		return Given{}, false
	}
	given := c.Given
	if c.CustomersFrom != "" {
		given.Scope.Customers = Values(claims, c.CustomersFrom)
		if len(given.Scope.Customers) == 0 || given.Scope.Validate() != nil {
			return Given{}, false
		}
	}
	return given, true
}

// Values are a claim's values as text: the claim of that name or, where there is
// none, what the parts between dots lead to.
func Values(claims map[string]any, name string) []string {
	value, ok := claims[name]
	for rest := claims; !ok; {
		head, tail, more := strings.Cut(name, ".")
		if !more {
			value = rest[head]
			break
		}
		inner, is := rest[head].(map[string]any)
		if !is {
			return nil
		}
		rest, name = inner, tail
	}
	var all []string
	add := func(v any) {
		switch v := v.(type) {
		case string:
			if v != "" {
				all = append(all, v)
			}
		case bool:
			all = append(all, fmt.Sprint(v))
		}
	}
	if list, is := value.([]any); is {
		for _, v := range list {
			add(v)
		}
		return all
	}
	add(value)
	return all
}
