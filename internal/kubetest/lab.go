package kubetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// LabVariable names, inside a lab, the directory of the lab.
const LabVariable = "ACCUMULUS_TEST_LAB"

// Lab is a set of namespaces of its own (network, mounts, processes) in which
// clusters with real nodes run. Command cluster makes it; all that is in it ends
// with its first process.
//
// Inside, the bridge lan has 10.99.0.1/16. The API server of cluster K listens
// on 10.99.K.1:6443, its node J is 10.99.K.(10+J) with the pods
// 10.244.(16K+J).0/24, and all of these reach each other.
type Lab struct {
	ID      string   // its control groups are below kubetest-ID, in every hierarchy
	Dir     string   // absolute; all files of the lab
	Program string   // path of command cluster, which is a node's first process
	Images  []string // archives that every node imports
	Wanted  []Wanted // clusters that it starts with
}

// Wanted is a cluster that a lab starts with.
type Wanted struct {
	Name  string
	Nodes int
}

// Standing is a cluster that a lab has started.
type Standing struct {
	Name       string
	Kubeconfig string // path; the admin's, its context is called as the cluster
	CAFile     string // path; the CA of the API server and of the kubelets
	Nodes      []Node

	config *rest.Config
}

// Node is a node of a cluster.
type Node struct {
	Name    string
	Address string // of its kubelet, on port 10250
	Pods    string // addresses of its pods: 10.244.17.0/24
	Cgroup  string // of the whole node, relative to each hierarchy; its pods' are below /kubepods
}

// Config is of the user admin, whom nothing is forbidden.
func (s *Standing) Config() *rest.Config { return rest.CopyConfig(s.config) }

// Inside is the lab that the test runs in. Anywhere else the test is skipped:
// `make e2e` is where these tests run, and where a missing lab is a failure.
func Inside(t testing.TB) *Lab {
	t.Helper()
	dir := os.Getenv(LabVariable)
	if dir == "" {
		t.Skip("it runs in a lab: make e2e")
	}
	lab, err := ReadLab(dir)
	if err != nil {
		t.Fatal(err)
	}
	return lab
}

// ReadLab reads what a lab was told.
func ReadLab(dir string) (*Lab, error) {
	lab := &Lab{}
	if err := readJSON(filepath.Join(dir, "lab.json"), lab); err != nil {
		return nil, fmt.Errorf("read lab: %w", err)
	}
	return lab, nil
}

// Write saves what the lab is told.
func (l *Lab) Write() error { return writeJSON(filepath.Join(l.Dir, "lab.json"), l) }

// Cgroup is the lab's control group, relative to each hierarchy.
func (l *Lab) Cgroup() string { return "kubetest-" + l.ID }

// Kubeconfig is a file with a context of each standing cluster's name.
func (l *Lab) Kubeconfig() string { return filepath.Join(l.Dir, "kubeconfig") }

// Clusters are those that the lab started with. Until all are ready there is
// an error that wraps fs.ErrNotExist.
func (l *Lab) Clusters() ([]*Standing, error) {
	var clusters []*Standing
	if err := readJSON(l.standing(), &clusters); err != nil {
		return nil, fmt.Errorf("read clusters of the lab: %w", err)
	}
	for _, cluster := range clusters {
		var err error
		if cluster.config, err = clientcmd.BuildConfigFromFlags("", cluster.Kubeconfig); err != nil {
			return nil, fmt.Errorf("read cluster %s of the lab: %w", cluster.Name, err)
		}
		cluster.config.QPS, cluster.config.Burst = 500, 1000
	}
	return clusters, nil
}

// Cluster is the standing cluster of that name. Tests share it, so each uses a
// namespace of its own.
func (l *Lab) Cluster(t testing.TB, name string) *Standing {
	t.Helper()
	clusters, err := l.Clusters()
	if err != nil {
		t.Fatal(err)
	}
	for _, cluster := range clusters {
		if cluster.Name == name {
			return cluster
		}
	}
	t.Fatalf("the lab has no cluster %s: run make e2e-down and make e2e", name)
	return nil
}

// Stand tells which clusters stand, when all of them do.
func (l *Lab) Stand(clusters []*Standing) error {
	all := clientcmdapi.NewConfig()
	for _, cluster := range clusters {
		one, err := clientcmd.LoadFromFile(cluster.Kubeconfig)
		if err != nil {
			return fmt.Errorf("tell of cluster %s: %w", cluster.Name, err)
		}
		maps.Copy(all.Clusters, one.Clusters)
		maps.Copy(all.AuthInfos, one.AuthInfos)
		maps.Copy(all.Contexts, one.Contexts)
		if all.CurrentContext == "" {
			all.CurrentContext = one.CurrentContext
		}
	}
	return errors.Join(clientcmd.WriteToFile(*all, l.Kubeconfig()), writeJSON(l.standing(), clusters))
}

func (l *Lab) standing() string { return filepath.Join(l.Dir, "clusters.json") }

func readJSON(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// writeJSON replaces the file as a whole: a reader finds all of it or none.
func writeJSON(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(path+".new", text, 0o600), os.Rename(path+".new", path))
}
