package review

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	authentication "k8s.io/api/authentication/v1"
	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
)

// plane is a real control plane with its admin's client.
type plane struct {
	*testing.T
	*kubetest.Plane
	admin *kubernetes.Clientset
}

// must ends the test on an error of a create.
func must[O any](p *plane) func(O, error) O {
	return func(made O, err error) O {
		p.Helper()
		if err != nil {
			p.Fatal(err)
		}
		return made
	}
}

// account makes a service account in the namespace a and returns a token of it.
func (p *plane) account(name string, audiences ...string) (string, time.Time) {
	p.Helper()
	accounts := p.admin.CoreV1().ServiceAccounts("a")
	if _, err := accounts.Get(p.Context(), name, meta.GetOptions{}); err != nil {
		must[*core.ServiceAccount](p)(accounts.Create(p.Context(), &core.ServiceAccount{ObjectMeta: meta.ObjectMeta{Name: name}}, meta.CreateOptions{}))
	}
	granted := must[*authentication.TokenRequest](p)(accounts.CreateToken(p.Context(), name,
		&authentication.TokenRequest{Spec: authentication.TokenRequestSpec{Audiences: audiences}}, meta.CreateOptions{}))
	return granted.Status.Token, granted.Status.ExpirationTimestamp.Time
}

// allow gives a service account rules in a namespace, or with "" in all.
func (p *plane) allow(name, namespace string, rules ...rbac.PolicyRule) {
	p.Helper()
	subjects := []rbac.Subject{{Kind: "ServiceAccount", Namespace: "a", Name: name}}
	object, roles := meta.ObjectMeta{Name: "test-" + name + namespace}, p.admin.RbacV1()
	if namespace == "" {
		must[*rbac.ClusterRole](p)(roles.ClusterRoles().Create(p.Context(), &rbac.ClusterRole{ObjectMeta: object, Rules: rules}, meta.CreateOptions{}))
		must[*rbac.ClusterRoleBinding](p)(roles.ClusterRoleBindings().Create(p.Context(), &rbac.ClusterRoleBinding{ObjectMeta: object, Subjects: subjects,
			RoleRef: rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "ClusterRole", Name: object.Name}}, meta.CreateOptions{}))
		return
	}
	must[*rbac.Role](p)(roles.Roles(namespace).Create(p.Context(), &rbac.Role{ObjectMeta: object, Rules: rules}, meta.CreateOptions{}))
	must[*rbac.RoleBinding](p)(roles.RoleBindings(namespace).Create(p.Context(), &rbac.RoleBinding{ObjectMeta: object, Subjects: subjects,
		RoleRef: rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "Role", Name: object.Name}}, meta.CreateOptions{}))
}

// reviewer asks with a service account's token, as a follower does.
func (p *plane) reviewer(token string, config Config, clk clock.Clock) *Reviewer {
	p.Helper()
	access := rest.AnonymousClientConfig(p.Config)
	access.BearerToken = token
	client := kubernetes.NewForConfigOrDie(access)
	r, err := New(config, client.AuthenticationV1().TokenReviews(), client.AuthorizationV1().SubjectAccessReviews(), clk, prometheus.NewRegistry())
	if err != nil {
		p.Fatal(err)
	}
	return r
}

// TestOnARealAPIServer: the answers of Kubernetes are what this package takes
// them for.
func TestOnARealAPIServer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	p := &plane{T: t, Plane: kubetest.ControlPlane(t)}
	p.admin = kubernetes.NewForConfigOrDie(p.Config)
	for _, name := range []string{"a", "b", "c"} {
		must[*core.Namespace](p)(p.admin.CoreV1().Namespaces().Create(t.Context(), &core.Namespace{ObjectMeta: meta.ObjectMeta{Name: name}}, meta.CreateOptions{}))
	}
	get := rbac.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}}
	follower, _ := p.account("follower")
	p.allow("follower", "", rbac.PolicyRule{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"}},
		rbac.PolicyRule{APIGroups: []string{"authorization.k8s.io"}, Resources: []string{"subjectaccessreviews"}, Verbs: []string{"create"}})
	p.allow("ann", "a", get)
	p.allow("ann", "b", get)
	p.allow("root", "", get)
	ann, ends := p.account("ann")
	root, _ := p.account("root")
	nobody, _ := p.account("nobody")
	elsewhere, _ := p.account("ann", "accumulus")

	clk := clock.NewManual(time.Now())
	r := p.reviewer(follower, Config{}, clk)
	for token, want := range map[string][]string{ann: {"a", "b"}, root: {"a", "b", "c", "nowhere"}, nobody: nil} {
		who, err := r.Who(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		seen, err := r.Visible(t.Context(), who, []string{"a", "b", "c", "nowhere"})
		if err != nil || !cmp.Equal(seen, want) {
			t.Errorf("%s sees %v, %v; want %v", who.Name, seen, err, want)
		}
		if all, err := r.MaySee(t.Context(), who, ""); err != nil || all != (token == root) {
			t.Errorf("%s sees all: %t, %v", who.Name, all, err)
		}
	}
	if who, _ := r.Who(t.Context(), ann); who.Name != "system:serviceaccount:a:ann" || !who.until.Equal(ends.UTC()) {
		t.Errorf("ann is %q until %s, want %s", who.Name, who.until, ends)
	}
	for name, token := range map[string]string{"garbage": "garbage", "cut": ann[:len(ann)-3], "of another audience": elsewhere} {
		if _, err := r.Who(t.Context(), token); !errors.Is(err, ErrUnknown) {
			t.Errorf("a token that is %s: %v", name, err)
		}
	}
	narrow := p.reviewer(follower, Config{Audiences: []string{"accumulus"}}, clk)
	if _, err := narrow.Who(t.Context(), elsewhere); err != nil {
		t.Errorf("a token of the audience: %v", err)
	}
	if _, err := narrow.Who(t.Context(), ann); !errors.Is(err, ErrUnknown) {
		t.Errorf("the API server's token where another audience is wanted: %v", err)
	}
	if _, err := p.reviewer(nobody, Config{}, clk).Who(t.Context(), ann); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a follower that may not review: %v", err)
	}

	// Of a token that it has seen the API server itself forgets the good answer
	// only after ten seconds: this one it sees when the account is gone.
	gone, _ := p.account("gone")
	if err := p.admin.CoreV1().ServiceAccounts("a").Delete(t.Context(), "gone", meta.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Who(t.Context(), gone); !errors.Is(err, ErrUnknown) {
		t.Errorf("the token of an account that was deleted: %v", err)
	}
	clk.Advance(time.Minute)
	if _, err := r.Who(t.Context(), root); err != nil {
		t.Error(err)
	}
	p.Stop()
	if _, err := r.Who(t.Context(), root); err != nil {
		t.Errorf("without the API server, who is remembered: %v", err)
	}
	if _, err := r.Who(t.Context(), nobody); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without the API server, who is not: %v", err)
	}
}
