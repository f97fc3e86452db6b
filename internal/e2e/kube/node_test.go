package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/accumulus-metering/accumulus/internal/kubetest"
)

// Two clusters at once, each with a node on which pods and Jobs run and whose
// kubelet tells what they use to a service account that may only ask that.
func TestClusters(t *testing.T) {
	lab := kubetest.Inside(t)
	for _, name := range []string{"alpha", "beta"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := lab.Cluster(t, name)
			s := newSpace(t, cluster)
			s.deploy(t, "web", 2)
			s.job(t, "once", "-for", "100ms")
			t.Run("service proxy", func(t *testing.T) { proxied(t, s) })
			t.Run("pod network", func(t *testing.T) { reached(t, s) })
			t.Run("services", func(t *testing.T) { served(t, s) })
			t.Run("kubelet", func(t *testing.T) { asked(t, s, cluster) })
			t.Run("control groups", func(t *testing.T) { grouped(t, s, cluster.Nodes[0]) })
		})
	}
}

// proxied asks a pod through the API server, by the names of service and port.
func proxied(t *testing.T, s space) {
	eventually(t, "service proxy", func(ctx context.Context) error {
		answer, err := s.CoreV1().Services(s.name).ProxyGet("http", "web", "http", "/some/path", nil).DoRaw(ctx)
		if err == nil && (!strings.HasPrefix(string(answer), "web-") || !strings.HasSuffix(string(answer), " /some/path\n")) {
			err = fmt.Errorf("answer %q", answer)
		}
		return err
	})
}

// reached asks each pod at its own address, past the API server.
func reached(t *testing.T, s space) {
	list, err := s.CoreV1().Pods(s.name).List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range list.Items {
		answer, status := get(t, http.DefaultClient, "http://"+pod.Status.PodIP+":8080/x", "")
		if want := pod.Name + " /x\n"; status != http.StatusOK || answer != want {
			t.Errorf("%s answers %d %q, want %q", pod.Name, status, answer, want)
		}
	}
}

// served has pods ask at the addresses of services: a service's of the test, and
// the API server's, which is where a follower in a pod finds it.
func served(t *testing.T, s space) {
	web, err := s.CoreV1().Services(s.name).Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.job(t, "asks-web", "-get", "http://"+web.Spec.ClusterIP+"/")
	s.job(t, "asks-api", "-get", "https://10.96.0.1/version")
}

// asked asks the kubelet as a follower does.
func asked(t *testing.T, s space, cluster *kubetest.Standing) {
	token := s.account(t, "meter", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"nodes/stats", "nodes/metrics"}, Verbs: []string{"get"}})
	client := kubeletClient(t, cluster.CAFile)
	base := fmt.Sprintf("https://%s:10250", cluster.Nodes[0].Address)
	var names []string
	for _, name := range s.pods(t, "web") {
		names = append(names, `"name": "`+name+`"`)
	}
	eventually(t, "pods in the kubelet's summary", func(context.Context) error {
		summary, status := get(t, client, base+"/stats/summary", token)
		if status != http.StatusOK {
			return fmt.Errorf("status %d: %s", status, summary)
		}
		for _, name := range names {
			if !strings.Contains(summary, name) {
				return fmt.Errorf("no %s among %d bytes", name, len(summary))
			}
		}
		return nil
	})
	for path, want := range map[string]int{"/metrics/resource": http.StatusOK, "/metrics/cadvisor": http.StatusOK,
		"/pods": http.StatusForbidden, "/configz": http.StatusForbidden} {
		if answer, status := get(t, client, base+path, token); status != want {
			t.Errorf("%s: status %d, want %d: %.500s", path, status, want, answer)
		}
	}
	if _, status := get(t, client, base+"/stats/summary", ""); status != http.StatusUnauthorized {
		t.Errorf("without a token: status %d", status)
	}
	whole(t, client, base, token, cluster.Nodes[0])
	cadvisor, _ := get(t, client, base+"/metrics/cadvisor", token)
	contains(t, "cadvisor", cadvisor, `container="work"`, `namespace="`+s.name+`"`)
}

// whole holds what the kubelet says of the whole node against the node's own
// control group: the machine and its other nodes use more.
func whole(t *testing.T, client *http.Client, base, token string, node kubetest.Node) {
	body, _ := get(t, client, base+"/stats/summary", token)
	var summary struct {
		Node struct {
			CPU struct{ UsageCoreNanoSeconds uint64 }
		}
	}
	if err := json.Unmarshal([]byte(body), &summary); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/cpuacct", node.Cgroup, "cpuacct.usage"))
	if err != nil {
		t.Fatal(err)
	}
	own, err := strconv.ParseUint(strings.TrimSpace(string(content)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if told := summary.Node.CPU.UsageCoreNanoSeconds; told == 0 || told > own {
		t.Errorf("the kubelet tells of %d ns, the node used %d ns", told, own)
	}
}

// grouped finds the pods' control groups where the lab says they are.
func grouped(t *testing.T, s space, node kubetest.Node) {
	for uid, name := range s.pods(t, "web") {
		path := filepath.Join("/sys/fs/cgroup/memory", node.Cgroup, "kubepods", "burstable", "pod"+uid, "memory.usage_in_bytes")
		if content, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(content)) == "0" {
			t.Errorf("memory of %s: %q, %v", name, content, err)
		}
	}
}

func kubeletClient(t testing.TB, caFile string) *http.Client {
	t.Helper()
	ca, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		t.Fatalf("no certificate in %s", caFile)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// get gives the body and the status.
func get(t testing.TB, client *http.Client, url, token string) (string, int) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body), response.StatusCode
}
