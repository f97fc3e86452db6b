package kube

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/accumulus-metering/accumulus/leader/helm"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// image is the value of an image of the lab.
func image(name string) map[string]any {
	return map[string]any{"registry": "kubetest.local", "repository": name, "tag": "e2e", "pullPolicy": "Never"}
}

// quick are the values by which a pod is ready as soon as it is.
func quick(values helm.Values) helm.Values {
	return values.With(helm.Values{"startupProbe": map[string]any{"periodSeconds": 1}, "readinessProbe": map[string]any{"periodSeconds": 1}})
}

// restricted makes the product's namespace as its manuals say.
func restricted(t testing.TB, kube *kubernetes.Clientset) {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: standsIn, Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}}
	if _, err := kube.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// gitOps: the follower's chart stands without a leader; a leader that was told so
// meters the cluster, upgrades and removes nothing there.
func gitOps(t *testing.T, c *centre, cluster *kubetest.Standing, s space) {
	sweep(t, s.Clientset)
	restricted(t, s.Clientset)
	s.deploy(t, "shop", 1, "-cpu", "100")
	key := strings.TrimSpace(c.run("seed", "key"))
	person := helmClient(cluster, followerName, "a-person")
	values := quick(helm.Values{"cluster": "ops", "image": image("accumulus-follower"), "persistence": map[string]any{"enabled": false}, "scrapeInterval": "5s",
		"tokens": map[string]any{"generate": true}, "seed": map[string]any{"publicKey": key}})
	if _, err := person.Ensure(t.Context(), chart(t, "follower"), values, helm.Options{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the follower by itself", func(ctx context.Context) error { return available(ctx, s.Clientset, followerName) })
	began := clock.System().Now()
	said := c.run("cluster", "add", "ops", "--gitops", "--context", "ops", "--kubeconfig", c.cloud("ops", cluster))
	contains(t, "cluster add --gitops", said, "cluster ops was added")
	eventually(t, "usage", func(ctx context.Context) error {
		cpu, err := used(ctx, c.Client, "ops")
		if err == nil && cpu[s.name+" Deployment/shop"] == 0 {
			err = fmt.Errorf("%v", cpu)
		}
		return err
	})
	t.Logf("first usage %s after cluster add --gitops", clock.System().Now().Sub(began).Round(time.Second))
	contains(t, "cluster status", c.run("cluster", "status", "ops"), "Follower: gitops since")
	if said, err := c.try("cluster", "upgrade", "ops"); err == nil || !strings.Contains(said, "somebody else installs and upgrades it") {
		t.Errorf("upgrade: %v\n%s", err, said)
	}
	c.run("cluster", "remove", "ops", "--yes")
	if err := available(t.Context(), s.Clientset, followerName); err != nil {
		t.Errorf("after the removal the follower of somebody else: %v", err)
	}
	if now, err := person.Status(t.Context()); err != nil || now.Revision != 1 || now.Leader != "a-person" {
		t.Errorf("its release: %+v, %v", now, err)
	}
	if err := person.Remove(t.Context(), helm.Options{}); err != nil {
		t.Errorf("helm uninstall: %v", err)
	}
}

// available says whether a Deployment's pod is.
func available(ctx context.Context, kube *kubernetes.Clientset, name string) error {
	d, err := kube.AppsV1().Deployments(standsIn).Get(ctx, name, metav1.GetOptions{})
	if err == nil && (d.Status.AvailableReplicas != 1 || d.Status.ObservedGeneration != d.Generation) {
		err = fmt.Errorf("Deployment %s: %+v", name, d.Status)
	}
	return err
}

// volume is a directory of the node, below another, for a claim that names no
// class.
func volume(t testing.TB, kube *kubernetes.Clientset, name, below string) {
	t.Helper()
	dir := filepath.Join(below, "volume")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 65532, 65532); err != nil { // such volumes take no fsGroup
		t.Fatal(err)
	}
	if err := os.Chmod(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := kube.CoreV1().PersistentVolumes().Create(t.Context(), &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("20Gi")},
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir}}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// TestLeaderChart: `helm install accumulus deploy/charts/leader --set
// follower.local=true` brings up leader and follower, and the leader's API tells
// what runs in its own cluster. A leader whose pod is made again goes on.
func TestLeaderChart(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Inside(t).NewCluster(t, "single", 1)
	kube := kubernetes.NewForConfigOrDie(cluster.Config())
	restricted(t, kube)
	volume(t, kube, "leader", t.TempDir())
	person := helmClient(&cluster.Standing, "accumulus", "a-person")
	values := quick(helm.Values{"image": image("accumulus"), "persistence": map[string]any{"storageClass": "-"},
		"follower": map[string]any{"local": true, "cluster": "home", "values": quick(helm.Values{"image": image("accumulus-follower"),
			"persistence": map[string]any{"enabled": false}, "scrapeInterval": "5s"})}})
	began := clock.System().Now()
	since := func() time.Duration { return clock.System().Now().Sub(began).Round(time.Second) }
	if _, err := person.Ensure(t.Context(), chart(t, "leader"), values, helm.Options{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the leader", func(ctx context.Context) error { return available(ctx, kube, "accumulus") })
	t.Logf("leader ready after %s", since())
	c := podClient(t, kube)
	eventually(t, "the follower", func(ctx context.Context) error {
		now, err := c.Installation(ctx, "home")
		if err == nil && !settledReady(now) {
			err = fmt.Errorf("%+v", now)
		}
		return err
	})
	t.Logf("follower ready after %s", since())
	eventually(t, "usage", func(ctx context.Context) error {
		cpu, err := used(ctx, c, "home")
		if err == nil && (cpu[standsIn+" Deployment/accumulus"] == 0 || cpu[standsIn+" Deployment/"+followerName] == 0) {
			err = fmt.Errorf("%v", cpu)
		}
		return err
	})
	t.Logf("first usage after %s", since())
	if lists, err := c.Objects(t.Context(), "pricelist", "standard", nil); err != nil || len(lists) != 1 {
		t.Errorf("the default price list: %v, %v", lists, err)
	}
	before, err := used(t.Context(), c, "home")
	if err != nil {
		t.Fatal(err)
	}
	if err := kube.CoreV1().Pods(standsIn).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=accumulus"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the leader again", func(ctx context.Context) error {
		pods, err := kube.CoreV1().Pods(standsIn).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=accumulus"})
		if err == nil && (len(pods.Items) != 1 || pods.Items[0].DeletionTimestamp != nil) {
			err = fmt.Errorf("%d pods", len(pods.Items))
		}
		if err == nil {
			err = available(ctx, kube, "accumulus")
		}
		return err
	})
	c = podClient(t, kube)
	after, err := used(t.Context(), c, "home")
	if name := standsIn + " Deployment/accumulus"; err != nil || after[name] < before[name] {
		t.Errorf("after its pod was made again: %v, before %v: %v", after, before, err)
	}
	if now, err := c.Installation(t.Context(), "home"); err != nil || now.Revision != 1 {
		t.Errorf("the follower's release: %+v, %v", now, err)
	}
	if err := c.RemoveCluster(t.Context(), "home", false); err != nil {
		t.Errorf("remove the leader's own cluster: %v", err)
	}
	if err := person.Remove(t.Context(), helm.Options{}); err != nil {
		t.Errorf("helm uninstall: %v", err)
	}
	// The claim is kept, and what the cluster itself puts into a namespace.
	eventually(t, "nothing left", func(ctx context.Context) error {
		left, err := inNamespace(ctx, kube, standsIn)
		if err == nil && strings.Join(left, ", ") != "PersistentVolumeClaim accumulus, ServiceAccount default" {
			err = fmt.Errorf("left: %v", left)
		}
		return err
	})
}

// podClient asks the leader in the pod, at the pod's own address, with the
// operator's token that its chart made.
func podClient(t testing.TB, kube *kubernetes.Clientset) *client.Client {
	t.Helper()
	secret, err := kube.CoreV1().Secrets(standsIn).Get(t.Context(), "accumulus-tokens", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "operator.token")
	if err := os.WriteFile(file, secret.Data["operator"], 0o600); err != nil {
		t.Fatal(err)
	}
	pods, err := kube.CoreV1().Pods(standsIn).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=accumulus"})
	if err != nil || len(pods.Items) != 1 {
		t.Fatalf("%d pods, %v", len(pods.Items), err)
	}
	c, err := client.New(client.Config{Server: "http://" + pods.Items[0].Status.PodIP + ":8080", TokenFile: file})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
