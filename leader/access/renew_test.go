package access

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/leader/credentials"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// toRenew is what a leader may besides whose token ends.
var toRenew = []right{{"create", ":serviceaccounts/token", Namespace, Account}}

// TestTokenThatEnds gives a leader a token that ends on a real API server: there is
// no Secret with another one, the leader renews it itself, and where the cluster
// does not let it, that is told and nothing is lost.
func TestTokenThatEnds(t *testing.T) {
	admin := kubetest.ControlPlane(t, kubetest.ControllerManager).Config
	system := clientOf(t, admin)
	forever := Options{Leader: "leader-one", Install: true}
	before, err := Make(t.Context(), admin, clock.System(), forever)
	if err != nil {
		t.Fatal(err)
	}
	asks(t, clientOf(t, account(t, before)), toRenew, false)

	for _, wrong := range []time.Duration{time.Minute, -time.Hour, longestToken + time.Second} {
		if _, err := Make(t.Context(), admin, clock.System(), Options{TokenDuration: wrong}); err == nil || !strings.Contains(err.Error(), "cannot be given") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
	ending := forever
	ending.TokenDuration = 2 * time.Hour
	grant, err := Make(t.Context(), admin, clock.System(), ending)
	if err != nil {
		t.Fatal(err)
	}
	if left := grant.Ends.Sub(clock.System().Now()); left < time.Hour || left > 2*time.Hour {
		t.Errorf("it ends in %s", left)
	}
	if _, err := clientOf(t, account(t, before)).CoreV1().Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{}); err != nil {
		t.Errorf("the former token, before the leader has the new one: %v", err)
	}
	if err := Tidy(t.Context(), admin, ending); err != nil {
		t.Fatal(err)
	}
	if _, err := system.CoreV1().Secrets(Namespace).Get(t.Context(), tokenSecret, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a token that does not end: %v", err)
	}
	client := clientOf(t, account(t, grant))
	asks(t, client, toMeter, true)
	asks(t, client, toRenew, true)
	asks(t, client, never, false)

	renewed(t, system, grant)

	t.Run("without end again", func(t *testing.T) {
		if _, err := Make(t.Context(), admin, clock.System(), forever); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := Tidy(t.Context(), admin, forever); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := system.RbacV1().Roles(Namespace).Get(t.Context(), "accumulus-leader-renew", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("the right to renew: %v", err)
		}
	})
}

// renewed has a renewer look at the token over its life.
func renewed(t *testing.T, system kubernetes.Interface, grant Grant) {
	t.Helper()
	now := clock.NewManual(clock.System().Now())
	r, err := registry.Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), now)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	log := slog.New(slog.DiscardHandler)
	store, err := credentials.Open(t.Context(), credentials.Config{Dir: t.TempDir()}, r, now, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), "ams", credentials.Record{Kubeconfig: grant.Kubeconfig, ClusterID: grant.ClusterID}); err != nil {
		t.Fatal(err)
	}
	renewer, err := credentials.NewRenewer(store, func(context.Context) ([]string, error) { return []string{"ams", "unknown"}, nil }, now, log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	token := func() string {
		config, err := store.RESTConfig(t.Context(), "ams")
		if err != nil {
			t.Fatal(err)
		}
		return config.BearerToken
	}
	look := func() {
		t.Helper()
		if err := renewer.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	first := token()
	now.Advance(time.Hour)
	if look(); token() != first {
		t.Error("renewed at half of its life")
	}
	now.Advance(30 * time.Minute)
	look()
	second := token()
	if state, failed := renewer.State("ams"); failed || second == first {
		t.Fatalf("not renewed at three quarters of its life: %+v", state)
	}
	config, err := store.RESTConfig(t.Context(), "ams")
	if err != nil {
		t.Fatal(err)
	}
	asks(t, clientOf(t, config), toMeter, true)
	if record, _, err := store.Get(t.Context(), "ams"); err != nil || record.ClusterID != grant.ClusterID || strings.Contains(string(record.Kubeconfig), first) {
		t.Errorf("cluster %q, %v; the former token is kept: %t", record.ClusterID, err, strings.Contains(string(record.Kubeconfig), first))
	}

	if err := system.RbacV1().RoleBindings(Namespace).Delete(t.Context(), "accumulus-leader-renew", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the right is gone", func() bool { return !may(t, clientOf(t, config), toRenew[0]) })
	now.Advance(2 * time.Hour)
	look()
	state, failed := renewer.State("ams")
	if !failed || !apierrors.IsForbidden(state.Err) || token() != second || !state.Since.Equal(now.Now()) || errors.Is(state.Err, credentials.ErrNotRenewable) {
		t.Errorf("failed: %t, %+v", failed, state)
	}
	since := now.Now()
	now.Advance(time.Minute)
	look()
	if state, _ := renewer.State("ams"); !state.Since.Equal(since) {
		t.Errorf("failing since %s, want %s", state.Since, since)
	}
	if err := store.Put(t.Context(), "ams", credentials.Record{Kubeconfig: grant.Kubeconfig, ClusterID: grant.ClusterID}); err != nil {
		t.Fatal(err)
	}
	now.Set(since.Add(-150 * time.Minute))
	if look(); token() != first {
		t.Error("renewed before its time")
	}
	if _, failed := renewer.State("ams"); failed {
		t.Error("it still counts as not renewed")
	}
}
