package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/deploy"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/leader"
	"github.com/accumulus-metering/accumulus/leader/access"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/helm"
	"github.com/accumulus-metering/accumulus/leader/seed"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// TestNamespace is a leader with a real API server: it brings the seed there with
// its narrow account, and no object of the follower's namespace knows anything of
// others.
func TestNamespace(t *testing.T) {
	plane := kubetest.ControlPlane(t, kubetest.ControllerManager)
	client, err := kubernetes.NewForConfig(plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	l := seededLeader(t, plane.Config)
	held := awaitSeed(t, client, "")
	signed, err := l.Seed(t.Context(), "red")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("what is the same is not written", func(t *testing.T) {
		if wrote, err := signed.Apply(t.Context(), client, access.Namespace); wrote || err != nil {
			t.Errorf("wrote %t, %v", wrote, err)
		}
		if now := awaitSeed(t, client, ""); now.ResourceVersion != held.ResourceVersion {
			t.Errorf("revision %s, was %s", now.ResourceVersion, held.ResourceVersion)
		}
	})
	t.Run("a change follows", func(t *testing.T) {
		node := fleet.NewObject("red.red-2", fleet.Node{Cluster: "red", Node: "red-2", Box: "box-shared"})
		if _, err := l.Registry().Apply(t.Context(), []fleet.Object{node}, "test"); err != nil {
			t.Fatal(err)
		}
		awaitSeed(t, client, held.Annotations[seed.VersionAnnotation])
	})
	t.Run("the limit is the server's", func(t *testing.T) { checkLimit(t, client) })
	t.Run("nothing leaks", func(t *testing.T) {
		install(t, plane.Config, l.SeedKey())
		checkNamespace(t, plane.Config, client)
	})
}

// seededLeader is a running leader of red, which it reaches through the API
// server, and of the canaries.
func seededLeader(t *testing.T, user *rest.Config) *leader.Leader {
	t.Helper()
	dir := t.TempDir()
	l, err := leader.Open(t.Context(), leader.Config{Dir: dir, API: api.Config{Listen: "127.0.0.1:0"}}, clock.System(), quiet(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	objects := append([]fleet.Object{fleet.NewObject("red", fleet.Cluster{Via: fleet.ViaServiceProxy, Manage: fleet.ManageGitOps}),
		fleet.NewObject("hw-red", fleet.Hardware{CPUType: "N100", IdleWatts: 82.251}),
		fleet.NewObject("red.red-1", fleet.Node{Cluster: "red", Node: "red-1", Box: "box-shared", Hardware: "hw-red"})}, canaries()...)
	if _, err := l.Registry().Apply(t.Context(), objects, "test"); err != nil {
		t.Fatal(err)
	}
	grant, err := access.Make(t.Context(), user, clock.System(), access.Options{Leader: "this-one"})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetCredentials(t.Context(), "red", api.Kubeconfig{Kubeconfig: api.Secret(grant.Kubeconfig), ClusterID: grant.ClusterID}); err != nil {
		t.Fatal(err)
	}
	listener, err := l.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		hits, _ := holding(t, dir, []string{"canary", "82.251"})
		if len(hits) == 0 {
			t.Error("the canaries are not found in the leader's own files")
		}
	})
	return l
}

// awaitSeed waits for a seed of another version.
func awaitSeed(t *testing.T, client kubernetes.Interface, former string) *corev1.ConfigMap {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		held, err := client.CoreV1().ConfigMaps(access.Namespace).Get(ctx, seed.ConfigMap, metav1.GetOptions{})
		if err == nil && held.Annotations[seed.VersionAnnotation] != former {
			return held
		}
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		if err := clock.System().Sleep(ctx, 50*time.Millisecond); err != nil {
			t.Fatal("no new seed came")
		}
	}
}

// checkLimit: a seed that just fits is taken, and of one byte more the server
// would say what seed.ErrTooLarge says.
func checkLimit(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	const other = "default"
	largest := seed.Signed{Cluster: "red", Version: "1", Signature: make([]byte, 64)}
	largest.Packed = make([]byte, seed.MaxConfigMap-64)
	if wrote, err := largest.Apply(t.Context(), client, other); !wrote || err != nil {
		t.Errorf("the largest: %t, %v", wrote, err)
	}
	data := map[string][]byte{"seed.sql.gz": append(largest.Packed, 0), "seed.sql.gz.sig": largest.Signature}
	_, err := client.CoreV1().ConfigMaps(other).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "more"}, BinaryData: data}, metav1.CreateOptions{})
	if err == nil || !strings.Contains(err.Error(), "Too long") {
		t.Errorf("one byte more: %v", err)
	}
	if err := seed.Remove(t.Context(), client, other); err != nil {
		t.Error(err)
	}
}

// install puts the follower's chart there.
func install(t *testing.T, config *rest.Config, key string) {
	t.Helper()
	files, err := fs.Sub(deploy.Charts, "charts/follower")
	if err != nil {
		t.Fatal(err)
	}
	chart, err := helm.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	release := helm.New(helm.Config{REST: config, Namespace: access.Namespace, Release: "accumulus-follower", Leader: "this-one"}, clock.System(), quiet())
	values := helm.Values{"cluster": "red", "seed": map[string]any{"publicKey": key}, "tokens": map[string]any{"generate": true}}
	if _, err := release.Ensure(t.Context(), chart, values, helm.Options{}); err != nil {
		t.Fatal(err)
	}
}

// checkNamespace looks for the canaries in every object of the namespace, and
// for the control in one that is put there.
func checkNamespace(t *testing.T, config *rest.Config, client kubernetes.Interface) {
	t.Helper()
	words := []string{"canary", "0.314159", "17.251", "31.251", "82.251", "box-shared", "hw-red"}
	all := everything(t, config, access.Namespace)
	for _, kind := range []string{"deployments", "secrets", "configmaps", "serviceaccounts", "services", "roles"} {
		if !slices.ContainsFunc(all, func(o object) bool { return o.resource == kind }) {
			t.Errorf("no %s are among what was searched", kind)
		}
	}
	for _, o := range all {
		for _, word := range words {
			if bytes.Contains(o.text, []byte(word)) {
				t.Errorf("%s %s holds %s", o.resource, o.name, word)
			}
		}
	}
	own := func(word string) bool {
		return slices.ContainsFunc(all, func(o object) bool { return o.name == seed.ConfigMap && bytes.Contains(o.text, []byte(word)) })
	}
	if !own("'red-1'") || !own("N100") {
		t.Error("red's own words are not found in its seed")
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = io.WriteString(w, "a canary") // into memory
	_ = w.Close()
	planted := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "planted"}, Data: map[string][]byte{"release": []byte(base64.StdEncoding.EncodeToString(packed.Bytes()))}}
	if _, err := client.CoreV1().Secrets(access.Namespace).Create(t.Context(), planted, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(everything(t, config, access.Namespace), func(o object) bool { return o.name == "planted" && bytes.Contains(o.text, []byte("canary")) }) {
		t.Error("what was planted is not found")
	}
}

// object is one of a namespace, with all that is packed or encoded in it.
type object struct {
	resource, name string
	text           []byte
}

// everything is every object of the namespace, of whatever kind the server has.
func everything(t *testing.T, config *rest.Config, namespace string) []object {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	lists, err := client.Discovery().ServerPreferredNamespacedResources()
	if err != nil {
		t.Fatal(err)
	}
	var all []object
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, resource := range list.APIResources {
			if !slices.Contains(resource.Verbs, "list") {
				continue
			}
			found, err := reader.Resource(version.WithResource(resource.Name)).Namespace(namespace).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatalf("list %s: %v", resource.Name, err)
			}
			for _, item := range found.Items {
				text, err := json.Marshal(item.Object)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, object{resource.Name, item.GetName(), append(text, inside(item.Object)...)})
			}
		}
	}
	return all
}

// inside is what texts of an object hold in base64 and gzip, however often.
func inside(value any) []byte {
	var all []byte
	switch value := value.(type) {
	case map[string]any:
		for _, v := range value {
			all = append(all, inside(v)...)
		}
	case []any:
		for _, v := range value {
			all = append(all, inside(v)...)
		}
	case string:
		for content := []byte(value); ; {
			next, ok := opened(content)
			if !ok {
				break
			}
			all = append(append(all, '\n'), next...)
			content = next
		}
	}
	return all
}

// opened is what a text in base64 or gzip holds.
func opened(content []byte) ([]byte, bool) {
	if r, err := gzip.NewReader(bytes.NewReader(content)); err == nil {
		text, err := io.ReadAll(r)
		return text, err == nil
	}
	decoded, err := base64.StdEncoding.DecodeString(string(content))
	return decoded, err == nil && len(content) > 0
}
