package access

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/leader/credentials"
	authv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

func clientOf(t *testing.T, config *rest.Config) *kubernetes.Clientset {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// account is the configuration of the account that was granted, by a kubeconfig
// that the leader takes.
func account(t *testing.T, grant Grant) *rest.Config {
	t.Helper()
	checked, err := credentials.Check(grant.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(checked)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// somebody is another user of the cluster, with those rights everywhere.
func somebody(t *testing.T, admin *rest.Config, name string, rules ...rbacv1.PolicyRule) *rest.Config {
	t.Helper()
	client := clientOf(t, admin)
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
	if _, err := client.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name}}}
	if _, err := client.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	config := rest.CopyConfig(admin)
	config.Impersonate.UserName = name
	if len(rules) > 0 {
		last := rules[len(rules)-1]
		asks(t, clientOf(t, config), []right{{"get", last.APIGroups[0] + ":" + last.Resources[len(last.Resources)-1], "", ""}}, true)
	}
	return config
}

func rule(groups, resources, verbs string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: strings.Split(groups, ","), Resources: strings.Split(resources, ","), Verbs: strings.Split(verbs, ",")}
}

// right is what SelfSubjectAccessReview is asked: verb, group/resource/subresource,
// namespace and name, "" for all.
type right struct{ verb, resource, namespace, name string }

func may(t *testing.T, client kubernetes.Interface, r right) bool {
	t.Helper()
	group, resource, _ := strings.Cut(r.resource, ":")
	resource, sub, _ := strings.Cut(resource, "/")
	review, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), &authv1.SelfSubjectAccessReview{
		Spec: authv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authv1.ResourceAttributes{Verb: r.verb, Group: group, Resource: resource,
			Subresource: sub, Namespace: r.namespace, Name: r.name}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return review.Status.Allowed
}

// toMeter is what every leader may.
var toMeter = []right{
	{"get", ":services/proxy", Namespace, "https:accumulus-follower:https"},
	{"create", ":services/proxy", Namespace, "https:accumulus-follower:https"},
	{"get", ":secrets", Namespace, "accumulus-follower-tokens"},
	{"update", ":secrets", Namespace, "accumulus-follower-tokens"},
	{"patch", ":configmaps", Namespace, "accumulus-follower-seed"},
	{"create", ":configmaps", Namespace, ""},
	{"get", ":namespaces", "", "kube-system"},
}

// toInstall is what one may besides that installs.
var toInstall = []right{
	{"create", ":secrets", Namespace, ""}, {"list", ":secrets", Namespace, ""}, {"delete", ":secrets", Namespace, "sh.helm.release.v1.accumulus-follower.v1"},
	{"create", "apps:deployments", Namespace, ""}, {"patch", "apps:deployments", Namespace, "accumulus-follower"},
	{"create", ":services", Namespace, ""}, {"create", ":serviceaccounts", Namespace, ""}, {"create", ":persistentvolumeclaims", Namespace, ""},
	{"create", "networking.k8s.io:networkpolicies", Namespace, ""}, {"list", ":events", Namespace, ""}, {"get", ":pods/log", Namespace, ""},
	{"create", "coordination.k8s.io:leases", Namespace, ""}, {"update", "coordination.k8s.io:leases", Namespace, "accumulus-pusher"}, {"delete", "coordination.k8s.io:leases", Namespace, "accumulus-pusher"},
	{"create", "rbac.authorization.k8s.io:clusterroles", "", ""}, {"delete", "rbac.authorization.k8s.io:clusterroles", "", "accumulus-follower"},
	{"update", "rbac.authorization.k8s.io:clusterrolebindings", "", "accumulus-follower"},
}

// never is what no leader may.
var never = []right{
	{"get", ":secrets", "kube-system", ""}, {"list", ":secrets", "", ""}, {"get", ":secrets", "default", "x"}, {"create", ":secrets", "kube-system", ""},
	{"get", ":nodes/proxy", "", ""}, {"create", ":nodes/proxy", "", ""}, {"get", ":nodes/proxy", "", "n1"},
	{"create", ":pods/exec", Namespace, ""}, {"get", ":pods/exec", Namespace, ""}, {"create", ":pods/attach", Namespace, ""}, {"create", ":pods/portforward", Namespace, ""},
	{"create", ":pods", Namespace, ""}, {"delete", ":pods", Namespace, ""}, {"create", "apps:deployments", "kube-system", ""}, {"create", "apps:daemonsets", Namespace, ""},
	{"get", ":services/proxy", Namespace, "https:other:https"}, {"get", ":services/proxy", "kube-system", "https:accumulus-follower:https"}, {"get", ":pods/proxy", Namespace, ""},
	{"patch", ":namespaces", "", Namespace}, {"update", ":namespaces", "", Namespace}, {"delete", ":namespaces", "", Namespace}, {"create", ":namespaces", "", ""},
	{"create", ":serviceaccounts/token", "kube-system", "x"}, {"create", ":serviceaccounts/token", Namespace, "accumulus-follower"},
	{"escalate", "rbac.authorization.k8s.io:clusterroles", "", ""}, {"bind", "rbac.authorization.k8s.io:clusterroles", "", "cluster-admin"},
	{"update", "rbac.authorization.k8s.io:clusterroles", "", "cluster-admin"}, {"create", "rbac.authorization.k8s.io:roles", Namespace, ""},
	{"update", "rbac.authorization.k8s.io:clusterroles", "", installRole}, {"impersonate", ":users", "", "x"},
	{"update", "coordination.k8s.io:leases", Namespace, "x"}, {"delete", "coordination.k8s.io:leases", Namespace, "x"},
	{"create", ":nodes", "", ""}, {"patch", ":nodes", "", "n1"}, {"create", "admissionregistration.k8s.io:mutatingwebhookconfigurations", "", ""},
}

// TestAccess makes the account on a real API server and asks that what it may.
func TestAccess(t *testing.T) {
	admin := kubetest.ControlPlane(t, kubetest.ControllerManager).Config
	options := Options{Leader: "leader-one", Install: true}

	t.Run("without rights", func(t *testing.T) {
		var forbidden *PermissionError
		_, err := Make(t.Context(), somebody(t, admin, "nobody"), clock.System(), options)
		if !errors.As(err, &forbidden) || !strings.Contains(err.Error(), "get Namespace kube-system") {
			t.Errorf("%v, want what he may not", err)
		}
		viewer := somebody(t, admin, "developer", rule("", "namespaces,serviceaccounts,secrets", "*"))
		if _, err := Make(t.Context(), viewer, clock.System(), options); !errors.As(err, &forbidden) || !strings.Contains(err.Error(), "make Role accumulus-leader-link") {
			t.Errorf("%v, want what he may not", err)
		}
	})

	t.Run("to meter only", func(t *testing.T) {
		grant, err := Make(t.Context(), admin, clock.System(), Options{Leader: "leader-one"})
		if err != nil {
			t.Fatal(err)
		}
		client := clientOf(t, account(t, grant))
		asks(t, client, toMeter, true)
		asks(t, client, toInstall, false)
		asks(t, client, never, false)
	})

	grant, err := Make(t.Context(), admin, clock.System(), options)
	if err != nil {
		t.Fatal(err)
	}
	leader := account(t, grant)
	t.Run("to install", func(t *testing.T) {
		client := clientOf(t, leader)
		asks(t, client, toMeter, true)
		asks(t, client, toInstall, true)
		asks(t, client, never, false)
		system, err := client.CoreV1().Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{})
		if err != nil || string(system.UID) != grant.ClusterID {
			t.Errorf("cluster %q, want %q, %v", system.UID, grant.ClusterID, err)
		}
	})
	t.Run("the chart", func(t *testing.T) { theChart(t, leader) })
	t.Run("no more than it holds", func(t *testing.T) { escalation(t, leader) })
	t.Run("again", func(t *testing.T) { again(t, admin, options, grant) })
	t.Run("another leader", func(t *testing.T) {
		var foreign *ForeignError
		other := Options{Leader: "leader-two", Install: true}
		if _, err := Make(t.Context(), admin, clock.System(), other); !errors.As(err, &foreign) || foreign.Leader != "leader-one" {
			t.Errorf("%v, want it foreign", err)
		}
		other.Adopt = true
		if _, err := Make(t.Context(), admin, clock.System(), other); err != nil {
			t.Error(err)
		}
		if _, err := Make(t.Context(), admin, clock.System(), options); !errors.As(err, &foreign) || foreign.Leader != "leader-two" {
			t.Errorf("%v, want it foreign", err)
		}
	})
	t.Run("revoked", func(t *testing.T) {
		for range 2 {
			if err := Revoke(t.Context(), admin); err != nil {
				t.Fatal(err)
			}
		}
		// The API server remembers a token for some seconds; its rights are gone.
		eventually(t, "the token is of no use", func() bool {
			_, err := clientOf(t, leader).CoreV1().Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{})
			return apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err)
		})
		if _, err := clientOf(t, admin).CoreV1().Namespaces().Get(t.Context(), Namespace, metav1.GetOptions{}); err != nil {
			t.Errorf("the namespace: %v", err)
		}
	})
}

func asks(t *testing.T, client kubernetes.Interface, rights []right, want bool) {
	t.Helper()
	if want { // the API server learns of new rights a moment later
		eventually(t, "the rights hold", func() bool {
			return !slices.ContainsFunc(rights, func(r right) bool { return !may(t, client, r) })
		})
	}
	for _, r := range rights {
		if got := may(t, client, r); got != want {
			t.Errorf("may %s %s %q in %q: %t, want %t", r.verb, r.resource, r.name, r.namespace, got, want)
		}
	}
}

// eventually waits until the API server shows what was written to it.
func eventually(t *testing.T, what string, shown func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !shown() {
		if err := clock.System().Sleep(ctx, 50*time.Millisecond); err != nil {
			t.Errorf("%s: not within 20 s", what)
			return
		}
	}
}

// theChart has the leader make every object that the follower's chart has.
func theChart(t *testing.T, leader *rest.Config) {
	kinds := map[string]schema.GroupVersionResource{
		"Deployment":            {Group: "apps", Version: "v1", Resource: "deployments"},
		"Service":               {Version: "v1", Resource: "services"},
		"ConfigMap":             {Version: "v1", Resource: "configmaps"},
		"PersistentVolumeClaim": {Version: "v1", Resource: "persistentvolumeclaims"},
		"NetworkPolicy":         {Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"},
	}
	for kind, resource := range resources {
		kinds[kind] = resource
	}
	writer, err := dynamic.NewForConfig(leader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../deploy/testdata/follower-default.golden")
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^# accumulus-follower/templates/`).ReplaceAll(text, []byte("---\n$0"))
	text = text[bytes.Index(text, []byte("---\n# accumulus-follower/templates/deployment.yaml")):] // after the notes
	decoder, made := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096), 0
	for {
		var object unstructured.Unstructured
		if err := decoder.Decode(&object.Object); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if len(object.Object) == 0 {
			continue
		}
		resource, known := kinds[object.GetKind()]
		if !known {
			t.Errorf("the chart has a %s: may the leader make it?", object.GetKind())
			continue
		}
		var target dynamic.ResourceInterface = writer.Resource(resource)
		if object.GetKind() != "ClusterRole" && object.GetKind() != "ClusterRoleBinding" {
			object.SetNamespace(Namespace)
			target = writer.Resource(resource).Namespace(Namespace)
		}
		if _, err := target.Create(t.Context(), &object, metav1.CreateOptions{}); err != nil {
			t.Errorf("%s %s: %v", object.GetKind(), object.GetName(), err)
		}
		made++
	}
	if made < 5 {
		t.Errorf("the chart has %d objects", made)
	}
}

// escalation has the leader try to get more than it has.
func escalation(t *testing.T, leader *rest.Config) {
	client := clientOf(t, leader)
	subject := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: Account, Namespace: Namespace}}
	role := func(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
		return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
	}
	secrets := rule("", "secrets", "get")
	for name, try := range map[string]func(context.Context) error{
		"bind cluster-admin": func(ctx context.Context) error {
			_, err := client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Subjects: subject,
				RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"}}, metav1.CreateOptions{})
			return err
		},
		"a role with all secrets": func(ctx context.Context) error {
			_, err := client.RbacV1().ClusterRoles().Create(ctx, role("x", secrets), metav1.CreateOptions{})
			return err
		},
		"a role with nodes/proxy": func(ctx context.Context) error {
			_, err := client.RbacV1().ClusterRoles().Create(ctx, role("x", rule("", "nodes/proxy", "get")), metav1.CreateOptions{})
			return err
		},
		"the follower's role with all secrets": func(ctx context.Context) error {
			_, err := client.RbacV1().ClusterRoles().Update(ctx, role("accumulus-follower", secrets), metav1.UpdateOptions{})
			return err
		},
		"its own role": func(ctx context.Context) error {
			_, err := client.RbacV1().ClusterRoles().Update(ctx, role(installRole, secrets), metav1.UpdateOptions{})
			return err
		},
		"a namespace without its level": func(ctx context.Context) error {
			_, err := client.CoreV1().Namespaces().Update(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}}, metav1.UpdateOptions{})
			return err
		},
	} {
		if err := try(t.Context()); !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v, want it forbidden", name, err)
		}
	}
}

// again makes the account again: as it was, after somebody changed it, and by a
// user who can only look.
func again(t *testing.T, admin *rest.Config, options Options, before Grant) {
	client := clientOf(t, admin)
	made, err := client.RbacV1().Roles(Namespace).Get(t.Context(), "accumulus-leader-link", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	grant, err := Make(t.Context(), admin, clock.System(), options)
	if err != nil || !bytes.Equal(grant.Kubeconfig, before.Kubeconfig) {
		t.Errorf("another kubeconfig, %v", err)
	}
	same, err := client.RbacV1().Roles(Namespace).Get(t.Context(), "accumulus-leader-link", metav1.GetOptions{})
	if err != nil || same.ResourceVersion != made.ResourceVersion {
		t.Errorf("changed by making it again, %v", err)
	}
	looks := somebody(t, admin, "looks", rule(",rbac.authorization.k8s.io", "namespaces,serviceaccounts,secrets,roles,rolebindings,clusterroles,clusterrolebindings", "get"))
	if grant, err := Make(t.Context(), looks, clock.System(), options); err != nil || !bytes.Equal(grant.Kubeconfig, before.Kubeconfig) {
		t.Errorf("by who may only look: %v", err)
	}
	same.Rules = same.Rules[1:]
	if _, err := client.RbacV1().Roles(Namespace).Update(t.Context(), same, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	var forbidden *PermissionError
	if _, err := Make(t.Context(), looks, clock.System(), options); !errors.As(err, &forbidden) {
		t.Errorf("by who may only look, and it is not as it must be: %v", err)
	}
	if _, err := Make(t.Context(), admin, clock.System(), options); err != nil {
		t.Error(err)
	}
	mended, err := client.RbacV1().Roles(Namespace).Get(t.Context(), "accumulus-leader-link", metav1.GetOptions{})
	if err != nil || len(mended.Rules) != len(made.Rules) {
		t.Errorf("%d rules, want %d, %v", len(mended.Rules), len(made.Rules), err)
	}
}
