package helm

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/resource"

	"bytes"
)

// Metadata by which Helm knows what it owns.
const (
	managedBy        = "app.kubernetes.io/managed-by"
	releaseName      = "meta.helm.sh/release-name"
	releaseNamespace = "meta.helm.sh/release-namespace"
)

// ExistsError is ErrExists with the objects, such as
// "Deployment accumulus/accumulus-follower".
type ExistsError struct{ Objects []string }

func (e *ExistsError) Error() string {
	verb := " exists and belongs"
	if len(e.Objects) > 1 {
		verb = " exist and belong"
	}
	return strings.Join(e.Objects, ", ") + verb + " to no release"
}

// Is makes it ErrExists.
func (e *ExistsError) Is(target error) bool { return target == ErrExists }

// prepare looks at the objects that an operation is going to create or change,
// before it writes anything: those of other releases are refused, those of none
// are refused or adopted, those that are being deleted are waited for. last is
// the release that is upgraded; nil of a new one.
func (s *session) prepare(w wish, last *release.Release) error {
	objects, err := s.objects(w, last != nil)
	if err != nil {
		return err
	}
	var strays []*resource.Info
	var exists ExistsError
	for _, info := range objects {
		live, err := get(info)
		if err != nil {
			return err
		}
		if live == nil {
			continue
		}
		if live.GetDeletionTimestamp() != nil {
			return fmt.Errorf("%s is still being deleted: %w", nameOf(info), ErrBusy)
		}
		owner := live.GetAnnotations()[releaseNamespace] + "/" + live.GetAnnotations()[releaseName]
		switch {
		case owner == s.config.Namespace+"/"+s.config.Release && live.GetLabels()[managedBy] == "Helm":
		case owner != "/" && owner != s.config.Namespace+"/"+s.config.Release:
			return &ForeignError{Object: nameOf(info), Release: owner}
		default:
			strays = append(strays, info)
			exists.Objects = append(exists.Objects, nameOf(info))
		}
	}
	if len(strays) > 0 && !w.options.Adopt {
		return &exists
	}
	for _, info := range strays {
		if err := s.adopt(info); err != nil {
			return err
		}
	}
	return nil
}

// objects are what the chart makes on this cluster, by its own versions.
func (s *session) objects(w wish, upgrade bool) (kube.ResourceList, error) {
	loaded, values, err := s.load(w)
	if err != nil {
		return nil, err
	}
	dry := s.newInstall(w)
	dry.DryRun, dry.DryRunOption, dry.IsUpgrade, dry.TakeOwnership = true, "server", upgrade, true
	planned, err := dry.Run(loaded, values)
	if err != nil {
		return nil, s.failed("plan release", err)
	}
	return s.build(planned.Manifest)
}

func (s *session) build(manifest string) (kube.ResourceList, error) {
	objects, err := s.cfg.KubeClient.Build(bytes.NewBufferString(manifest), false)
	if err != nil {
		return nil, s.failed("read objects of release", err)
	}
	return objects, nil
}

// get is the object as it is in the cluster; nil where it is not.
func get(info *resource.Info) (*unstructured.Unstructured, error) {
	live, err := resource.NewHelper(info.Client, info.Mapping).Get(info.Namespace, info.Name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", nameOf(info), err)
	}
	return asUnstructured(live)
}

func asUnstructured(object runtime.Object) (*unstructured.Unstructured, error) {
	if u, ok := object.(*unstructured.Unstructured); ok {
		return u, nil
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	return &unstructured.Unstructured{Object: fields}, err
}

func nameOf(info *resource.Info) string {
	name := info.Name
	if info.Namespace != "" {
		name = info.Namespace + "/" + name
	}
	return info.Mapping.GroupVersionKind.Kind + " " + name
}

// missing are the objects of a release that somebody has deleted.
func (s *session) missing(r *release.Release) ([]string, error) {
	objects, err := s.build(r.Manifest)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, info := range objects {
		live, err := get(info)
		if err != nil {
			return nil, err
		}
		if live == nil {
			names = append(names, nameOf(info))
		}
	}
	return names, nil
}

// adopt makes room where merging the chart's object into the one that stands
// there would give a third: a pod with two sets of containers, a Service that
// selects nothing. What it leaves, Helm merges.
func (s *session) adopt(info *resource.Info) error {
	live, err := get(info)
	if err != nil || live == nil {
		return err
	}
	wanted, err := asUnstructured(info.Object)
	if err != nil {
		return fmt.Errorf("read %s: %w", nameOf(info), err)
	}
	before, after := shape(live), shape(wanted)
	if before == after {
		s.log.Info("object adopted", "object", nameOf(info))
		return nil
	}
	background := metav1.DeletePropagationBackground
	_, err = resource.NewHelper(info.Client, info.Mapping).DeleteWithOptions(info.Namespace, info.Name,
		&metav1.DeleteOptions{PropagationPolicy: &background})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("replace %s: %w", nameOf(info), err)
	}
	s.log.Info("object replaced, for it cannot be merged with the chart's", "object", nameOf(info), "was", before, "is", after)
	if live, err = get(info); err != nil {
		return err
	}
	if live != nil {
		return fmt.Errorf("%s is still being deleted: %w", nameOf(info), ErrBusy)
	}
	return nil
}

// shape is what of an object a merge does not replace but adds to, or may not
// change: of a workload its selector and the names of its containers and
// volumes, of a Service its selector. "" of all others.
func shape(object *unstructured.Unstructured) string {
	text := func(value any) string {
		encoded, err := json.Marshal(value) // of what came as JSON
		if err != nil {
			return err.Error()
		}
		return string(encoded)
	}
	switch object.GetKind() {
	case "Service":
		selector, _, err := unstructured.NestedStringMap(object.Object, "spec", "selector")
		if err != nil {
			return err.Error()
		}
		return text(selector)
	case "Deployment", "StatefulSet", "DaemonSet":
		selector, _, err := unstructured.NestedStringMap(object.Object, "spec", "selector", "matchLabels")
		parts := map[string]any{"selector": selector}
		for _, list := range []string{"containers", "initContainers", "volumes"} {
			names, wrong := namesIn(object, list)
			parts[list], err = names, errors.Join(err, wrong)
		}
		if err != nil {
			return err.Error()
		}
		return text(parts)
	}
	return ""
}

// namesIn are the names of a pod template's list, sorted.
func namesIn(object *unstructured.Unstructured, list string) ([]string, error) {
	items, _, err := unstructured.NestedSlice(object.Object, "spec", "template", "spec", list)
	if err != nil {
		return nil, err
	}
	names := make(map[string]bool)
	for _, item := range items {
		if fields, ok := item.(map[string]any); ok {
			names[fmt.Sprint(fields["name"])] = true
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}
