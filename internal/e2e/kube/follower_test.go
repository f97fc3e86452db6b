package kube

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/rest"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// meterRules are what a follower may do in its cluster.
var meterRules = []rbacv1.PolicyRule{
	{APIGroups: []string{""}, Resources: []string{"nodes", "pods", "namespaces", "persistentvolumeclaims", "persistentvolumes"}, Verbs: []string{"get", "list", "watch"}},
	{APIGroups: []string{""}, Resources: []string{"nodes/stats", "nodes/metrics"}, Verbs: []string{"get"}},
	{APIGroups: []string{"apps"}, Resources: []string{"replicasets"}, Verbs: []string{"get", "list", "watch"}},
	{APIGroups: []string{"batch"}, Resources: []string{"jobs", "cronjobs"}, Verbs: []string{"get", "list", "watch"}},
	{APIGroups: []string{"storage.k8s.io"}, Resources: []string{"storageclasses"}, Verbs: []string{"get", "list", "watch"}},
}

// meter is the follower's command on a cluster, outside of it.
type meter struct {
	*influxsync.Server
	output *bytes.Buffer
}

// program is one of the product's, as it is in its image.
func program(t testing.TB, name string) string {
	t.Helper()
	root, err := kubetest.Root()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "build", "images", "bin", runtime.GOARCH, name)
}

// startMeter runs the follower with a service account's rights until the test
// ends, on that port of loopback.
func startMeter(t testing.TB, s space, cluster *kubetest.Standing, port int, flags ...string) *meter {
	t.Helper()
	dir := t.TempDir()
	token := s.account(t, "follower", meterRules...)
	user := rest.AnonymousClientConfig(cluster.Config())
	user.BearerToken = token
	kubeconfig, tokenFile := filepath.Join(dir, "kubeconfig"), filepath.Join(dir, "token")
	if err := kubetest.WriteKubeconfig(kubeconfig, cluster.Name, user); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tokenFile, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &meter{output: &bytes.Buffer{}}
	command := exec.Command(program(t, "accumulus-follower"), append([]string{"--cluster", cluster.Name, "--source", "kubelet", "--kubeconfig", kubeconfig,
		"--kubelet-ca-file", cluster.CAFile, "--kubelet-token-file", tokenFile, "--data", dir, "--listen", fmt.Sprintf("127.0.0.1:%d", port)}, flags...)...)
	command.Stdout, command.Stderr = m.output, m.output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		err := command.Wait()
		if err != nil || t.Failed() {
			t.Errorf("follower: %v\n%s", err, m.output)
		}
	})
	eventually(t, "the follower's first reading", func(ctx context.Context) error {
		viewer, err := os.ReadFile(filepath.Join(dir, "follower-"+cluster.Name, "viewer.token"))
		if err != nil {
			return err
		}
		m.Server, err = influxsync.New(influxsync.Config{URL: fmt.Sprintf("http://127.0.0.1:%d", port), Token: influxsync.Secret(strings.TrimSpace(string(viewer)))})
		if err != nil {
			return err
		}
		return m.Ping(ctx)
	})
	return m
}

// rows are those of a table of the minute.
func (m *meter) rows(ctx context.Context, table string) ([]map[string]string, error) {
	var rows []map[string]string
	err := m.Database(schema.MinuteDB).TimeQuery(ctx, table, schema.Window{}, nil, func(p influxsync.Point) error {
		row := map[string]string{"time": p.Time.Format(time.RFC3339)}
		for _, tag := range p.Tags {
			row[tag.Key] = tag.Value
		}
		for _, field := range p.Fields {
			row[field.Name] = fmt.Sprint(field.Value.Int()) // the minutes hold nothing else
		}
		rows = append(rows, row)
		return nil
	})
	return rows, err
}

// The follower's own binary meters a real kubelet: its minutes have the node and
// the pods, with their workload.
func TestFollowerMetersRealNode(t *testing.T) {
	cluster := kubetest.Inside(t).Cluster(t, "alpha")
	s := newSpace(t, cluster)
	s.deploy(t, "busy", 2, "-cpu", "100", "-memory", "20")
	m := startMeter(t, s, cluster, 18461, "--scrape-interval", "5s", "--settle-deadline", "10s", "--facts-deadline", "20s")
	pods := s.pods(t, "busy")
	eventually(t, "a minute of the pods", func(ctx context.Context) error {
		rows, err := m.rows(ctx, schema.PodMinute.Name)
		if err != nil {
			return err
		}
		seen := make(map[string]bool)
		for _, row := range rows {
			if pods[row[schema.PodUID]] != row[schema.Pod] || row[schema.Namespace] != s.name || row[schema.CPU] == "0" {
				continue
			}
			if row[schema.Workload] != "busy" || row[schema.WorkloadKind] != "Deployment" || row[schema.Node] != cluster.Nodes[0].Name {
				return fmt.Errorf("row %v", row)
			}
			seen[row[schema.Pod]] = true
		}
		if len(seen) < len(pods) {
			return fmt.Errorf("%d of %d pods among %d rows", len(seen), len(pods), len(rows))
		}
		return nil
	})
	nodes, err := m.rows(t.Context(), schema.NodeMinute.Name)
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes) == 0 || nodes[0][schema.Node] != cluster.Nodes[0].Name {
		t.Errorf("node rows %v", nodes)
	}
}
