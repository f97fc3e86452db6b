package facts

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// identity is the key of an object.
type identity struct{ kind, namespace, name, uid string }

// object is one version of a pod, node or Job, as a row holds it.
type object struct {
	identity
	reason     string
	spec       string // JSON: watch.PodSpec, watch.NodeSpec or watch.JobSpec
	from       time.Time
	begin, end time.Time // of the object; end is zero while it is there
	started    time.Time // of a pod, when its first container started; zero: none did
	pod        watch.PodSpec
	job        watch.JobSpec
}

// parse reads what the writer itself must know of a spec.
func parse(c watch.Change) (object, error) {
	o := object{identity: identity{c.Kind, c.Namespace, c.Name, c.UID}, reason: c.Reason, spec: string(c.Spec), from: c.ValidFrom.UTC()}
	var node watch.NodeSpec
	var claim watch.ClaimSpec
	var namespace watch.NamespaceSpec
	into := map[string]any{watch.KindPod: &o.pod, watch.KindJob: &o.job, watch.KindNode: &node,
		watch.KindClaim: &claim, watch.KindNamespace: &namespace}[c.Kind]
	if into == nil {
		return object{}, fmt.Errorf("object of kind %q", c.Kind)
	}
	if err := json.Unmarshal(c.Spec, into); err != nil {
		return object{}, fmt.Errorf("object %s %s/%s: %w", c.Kind, c.Namespace, c.Name, err)
	}
	switch c.Kind {
	case watch.KindPod:
		o.begin, o.end = o.pod.Created, instant(o.pod.End)
		if o.started = instant(o.pod.Start); o.pod.Start != nil && (o.begin.IsZero() || o.started.Before(o.begin)) {
			o.begin = o.started // a static pod's image came later
		}
	case watch.KindJob:
		o.begin, o.end = o.job.Created, instant(o.job.End)
		if o.job.Start != nil {
			o.begin = *o.job.Start
		}
		o.started = o.begin
	case watch.KindNode:
		o.begin, o.end = node.Joined, instant(node.Left)
	case watch.KindClaim:
		o.begin, o.end = claim.Created, instant(claim.End)
	case watch.KindNamespace:
		o.begin, o.end = namespace.Created, instant(namespace.End)
	}
	return o, nil
}

func instant(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// change is the way back to what the watch said.
func (o object) change() watch.Change {
	return watch.Change{Kind: o.kind, UID: o.uid, Name: o.name, Namespace: o.namespace, ValidFrom: o.from,
		Reason: o.reason, Spec: json.RawMessage(o.spec)}
}

// row is the object's row at a time.
func (o object) row(cluster string, at time.Time) influxsync.Point {
	return influxsync.NewPoint(schema.Object.Name, map[string]string{schema.Cluster: cluster, schema.Kind: o.kind,
		schema.Namespace: o.namespace, "name": o.name, "uid": o.uid}, map[string]influxsync.Value{
		"spec": influxsync.Str(o.spec), "reason": influxsync.Str(o.reason),
		"valid_from": influxsync.Int(nanos(o.from)), "valid_to": influxsync.Int(nanos(o.end))}, at)
}

// parseRow is the way back from a row.
func parseRow(p influxsync.Point) (object, error) {
	spec, _ := p.Field("spec")
	reason, _ := p.Field("reason")
	return parse(watch.Change{Kind: p.Tag(schema.Kind), UID: p.Tag("uid"), Name: p.Tag("name"), Namespace: p.Tag(schema.Namespace),
		ValidFrom: time.Unix(0, p.Int("valid_from")).UTC(), Reason: reason.Str(), Spec: json.RawMessage(spec.Str())})
}
