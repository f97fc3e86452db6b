package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/ahead"
)

// prices are such that what runs for a minute costs cents: a core-second is 0.01
// EUR, a requested one 0.001.
const prices = `apiVersion: accumulus.dev/v1
kind: Customer
metadata: {name: acme}
spec: {}
---
apiVersion: accumulus.dev/v1
kind: PriceList
metadata: {name: standard}
spec: {currency: EUR, rates: [{resource: cpu_used, price: "36"}, {resource: cpu_requested, price: "3.6"}]}
`

// TestBilling: what a customer is billed and told of real pods. One leader has two
// clusters: alpha, of which a namespace is looked at, and one whose nodes fail. What
// takes minutes goes on side by side.
func TestBilling(t *testing.T) {
	t.Parallel()
	lab := kubetest.Inside(t)
	clk := clock.System()
	if err := clock.At(t.Context(), clk, startOfBilling(clk.Now())); err != nil {
		t.Fatal(err)
	}
	b := newBilling(t, lab.Cluster(t, "alpha"))
	f := newFailing(b, lab)
	f.fail()
	steps := []struct {
		name string
		do   func(*testing.T)
	}{
		{"forecast of a Job", b.forecast}, {"failed nodes", f.known}, {"forecast came true", b.came}, {"runs that ended", b.told},
		{"estimate", b.estimate}, {"verify usage", b.verify}, {"bill", f.bill},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			b.t, b.centre.t = t, t
			step.do(t)
		})
	}
	b.t, b.centre.t = t, t
}

// billingTakes is longer than TestBilling takes.
const billingTakes = 12 * time.Minute

// startOfBilling is when TestBilling may begin: what it bills is of one month in UTC, so
// late in one it waits for the next, and a minute more.
func startOfBilling(now time.Time) time.Time {
	next := time.Date(now.UTC().Year(), now.UTC().Month()+1, 1, 0, 0, 0, 0, time.UTC)
	if now.Before(next.Add(-billingTakes)) {
		return now
	}
	return next.Add(time.Minute)
}

func TestStartOfBilling(t *testing.T) {
	for now, want := range map[string]string{"2026-11-30T23:47:59Z": "2026-11-30T23:47:59Z", "2026-11-30T23:48:00Z": "2026-12-01T00:01:00Z", "2026-12-31T23:59:59Z": "2027-01-01T00:01:00Z",
		"2026-12-01T00:00:00Z": "2026-12-01T00:00:00Z", "2026-12-01T00:55:00+01:00": "2026-12-01T00:01:00Z"} {
		at, err := time.Parse(time.RFC3339, now)
		if err != nil {
			t.Fatal(err)
		}
		if got := startOfBilling(at).UTC().Format(time.RFC3339); got != want {
			t.Errorf("at %s it begins at %s, want %s", now, got, want)
		}
	}
}

// billing is a namespace on alpha under a leader that tells of runs.
type billing struct {
	*centre
	t        *testing.T
	shop     space
	cluster  *kubetest.Standing
	pods     *podTraces
	hook     *runHook
	said     ahead.JobForecast      // of the Job that runs
	checked  func() (string, error) // a customer's own reading
	tampered func() (string, error) // the same, of a bill that is a tenth higher
}

// newBilling starts it: a Deployment that is asked each second, three Jobs, and the
// customer's own readings of them.
func newBilling(t *testing.T, cluster *kubetest.Standing) *billing {
	t.Helper()
	b := &billing{t: t, cluster: cluster, shop: newSpace(t, cluster), hook: newRunHook(t), pods: followPods(t, cluster.Nodes[0])}
	b.centre = newCentre(t, "--run-events-url", b.hook.url, "--failed-after", failedAfter.String())
	b.apply(prices)
	m := startMeter(t, b.shop, cluster, 18477, "--scrape-interval", ownReads.String(), "--settle-deadline", patient.String(), "--facts-deadline", patient.String())
	b.run("cluster", "add", cluster.Name, "--url", m.url, "--follower-token-file", filepath.Join(filepath.Dir(m.viewer), "leader.token"))
	node := cluster.Nodes[0].Name
	b.shop.deploy(t, "web", 1, "-cpu", "200")
	b.shop.server(t, "idle", node)
	// A kubelet whose pods have just begun may not answer for half a minute, over which what
	// they used is spread: that is over before anything is compared.
	clk := clock.System()
	if err := clock.At(t.Context(), clk, schema.WindowAt(clk.Now(), schema.Minute).To); err != nil {
		t.Fatal(err)
	}
	b.parts(node)
	b.retried(node)
	b.shop.stressJob(t, "whole", node, 10*time.Second)
	args := []string{"verify", "usage", "--source", "kubelet", "--kubeconfig", cluster.Kubeconfig, "--context", cluster.Name, "--cluster", cluster.Name,
		"--namespace", b.shop.name, "--for", "4m", "--scrape-interval", ownReads.String()}
	b.checked, b.tampered = b.begin("http://"+b.address, args...), b.begin(b.raised(), args...)
	return b
}

const (
	// ownReads is how often the follower of alpha reads. What a customer's reading
	// may differ by is what is used around both ends of four minutes until it has read
	// again what the kubelet counts each second: less than a tenth.
	ownReads = 2 * time.Second
	// failedAfter is when the leader says that a node has failed.
	failedAfter = 20 * time.Second
)

// parts starts a Job of twenty parts, two at a time.
func (b *billing) parts(node string) {
	b.t.Helper()
	template := podOf("parts", "-cpu", "50", "-for", partLength.String())
	template.Spec.RestartPolicy, template.Spec.NodeName = corev1.RestartPolicyNever, node
	side, all := int32(2), int32(parts)
	b.runJob("parts", batchv1.JobSpec{Template: template, Parallelism: &side, Completions: &all})
}

const (
	parts      = 20
	partLength = 20 * time.Second
)

func (b *billing) runJob(name string, spec batchv1.JobSpec) {
	b.t.Helper()
	if _, err := b.shop.BatchV1().Jobs(b.shop.name).Create(b.t.Context(), &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

// retried starts a Job whose first pod works and then fails, as the page that it asks
// for is there for nobody but the next.
func (b *billing) retried(node string) {
	b.t.Helper()
	listener, err := net.Listen("tcp", "10.99.0.1:0") // the lab's gateway, which pods reach
	if err != nil {
		b.t.Fatal(err)
	}
	var mu sync.Mutex
	first := ""
	page := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		if first == "" {
			first = host
		}
		if host == first {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})}
	go func() { _ = page.Serve(listener) }() // until it is closed
	b.t.Cleanup(func() { _ = page.Close() })
	template := podOf("retried", "-get", "http://"+listener.Addr().String())
	template.Spec.RestartPolicy, template.Spec.NodeName = corev1.RestartPolicyNever, node
	works := *template.Spec.Containers[0].DeepCopy()
	works.Name, works.Args = "first", []string{"-cpu", "400", "-for", "10s"}
	template.Spec.InitContainers = []corev1.Container{works}
	tries := int32(3)
	b.runJob("retried", batchv1.JobSpec{Template: template, BackoffLimit: &tries})
}

// raised is the leader's API with a tenth more CPU than was metered.
func (b *billing) raised() string {
	b.t.Helper()
	cpu := regexp.MustCompile(`"cpuCoreSeconds": ?[0-9.]+`)
	target := &url.URL{Scheme: "http", Host: b.address}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Set("Accept-Encoding", "identity")
		},
		ModifyResponse: func(r *http.Response) error {
			text, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			text = cpu.ReplaceAllFunc(text, func(field []byte) []byte {
				name, value, _ := strings.Cut(string(field), ":")
				seconds, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				if err != nil {
					return field
				}
				return []byte(name + ":" + strconv.FormatFloat(1.1*seconds, 'f', 6, 64))
			})
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
			r.Header.Set("Content-Length", strconv.Itoa(len(text)))
			return nil
		}}
	server := httptest.NewServer(proxy)
	b.t.Cleanup(server.Close)
	return server.URL
}

// verify: the customer's own reading of the kubelet is what is billed, within what
// two meters may differ by; of a bill that is a tenth higher it is not.
func (b *billing) verify(t *testing.T) {
	said, err := b.checked()
	t.Logf("of what is billed:\n%s", said)
	if err != nil || strings.Contains(said, "NO") || strings.Count(said, "yes") < 9 { // web, idle and all, of three quantities
		t.Errorf("a customer's own reading is not what is billed: %v", err)
	}
	said, err = b.tampered()
	t.Logf("of a tenth more:\n%s", said)
	web := regexp.MustCompile(`(?m)^web-\S+ +cpuCoreSeconds .* NO$`)
	if err == nil || !web.MatchString(said) || !strings.Contains(said, "a quantity differs by more than the tolerance") {
		t.Errorf("a bill that is a tenth higher was not found: %v", err)
	}
}

// runHook is a webhook that is told of runs.
type runHook struct {
	url    string
	mu     sync.Mutex
	events []endedRun
}

type endedRun struct {
	ID, Type, Subject string
	Data              ahead.Ended
}

func newRunHook(t testing.TB) *runHook {
	h := &runHook{}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	h.url = server.URL
	return h
}

func (h *runHook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var event endedRun
	if err := json.NewDecoder(r.Body).Decode(&event); err != nil || r.Header.Get("Content-Type") != "application/cloudevents+json" {
		http.Error(w, fmt.Sprint("no event of CloudEvents: ", err), http.StatusBadRequest)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, event)
}

// of are the events of a subject.
func (h *runHook) of(subject string) (found []endedRun) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, event := range h.events {
		if event.Subject == subject {
			found = append(found, event)
		}
	}
	return found
}

// event waits until a Job's end was told, once.
func (b *billing) event(job string) ahead.Ended {
	b.t.Helper()
	subject := "alpha/" + b.shop.name + "/Job/" + job
	var told []endedRun
	eventually(b.t, "event of "+subject, func(context.Context) error {
		if told = b.hook.of(subject); len(told) == 0 {
			return fmt.Errorf("not told yet")
		}
		return nil
	})
	if len(told) != 1 || told[0].Type != ahead.RunType || told[0].Data.Workload != "Job/"+job {
		b.t.Errorf("told of %s: %+v", job, told)
	}
	return told[0].Data
}

// told: the webhook has the report of a Job that completed, and of one whose first
// pod failed: how long, what it used as its pods' control groups counted, what that
// costs, and what of it the failure cost.
func (b *billing) told(t *testing.T) {
	whole := b.event("whole")
	b.reported(whole, 1)
	own := b.shop.stressed(t, 1)[0]
	if got := whole.Report.Total.CPUCoreSeconds.Float(); whole.Failed || whole.Report.Failures != 0 || len(whole.Report.Failed.Cost) != 0 || math.Abs(got-float64(own.own)/1e6) > 0.5+got/10 {
		t.Errorf("whole used %s core-s of its own, told %+v", seconds(own.own), whole.Report)
	}
	retried := b.event("retried")
	b.reported(retried, 2)
	r := retried.Report
	if retried.Failed || r.Failures != 1 || r.Runs[0].ExitCode == 0 || r.Runs[1].ExitCode != 0 {
		t.Fatalf("a Job whose first pod failed and whose second did not: %+v", retried)
	}
	failed := r.Runs[0]
	if r.Failed.CPUCoreSeconds.Float() != failed.CPUCoreSeconds.Float() || costOf(r.Failed) != costOf(failed.RunSums) || costOf(r.Failed) <= 0 || costOf(r.Failed) >= costOf(r.Total) {
		t.Errorf("what the failure cost: %+v of %+v", r.Failed, r.Total)
	}
	if r.Seconds < 30 || r.Seconds < r.Runs[0].Seconds+r.Runs[1].Seconds || r.Turnaround.P50 == nil || *r.Turnaround.P50 != r.Runs[1].Seconds {
		t.Errorf("it took %f s: %+v", r.Seconds, r.Turnaround)
	}
	t.Logf("whole: %.1f s, %s core-s, %v; retried: %.1f s, %s core-s, %v, of which the failure %v", whole.Report.Seconds, whole.Report.Total.CPUCoreSeconds, whole.Report.Total.Cost,
		r.Seconds, r.Total.CPUCoreSeconds, r.Total.Cost, r.Failed.Cost)
	said := b.run("report", "run", "retried", "-n", b.shop.name)
	contains(t, "report run", said, "2, of which 1 failed", "Cost of failed runs  0.0")
}

// reported checks a report against the pods' own and the prices.
func (b *billing) reported(e ahead.Ended, pods int) {
	b.t.Helper()
	if len(e.Report.Runs) != pods {
		b.t.Fatalf("%s has %d pods: %+v", e.Name, len(e.Report.Runs), e.Report)
	}
	list, err := b.shop.CoreV1().Pods(b.shop.name).List(b.t.Context(), metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + e.Name})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, run := range e.Report.Runs {
		for _, pod := range list.Items {
			if pod.Name != run.Pod {
				continue
			}
			ended := pod.Status.ContainerStatuses[0].State.Terminated
			truth, got := b.pods.of(string(pod.UID)), run.CPUCoreSeconds.Float()*1e6
			if ended.ExitCode != int32(run.ExitCode) || !ended.FinishedAt.Time.Equal(run.End) || math.Abs(float64(truth)-got) > 500_000+float64(truth)/10 {
				b.t.Errorf("pod %s used %s core-s by its control group and ended %s with %d: told %+v", pod.Name, seconds(truth), ended.FinishedAt, ended.ExitCode, run)
			}
		}
	}
	for _, sums := range []ahead.RunSums{e.Report.Total, e.Report.Failed} {
		if want := sums.CPUCoreSeconds.Float()*0.01 + sums.CPURequestCoreSeconds.Float()*0.001; math.Abs(costOf(sums)-want) > 0.006 {
			b.t.Errorf("%s costs %v, want %.4f", e.Name, sums.Cost, want)
		}
	}
}

// costOf is the cost of sums in their one currency.
func costOf(s ahead.RunSums) float64 {
	sum := 0.0
	for _, money := range s.Cost {
		cost, _ := strconv.ParseFloat(money.Cost, 64)
		sum += cost
	}
	return sum
}

// forecast: what a Job that runs will take is told from the parts that are done.
func (b *billing) forecast(t *testing.T) {
	values := url.Values{"name": {"parts"}, "namespace": {b.shop.name}, "completions": {strconv.Itoa(parts)}}
	clk := clock.System()
	eventually(t, "a forecast after some parts", func(ctx context.Context) (err error) {
		if b.said, err = b.ForecastJob(ctx, values); err == nil && b.said.Succeeded < 4 {
			err = fmt.Errorf("%d have succeeded", b.said.Succeeded)
		}
		if err != nil {
			_ = clk.Sleep(ctx, time.Second)
		}
		return err
	})
	if said, err := b.try("forecast", "job", "parts", "-n", b.shop.name); err == nil || !strings.Contains(said, "ompletions") {
		t.Errorf("without an earlier run nothing says how many must succeed: %s", said)
	}
	t.Logf("%s", b.run("forecast", "job", "parts", "-n", b.shop.name, "--completions", strconv.Itoa(parts)))
	if f := b.said; f.Succeeded+f.Running > parts || f.Running > 2 || f.Failed > 0 || f.CompletionsBasis != "given" || f.End.P50 == nil || len(f.Costs) != 1 {
		t.Fatalf("%+v", f)
	}
}

// came: the Job ended and cost what was told.
func (b *billing) came(t *testing.T) {
	if b.said.End.P50 == nil {
		t.Skip("nothing was told")
	}
	var end time.Time
	eventually(t, "end of the Job", func(ctx context.Context) error {
		job, err := b.shop.BatchV1().Jobs(b.shop.name).Get(ctx, "parts", metav1.GetOptions{})
		if err == nil && job.Status.CompletionTime == nil {
			err = fmt.Errorf("%+v", job.Status)
		}
		if err == nil {
			end = job.Status.CompletionTime.UTC()
		}
		return err
	})
	left, off := end.Sub(b.said.Settled), b.said.End.P50.Sub(end)
	text := fmt.Sprintf("with %d of %d parts done and %s to go the end was told %s off, the cost so far as %s, in all %s", b.said.Succeeded, parts, left.Round(time.Second), off.Round(time.Second),
		b.said.Costs[0].SoFar, b.said.Costs[0].P50)
	if off.Abs() > 5*time.Second+left/5 {
		t.Error(text)
		return
	}
	t.Log(text)
}

// estimate: a Job that has run is estimated by its run, and one whose manifest alone
// is known by its requests.
func (b *billing) estimate(t *testing.T) {
	whole, err := b.shop.BatchV1().Jobs(b.shop.name).Get(t.Context(), "whole", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	whole.TypeMeta, whole.ManagedFields = metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"}, nil
	manifest, err := yaml.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	e, err := b.Estimate(t.Context(), manifest, url.Values{})
	if err != nil {
		t.Fatal(err)
	}
	told := b.event("whole")
	if e.Basis != ahead.ByRuns || e.Runs != 1 || e.Seconds.P50 == nil || math.Abs(*e.Seconds.P50-told.End.Sub(told.Start).Seconds()) > 1 || len(e.Hardware) != 1 || e.Hardware[0].Cost.P50 == nil ||
		math.Abs(*e.Hardware[0].Cost.P50-costOf(told.Report.Total)) > 0.006 {
		t.Errorf("estimate of a Job that took %s and cost %v: %+v", told.End.Sub(told.Start), told.Report.Total.Cost, e)
	}
	if err := os.WriteFile(b.file("other.yaml"), bytes.ReplaceAll(manifest, []byte("whole"), []byte("other")), 0o600); err != nil {
		t.Fatal(err)
	}
	said := b.run("estimate", "-f", "other.yaml", "--duration", "10m")
	contains(t, "estimate", said, "requests", "EUR")
	t.Logf("%s", said)
}
