package allocation

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
)

// Names of what has no value of its own, as OpenCost has them.
const (
	Idle        = "__idle__"        // capacity that nobody requested or used
	Unallocated = "__unallocated__" // has no value for a key
	Unmounted   = "__unmounted__"   // volumes that no pod mounted
)

// How a dimension's value is made of the key.
type dimensionKind int

const (
	byKey dimensionKind = iota
	byLabel
	byController     // kind:name
	byControllerKind // lower case
	byControllerOf   // name, of one kind alone
)

// dimension is something to aggregate and filter by.
type dimension struct {
	name string // as the caller wrote it
	kind dimensionKind
	key  usage.Key
	of   string // the kind of byControllerOf
}

var (
	plainKeys = []usage.Key{usage.Cluster, usage.Node, usage.Namespace, usage.Pod, usage.Container, usage.Customer, usage.Project, usage.User,
		usage.Hardware, usage.Provider, usage.Region}
	controllerKinds = []string{"deployment", "statefulset", "daemonset", "job", "cronjob", "replicaset"}
	ownerLabels     = []string{"department", "environment", "owner", "product", "team"} // labels of these names, as Kubecost has them
	aggregateHint   = "use one or more of cluster, node, namespace, controllerKind, controller, deployment, statefulset, daemonset, job, pod, container, label:NAME, annotation:NAME, " +
		"customer, project, user, hardware, provider, region, with commas between them"
)

var (
	errNoServices   = errors.New("which services a pod belongs to is not recorded, for followers may not read services: use controller, or label:NAME with a label that the service selects by")
	errNoAnnotation = errors.New("name the annotation: annotation:NAME to aggregate by it, annotation[NAME] to filter by it; followers keep those that their --annotations names")
)

func dimensionOf(name string) (dimension, error) {
	if label, ok := strings.CutPrefix(name, "label:"); ok && label != "" && usage.IsText(label) {
		return dimension{name: name, kind: byLabel, key: usage.Label(label)}, nil
	}
	if annotation, ok := strings.CutPrefix(name, "annotation:"); ok && annotation != "" && usage.IsText(annotation) {
		return dimension{name: name, kind: byLabel, key: usage.Annotation(annotation)}, nil
	}
	if slices.Contains(plainKeys, usage.Key(name)) {
		return dimension{name: name, key: usage.Key(name)}, nil
	}
	switch lower := strings.ToLower(name); {
	case slices.Contains(ownerLabels, name):
		return dimension{name: name, kind: byLabel, key: usage.Label(name)}, nil
	case slices.Contains(controllerKinds, lower):
		return dimension{name: name, kind: byControllerOf, key: usage.Workload, of: lower}, nil
	case lower == "controllerkind":
		return dimension{name: name, kind: byControllerKind, key: usage.Workload}, nil
	case lower == "controller":
		return dimension{name: name, kind: byController, key: usage.Workload}, nil
	case lower == "service", lower == "services":
		return dimension{}, errNoServices
	case strings.HasPrefix(lower, "annotation"):
		return dimension{}, errNoAnnotation
	}
	return dimension{}, fmt.Errorf("%q is not known: %s", name, aggregateHint)
}

// filterField is the dimension of a filter's field.
func filterField(field, name string) (dimension, error) {
	switch {
	case field == "label" && name == "":
		return dimension{kind: byLabel}, nil // its values name the labels
	case field == "label":
		return dimension{kind: byLabel, key: usage.Label(name)}, nil
	case field == "annotation" && name != "":
		return dimension{kind: byLabel, key: usage.Annotation(name)}, nil
	case field == "annotation":
		return dimension{}, errNoAnnotation
	case name != "":
		return dimension{}, fmt.Errorf("only label and annotation have a name in brackets, and %s has not", field)
	case field == "controllerName":
		return dimension{kind: byController, key: usage.Workload}, nil
	}
	return dimensionOf(field)
}

// parseAggregate reads a comma-separated list; "" is by container, as OpenCost's.
func parseAggregate(text string) ([]dimension, error) {
	if text == "" {
		text = "cluster,node,namespace,pod,container"
	}
	var all []dimension
	for _, name := range strings.Split(text, ",") {
		d, err := dimensionOf(strings.TrimSpace(name))
		if err != nil {
			return nil, usage.Wrong("aggregate", text, err.Error())
		}
		if !slices.ContainsFunc(all, func(o dimension) bool { return o.kind == d.kind && o.key == d.key && o.of == d.of }) {
			all = append(all, d)
		}
	}
	return all, nil
}

// value is what something has for a dimension, "" where it has none.
func (a *atom) value(d dimension) string {
	value := a.key[string(d.key)]
	kind, name, _ := strings.Cut(value, "/")
	switch d.kind {
	case byController:
		if name == "" {
			return ""
		}
		return strings.ToLower(kind) + ":" + name
	case byControllerKind:
		return strings.ToLower(kind)
	case byControllerOf:
		if strings.ToLower(kind) != d.of {
			return ""
		}
		return name
	}
	switch {
	case value == schema.Unassigned:
		return ""
	case d.key == usage.Container && value == "" && a.key[string(usage.Pod)] != "" && !strings.HasPrefix(a.key[string(usage.Pod)], "__"):
		return schema.PodRest
	case d.key == usage.Container && value == "":
		return a.key[string(usage.Pod)]
	}
	return value
}

// named is value, or the special name of what has none.
func (a *atom) named(d dimension) string {
	if value := a.value(d); value != "" {
		return value
	}
	ofPods := d.key == usage.Pod || d.key == usage.Container || d.key == usage.Node
	if ofPods && a.key[string(usage.Claim)] != "" && !a.mounted {
		return Unmounted
	}
	return Unallocated
}
