package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/leader"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/archive"
	"github.com/accumulus-metering/accumulus/leader/books"
)

// failing is a cluster of acme's with two nodes: the first dies, the second is not
// reached for longer than the leader waits, and comes back.
type failing struct {
	*billing
	cluster *kubetest.Cluster
	stand   *stand // of the node that dies
	dead    string // UID of the pod that dies
	killed  time.Time
	refund  books.Failure // of the node that died
}

// newFailing starts the cluster, its follower and a pod on each node; a Job on the
// first one has done its work before that dies.
func newFailing(b *billing, lab *kubetest.Lab) *failing {
	b.t.Helper()
	f := &failing{billing: b, cluster: lab.NewCluster(b.t, "failing", 2)}
	f.stand = watchNode(b.t, f.cluster, 0)
	m := startMeter(b.t, f.stand.space, &f.cluster.Standing, 18478, "--scrape-interval", often.String(), "--settle-deadline", patient.String(), "--facts-deadline", patient.String())
	f.stand.meter = m
	b.run("cluster", "add", "failing", "--customer", "acme", "--url", m.url, "--follower-token-file", filepath.Join(filepath.Dir(m.viewer), "leader.token"))
	at := func(node int) func(*corev1.PodSpec) {
		return func(spec *corev1.PodSpec) {
			spec.NodeName = f.cluster.Nodes[node].Name
			spec.Containers[0].Args = []string{"-cpu", "200"}
		}
	}
	f.dead = f.stand.space.run(b.t, "dies", func(spec *corev1.PodSpec) {
		at(0)(spec)
		first := *spec.Containers[0].DeepCopy()
		first.Name, first.Args = "first", []string{"-for", "100ms"}
		spec.InitContainers = []corev1.Container{first}
		now := int64(0)
		spec.Tolerations = []corev1.Toleration{{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &now}}
	})
	f.stand.space.run(b.t, "stays", at(1))
	f.stand.space.stressJob(b.t, "done", f.cluster.Nodes[0].Name, time.Second)
	f.stand.space.stressed(b.t, 1)
	return f
}

// fail takes the first node's power and the second one's network, until both are
// not ready by Kubernetes' word.
func (f *failing) fail() {
	f.t.Helper()
	eventually(f.t, "pods on both nodes", func(ctx context.Context) error { return f.running(ctx, "dies", "stays") })
	f.stand.sleep(45 * time.Second)
	f.killed = f.stand.clock.Now()
	f.cluster.KillNode(0)
	away := f.cluster.Nodes[1]
	nft(f.t, fmt.Sprintf("table ip failing {\n chain in {\n  type filter hook input priority 0;\n  ip saddr { %s, %s } drop\n }\n}\n", away.Address, away.Pods))
	for i := range f.cluster.Nodes {
		f.until(i, corev1.ConditionUnknown)
	}
}

// running says whether pods of the cluster run.
func (f *failing) running(ctx context.Context, names ...string) error {
	for _, name := range names {
		pod, err := f.stand.space.CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{})
		if err == nil && pod.Status.Phase != corev1.PodRunning {
			err = fmt.Errorf("pod %s: %+v", name, pod.Status)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// until waits until a node's condition Ready is as wanted, and says since when.
func (f *failing) until(node int, wanted corev1.ConditionStatus) (since time.Time) {
	f.t.Helper()
	name := f.cluster.Nodes[node].Name
	eventually(f.t, name+" is ready: "+string(wanted), func(ctx context.Context) error {
		found, err := f.stand.space.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range found.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == wanted {
				since = condition.LastTransitionTime.Time
				return nil
			}
		}
		return fmt.Errorf("%+v", found.Status.Conditions)
	})
	return since
}

// known: the node that died takes its pod with it, as soon as Kubernetes has given it
// up; the one that comes back takes nobody, though it was away for as long.
func (f *failing) known(t *testing.T) {
	f.stand.t = t
	f.stand.sleepUntil(f.until(1, corev1.ConditionUnknown).Add(failedAfter + often))
	nft(t, "delete table ip failing")
	f.until(1, corev1.ConditionTrue)
	// What somebody does who knows that the node is off: Kubernetes then gives up its pods.
	taint := fmt.Appendf(nil, `{"spec":{"taints":[{"key":%q,"value":"nodeshutdown","effect":"NoExecute"}]}}`, corev1.TaintNodeOutOfService)
	if _, err := f.stand.space.CoreV1().Nodes().Patch(t.Context(), f.cluster.Nodes[0].Name, types.StrategicMergePatchType, taint, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	var all []books.Failure
	eventually(t, "both failures", func(ctx context.Context) error {
		if err := clock.System().Sleep(ctx, time.Second); err != nil {
			return err
		}
		d, err := f.DraftBook(ctx, "acme", f.period(), "dora")
		if err != nil {
			return err
		}
		told, err := f.Failures(ctx, "failing")
		if err != nil {
			return err
		}
		if all = told.Items; len(all) != 2 || !all[0].Summed || !all[1].Summed {
			return fmt.Errorf("failures %+v of draft %+v", all, d.Failures)
		}
		return nil
	})
	died := make(map[string][]string)
	for _, one := range all {
		died[one.Node] = []string{}
		for _, pod := range one.Pods {
			died[one.Node] = append(died[one.Node], pod.Namespace+"/"+pod.Pod)
		}
		if one.Node == f.cluster.Nodes[0].Name {
			f.refund = one
		}
		if one.Source != books.FromWatch || !one.Counts || one.At.Before(f.killed) || one.At.Sub(f.killed) > 2*time.Minute {
			t.Errorf("a node that failed %s: %+v", f.killed, one)
		}
	}
	if diff := cmp.Diff(map[string][]string{f.cluster.Nodes[0].Name: {"default/dies"}, f.cluster.Nodes[1].Name: {}}, died); diff != "" {
		t.Errorf("died with their nodes (-want +got):\n%s", diff)
	}
	if err := f.running(t.Context(), "stays"); err != nil {
		t.Error(err)
	}
	t.Logf("known %s after the node died:\n%s", clock.System().Now().Sub(f.killed).Round(time.Second), f.run("books", "failures"))
}

func (f *failing) period() string { return f.killed.Format("2006-01") }

// later is a clock that is ahead.
type later struct {
	clock.Clock
	by time.Duration
}

func (l later) Now() time.Time { return l.Clock.Now().Add(l.by) }

// ahead goes on with the leader in this process, by a clock that is ahead: its program
// knows the machine's alone.
func (c *centre) ahead(by time.Duration) {
	c.t.Helper()
	config := leader.Config{Dir: filepath.Join(c.dir, "leader"), FailedAfter: failedAfter, API: api.Config{Listen: c.address}, Archive: archive.Config{Keep: -1}}
	opened, err := leader.Open(c.t.Context(), config, later{clock.System(), by}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		c.t.Fatal(err)
	}
	listener, err := opened.Listen(c.t.Context())
	if err != nil {
		c.t.Fatal(errors.Join(err, opened.Close()))
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(opened.Run(ctx, listener), opened.Close()) }()
	c.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			c.t.Errorf("leader: %v", err)
		}
	})
	c.connect()
}

// bill: when the month is over its bill gives back what the pod used that died, as
// it was metered, and nothing else; and the next one does not again.
func (f *failing) bill(t *testing.T) {
	if len(f.refund.Pods) != 1 {
		t.Fatal("no pod died")
	}
	if err := f.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	month, err := time.Parse("2006-01", f.period())
	if err != nil {
		t.Fatal(err)
	}
	over := month.AddDate(0, 1, 0).Add(time.Hour)
	f.ahead(over.Sub(clock.System().Now()))
	lines := f.closed(t)
	metered := f.metered(t)
	given := make(map[string]bool)
	for _, line := range lines {
		if line.Kind != books.KindRefund {
			continue
		}
		given[line.Rate] = true
		price := map[string]float64{"cpu_used": 0.01, "cpu_requested": 0.001}[line.Rate]
		cost, err := strconv.ParseFloat(line.Cost, 64)
		if err != nil || math.Abs(cost+price*float64(line.Quantity)/1e6) > 0.011 { // two lines' difference, each rounded
			t.Errorf("%s of %d: %s", line.Rate, line.Quantity, line.Cost)
		}
		if line.Quantity != metered[line.Rate] || line.Approver != "anna" || !strings.Contains(line.Reason, "node failing-1 of cluster failing failed at") || !strings.HasSuffix(line.Reason, ": default/dies") {
			t.Errorf("metered %v, given back: %+v", metered, line)
		}
		t.Logf("%s %s %s: %s", line.Rate, line.PricingQuantity, line.Cost, line.Reason)
	}
	if !given["cpu_used"] || !given["cpu_requested"] || len(given) != 2 {
		t.Errorf("given back: %v", given)
	}
	// The kernel counted until the power was gone, the follower last read a little before.
	truth := f.stand.pods.of(f.dead)
	text := fmt.Sprintf("the pod that died used %s core-s, given back are %s", seconds(truth), seconds(metered["cpu_used"]))
	if got := metered["cpu_used"]; got > truth+idling || got < truth-2*idling-int64(2*often/time.Microsecond)/5 {
		t.Error(text)
	}
	t.Log(text)
	next, err := f.DraftBook(t.Context(), "acme", over.Format("2006-01"), "dora")
	if err != nil || len(next.Failures) != 0 || len(next.Lines) != 0 {
		t.Errorf("the next month gives back %+v %+v, %v", next.Failures, next.Lines, err)
	}
	contains(t, "books failures", f.run("books", "failures"), "is given back in statement 1 of acme")
	contains(t, "books verify", f.run("books", "verify", "--customer", "acme"), "1 statement")
}

// closed closes the month and gives its statement's lines.
func (f *failing) closed(t *testing.T) []books.Line {
	t.Helper()
	dora, anna := f.person("dora"), f.person("anna")
	var issued books.Statement
	eventually(t, "close of the month", func(ctx context.Context) error {
		d, err := dora.DraftBook(ctx, "acme", f.period(), "dora")
		if err == nil && len(d.Waiting) > 0 {
			err = fmt.Errorf("days that wait: %v", d.Waiting)
		}
		if err == nil {
			_, err = dora.ReviewBook(ctx, "acme", f.period(), "dora")
		}
		if err == nil {
			_, err = anna.ApproveBook(ctx, "acme", f.period(), "anna")
		}
		if err == nil {
			issued, err = anna.CloseBook(ctx, "acme", f.period(), books.CloseRequest{By: "anna", Reason: "the rest of the month is still to come"})
		}
		if err != nil {
			_ = clock.System().Sleep(ctx, time.Second)
		}
		return err
	})
	text, err := f.Statement(t.Context(), "acme", f.period(), "", "json")
	if err != nil {
		t.Fatal(err)
	}
	var statement books.Statement
	if err := json.Unmarshal(text, &statement); err != nil {
		t.Fatal(err)
	}
	if statement.ID != issued.ID || !strings.HasPrefix(statement.Corrections, "-") {
		t.Errorf("statement %+v", statement)
	}
	t.Logf("%s", f.run("books", "statement", "--customer", "acme", "--period", f.period()))
	return statement.Lines
}

// metered is what the API tells of the pod that died, core-µs.
func (f *failing) metered(t *testing.T) map[string]int64 {
	t.Helper()
	from := f.killed.Add(-time.Hour).Truncate(time.Minute)
	window := from.Format(time.RFC3339) + "," + from.Add(3*time.Hour).Format(time.RFC3339)
	answer, err := f.Usage(t.Context(), url.Values{"window": {window}, "aggregate": {"pod"}, "filter": {"cluster=failing", "namespace=default", "pod=dies"}})
	if err != nil || len(answer.Rows) != 1 {
		t.Fatalf("%+v %v", answer, err)
	}
	row := answer.Rows[0]
	return map[string]int64{"cpu_used": int64(math.Round(row.CPUCoreSeconds.Float() * 1e6)), "cpu_requested": int64(math.Round(row.CPURequestCoreSeconds.Float() * 1e6))}
}
