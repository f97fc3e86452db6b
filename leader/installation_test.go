package leader

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/leader/access"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/credentials"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/installer"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// TestInstallsByItself: a cluster of which the leader gets credentials has a
// follower with this leader's seed, and its key; it is not removed before its last
// pull, unless by force, and then nothing of it is left.
func TestInstallsByItself(t *testing.T) {
	plane := kubetest.ControlPlane(t, kubetest.ControllerManager)
	kube := kubernetes.NewForConfigOrDie(plane.Config)
	config := Config{Dir: t.TempDir(), API: api.Config{Listen: "127.0.0.1:0"},
		Installer: InstallerConfig{Values: map[string]any{"logLevel": "debug"},
			Rhythm: installer.Config{Interval: 50 * time.Millisecond, Poll: 50 * time.Millisecond, Backoff: 100 * time.Millisecond}}}
	l, err := Open(t.Context(), config, clock.System(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	listener, err := l.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx, listener) }()
	defer func() {
		cancel()
		if err := errors.Join(<-done, l.Close()); err != nil {
			t.Error(err)
		}
	}()
	grant, err := access.Make(ctx, plane.Config, clock.System(), access.Options{Leader: l.id, Install: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AddCluster(ctx, "ams", fleet.Cluster{Via: fleet.ViaServiceProxy}); err != nil {
		t.Fatal(err)
	}
	until(t, l, "looked at", func(one registry.Installation) bool { return one.Class == "credentials" })
	if err := l.SetCredentials(ctx, "ams", api.Kubeconfig{Kubeconfig: api.Secret(grant.Kubeconfig), ClusterID: grant.ClusterID}); err != nil {
		t.Fatal(err)
	}
	// Without a node no pod comes up: it has time for that.
	one := until(t, l, "installed", func(one registry.Installation) bool { return one.Revision == 1 && one.Message != "" })
	if one.State != registry.InstallInstalling || one.Class != "not-ready" || one.Hint == "" {
		t.Errorf("%+v", one)
	}
	deployment, err := kube.AppsV1().Deployments("accumulus").Get(ctx, installer.Release, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	args := strings.Join(deployment.Spec.Template.Spec.Containers[0].Args, " ")
	for _, part := range []string{"--cluster=ams", "--seed-public-key=" + l.SeedKey(), "--log-level=debug"} {
		if !strings.Contains(args, part) {
			t.Errorf("%s has no %s", args, part)
		}
	}
	if seed, err := kube.CoreV1().ConfigMaps("accumulus").Get(ctx, installer.SeedMap, metav1.GetOptions{}); err != nil || len(seed.BinaryData) != 2 {
		t.Errorf("seed: %v", err)
	}
	err = l.RemoveCluster(ctx, "ams", false)
	var hinted *api.Hinted
	if !errors.Is(err, api.ErrConflict) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint, "cluster remove ams --force") {
		t.Errorf("removed without its last pull: %v", err)
	}
	if err := l.RemoveCluster(ctx, "ams", true); err != nil {
		t.Fatal(err)
	}
	if one := until(t, l, "removed", func(registry.Installation) bool { return true }); one.State != registry.InstallRemoved {
		t.Errorf("%+v", one)
	}
	if _, err := l.clusterNow(ctx, "ams"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("the cluster is still there: %v", err)
	}
	if _, _, err := l.keys.Get(ctx, "ams"); !errors.Is(err, credentials.ErrNone) {
		t.Errorf("credentials: %v", err)
	}
	for what, get := range map[string]func() error{
		"Deployment": func() error {
			_, err := kube.AppsV1().Deployments("accumulus").Get(ctx, installer.Release, metav1.GetOptions{})
			return err
		},
		"Secret": func() error {
			_, err := kube.CoreV1().Secrets("accumulus").Get(ctx, installer.TokensSecret, metav1.GetOptions{})
			return err
		},
		"ConfigMap": func() error {
			_, err := kube.CoreV1().ConfigMaps("accumulus").Get(ctx, installer.SeedMap, metav1.GetOptions{})
			return err
		},
	} {
		if err := get(); !apierrors.IsNotFound(err) {
			t.Errorf("%s is left: %v", what, err)
		}
	}
}

// until waits for the installation in cluster ams to be as wanted.
func until(t *testing.T, l *Leader, what string, good func(registry.Installation) bool) registry.Installation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		one, err := l.installer.Installation(ctx, "ams")
		if err == nil && good(one) {
			return one
		}
		if err := clock.System().Sleep(ctx, 20*time.Millisecond); err != nil {
			t.Fatalf("not %s: %+v", what, one)
		}
	}
}
