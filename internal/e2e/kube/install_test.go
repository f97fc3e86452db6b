package kube

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/accumulus-metering/accumulus/leader/helm"
	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// What a user gets: `cluster add` with a context whose credentials come from a
// program; two minutes later `usage` shows what runs there. Then all that he may
// do with the cluster, until it is removed and nothing is left in it.
func TestInstall(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Inside(t).Cluster(t, "alpha")
	s := newSpace(t, cluster)
	s.deploy(t, "shop", 2, "-cpu", "100", "-memory", "20")
	u := &user{centre: newCentre(t), cluster: cluster, shop: s}
	t.Cleanup(func() { u.sweep(t) })
	for _, step := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"add", u.add}, {"usage", u.usage}, {"customer", u.customer}, {"upgrade", u.upgrade},
		{"rotate", u.rotate}, {"remove", u.remove}, {"adopt", u.adopt},
	} {
		if !t.Run(step.name, func(t *testing.T) { u.centre.t = t; step.do(t) }) {
			break // what follows stands on it
		}
	}
	u.centre.t = t
}

// user is who has a leader and the cluster alpha, with a shop in it.
type user struct {
	*centre
	cluster    *kubetest.Standing
	shop       space
	kubeconfig string
	added      time.Time
}

// sweep removes what the product keeps in a cluster, whatever came of the test.
func (u *user) sweep(t *testing.T) { sweep(t, u.shop.Clientset) }

func (u *user) add(t *testing.T) {
	u.kubeconfig = u.cloud("gke_acme_alpha", u.cluster)
	u.added = clock.System().Now()
	said := u.run("cluster", "add", "alpha", "--context", "gke_acme_alpha", "--kubeconfig", u.kubeconfig)
	contains(t, "cluster add", said, "ServiceAccount accumulus/accumulus-leader\n", "cluster alpha was added\n", "  ready: health\n",
		"accumulus usage --cluster alpha --aggregate namespace,workload")
	t.Logf("ready %s after cluster add", clock.System().Now().Sub(u.added).Round(time.Second))
	u.apply(`apiVersion: accumulus.dev/v1
kind: Hardware
metadata: {name: n100}
spec: {cpuType: N100, ramType: DDR5, cores: 2, idleWatts: 7.5, maxWatts: 27.5, source: a test}
---
apiVersion: accumulus.dev/v1
kind: Box
metadata: {name: cellar}
spec: {overheadWatts: 6}
---
apiVersion: accumulus.dev/v1
kind: Node
metadata: {name: alpha.alpha-1}
spec: {cluster: alpha, node: alpha-1, box: cellar, hardware: n100}
---
apiVersion: accumulus.dev/v1
kind: PriceList
metadata: {name: standard}
spec: {currency: EUR, rates: [{resource: cpu_used, price: "0.0240"}]}
`)
	pod := followerPod(t, u.shop.Clientset)
	if image := pod.Spec.Containers[0].Image; image != kubetest.FollowerImage || pod.Status.ContainerStatuses[0].RestartCount > 0 {
		t.Errorf("image %s, restarts %d", image, pod.Status.ContainerStatuses[0].RestartCount)
	}
	namespace, err := u.shop.CoreV1().Namespaces().Get(t.Context(), standsIn, metav1.GetOptions{})
	if err != nil || namespace.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
		t.Errorf("namespace %v: %v", namespace.Labels, err)
	}
	if told := u.output.String(); strings.Contains(told, u.secret(t, "leader")) {
		t.Error("the leader logs the follower's token")
	}
}

// secret is a key of the follower's tokens.
func (u *user) secret(t testing.TB, key string) string {
	t.Helper()
	secret, err := u.shop.CoreV1().Secrets(standsIn).Get(t.Context(), "accumulus-follower-tokens", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(secret.Data[key]))
}

func (u *user) usage(t *testing.T) {
	shop := u.shop.name + " Deployment/shop"
	eventually(t, "usage of the shop", func(ctx context.Context) error {
		cpu, err := used(ctx, u.Client, "alpha")
		if err == nil && cpu[shop] == 0 {
			err = fmt.Errorf("no %s in %v", shop, cpu)
		}
		return err
	})
	t.Logf("first usage %s after cluster add", clock.System().Now().Sub(u.added).Round(time.Second))
	eventually(t, "two minutes", func(ctx context.Context) error {
		answer, err := u.Completeness(ctx, "alpha", "1h")
		if err == nil && answer.Totals.Received < 6 { // of the tables node, pod and container
			err = fmt.Errorf("%+v", answer.Totals)
		}
		return err
	})
	said := u.run("usage", "--cluster", "alpha", "--aggregate", "namespace,workload")
	contains(t, "usage", said, u.shop.name, "Deployment/shop", standsIn, "Deployment/"+followerName, "EUR")
	status := u.run("cluster", "status", "alpha")
	contains(t, "cluster status", status, "Follower: ready since", "revision 1", "Cluster alpha: settled until", "Nothing is missing")
	// Energy and cost know the node from the registry. The seed came as a ConfigMap and
	// was taken while the follower ran: its rows carry the node's facts.
	said = u.run("usage", "--cluster", "alpha", "--aggregate", "node,hardware")
	contains(t, "usage by node", said, "alpha-1", "n100")
	m := u.proxy(t, u.secret(t, "viewer"))
	eventually(t, "the seed in the pod", func(ctx context.Context) error {
		body, status, err := m(ctx, http.MethodGet, "/query?db=minute&q="+`SELECT+last(cpu_core_microseconds)+FROM+node+WHERE+cpu_type='N100'+GROUP+BY+node`)
		if err == nil && (status != http.StatusOK || !strings.Contains(body, u.cluster.Nodes[0].Name)) {
			err = fmt.Errorf("%d %s", status, body)
		}
		return err
	})
}

// proxy asks the follower through the API server's service proxy, as the
// cluster's admin, with a token of its own.
func (u *user) proxy(t testing.TB, token string) func(ctx context.Context, method, path string) (string, int, error) {
	t.Helper()
	transport, err := rest.TransportFor(u.cluster.Config())
	if err != nil {
		t.Fatal(err)
	}
	base := u.cluster.Config().Host + "/api/v1/namespaces/" + standsIn + "/services/https:" + followerName + ":https/proxy"
	return func(ctx context.Context, method, path string) (string, int, error) {
		return ask(ctx, &http.Client{Transport: transport}, method, base+path, schema.AuthorizationHeader, token)
	}
}

// customer: who may see pods of the shop's namespace sees what it used, in the
// cluster itself, with the cost that the leader brought; others see nothing.
func (u *user) customer(t *testing.T) {
	token := func(name string, rules ...rbacv1.PolicyRule) string { return u.member(t, name, rules...) }
	shopper := token("shopper", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}})
	stranger := token("stranger")
	pod := followerPod(t, u.shop.Clientset)
	direct := func(token string) func(context.Context, string, string) (string, int, error) {
		insecure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
		return func(ctx context.Context, method, path string) (string, int, error) {
			return ask(ctx, insecure, method, "https://"+pod.Status.PodIP+":8443"+path, "Authorization", token)
		}
	}
	const path = "/api/v1/usage?window=1h&aggregate=namespace,workload"
	for name, get := range map[string]func(context.Context, string, string) (string, int, error){"pod": direct(shopper), "service proxy": u.proxy(t, shopper)} {
		eventually(t, "the shop's cost by the "+name, func(ctx context.Context) error {
			body, status, err := get(ctx, http.MethodGet, path)
			if err != nil || status != http.StatusOK {
				return fmt.Errorf("%d %s: %w", status, body, err)
			}
			var answer struct {
				Rows []struct {
					Key            map[string]string
					CPUCoreSeconds float64
					Cost           *string
				}
			}
			if err := json.Unmarshal([]byte(body), &answer); err != nil {
				return err
			}
			for _, row := range answer.Rows {
				if row.Key["namespace"] != u.shop.name {
					t.Fatalf("the shopper sees %v", row.Key)
				}
			}
			if len(answer.Rows) != 1 || answer.Rows[0].CPUCoreSeconds == 0 || answer.Rows[0].Cost == nil || *answer.Rows[0].Cost == "" {
				return fmt.Errorf("answer %s", body)
			}
			return nil
		})
	}
	body, status, err := direct(stranger)(t.Context(), http.MethodGet, path)
	if err != nil || status != http.StatusOK && status != http.StatusForbidden || strings.Contains(body, u.shop.name) {
		t.Errorf("the stranger: %d %s, %v", status, body, err)
	}
	if body, status, err := direct("nobody-knows-this-token")(t.Context(), http.MethodGet, path); err != nil || status != http.StatusUnauthorized {
		t.Errorf("a made-up token: %d %s, %v", status, body, err)
	}
	if body, status, err := direct(u.secret(t, "viewer"))(t.Context(), http.MethodGet, path); err != nil || status != http.StatusOK || !strings.Contains(body, "kube-system") && !strings.Contains(body, standsIn) {
		t.Errorf("the viewer's token: %d %s, %v", status, body, err)
	}
}

// member is a token of a service account with rights in the shop's namespace
// alone.
func (u *user) member(t testing.TB, name string, rules ...rbacv1.PolicyRule) string {
	t.Helper()
	meta := metav1.ObjectMeta{Name: name}
	_, err := u.shop.CoreV1().ServiceAccounts(u.shop.name).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{})
	if err == nil && len(rules) > 0 {
		_, err = u.shop.RbacV1().Roles(u.shop.name).Create(t.Context(), &rbacv1.Role{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
	}
	if err == nil && len(rules) > 0 {
		_, err = u.shop.RbacV1().RoleBindings(u.shop.name).Create(t.Context(), &rbacv1.RoleBinding{ObjectMeta: meta,
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: u.shop.name}}}, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	token, err := u.shop.CoreV1().ServiceAccounts(u.shop.name).CreateToken(t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return token.Status.Token
}

func (u *user) upgrade(t *testing.T) {
	before, pod := u.installation(t, "alpha"), followerPod(t, u.shop.Clientset)
	contains(t, "cluster upgrade", u.run("cluster", "upgrade", "alpha"), "the follower of alpha is up to date")
	if now := u.installation(t, "alpha"); now.Revision != before.Revision || now.Generation == before.Generation {
		t.Errorf("an upgrade to the same: %+v, before %+v", now, before)
	}
	if now := followerPod(t, u.shop.Clientset); now.UID != pod.UID {
		t.Error("an upgrade to the same made another pod")
	}
	if err := os.WriteFile(u.file("alpha.yaml"), []byte("logLevel: debug\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	u.run("cluster", "upgrade", "alpha", "--values", "alpha.yaml")
	now := u.installation(t, "alpha")
	if now.Revision != before.Revision+1 {
		t.Errorf("other values: %+v, before %+v", now, before)
	}
	changed := followerPod(t, u.shop.Clientset)
	if changed.UID == pod.UID || !slices.Contains(changed.Spec.Containers[0].Args, "--log-level=debug") {
		t.Errorf("pod %s with %v", changed.Name, changed.Spec.Containers[0].Args)
	}
	if err := u.Upgrade(t.Context(), "alpha", api.UpgradeRequest{Values: map[string]any{"logLevl": "debug"}}); err == nil || !strings.Contains(err.Error(), "logLevl") {
		t.Errorf("a value that the chart does not have: %v", err)
	}
}

func (u *user) installation(t testing.TB, cluster string) client.Installation {
	t.Helper()
	now, err := u.Installation(t.Context(), cluster)
	if err != nil {
		t.Fatal(err)
	}
	return now
}

func (u *user) rotate(t *testing.T) {
	before, began := u.secret(t, "leader"), clock.System().Now()
	contains(t, "cluster rotate-token", u.run("cluster", "rotate-token", "alpha"), "takes a new token; the old one ends within two minutes")
	t.Logf("rotated in %s", clock.System().Now().Sub(began).Round(time.Second))
	now := u.secret(t, "leader")
	if now == before || strings.Contains(now, "\n") {
		t.Errorf("the token is the old one, or two are left")
	}
	if _, status, err := u.proxy(t, now)(t.Context(), http.MethodGet, "/api/v1/status"); err != nil || status != http.StatusOK {
		t.Errorf("the new token: %d, %v", status, err)
	}
	eventually(t, "the end of the old token", func(ctx context.Context) error {
		_, status, err := u.proxy(t, before)(ctx, http.MethodGet, "/api/v1/status")
		if err == nil && status != http.StatusUnauthorized {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
}

// access are the objects of `cluster add`, which stay where `cluster remove` has
// no --context.
var accessObjects = []string{"Role accumulus-leader-install", "Role accumulus-leader-link", "RoleBinding accumulus-leader-install", "RoleBinding accumulus-leader-link",
	"Secret accumulus-leader-token", "ServiceAccount accumulus-leader", "ServiceAccount default"}

func (u *user) remove(t *testing.T) {
	cpu, err := used(t.Context(), u.Client, "alpha")
	if err != nil {
		t.Fatal(err)
	}
	contains(t, "cluster remove", u.run("cluster", "remove", "alpha", "--yes"), "cluster alpha was removed; its history is kept\n")
	u.left(t, accessObjects)
	after, err := used(t.Context(), u.Client, "alpha")
	if shop := u.shop.name + " Deployment/shop"; err != nil || after[shop] < cpu[shop] {
		t.Errorf("history: %v after %v: %v", after, cpu, err)
	}
}

// left compares what is in the product's namespace, and of the cluster's own
// kinds, with what is to be. Pods end by themselves after their Deployment.
func (u *user) left(t *testing.T, want []string) {
	t.Helper()
	eventually(t, "nothing left", func(ctx context.Context) error {
		left, err := inNamespace(ctx, u.shop.Clientset, standsIn)
		if err != nil {
			return err
		}
		roles, err := u.shop.RbacV1().ClusterRoles().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, role := range roles.Items {
			if role.Name == followerName {
				left = append(left, "ClusterRole "+role.Name)
			}
		}
		if diff := cmp.Diff(want, left); diff != "" {
			return fmt.Errorf("(-want +left)\n%s", diff)
		}
		return nil
	})
}

// adopt: a follower that somebody else installed is left alone until the user
// says that it is to be taken over.
func (u *user) adopt(t *testing.T) {
	if _, err := helmClient(u.cluster, followerName, "by-hand").Ensure(t.Context(), chart(t, "follower"), helm.Values{"cluster": "someone", "logLevel": "warn",
		"image":       map[string]any{"registry": "kubetest.local", "repository": "accumulus-follower", "tag": "e2e", "pullPolicy": "Never"},
		"persistence": map[string]any{"enabled": false}, "tokens": map[string]any{"generate": true}}, helm.Options{}); err != nil {
		t.Fatal(err)
	}
	add := []string{"cluster", "add", "alpha-again", "--context", "gke_acme_alpha", "--kubeconfig", u.kubeconfig}
	said, err := u.try(add...)
	if err == nil {
		t.Errorf("a follower of somebody else was no obstacle: %s", said)
	}
	contains(t, "cluster add", said, "the follower of alpha-again is failed: owner: release accumulus-follower belongs to somebody else: the leader by-hand", "cluster upgrade alpha-again --adopt")
	if now := followerDeployment(t, u.shop.Clientset); now["args"] != "someone" {
		t.Errorf("it was changed: %v", now)
	}
	contains(t, "cluster upgrade --adopt", u.run("cluster", "upgrade", "alpha-again", "--adopt"), "the follower of alpha-again is up to date")
	if now := followerDeployment(t, u.shop.Clientset); now["args"] != "alpha-again" {
		t.Errorf("it was not taken over: %v", now)
	}
	contains(t, "cluster remove --context", u.run("cluster", "remove", "alpha-again", "--yes", "--context", "gke_acme_alpha", "--kubeconfig", u.kubeconfig),
		"the leader's account in the cluster of context gke_acme_alpha was deleted")
	u.left(t, []string{"ServiceAccount default"})
	roles, err := u.shop.RbacV1().ClusterRoles().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range roles.Items {
		if strings.HasPrefix(role.Name, "accumulus") {
			t.Errorf("ClusterRole %s is left", role.Name)
		}
	}
}

// followerDeployment is what is told apart of a follower's Deployment.
func followerDeployment(t testing.TB, client *kubernetes.Clientset) map[string]string {
	t.Helper()
	d, err := client.AppsV1().Deployments(standsIn).Get(t.Context(), followerName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	told := maps.Clone(d.Labels)
	for _, arg := range d.Spec.Template.Spec.Containers[0].Args {
		if name, ok := strings.CutPrefix(arg, "--cluster="); ok {
			told["args"] = name
		}
	}
	return told
}
