package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
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
	{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: []string{"get", "list", "watch"}},
	{APIGroups: []string{"storage.k8s.io"}, Resources: []string{"storageclasses"}, Verbs: []string{"get", "list", "watch"}},
}

// meter is the follower's command on a cluster, outside of it.
type meter struct {
	*influxsync.Server
	t       testing.TB
	program string
	args    []string
	url     string
	viewer  string // file of the viewer's token
	client  *http.Client
	command *exec.Cmd
	output  *bytes.Buffer
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
	token := s.account(t, fmt.Sprintf("follower-%d", port), meterRules...)
	user := rest.AnonymousClientConfig(cluster.Config())
	user.BearerToken = token
	kubeconfig, tokenFile := filepath.Join(dir, "kubeconfig"), filepath.Join(dir, "token")
	if err := kubetest.WriteKubeconfig(kubeconfig, cluster.Name, user); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tokenFile, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &meter{t: t, program: program(t, "accumulus-follower"), output: &bytes.Buffer{}, client: &http.Client{Transport: http.DefaultTransport}, url: fmt.Sprintf("http://127.0.0.1:%d", port),
		viewer: filepath.Join(dir, "follower-"+cluster.Name, "viewer.token")}
	m.args = append([]string{"--cluster", cluster.Name, "--source", "kubelet", "--kubeconfig", kubeconfig,
		"--kubelet-ca-file", cluster.CAFile, "--kubelet-token-file", tokenFile, "--data", dir, "--listen", fmt.Sprintf("127.0.0.1:%d", port)}, flags...)
	m.start()
	t.Cleanup(func() {
		_ = m.command.Process.Signal(syscall.SIGTERM)
		err := m.command.Wait()
		if err != nil || t.Failed() {
			t.Errorf("follower: %v\n%s", err, m.output)
		}
	})
	return m
}

// start starts the follower, again when it was killed, and returns when its
// store answers.
func (m *meter) start() {
	m.t.Helper()
	m.command = exec.Command(m.program, m.args...)
	m.command.Stdout, m.command.Stderr = m.output, m.output
	if err := m.command.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.connect()
}

// connect returns when the follower's store answers.
func (m *meter) connect() {
	m.t.Helper()
	eventually(m.t, "the follower's store", func(ctx context.Context) error {
		viewer, err := os.ReadFile(m.viewer)
		if err != nil {
			return err
		}
		m.Server, err = influxsync.New(influxsync.Config{URL: m.url, Token: influxsync.Secret(strings.TrimSpace(string(viewer))), Transport: m.client.Transport})
		if err != nil {
			return err
		}
		return m.Ping(ctx)
	})
}

// kill ends the follower as a loss of its node does.
func (m *meter) kill() {
	m.t.Helper()
	if err := m.command.Process.Kill(); err != nil {
		m.t.Fatal(err)
	}
	_ = m.command.Wait() // that it was killed
}

// meterStatus is a part of what a follower tells of itself.
type meterStatus struct {
	Mark        *time.Time
	Waiting     string
	WaitingRows int
	StoreError  string
	Sources     []struct {
		Name, Error string
		LastSuccess *time.Time
	}
	Nodes []struct {
		Name              string
		ClockShiftSeconds float64
	}
}

func (m *meter) status(ctx context.Context) (meterStatus, error) {
	var status meterStatus
	viewer, err := os.ReadFile(m.viewer)
	if err != nil {
		return status, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url+"/api/v1/status", nil)
	if err != nil {
		return status, err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(viewer)))
	response, err := m.client.Do(request)
	if err != nil {
		return status, err
	}
	defer func() { _ = response.Body.Close() }()
	if err := json.NewDecoder(response.Body).Decode(&status); err != nil {
		return status, fmt.Errorf("status %s: %w", response.Status, err)
	}
	return status, nil
}

// settled is the end of the last minute that has settled, and why the next has
// not.
func (m *meter) settled(ctx context.Context) (time.Time, string, error) {
	status, err := m.status(ctx)
	if err != nil || status.Mark == nil {
		return time.Time{}, status.Waiting, err
	}
	return *status.Mark, status.Waiting, nil
}

// factual says whether all rows of settled minutes have their facts.
func (m *meter) factual(ctx context.Context) error {
	status, err := m.status(ctx)
	if err == nil && status.WaitingRows > 0 {
		err = fmt.Errorf("%d rows wait for theirs", status.WaitingRows)
	}
	return err
}

// until waits until all before t has settled.
func (m *meter) until(at time.Time) {
	m.t.Helper()
	eventually(m.t, "minutes before "+at.Format(time.TimeOnly), func(ctx context.Context) error {
		mark, why, err := m.settled(ctx)
		if err == nil && mark.Before(at) {
			err = fmt.Errorf("settled until %s: %s", mark.Format(time.TimeOnly), why)
		}
		return err
	})
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
			row[field.Name] = field.Value.Str()
			if field.Value.Type == schema.Integer {
				row[field.Name] = strconv.FormatInt(field.Value.Int(), 10)
			}
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
