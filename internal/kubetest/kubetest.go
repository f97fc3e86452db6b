// Package kubetest gives tests a real Kubernetes: control planes on loopback
// (ControlPlane), and clusters with real nodes in a lab, which is a set of
// namespaces of their own (command cluster, `make e2e-up`).
//
// Every component is Version, built from its module by `make kube-binaries`. A
// test that needs what this machine lacks is skipped with the reason, and fails
// where the environment says CI=true.
package kubetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Version is the Kubernetes that tests run on.
const Version = "1.37.2"

// Component is a program of Kubernetes, by its file's name.
type Component string

// The components of a cluster, and kubectl.
const (
	Etcd              Component = "etcd"
	APIServer         Component = "kube-apiserver"
	ControllerManager Component = "kube-controller-manager"
	Scheduler         Component = "kube-scheduler"
	Kubelet           Component = "kubelet"
	Proxy             Component = "kube-proxy"
	Kubectl           Component = "kubectl"
)

// What a machine lacks that a test needs.
var (
	errMissing  = errors.New("run make kube-binaries")
	errPackages = errors.New("run make kube-packages")
)

// Binaries is the directory of the components, absolute, or an error that says
// how to get them. It is also what envtest takes as KUBEBUILDER_ASSETS.
func Binaries() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "build", "kube-"+Version)
	if _, err := os.Stat(filepath.Join(dir, string(APIServer))); err != nil {
		return "", fmt.Errorf("no build/kube-%s/%s: %w", Version, APIServer, errMissing)
	}
	return dir, nil
}

// Root is the directory of this module, which build/ is in.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod above the working directory, which build/ stands beside")
		}
	}
}

// demand ends the test on an error: what the machine lacks is a reason to skip,
// but not where everything is to be shown.
func demand(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case (errors.Is(err, errMissing) || errors.Is(err, errPackages)) && os.Getenv("CI") != "true":
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}
