package seed

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
)

const namespace = "accumulus"

// clusters are API servers in memory.
type clusters struct {
	mu    sync.Mutex
	names []string
	fakes map[string]*fake.Clientset
	down  map[string]error
	hang  chan struct{} // closed when those that hang may answer
	hangs map[string]bool
}

func newClusters(names ...string) *clusters {
	c := &clusters{names: names, fakes: make(map[string]*fake.Clientset), down: make(map[string]error), hangs: make(map[string]bool), hang: make(chan struct{})}
	for _, name := range names {
		c.fakes[name] = fake.NewClientset()
	}
	return c
}

func (c *clusters) Clusters(context.Context) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.names, nil
}

func (c *clusters) Client(_ context.Context, cluster string) (kubernetes.Interface, string, error) {
	c.mu.Lock()
	err, hangs := c.down[cluster], c.hangs[cluster]
	c.mu.Unlock()
	if hangs {
		<-c.hang
	}
	return c.fakes[cluster], namespace, err
}

// writes are the verbs of requests that change something, since the last call.
func (c *clusters) writes(cluster string) []string {
	verbs := []string{}
	for _, a := range c.fakes[cluster].Actions() {
		if a.GetVerb() != "get" {
			verbs = append(verbs, a.GetVerb())
		}
	}
	c.fakes[cluster].ClearActions()
	return verbs
}

func (c *clusters) held(t *testing.T, cluster string) *corev1.ConfigMap {
	t.Helper()
	there, err := c.fakes[cluster].CoreV1().ConfigMaps(namespace).Get(t.Context(), ConfigMap, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.fakes[cluster].ClearActions()
	return there
}

func ensureKey(t testing.TB) Key {
	t.Helper()
	key, err := EnsureKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// rig is a seeder whose turns are taken by hand.
type rig struct {
	*Seeder
	t     *testing.T
	clock *clock.Manual
}

func newRig(t *testing.T, r *registry.Registry, clk *clock.Manual, key Key, c *clusters) *rig {
	t.Helper()
	s, err := NewSeeder(Config{}, r, key, c, clk, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return &rig{s, t, clk}
}

// turn looks once and waits for what that started.
func (r *rig) turn() {
	r.t.Helper()
	if err := r.look(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.running.Wait()
	r.clock.Advance(r.Seeder.config.Interval)
}

func applyTo(t *testing.T, r *registry.Registry, objects ...fleet.Object) {
	t.Helper()
	if _, err := r.Apply(t.Context(), objects, "test"); err != nil {
		t.Fatal(err)
	}
}

// TestSeederFollowsTheFleet: each cluster has its seed after a turn, a change
// is written to the clusters that it touches and to no other, nothing is
// written when nothing changed, and what somebody else changed is put right.
func TestSeederFollowsTheFleet(t *testing.T) {
	r, clk := open(t)
	c := newClusters("alpha", "secret-beta")
	s := newRig(t, r, clk, ensureKey(t), c)
	wrote := func(what string, alpha, beta []string) {
		t.Helper()
		if diff := cmp.Diff([][]string{alpha, beta}, [][]string{c.writes("alpha"), c.writes("secret-beta")}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	patch, none := []string{"patch"}, []string{}
	s.turn()
	wrote("first", patch, patch)
	signed, err := s.key.Sign(of(t, r, "alpha"))
	if err != nil {
		t.Fatal(err)
	}
	held := c.held(t, "alpha")
	if diff := cmp.Diff(map[string][]byte{schema.SeedFile: signed.Packed, schema.SeedSignatureFile: signed.Signature}, held.BinaryData); diff != "" {
		t.Error(diff)
	}
	if held.Annotations[VersionAnnotation] != signed.Version || held.ManagedFields[0].Manager != FieldManager {
		t.Errorf("metadata %+v", held.ObjectMeta)
	}
	s.turn()
	wrote("again", none, none)
	applyTo(t, r, fleet.NewObject("secret-beta.n9", fleet.Node{Cluster: "secret-beta", Node: "secret-n9", Box: "shared-box"}))
	s.turn()
	wrote("beta has a node more", none, patch)
	applyTo(t, r, fleet.NewObject("xeon", fleet.Hardware{CPUType: "xeon-e"}))
	s.turn()
	wrote("hardware of both", patch, patch)
	applyTo(t, r, fleet.NewObject("shared-box", fleet.Box{OverheadWatts: 18}))
	s.turn()
	wrote("watts", none, none)

	other := c.held(t, "alpha")
	other.BinaryData[schema.SeedFile] = []byte("x")
	if _, err := c.fakes["alpha"].CoreV1().ConfigMaps(namespace).Update(t.Context(), other, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.writes("alpha")
	clk.Advance(10 * time.Minute)
	s.turn()
	wrote("put right", patch, none)
	if err := r.RaiseSeed(t.Context(), "alpha", 0); err != nil {
		t.Fatal(err)
	}
	s.Again("alpha")
	s.turn()
	wrote("renewed", patch, none)
	again := newRig(t, r, clk, s.key, c)
	again.turn()
	wrote("after a start of the leader", none, none)
	if state, ok := again.State("alpha"); !ok || state.Err != nil || state.Version != of(t, r, "alpha").Version || state.Applied.IsZero() {
		t.Errorf("state %+v", state)
	}
	if err := Remove(t.Context(), c.fakes["alpha"], namespace); err != nil {
		t.Error(err)
	}
	if err := Remove(t.Context(), c.fakes["alpha"], namespace); err != nil {
		t.Errorf("nothing to remove: %v", err)
	}
}

// TestSeederBearsTrouble: clusters that hang or refuse delay no other; they
// are tried less and less often, and their seed comes when they answer.
func TestSeederBearsTrouble(t *testing.T) {
	r, clk := open(t)
	c := newClusters("alpha", "secret-beta", "hanging")
	c.down["secret-beta"] = errors.New("no route")
	c.hangs["hanging"] = true
	s := newRig(t, r, clk, ensureKey(t), c)
	started := context.WithoutCancel(t.Context())
	if err := s.look(started); err != nil {
		t.Fatal(err)
	}
	for len(c.writes("alpha")) == 0 { // while the other hangs
		if err := clock.System().Sleep(started, time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.look(started); err != nil { // the one that hangs is not asked twice
		t.Fatal(err)
	}
	close(c.hang)
	s.running.Wait()
	c.mu.Lock()
	c.hangs["hanging"] = false
	c.mu.Unlock()
	state, _ := s.State("secret-beta")
	if state.Err == nil || !state.Since.Equal(clk.Now()) {
		t.Errorf("state %+v", state)
	}
	tried := 0
	for range 4 * 60 { // an hour
		before := s.clusters["secret-beta"].failures
		s.turn()
		tried += s.clusters["secret-beta"].failures - before
	}
	if tried < 50 || tried > 65 {
		t.Errorf("tried %d times in an hour", tried)
	}
	c.mu.Lock()
	c.down["secret-beta"], c.names = nil, []string{"secret-beta"}
	c.mu.Unlock()
	clk.Advance(maxBackoff)
	s.turn()
	if state, _ := s.State("secret-beta"); state.Err != nil || len(c.writes("secret-beta")) != 1 {
		t.Errorf("state %+v", state)
	}
	if _, ok := s.State("alpha"); ok {
		t.Error("a cluster that has gone is remembered")
	}
}

// TestRegistryWentBack: a registry that was restored from a copy numbers its
// seeds on from what the clusters have, which alone this leader's signature
// proves.
func TestRegistryWentBack(t *testing.T) {
	r, clk := open(t)
	key, c := ensureKey(t), newClusters("alpha")
	newRig(t, r, clk, key, c).turn()
	before, err := key.Sign(of(t, r, "alpha"))
	if err != nil {
		t.Fatal(err)
	}
	future := of(t, r, "alpha")
	future.Generation += int64(time.Hour)
	later, err := key.Sign(New("alpha", registry.Knowledge{Generation: future.Generation}))
	if err != nil {
		t.Fatal(err)
	}
	forged, err := ensureKey(t).Sign(New("alpha", registry.Knowledge{Generation: 1 << 62}))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		has    Signed
		raised bool
	}{{forged, false}, {Signed{Version: "x", Packed: []byte("x")}, false}, {before, false}, {later, true}} {
		if _, err := test.has.Apply(t.Context(), c.fakes["alpha"], namespace); err != nil {
			t.Fatal(err)
		}
		was := of(t, r, "alpha").Generation
		newRig(t, r, clk, key, c).turn()
		now := of(t, r, "alpha").Generation
		if raised := now > was; raised != test.raised || raised && now <= future.Generation {
			t.Errorf("generation %d, was %d, the cluster had %d", now, was, test.has.Generation)
		}
		held := c.held(t, "alpha").BinaryData
		if got, ok := key.generation("alpha", held[schema.SeedFile], held[schema.SeedSignatureFile]); !ok || got != now {
			t.Errorf("the cluster has %d %t, want %d", got, ok, now)
		}
	}
}

func TestSeederEnds(t *testing.T) {
	r, _ := open(t)
	s, err := NewSeeder(Config{}, r, ensureKey(t), newClusters("alpha"), clock.System(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
}

// TestTooLarge: what no ConfigMap holds is not sent, and the error says what
// to do.
func TestTooLarge(t *testing.T) {
	c := newClusters("alpha")
	large := Signed{Cluster: "alpha", Version: "1", Packed: make([]byte, MaxConfigMap-63), Signature: make([]byte, 64)}
	_, err := large.Apply(t.Context(), c.fakes["alpha"], namespace)
	if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "accumulus seed alpha --out") {
		t.Errorf("error %v", err)
	}
	if got := c.writes("alpha"); len(got) > 0 {
		t.Errorf("requests %q", got)
	}
}

// TestRefusedByTheServer: the server's word reaches the caller.
func TestRefusedByTheServer(t *testing.T) {
	c := newClusters("alpha")
	c.fakes["alpha"].PrependReactor("patch", "configmaps", func(ktesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("configmaps is forbidden")
	})
	if _, err := (Signed{Cluster: "alpha"}).Apply(t.Context(), c.fakes["alpha"], namespace); err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("error %v", err)
	}
}

func TestKeyIsKept(t *testing.T) {
	dir := t.TempDir()
	first, err := EnsureKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := EnsureKey(dir)
	if err != nil || first.Public() != second.Public() {
		t.Errorf("another key, %v", err)
	}
	path := filepath.Join(dir, KeyFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file %v, %v", info.Mode(), err)
	}
	if public, err := base64.StdEncoding.DecodeString(first.Public()); err != nil || len(public) != 32 {
		t.Errorf("public key %q", first.Public())
	}
	for _, text := range []string{fmt.Sprint(first), fmt.Sprintf("%+v %#v", first, first)} {
		if strings.Trim(text, "* ") != "" {
			t.Errorf("the key prints as %s", text)
		}
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := EnsureKey(dir); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others can read: %v", err)
	}
	if _, err := ReadKey(path); err != nil {
		t.Errorf("a file that was named, such as a Secret's: %v", err)
	}
	for _, bad := range []string{"", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKey(path); err == nil {
			t.Errorf("%q is a key", bad)
		}
	}
}
