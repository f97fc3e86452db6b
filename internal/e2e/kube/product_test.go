package kube

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/deploy"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/leader/helm"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
)

// Names in a cluster with a follower.
const (
	standsIn     = "accumulus"
	followerName = "accumulus-follower"
)

// sweep removes what the product keeps in a cluster, whatever came of the test.
func sweep(t testing.TB, client *kubernetes.Clientset) {
	t.Helper()
	ctx := context.Background()
	errs := []error{client.CoreV1().Namespaces().Delete(ctx, standsIn, metav1.DeleteOptions{})}
	for _, name := range []string{followerName, "accumulus-leader-install", "accumulus-leader-link"} {
		errs = append(errs, client.RbacV1().ClusterRoleBindings().Delete(ctx, name, metav1.DeleteOptions{}),
			client.RbacV1().ClusterRoles().Delete(ctx, name, metav1.DeleteOptions{}))
	}
	for _, err := range errs {
		if err != nil && !apierrors.IsNotFound(err) {
			t.Errorf("sweep: %v", err)
		}
	}
	clk := clock.System()
	for end := clk.Now().Add(patience); ; {
		_, err := client.CoreV1().Namespaces().Get(ctx, standsIn, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return
		}
		if clk.Now().After(end) {
			t.Fatalf("namespace %s does not end", standsIn)
		}
		if err := clk.Sleep(ctx, 100*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

// pod is the follower's, which runs.
func followerPod(t testing.TB, client *kubernetes.Clientset) corev1.Pod {
	t.Helper()
	list, err := client.CoreV1().Pods(standsIn).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + followerName})
	if err != nil {
		t.Fatal(err)
	}
	running := slices.DeleteFunc(list.Items, func(pod corev1.Pod) bool { return pod.DeletionTimestamp != nil })
	if len(running) != 1 {
		t.Fatalf("%d followers", len(running))
	}
	return running[0]
}

// inNamespace are the objects of a namespace that somebody made, sorted.
func inNamespace(ctx context.Context, client *kubernetes.Clientset, namespace string) ([]string, error) {
	var found []string
	all := metav1.ListOptions{}
	add := func(kind string, names []string, err error) error {
		for _, name := range names {
			if name != "kube-root-ca.crt" {
				found = append(found, kind+" "+name)
			}
		}
		return err
	}
	core, rbac := client.CoreV1(), client.RbacV1()
	for kind, list := range map[string]func() ([]string, error){
		"Pod":                   func() ([]string, error) { return names(core.Pods(namespace).List(ctx, all)) },
		"Secret":                func() ([]string, error) { return names(core.Secrets(namespace).List(ctx, all)) },
		"ConfigMap":             func() ([]string, error) { return names(core.ConfigMaps(namespace).List(ctx, all)) },
		"Service":               func() ([]string, error) { return names(core.Services(namespace).List(ctx, all)) },
		"ServiceAccount":        func() ([]string, error) { return names(core.ServiceAccounts(namespace).List(ctx, all)) },
		"PersistentVolumeClaim": func() ([]string, error) { return names(core.PersistentVolumeClaims(namespace).List(ctx, all)) },
		"Deployment":            func() ([]string, error) { return names(client.AppsV1().Deployments(namespace).List(ctx, all)) },
		"ReplicaSet":            func() ([]string, error) { return names(client.AppsV1().ReplicaSets(namespace).List(ctx, all)) },
		"NetworkPolicy": func() ([]string, error) {
			return names(client.NetworkingV1().NetworkPolicies(namespace).List(ctx, all))
		},
		"Lease":       func() ([]string, error) { return names(client.CoordinationV1().Leases(namespace).List(ctx, all)) },
		"Role":        func() ([]string, error) { return names(rbac.Roles(namespace).List(ctx, all)) },
		"RoleBinding": func() ([]string, error) { return names(rbac.RoleBindings(namespace).List(ctx, all)) },
	} {
		found, err := list()
		if err := add(kind, found, err); err != nil {
			return nil, err
		}
	}
	slices.Sort(found)
	return found, nil
}

// names are those of a list's objects.
func names(list runtime.Object, err error) ([]string, error) {
	if err != nil {
		return nil, err
	}
	var all []string
	err = meta.EachListItem(list, func(object runtime.Object) error {
		one, err := meta.Accessor(object)
		if err == nil {
			all = append(all, one.GetName())
		}
		return err
	})
	return all, err
}

// ask sends a request with a bearer token in that header, and gives the body and
// the status.
func ask(ctx context.Context, client *http.Client, method, url, header, token string) (string, int, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", 0, err
	}
	request.Header.Set(header, "Bearer "+token)
	response, err := client.Do(request)
	if err != nil {
		return "", 0, err
	}
	body, err := io.ReadAll(response.Body)
	return string(body), response.StatusCode, errors.Join(err, response.Body.Close())
}

// helmClient is what a person with Helm has, in the product's namespace.
func helmClient(cluster *kubetest.Standing, release, leader string) *helm.Client {
	return helm.New(helm.Config{REST: cluster.Config(), Namespace: standsIn, Release: release, Leader: leader}, clock.System(), slog.New(slog.DiscardHandler))
}

// chart is one of the product's charts.
func chart(t testing.TB, name string) helm.Chart {
	t.Helper()
	files, err := fs.Sub(deploy.Charts, "charts/"+name)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := helm.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}
