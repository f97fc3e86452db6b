package kubetest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// A control plane is the version it says, has RBAC and service accounts, and
// is one of several at the same time.
func TestControlPlanes(t *testing.T) {
	first, second := ControlPlane(t, ControllerManager), ControlPlane(t)
	if first.Config.Host == second.Config.Host {
		t.Fatalf("both are at %s", first.Config.Host)
	}
	for _, plane := range []*Plane{first, second} {
		client := kubernetes.NewForConfigOrDie(plane.Config)
		version, err := client.Discovery().ServerVersion()
		if err != nil {
			t.Fatal(err)
		}
		if version.GitVersion != "v"+Version {
			t.Errorf("version %s, want v%s", version.GitVersion, Version)
		}
		account := serviceAccount(t, client)
		_, err = account(plane.Config).CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		if !apierrors.IsForbidden(err) {
			t.Errorf("a service account without a role lists pods: %v", err)
		}
		// A pod of a service account that does not exist is refused.
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{ServiceAccountName: "nobody",
			Containers: []corev1.Container{{Name: "c", Image: "x"}}}}
		if _, err := client.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("a pod without its service account: %v", err)
		}
	}
	// The controller manager makes a namespace's service account.
	client := kubernetes.NewForConfigOrDie(first.Config)
	manager := first.processes[len(first.processes)-1]
	if err := manager.until(t.Context(), func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	}); err != nil {
		t.Error(err)
	}
}

func serviceAccount(t *testing.T, client *kubernetes.Clientset) func(*rest.Config) *kubernetes.Clientset {
	t.Helper()
	accounts := client.CoreV1().ServiceAccounts("default")
	if _, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "reader"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	token, err := accounts.CreateToken(t.Context(), "reader", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return func(admin *rest.Config) *kubernetes.Clientset {
		config := rest.AnonymousClientConfig(admin)
		config.BearerToken = token.Status.Token
		return kubernetes.NewForConfigOrDie(config)
	}
}

// kubectl and the kubeconfig file go together.
func TestKubectl(t *testing.T) {
	plane := ControlPlane(t)
	dir, err := Binaries()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), filepath.Join(dir, string(Kubectl)), "get", "namespaces", "-o", "name")
	command.Env = append(os.Environ(), "KUBECONFIG="+plane.KubeconfigFile(), "HOME="+t.TempDir())
	output, err := command.CombinedOutput()
	if err != nil || !strings.Contains(string(output), "namespace/kube-system") {
		t.Errorf("%v: %s", err, output)
	}
}
