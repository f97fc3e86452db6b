package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/review"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	authentication "k8s.io/api/authentication/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// cluster is an API server that knows the callers of its tokens.
type cluster struct {
	users map[string]authentication.UserInfo
	fails error
	asked int
}

func (c *cluster) Create(_ context.Context, r *authentication.TokenReview, _ meta.CreateOptions) (*authentication.TokenReview, error) {
	c.asked++
	if c.fails != nil {
		return nil, c.fails
	}
	user, known := c.users[r.Spec.Token]
	r.Status = authentication.TokenReviewStatus{Authenticated: known, User: user, Audiences: r.Spec.Audiences}
	return r, nil
}

func TestAccounts(t *testing.T) {
	const prometheusAccount = "system:serviceaccount:monitoring:prometheus"
	c := &cluster{users: map[string]authentication.UserInfo{
		"a.b.prometheus": {Username: prometheusAccount, Groups: []string{"system:serviceaccounts"}},
		"a.b.grafana":    {Username: "system:serviceaccount:acme:grafana", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:acme"}},
		"a.b.other":      {Username: "system:serviceaccount:other:x", Groups: []string{"system:serviceaccounts"}},
	}}
	reviewer, err := review.New(review.Config{Audiences: []string{"accumulus"}}, c, nil, clock.NewManual(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	scope := usage.Scope{Customers: []string{"acme"}}
	config := identity.Kubernetes{Roles: []identity.Account{{User: prometheusAccount, Given: identity.Given{Role: "viewer"}},
		{Group: "system:serviceaccounts:acme", Given: identity.Given{Role: "tenant", Scope: scope}}}}
	if err := (identity.Config{Kubernetes: &config}).Validate(); err != nil {
		t.Fatal(err)
	}
	accounts := New(config, reviewer)
	for token, test := range map[string]struct {
		want identity.Principal
		err  error
	}{
		"a.b.prometheus": {identity.Principal{Name: prometheusAccount, Role: identity.Viewer, Via: "kubernetes"}, nil},
		"a.b.grafana":    {identity.Principal{Name: "system:serviceaccount:acme:grafana", Role: identity.Tenant, Via: "kubernetes", Scope: scope}, nil},
		"a.b.other":      {identity.Anonymous, identity.ErrNoRole},
		"a.b.nobody":     {identity.Anonymous, identity.ErrUnknown},
	} {
		got, err := accounts.Who(t.Context(), token)
		if diff := cmp.Diff(test.want, got); diff != "" || !errors.Is(err, test.err) {
			t.Errorf("%s: %v\n%s", token, err, diff)
		}
	}
	asked := c.asked
	if _, err := accounts.Who(t.Context(), "a.b.prometheus"); err != nil || c.asked != asked {
		t.Errorf("asked again at once: %v", err)
	}
	c.fails = fmt.Errorf("connection refused")
	if _, err := accounts.Who(t.Context(), "a.b.new"); !errors.Is(err, identity.ErrUnavailable) {
		t.Errorf("a cluster that does not answer: %v", err)
	}
	if accounts.Knows("acc_x_y") || !accounts.Knows("a.b.c") {
		t.Error("other tokens are asked for")
	}
}
