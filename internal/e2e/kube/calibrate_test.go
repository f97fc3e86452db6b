package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/leader/models"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodePlug is an electricity meter of a node: it follows the CPU that the node's own
// control group counts, by a curve that is known here alone.
type nodePlug struct {
	group string
	cores float64
	mu    sync.Mutex
	at    time.Time
	used  int64   // core-µs
	wh    float64 // counted
}

// plugWatts is that curve.
func plugWatts(u float64) float64 { return 40 + 90*math.Sqrt(min(max(u, 0), 1)) }

// count adds what the node drew since the last time. Within a tick its load stands.
func (p *nodePlug) count(now time.Time) error {
	used, err := usedBy(p.group)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if seconds := now.Sub(p.at).Seconds(); !p.at.IsZero() && seconds > 0 {
		p.wh += plugWatts(float64(used-p.used)/1e6/seconds/p.cores) * seconds / 3600
	}
	p.at, p.used = now, used
	return nil
}

func (p *nodePlug) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintf(w, `{"energy": %.6f}`, p.wh)
}

// TestCalibrate: `accumulus calibrate` lets Jobs load a real node, whose plug follows
// its real load by a known curve. Of each load the points that are stored lie on that
// curve: within 2 % in watts at the load that was metered, for the curve bends within
// a minute and kubelet and plug look at different moments. The model follows them,
// and nothing of the load is left in the cluster.
// It is one of `make experiments`: it wants 20 minutes of a machine that does nothing
// else, since what others use is load to a node's plug.
func TestCalibrate(t *testing.T) {
	if os.Getenv("ACCUMULUS_EXPERIMENTS") == "" {
		t.Skip("make experiments runs this")
	}
	cluster := kubetest.Inside(t).Cluster(t, "beta")
	s := newSpace(t, cluster)
	c := newCentre(t)
	t.Cleanup(func() { sweep(t, s.Clientset) })
	kubeconfig := c.cloud("lab", cluster)
	node := cluster.Nodes[0]
	c.run("cluster", "add", "beta", "--context", "lab", "--kubeconfig", kubeconfig)
	plug := &nodePlug{group: node.Cgroup, cores: float64(nodeCores(t, s, node.Name))}
	clk := clock.System()
	background(t, time.Second, func() {
		if err := plug.count(clk.Now()); err != nil {
			t.Logf("plug: %v", err)
		}
	})
	device := httptest.NewServer(plug)
	t.Cleanup(device.Close)
	c.apply(fmt.Sprintf(`apiVersion: accumulus.dev/v1
kind: Hardware
metadata: {name: lab}
spec: {cores: %.0f}
---
apiVersion: accumulus.dev/v1
kind: Box
metadata: {name: shelf}
spec: {}
---
apiVersion: accumulus.dev/v1
kind: Node
metadata: {name: beta.one}
spec: {cluster: beta, node: %s, box: shelf, hardware: lab}
---
apiVersion: accumulus.dev/v1
kind: Meter
metadata: {name: plug}
spec: {box: shelf, driver: http-json, url: "%s", fields: {counter: {path: energy, unit: Wh}}}
`, plug.cores, node.Name, device.URL))
	args := []string{"calibrate", "--node", "beta.one", "--context", "lab", "--kubeconfig", kubeconfig, "--image", kubetest.StressImage,
		"--image-pull-policy", "Never", "--idle", "2m", "--hold", "2m", "--drop", "0s", "--repeats", "1", "--notes", "a test"}
	var said string
	for end := clk.Now().Add(15 * time.Minute); ; {
		var err error
		if said, err = c.try(args...); err == nil {
			break
		}
		if strings.Contains(said, "something takes the load's cores") {
			t.Skipf("this machine does too much else to load a node of it: %s", said)
		}
		if !strings.Contains(said, "was not metered of late") || clk.Now().After(end) {
			t.Fatalf("calibrate: %v\n%s", err, said)
		}
		if err := clk.Sleep(t.Context(), 15*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	t.Log(said)
	checkCalibrated(t, c, said)
	if found, err := inNamespace(context.Background(), s.Clientset, "accumulus-calibrate"); err != nil || len(found) > 0 {
		eventually(t, "the load's namespace is empty", func(ctx context.Context) error {
			found, err := inNamespace(ctx, s.Clientset, "accumulus-calibrate")
			if err == nil && len(found) > 0 {
				err = fmt.Errorf("%v", found)
			}
			return err
		})
	}
}

// checkCalibrated holds the stored points against the curve.
func checkCalibrated(t *testing.T, c *centre, said string) {
	t.Helper()
	var answer models.Answer
	eventually(t, "the model that was calibrated has begun", func(context.Context) error {
		if err := json.Unmarshal([]byte(c.run("power", "models", "-o", "json")), &answer); err != nil {
			return err
		}
		if len(answer.Models) == 1 && answer.Models[0].Next != nil {
			return fmt.Errorf("it begins at %s", answer.Models[0].Next)
		}
		return nil
	})
	if len(answer.Calibrations) != 1 || len(answer.Calibrations[0].Points) != 4 {
		t.Fatalf("stored: %+v", answer.Calibrations)
	}
	former := -1.0
	for _, p := range answer.Calibrations[0].Points {
		want := plugWatts(p.Utilisation)
		t.Logf("load %3.0f %%: utilisation %.4f, %.2f W, the curve %.2f W (%+.2f %%)", p.Load, p.Utilisation, p.Watts, want, 100*(p.Watts/want-1))
		if math.Abs(p.Watts/want-1) > 0.02 {
			t.Errorf("at %.0f %%: %.2f W at utilisation %.4f, the curve says %.2f W", p.Load, p.Watts, p.Utilisation, want)
		}
		if p.Utilisation <= former {
			t.Errorf("at %.0f %%: utilisation %.4f after %.4f", p.Load, p.Utilisation, former)
		}
		former = p.Utilisation
	}
	contains(t, "calibrate", said, "The model of lab follows it")
	if len(answer.Models) != 1 || len(answer.Models[0].Measured) != 4 {
		t.Errorf("the models %+v do not rest on the points", answer.Models)
	}
}

// nodeCores is how many cores a node says that it has.
func nodeCores(t testing.TB, s space, name string) int64 {
	t.Helper()
	node, err := s.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return node.Status.Capacity.Cpu().Value()
}
