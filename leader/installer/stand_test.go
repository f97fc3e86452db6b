package installer

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/deploy"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/leader/credentials"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// stand is a control plane whose pods become ready without a node, and an
// installer over it.
type stand struct {
	t     *testing.T
	plane *kubetest.Plane
	kube  *kubernetes.Clientset
	books *registry.Registry
	keys  *credentials.Store
}

func newStand(t *testing.T) *stand {
	t.Helper()
	plane := kubetest.ControlPlane(t, kubetest.ControllerManager)
	s := &stand{t: t, plane: plane, kube: kubernetes.NewForConfigOrDie(plane.Config)}
	var err error
	dir := t.TempDir()
	if s.books, err = registry.Open(t.Context(), filepath.Join(dir, "registry.db"), clock.System()); err != nil {
		t.Fatal(err)
	}
	if s.keys, err = credentials.Open(t.Context(), credentials.Config{Dir: dir}, s.books, clock.System(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var started sync.WaitGroup
	started.Go(func() { s.readyPods(ctx) })
	t.Cleanup(func() {
		cancel()
		started.Wait()
		if err := s.books.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// readyPods says of every pod that it is ready, as its node would.
func (s *stand) readyPods(ctx context.Context) {
	for clock.System().Sleep(ctx, 100*time.Millisecond) == nil {
		pods, err := s.kube.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Pending"})
		if err != nil {
			continue
		}
		for _, pod := range pods.Items {
			pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
				{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}}
			_, _ = s.kube.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, &pod, metav1.UpdateOptions{}) // the next round tries again
		}
	}
}

// follower is the chart of the product.
func follower(t *testing.T) fs.FS {
	t.Helper()
	chart, err := fs.Sub(deploy.Charts, "charts/follower")
	if err != nil {
		t.Fatal(err)
	}
	return chart
}

// installer is a new one on the stand's registry, as at a leader's start.
func (s *stand) installer(edit func(*Config, *Parts)) *Installer {
	s.t.Helper()
	config := Config{Leader: me, Interval: 100 * time.Millisecond, Poll: 100 * time.Millisecond, Look: time.Hour, Backoff: 200 * time.Millisecond,
		Connect: 2 * time.Second}
	parts := Parts{Store: s.books, Credentials: s.keys, Chart: follower(s.t), Tokens: s.keys.EnsureTokens}
	if edit != nil {
		edit(&config, &parts)
	}
	i, err := New(config, parts, clock.System(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		s.t.Fatal(err)
	}
	return i
}

// run runs an installer until the test's part ends.
func (s *stand) run(t *testing.T, i *Installer) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// until waits for an installation to be as wanted.
func (s *stand) until(t *testing.T, cluster, what string, good func(registry.Installation) bool) registry.Installation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		one, err := s.books.Installation(ctx, cluster)
		if err == nil && good(one) {
			return one
		}
		if err := clock.System().Sleep(ctx, 20*time.Millisecond); err != nil {
			t.Fatalf("%s is not %s: %+v", cluster, what, one)
		}
	}
}

func inState(state string) func(registry.Installation) bool {
	return func(one registry.Installation) bool { return one.State == state && one.Done == one.Generation }
}

func (s *stand) namespace(t *testing.T, name string) {
	t.Helper()
	_, err := s.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}

// quota makes a namespace with so much room, and waits until it is counted.
func (s *stand) quota(t *testing.T, namespace string, hard corev1.ResourceList) {
	t.Helper()
	s.namespace(t, namespace)
	quotas := s.kube.CoreV1().ResourceQuotas(namespace)
	if _, err := quotas.Create(t.Context(), &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "small"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for {
		q, err := quotas.Get(t.Context(), "small", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(q.Status.Hard) > 0 {
			return
		}
		if err := clock.System().Sleep(t.Context(), 50*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

// account is the token of a service account without rights.
func (s *stand) account(t *testing.T) string {
	t.Helper()
	s.namespace(t, "accounts")
	accounts := s.kube.CoreV1().ServiceAccounts("accounts")
	if _, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "nobody"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	token, err := accounts.CreateToken(t.Context(), "nobody", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return token.Status.Token
}

// expired is a token that the cluster itself signed, and that ended an hour ago.
func (s *stand) expired(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.plane.Dir, "pki", "sa.key"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	signed := part(`{"alg":"RS256"}`) + "." + part(fmt.Sprintf(`{"iss":"https://kubernetes.default.svc.cluster.local","aud":["https://kubernetes.default.svc.cluster.local"],"sub":"system:serviceaccount:accounts:nobody","iat":%d,"nbf":%d,"exp":%d,"kubernetes.io":{"namespace":"accounts","serviceaccount":{"name":"nobody","uid":"u"}}}`,
		now.Add(-2*time.Hour).Unix(), now.Add(-2*time.Hour).Unix(), now.Add(-time.Hour).Unix()))
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}
