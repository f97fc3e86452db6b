package kube

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// TestTroubles: one leader, one cluster that is well and many that are not.
func TestTroubles(t *testing.T) {
	t.Parallel()
	lab := kubetest.Inside(t)
	beta := lab.Cluster(t, "beta")
	s := newSpace(t, beta)
	c := newCentre(t)
	t.Cleanup(func() { sweep(t, s.Clientset) })
	for _, step := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"states", func(t *testing.T) { states(t, c, lab.Cluster(t, "alpha"), beta) }},
		{"leader killed", func(t *testing.T) { leaderKilled(t, c, beta) }},
		{"gitops", func(t *testing.T) { gitOps(t, c, beta, s) }},
	} {
		if !t.Run(step.name, func(t *testing.T) { c.t = t; step.do(t) }) {
			break // it may have left a follower
		}
	}
	c.t = t
}

// bad is a cluster with something wrong, and what the leader is to say of it.
type bad struct {
	config *rest.Config
	space  string         // where its follower is to stand
	values map[string]any // of its follower
	state  string
	class  string
	says   string // the message
	hint   string
}

// states: each trouble is told as a state with its reason and what to do, soon,
// and the cluster that is well is installed meanwhile.
func states(t *testing.T, c *centre, alpha, beta *kubetest.Standing) {
	all := troubles(t, alpha, beta)
	began := clock.System().Now()
	for name, one := range all {
		if err := c.AddCluster(t.Context(), name, fleet.Cluster{Via: fleet.ViaServiceProxy}); err != nil {
			t.Fatal(err)
		}
		none := c.until(name, "without credentials", func(i client.Installation) bool { return i.State == "failed" })
		if none.Class != "credentials" || !strings.Contains(none.Hint, "cluster add "+name) {
			t.Errorf("%s without credentials: %+v", name, none)
		}
		if one.values != nil {
			c.change(name, one.values)
		}
		if err := c.SetCredentials(t.Context(), name, api.Kubeconfig{Kubeconfig: api.Secret(kubeconfig(t, one))}); err != nil {
			t.Fatal(err)
		}
	}
	said := c.run("cluster", "add", "well", "--context", "well", "--kubeconfig", c.cloud("well", beta))
	contains(t, "cluster add", said, "ready: health")
	t.Logf("the cluster that is well was ready %s after the first was added", clock.System().Now().Sub(began).Round(time.Second))
	for name, one := range all {
		now := c.until(name, "is "+one.class, func(i client.Installation) bool {
			return i.State == one.state && i.Class == one.class && strings.Contains(i.Message, one.says)
		})
		if !strings.Contains(now.Hint, one.hint) {
			t.Errorf("%s: hint %q lacks %q", name, now.Hint, one.hint)
		}
		status := c.run("cluster", "status", name)
		contains(t, "cluster status "+name, status, "Follower: "+one.state, one.says, one.hint)
		t.Logf("%-11s %s %s at %s: %.160s", name, now.State, now.Class, now.Step, now.Message)
	}
	t.Logf("all were told after %s", clock.System().Now().Sub(began).Round(time.Second))
	for name := range all {
		c.run("cluster", "remove", name, "--yes", "--force")
	}
	c.run("cluster", "remove", "well", "--yes", "--context", "well", "--kubeconfig", c.file("well.kubeconfig"))
}

// troubles are clusters that are alpha with something wrong.
func troubles(t *testing.T, alpha, beta *kubetest.Standing) map[string]bad {
	s := newSpace(t, alpha)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	nobody, revoked := s.account(t, "nobody"), s.account(t, "revoked")
	if err := s.CoreV1().ServiceAccounts(s.name).Delete(t.Context(), "revoked", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	with := func(token string, change func(*rest.Config)) *rest.Config {
		config := rest.AnonymousClientConfig(alpha.Config())
		config.BearerToken = token
		if change != nil {
			change(config)
		}
		return config
	}
	quota, image := newSpace(t, alpha), newSpace(t, alpha)
	if _, err := quota.CoreV1().ResourceQuotas(quota.name).Create(t.Context(), &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "small"},
		Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"pods": resource.MustParse("0")}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the quota", func(ctx context.Context) error {
		found, err := quota.CoreV1().ResourceQuotas(quota.name).Get(ctx, "small", metav1.GetOptions{})
		if err == nil && len(found.Status.Hard) == 0 {
			err = errors.New("it is not counted yet")
		}
		return err
	})
	return map[string]bad{
		"wrong-ca":    {config: with(nobody, func(c *rest.Config) { c.CAData = beta.Config().CAData }), state: "failed", class: "wrong-ca", says: "certificate", hint: "cluster add wrong-ca"},
		"revoked":     {config: with(revoked, nil), state: "failed", class: "unauthorized", says: "Unauthorized", hint: "does not know the leader's token"},
		"no-rights":   {config: with(nobody, nil), space: s.name, state: "failed", class: "forbidden", says: "leases", hint: "Missing right: get leases.coordination.k8s.io in namespace " + s.name},
		"nobody-home": {config: with(nobody, func(c *rest.Config) { c.Host = "https://" + closed.Addr().String() }), state: "failed", class: "unreachable", says: "refused", hint: "can the leader's machine reach it"},
		"silent":      {config: with(nobody, func(c *rest.Config) { c.Host = "https://" + silent.Addr().String() }), state: "failed", class: "timeout", says: "API server", hint: "did not answer in time"},
		"quota": {config: alpha.Config(), space: quota.name, values: map[string]any{"rbac": map[string]any{"create": false}}, state: "degraded", class: "quota",
			says: "exceeded quota: small", hint: "raise it"},
		"image": {config: alpha.Config(), space: image.name, values: map[string]any{"rbac": map[string]any{"create": false}, "image": map[string]any{"tag": "none", "pullPolicy": "IfNotPresent"}},
			state: "installing", class: "not-ready", says: "mage", hint: "kubetest.local/accumulus-follower:none cannot be pulled there"},
	}
}

// kubeconfig is that of a bad cluster, as a user would hand it over.
func kubeconfig(t testing.TB, of bad) []byte {
	t.Helper()
	config := clientcmdapi.NewConfig()
	config.CurrentContext = "x"
	config.Clusters["x"] = &clientcmdapi.Cluster{Server: of.config.Host, CertificateAuthorityData: of.config.CAData}
	config.AuthInfos["x"] = &clientcmdapi.AuthInfo{Token: of.config.BearerToken, ClientCertificateData: of.config.CertData, ClientKeyData: of.config.KeyData}
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "x", AuthInfo: "x", Namespace: of.space}
	text, err := clientcmd.Write(*config)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
