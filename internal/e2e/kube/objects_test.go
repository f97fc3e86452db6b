package kube

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
)

// patience for what takes seconds on a machine with nothing else to do.
const patience = 3 * time.Minute

// eventually asks until there is no error.
func eventually(t testing.TB, what string, ask func(context.Context) error) {
	t.Helper()
	clk := clock.System()
	for end := clk.Now().Add(patience); ; {
		err := ask(t.Context())
		if err == nil {
			return
		}
		if clk.Now().After(end) {
			t.Fatalf("%s: after %s still: %v", what, patience, err)
		}
		if err := clk.Sleep(t.Context(), 100*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

// space is a namespace of a test's own in a cluster.
type space struct {
	*kubernetes.Clientset
	name string
}

// newSpace makes one, which is deleted when the test ends.
func newSpace(t testing.TB, cluster *kubetest.Standing) space {
	t.Helper()
	client, err := kubernetes.NewForConfig(cluster.Config())
	if err != nil {
		t.Fatal(err)
	}
	made, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.CoreV1().Namespaces().Delete(context.Background(), made.Name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("delete namespace: %v", err)
		}
	})
	s := space{client, made.Name}
	eventually(t, "service account of the namespace", func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts(s.name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	return s
}

// pod runs the workload with those arguments.
func podOf(app string, args ...string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}}, Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "work", Image: kubetest.WorkloadImage, ImagePullPolicy: corev1.PullNever, Args: args,
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("32Mi")}}}}}}
}

// deploy makes a Deployment of pods that serve HTTP, and its Service, and
// returns when all are ready.
func (s space) deploy(t testing.TB, name string, replicas int32, args ...string) {
	t.Helper()
	const port = 8080
	template := podOf(name, append([]string{"-listen", fmt.Sprintf(":%d", port)}, args...)...)
	template.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: port}}
	template.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 1,
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromString("http")}}}
	selector := map[string]string{"app": name}
	if _, err := s.CoreV1().Services(s.name).Create(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
		Selector: selector, Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AppsV1().Deployments(s.name).Create(t.Context(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: selector}, Template: template}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pods of "+name, func(ctx context.Context) error {
		found, err := s.AppsV1().Deployments(s.name).Get(ctx, name, metav1.GetOptions{})
		if err == nil && found.Status.AvailableReplicas < replicas {
			err = fmt.Errorf("%d of %d are available", found.Status.AvailableReplicas, replicas)
		}
		return err
	})
}

// job runs the workload once and returns when it has succeeded.
func (s space) job(t testing.TB, name string, args ...string) {
	t.Helper()
	template := podOf(name, args...)
	template.Spec.RestartPolicy = corev1.RestartPolicyNever
	if _, err := s.BatchV1().Jobs(s.name).Create(t.Context(), &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: batchv1.JobSpec{Template: template}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "job "+name, func(ctx context.Context) error {
		found, err := s.BatchV1().Jobs(s.name).Get(ctx, name, metav1.GetOptions{})
		if err == nil && found.Status.Succeeded == 0 {
			err = fmt.Errorf("active %d, failed %d", found.Status.Active, found.Status.Failed)
		}
		return err
	})
}

// account makes a service account that may do what the rules say everywhere,
// and gives a token of it.
func (s space) account(t testing.TB, name string, rules ...rbacv1.PolicyRule) string {
	t.Helper()
	if _, err := s.CoreV1().ServiceAccounts(s.name).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	meta := metav1.ObjectMeta{Name: s.name + "-" + name}
	if _, err := s.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: meta,
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: s.name}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.RbacV1().ClusterRoleBindings().Delete(context.Background(), meta.Name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("delete binding: %v", err)
		}
		if err := s.RbacV1().ClusterRoles().Delete(context.Background(), meta.Name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("delete role: %v", err)
		}
	})
	token, err := s.CoreV1().ServiceAccounts(s.name).CreateToken(t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return token.Status.Token
}

// pods are the names of an app's pods, by UID.
func (s space) pods(t testing.TB, app string) map[string]string {
	t.Helper()
	list, err := s.CoreV1().Pods(s.name).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		t.Fatal(err)
	}
	pods := make(map[string]string)
	for _, pod := range list.Items {
		pods[string(pod.UID)] = pod.Name
	}
	return pods
}

// contains fails the test where a text lacks a part.
func contains(t testing.TB, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s lacks %q:\n%.2000s", what, part, text)
		}
	}
}
