package validate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/stress"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

// Names of what a validation makes in a cluster.
const (
	Namespace     = "accumulus-validate"
	LoadPod       = "load"
	PagePod       = "page"
	ContainerName = "stress"
	port          = 8080
)

// Pods are a validation's two pods: one under load, one that serves the page
// that it fetches. The cluster is reached with the credentials of api.
type Pods struct {
	api   kubernetes.Interface
	clock clock.Clock
	page  string // URL of the page inside the cluster
	made  bool   // the namespace
}

// Options of the pods.
type Options struct {
	Image      string
	PullPolicy corev1.PullPolicy
	Node       string // "" = where the scheduler likes
	Wait       time.Duration
}

// Start makes the namespace and the pods and waits until they are ready. After
// an error nothing is left. Stop removes them.
func Start(ctx context.Context, api kubernetes.Interface, o Options, clk clock.Clock) (*Pods, error) {
	p := &Pods{api: api, clock: clk}
	if err := p.start(ctx, o, clk); err != nil {
		return nil, errors.Join(err, p.Stop(context.WithoutCancel(ctx)))
	}
	return p, nil
}

func (p *Pods) start(ctx context.Context, o Options, clk clock.Clock) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace, Labels: map[string]string{
		"pod-security.kubernetes.io/enforce": "restricted", "app.kubernetes.io/managed-by": "accumulus"}}}
	if _, err := p.api.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		if apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("namespace %s is there already: another validation runs, or delete it", Namespace)
		}
		return fmt.Errorf("make namespace %s: %w", Namespace, err)
	}
	p.made = true
	for _, name := range []string{LoadPod, PagePod} {
		if err := p.create(ctx, name, o, clk); err != nil {
			return err
		}
	}
	for end := clk.Now().Add(o.Wait); ; {
		waiting, err := p.waiting(ctx)
		if err != nil {
			return err
		}
		if waiting == "" {
			return nil
		}
		if clk.Now().After(end) {
			return fmt.Errorf("the pods are not ready after %s: %s", o.Wait, waiting)
		}
		if err := clk.Sleep(ctx, time.Second); err != nil {
			return err
		}
	}
}

// create makes a pod; the namespace's default service account may take a moment
// to appear.
func (p *Pods) create(ctx context.Context, name string, o Options, clk clock.Clock) error {
	for end := clk.Now().Add(o.Wait); ; {
		_, err := p.api.CoreV1().Pods(Namespace).Create(ctx, pod(name, o), metav1.CreateOptions{})
		if err == nil {
			return nil
		}
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "serviceaccount") || clk.Now().After(end) {
			return fmt.Errorf("make pod %s: %w", name, err)
		}
		if err := clk.Sleep(ctx, time.Second); err != nil {
			return err
		}
	}
}

func pod(name string, o Options) *corev1.Pod {
	yes, no, grace := true, false, int64(1)
	user := int64(65532)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: Namespace, Labels: map[string]string{"app.kubernetes.io/name": "accumulus-validate"}},
		Spec: corev1.PodSpec{
			NodeName: o.Node, TerminationGracePeriodSeconds: &grace, AutomountServiceAccountToken: &no, RestartPolicy: corev1.RestartPolicyNever,
			EnableServiceLinks: &no,
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes, RunAsUser: &user,
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{
				Name: ContainerName, Image: o.Image, ImagePullPolicy: o.PullPolicy, Args: []string{"--listen", ":" + strconv.Itoa(port)},
				Ports: []corev1.ContainerPort{{ContainerPort: port}},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
					corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("32Mi")}},
				ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
					HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(port)}}},
				SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no,
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
			}},
		},
	}
}

// waiting says what is not ready yet, and finds the page's address.
func (p *Pods) waiting(ctx context.Context) (string, error) {
	for _, name := range []string{LoadPod, PagePod} {
		got, err := p.api.CoreV1().Pods(Namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", fmt.Errorf("look at pod %s: %w", name, err)
		}
		if !ready(got) {
			return name + " is " + describe(got), nil
		}
		if name == PagePod {
			p.page = "http://" + net.JoinHostPort(got.Status.PodIP, strconv.Itoa(port)) + "/page"
		}
	}
	return "", nil
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func describe(p *corev1.Pod) string {
	for _, c := range p.Status.ContainerStatuses {
		if w := c.State.Waiting; w != nil && w.Reason != "" {
			return strings.TrimSpace(w.Reason + " " + w.Message)
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Status == corev1.ConditionFalse && c.Message != "" {
			return c.Message
		}
	}
	return string(p.Status.Phase)
}

// Stop removes what Start made.
func (p *Pods) Stop(ctx context.Context) error {
	if !p.made {
		return nil
	}
	err := p.api.CoreV1().Namespaces().Delete(ctx, Namespace, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove namespace %s: %w", Namespace, err)
	}
	return nil
}

// Load implements Pod. A load that is set twice is set.
func (p *Pods) Load(ctx context.Context, kind string, size int) error {
	_, err := p.again(ctx, nil, "stress", kind, strconv.Itoa(size))
	return err
}

// Fetch implements Pod.
func (p *Pods) Fetch(ctx context.Context, n int) error {
	_, err := p.get(ctx, map[string]string{"url": p.page}, "stress", "net", strconv.Itoa(n))
	return err
}

// Readings implements Pod.
func (p *Pods) Readings(ctx context.Context, from time.Time) ([]stress.Reading, error) {
	text, err := p.again(ctx, map[string]string{"from": from.UTC().Format(time.RFC3339Nano)}, "readings")
	if err != nil {
		return nil, err
	}
	var readings []stress.Reading
	if err := json.Unmarshal(text, &readings); err != nil {
		return nil, fmt.Errorf("readings: %w", err)
	}
	return readings, nil
}

// attempts is how often an API server that does not reach the pod is asked, a
// second apart: a busy node answers late.
const attempts = 10

// again is get for what may be asked twice.
func (p *Pods) again(ctx context.Context, query map[string]string, path ...string) ([]byte, error) {
	for tried := 1; ; tried++ {
		text, err := p.get(ctx, query, path...)
		busy := apierrors.IsServiceUnavailable(err) || apierrors.IsServerTimeout(err) || apierrors.IsTooManyRequests(err)
		if !busy || tried == attempts {
			return text, err
		}
		if err := p.clock.Sleep(ctx, time.Second); err != nil {
			return nil, err
		}
	}
}

func (p *Pods) get(ctx context.Context, query map[string]string, path ...string) ([]byte, error) {
	text, err := p.api.CoreV1().Pods(Namespace).ProxyGet("http", LoadPod, strconv.Itoa(port), strings.Join(path, "/"), query).DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask pod %s for %s: %w", LoadPod, strings.Join(path, "/"), err)
	}
	return text, nil
}
