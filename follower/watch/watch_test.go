package watch

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

// start runs a watch until the test ends.
func start(t *testing.T, client kubernetes.Interface) *Watch {
	t.Helper()
	return startWith(t, Config{}, client)
}

func startWith(t *testing.T, config Config, client kubernetes.Interface) *Watch {
	t.Helper()
	w, err := New(config, client, clock.System(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx := t.Context()
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() { // t.Context ends before
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return w
}

// eventually waits for changes of the log until ok holds.
func eventually(t *testing.T, w *Watch, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	for !ok() {
		select {
		case <-w.Wake():
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			t.Fatalf("%s did not come; status %+v", what, w.Status())
		}
	}
}

func TestWatchWithClientset(t *testing.T) {
	set := webSet()
	pod := newPod("u1", owned("ReplicaSet", "apps/v1", set.Name, set.UID))
	pod.Namespace = "team-a"
	lost := newPod("u2", owned("ReplicaSet", "apps/v1", "api-5d9c", "gone"))
	client := fake.NewSimpleClientset(set, pod, lost)
	w := start(t, client)
	eventually(t, w, "the first list", func() bool { return w.Status().Synced })
	eventually(t, w, "the owner that is absent", func() bool {
		pods := w.Pods()
		return len(pods) == 2 && pods[0].Workload == "api" && pods[1].Workload == "web"
	})
	ctx := t.Context()
	if _, err := client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "n"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := client.CoreV1().Pods("team-a").Delete(ctx, pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, w, "node and deletion", func() bool { return len(w.Nodes()) == 1 && !w.Pods()[1].End.IsZero() })
}

// TestFurtherKindsAreNotWaitedFor: pods are metered where claims are refused, and
// the status says which kinds are.
func TestFurtherKindsAreNotWaitedFor(t *testing.T) {
	client := fake.NewSimpleClientset(newPod("u1", nil), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", UID: "s"}})
	client.PrependReactor("list", "persistentvolumeclaims", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(corev1.Resource("persistentvolumeclaims"), "", nil)
	})
	w := start(t, client)
	eventually(t, w, "the first list", func() bool { return w.Status().Synced && len(w.Pods()) == 1 })
	eventually(t, w, "the other kinds", func() bool { return slices.Equal(w.Status().Unlisted, []string{KindClaim}) })
	if s := w.Status(); !strings.Contains(s.LastError, "forbidden") {
		t.Errorf("status %+v", s)
	}
}

// hidden calls everything the same.
type hidden struct{}

func (hidden) Alias(kind, _, _ string) string { return "hidden" }

// TestStatusTellsNoName: an owner that the API server does not give is named by
// its UID where names stay here; in the control by its name.
func TestStatusTellsNoName(t *testing.T) {
	for _, alias := range []Aliaser{hidden{}, nil} {
		client := fake.NewSimpleClientset(newPod("u1", owned("ReplicaSet", "apps/v1", "secret-5d9c", "r")))
		client.PrependReactor("get", "replicasets", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, apierrors.NewForbidden(corev1.Resource("replicasets"), "secret-5d9c", nil)
		})
		w := startWith(t, Config{Alias: alias}, client)
		eventually(t, w, "the refusal", func() bool { return w.Status().LastError != "" })
		if got := w.Status().LastError; strings.Contains(got, "secret") == (alias != nil) || !strings.Contains(strings.ToLower(got), "forbidden") {
			t.Errorf("with %v: %s", alias, got)
		}
		if got := w.unresolved(); len(got) != 1 || got[0].name != "secret-5d9c" {
			t.Errorf("the API server is asked for %+v", got)
		}
	}
}

// apiServer answers list and watch of one API server with real JSON.
type apiServer struct {
	streams bool // knows sendInitialEvents
	items   map[string][]json.RawMessage

	mu       sync.Mutex
	requests []string
	events   chan string
}

var kinds = map[string][2]string{"pods": {"v1", "Pod"}, "nodes": {"v1", "Node"}, "replicasets": {"apps/v1", "ReplicaSet"}, "jobs": {"batch/v1", "Job"},
	"namespaces": {"v1", "Namespace"}, "persistentvolumes": {"v1", "PersistentVolume"}, "persistentvolumeclaims": {"v1", "PersistentVolumeClaim"},
	"storageclasses": {"storage.k8s.io/v1", "StorageClass"}}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	query := r.URL.Query()
	a.mu.Lock()
	a.requests = append(a.requests, fmt.Sprintf("%s watch=%s initial=%s accept=%s", name, query.Get("watch"), query.Get("sendInitialEvents"), r.Header.Get("Accept")))
	a.mu.Unlock()
	kind, ok := kinds[name]
	switch {
	case r.Header.Get("Authorization") != "Bearer t0":
		w.WriteHeader(http.StatusUnauthorized)
		return
	case name == "version":
		fmt.Fprint(w, `{"major":"1","minor":"37"}`)
		return
	case !ok:
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if query.Get("watch") == "" {
		list, _ := json.Marshal(map[string]any{"kind": kind[1] + "List", "apiVersion": kind[0], "metadata": map[string]string{"resourceVersion": "100"}, "items": a.items[name]})
		_, _ = w.Write(list)
		return
	}
	if query.Get("sendInitialEvents") == "true" {
		if !a.streams {
			w.WriteHeader(http.StatusUnprocessableEntity)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","message":"sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled","code":422}`)
			return
		}
		for _, item := range a.items[name] {
			fmt.Fprintf(w, `{"type":"ADDED","object":%s}`+"\n", item)
		}
		fmt.Fprintf(w, `{"type":"BOOKMARK","object":{"kind":%q,"apiVersion":%q,"metadata":{"resourceVersion":"100","annotations":{"k8s.io/initial-events-end":"true"}}}}`+"\n", kind[1], kind[0])
	}
	w.(http.Flusher).Flush()
	for {
		var events chan string
		if name == "pods" {
			events = a.events
		}
		select {
		case event := <-events:
			fmt.Fprintln(w, event)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func TestWatchOverHTTPS(t *testing.T) {
	for _, streams := range []bool{true, false} {
		t.Run(fmt.Sprintf("WatchList=%v", streams), func(t *testing.T) {
			server := &apiServer{streams: streams, items: make(map[string][]json.RawMessage), events: make(chan string, 1)}
			pods := realPods(t)
			for i := range pods {
				pods[i].Kind, pods[i].APIVersion = "Pod", "v1"
				text, err := json.Marshal(pods[i])
				if err != nil {
					t.Fatal(err)
				}
				server.items["pods"] = append(server.items["pods"], text)
			}
			var node corev1.Node
			load(t, "testdata/node.yaml", &node)
			text, err := json.Marshal(node)
			if err != nil {
				t.Fatal(err)
			}
			server.items["nodes"] = []json.RawMessage{text}
			client := dial(t, server)
			w := start(t, client)
			eventually(t, w, "the first list", func() bool { return w.Status().Synced })
			if nodes, found := len(w.Nodes()), len(w.Pods()); nodes != 1 || found != len(pods) {
				t.Errorf("%d nodes and %d pods, want 1 and %d", nodes, found, len(pods))
			}
			gone := slices.Clone(server.items["pods"])[0]
			server.events <- fmt.Sprintf(`{"type":"DELETED","object":%s}`, gone)
			eventually(t, w, "the deletion", func() bool { return !w.Pods()[0].End.IsZero() })
			// ReplicaSets and Jobs can't be got from this server: the names tell.
			eventually(t, w, "owners by their names", func() bool {
				all := w.Pods()
				return all[2].Workload == "once" && all[4].WorkloadKind == "Deployment" && all[4].Workload == "web"
			})
			offset, err := client.Offset(t.Context())
			if err != nil || offset > 2*time.Second || offset < -2*time.Second {
				t.Errorf("offset %s, %v", offset, err)
			}
			server.mu.Lock()
			defer server.mu.Unlock()
			for _, request := range server.requests {
				if strings.Contains(request, "protobuf") || strings.Contains(request, "cbor") {
					t.Errorf("%s: objects travel as JSON", request)
				}
			}
		})
	}
}

// dial serves the API server over TLS and makes a client for it.
func dial(t *testing.T, handler http.Handler) *Client {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.CloseClientConnections)
	dir := t.TempDir()
	config := ClientConfig{URL: server.URL, CAFile: filepath.Join(dir, "ca.pem"), TokenFile: filepath.Join(dir, "token")}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for path, text := range map[string][]byte{config.CAFile: block, config.TokenFile: []byte("t0")} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	client, err := NewClient(config, clock.System())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestWatchShowsRefusal(t *testing.T) {
	client := dial(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","message":"pods is forbidden","code":403}`)
	}))
	w := start(t, client)
	eventually(t, w, "the error", func() bool { return strings.Contains(w.Status().LastError, "forbidden") })
	if w.Status().Synced || w.Status().LastErrorAt.IsZero() {
		t.Errorf("status %+v", w.Status())
	}
}

// TestErrorEndsWithWhatFailed: an error stands as long as the list or watch fails
// that it came from, and no longer.
func TestErrorEndsWithWhatFailed(t *testing.T) {
	server := &apiServer{items: make(map[string][]json.RawMessage)}
	var refuses atomic.Bool
	refuses.Store(true)
	client := dial(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refuses.Load() && strings.HasSuffix(r.URL.Path, "/pods") {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","message":"pods is forbidden","code":403}`)
			return
		}
		server.ServeHTTP(w, r)
	}))
	w := start(t, client)
	eventually(t, w, "the error", func() bool { return strings.Contains(w.Status().LastError, "forbidden") })
	if again := w.Status(); !strings.Contains(again.LastError, "forbidden") || again.LastErrorAt.IsZero() {
		t.Errorf("it went though it stands: %+v", again)
	}
	refuses.Store(false)
	eventually(t, w, "the first list", func() bool { return w.Status().Synced })
	if status := w.Status(); status.LastError != "" || !status.LastErrorAt.IsZero() {
		t.Errorf("it stands though it is over: %+v", status)
	}
}

func TestClientConfig(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, config := range map[string]ClientConfig{"give --kubeconfig, or --api-server": {}, "no current-context": {Kubeconfig: empty}} {
		if _, err := NewClient(config, clock.System()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", config, err, want)
		}
	}
	for _, config := range []ClientConfig{{}, {URL: "https://x", Kubeconfig: "y"}, {Kubeconfig: filepath.Join(t.TempDir(), "none")},
		{URL: "https://x", CAFile: filepath.Join(t.TempDir(), "none")}} {
		if _, err := NewClient(config, clock.System()); err == nil {
			t.Errorf("%+v was taken", config)
		}
	}
}
