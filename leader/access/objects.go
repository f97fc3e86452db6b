// Package access makes the access that a leader has to a cluster: a service
// account of its own with the rights that it needs, and a kubeconfig with that
// account's token and nothing else.
//
// It works with the credentials of whoever adds the cluster, on his machine,
// which the leader never sees. What it makes is the same each time: it may be run
// again, by this package or by applying Manifests, and mends what was changed.
package access

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/accumulus-metering/accumulus/deploy"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// What the account is called, and where it stands.
const (
	Namespace   = "accumulus"
	Account     = "accumulus-leader"
	tokenSecret = "accumulus-leader-token"
)

// leaderAnnotation stands at the account and names the leader that it is of.
const leaderAnnotation = "accumulus.dev/leader"

// installRole is the name of what only a leader that installs gets.
const installRole = "accumulus-leader-install"

// Kind is what the leader may in a cluster.
type Kind struct {
	Install bool // install and upgrade the follower
	Renew   bool // its token ends, and it may ask for the next; else a Secret holds one without end
}

// Manifests are the objects as YAML, as `kubectl apply` takes them.
func Manifests(kind Kind) (string, error) {
	files := []string{"account.yaml", tokenFile(kind), "link.yaml"}
	if kind.Install {
		files = append(files, "install.yaml")
	}
	return manifests(files...)
}

// tokenFile has what differs by how the token is come by.
func tokenFile(kind Kind) string {
	if kind.Renew {
		return "renew.yaml"
	}
	return "token.yaml"
}

func manifests(files ...string) (string, error) {
	var all []string
	for _, file := range files {
		text, err := deploy.Access.ReadFile("access/" + file)
		if err != nil {
			return "", err
		}
		all = append(all, string(text))
	}
	return strings.Join(all, "---\n"), nil
}

// decode reads the objects of manifests.
func decode(text string) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader([]byte(text)), 4096)
	for {
		var object unstructured.Unstructured
		switch err := decoder.Decode(&object.Object); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("read access manifests: %w", err)
		}
		if len(object.Object) > 0 {
			all = append(all, &object)
		}
	}
}

// resources are where the API keeps objects of the kinds that Manifests have.
var resources = map[string]schema.GroupVersionResource{
	"Namespace":          {Version: "v1", Resource: "namespaces"},
	"ServiceAccount":     {Version: "v1", Resource: "serviceaccounts"},
	"Secret":             {Version: "v1", Resource: "secrets"},
	"Role":               {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "roles"},
	"RoleBinding":        {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings"},
	"ClusterRole":        {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"},
	"ClusterRoleBinding": {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterrolebindings"},
}
