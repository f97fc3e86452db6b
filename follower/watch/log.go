package watch

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/follower/kubelet"
	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/internal/clock"
)

// Log is what is known of the cluster's nodes, pods and Jobs, ended ones until
// they are forgotten. It is the sum of its changes: Restore of all changes that
// were stored gives the same Nodes, Pods and Jobs. It is safe for concurrent
// use.
type Log struct {
	clock       clock.Clock
	log         *slog.Logger
	labels      allowList
	annotations allowList
	groups      []string // labels that group Jobs

	metering string // the metering's own namespace; "" = unknown
	alias    Aliaser

	mu      sync.Mutex
	objects map[key]*object
	owners  map[string]owner     // ReplicaSets and Jobs, by UID
	waiting map[string][]*object // pods by the UID of the owner that was not yet seen
	volumes map[string]volume    // PersistentVolumes by name
	bound   map[string]*object   // claims by the name of their PersistentVolume
	classes map[string]bool      // StorageClasses by name: whether they are local
	pending []Change
	wake    chan struct{}
}

type key struct{ kind, uid string }

// object is the present state of one UID.
type object struct {
	kind, uid, namespace, name string
	pod                        PodSpec // the one of its kind
	node                       NodeSpec
	job                        JobSpec
	claim                      ClaimSpec
	space                      NamespaceSpec
	names                      realNames // of a pod
	volume                     string    // of a claim: its PersistentVolume
	asked                      bool      // a pod's controller was looked for and does not exist
	text                       json.RawMessage
	from                       time.Time // ValidFrom of the newest change
	present                    bool      // the API server has it
	forgotten                  bool      // it is told to nobody any more, but the API server has it
}

// owner is a ReplicaSet or a Job as a step of an owner chain.
type owner struct {
	kind, name string
	controller *Owner    // nil = it is the top
	deleted    time.Time // zero while it is there
}

// NewLog is an empty log. Of the configuration it takes what does not need the
// API server.
func NewLog(config Config, clk clock.Clock, log *slog.Logger) (*Log, error) {
	allowed, err := newAllowList(config.Labels)
	if err != nil {
		return nil, err
	}
	annotations, err := newAllowList(append([]string{}, config.Annotations...))
	if err != nil {
		return nil, fmt.Errorf("annotations: %w", err)
	}
	groups := config.JobGroups
	if groups == nil {
		groups = DefaultJobGroups
	}
	if err := validateGroups(groups); err != nil {
		return nil, err
	}
	return &Log{clock: clk, log: log, labels: allowed, annotations: annotations, groups: groups, metering: config.Namespace, alias: config.Alias,
		objects: make(map[key]*object), owners: make(map[string]owner), waiting: make(map[string][]*object),
		volumes: make(map[string]volume), bound: make(map[string]*object), classes: make(map[string]bool), wake: make(chan struct{}, 1)}, nil
}

// Nodes are all nodes not yet forgotten, also those that left, by name and time.
func (l *Log) Nodes() []reading.NodeInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []reading.NodeInfo
	for _, o := range l.objects {
		if o.kind == KindNode && !o.forgotten {
			all = append(all, o.node.info(o.uid, o.name))
		}
	}
	slices.SortFunc(all, func(a, b reading.NodeInfo) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Joined.Compare(b.Joined), cmp.Compare(a.UID, b.UID))
	})
	return all
}

// Pods are all pods that were given to a node and are not yet forgotten, also
// those that ended, by namespace, name and UID. Labels and Containers must not
// be changed.
func (l *Log) Pods() []reading.PodInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []reading.PodInfo
	for _, o := range l.objects {
		if o.kind == KindPod && !o.forgotten {
			all = append(all, o.pod.info(o.uid, o.namespace, o.name))
		}
	}
	slices.SortFunc(all, func(a, b reading.PodInfo) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
	})
	return all
}

// Jobs are all Jobs not yet forgotten, by namespace, name and UID.
func (l *Log) Jobs() []JobInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []JobInfo
	for _, o := range l.objects {
		if o.kind == KindJob && !o.forgotten {
			all = append(all, o.job.info(o.uid, o.namespace, o.name))
		}
	}
	slices.SortFunc(all, func(a, b JobInfo) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
	})
	return all
}

// Targets are the kubelets of the nodes that are there and have an address, by
// name; the newest UID of a name.
func (l *Log) Targets() []kubelet.Target {
	l.mu.Lock()
	defer l.mu.Unlock()
	newest := make(map[string]*object)
	for _, o := range l.objects {
		if o.kind != KindNode || o.node.Left != nil || o.node.Address == "" {
			continue
		}
		if before := newest[o.name]; before == nil || before.node.Joined.Before(o.node.Joined) {
			newest[o.name] = o
		}
	}
	all := make([]kubelet.Target, 0, len(newest))
	for _, o := range newest {
		all = append(all, kubelet.Target{Node: o.name, Address: o.node.Address, Port: o.node.KubeletPort, BootID: o.node.BootID})
	}
	slices.SortFunc(all, func(a, b kubelet.Target) int { return cmp.Compare(a.Node, b.Node) })
	return all
}

// Pod is the pod with that UID.
func (l *Log) Pod(uid string) (kubelet.Pod, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o, ok := l.objects[key{KindPod, uid}]
	if !ok {
		return kubelet.Pod{}, false
	}
	return kubelet.Pod{Namespace: o.namespace, Name: o.name, HostNetwork: o.pod.HostNetwork}, true
}

// Pending are the changes that were not yet Stored, oldest first.
func (l *Log) Pending() []Change {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.pending)
}

// Stored drops the first n pending changes. A change that a crash took before
// it was stored is made again: the state it is compared with is what Restore
// was given.
func (l *Log) Stored(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = slices.Delete(l.pending, 0, min(n, len(l.pending)))
}

// Wake receives after a change.
func (l *Log) Wake() <-chan struct{} { return l.wake }

// Restore rebuilds the log from stored changes. It must be called before the
// watch runs. Of one UID the change with the latest ValidFrom counts; labels
// that the allow-list no longer names are kept as they were stored.
func (l *Log) Restore(changes []Change) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range changes {
		before := l.objects[key{c.Kind, c.UID}]
		if before != nil && c.ValidFrom.Before(before.from) {
			continue
		}
		o := &object{kind: c.Kind, uid: c.UID, namespace: c.Namespace, name: c.Name, text: c.Spec, from: c.ValidFrom}
		spec, err := o.spec()
		if err != nil {
			return err
		}
		if err := json.Unmarshal(c.Spec, spec); err != nil {
			return fmt.Errorf("restore %s %s/%s: %w", c.Kind, c.Namespace, c.Name, err)
		}
		l.objects[key{c.Kind, c.UID}] = o
	}
	return nil
}

// Forget drops what ended, left or finished before that time. What the API
// server still lists is kept unseen, so that it is not taken for new.
func (l *Log) Forget(before time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, o := range l.objects {
		if end := o.end(); end == nil || !end.Before(before) {
			continue
		}
		if o.forgotten = true; !o.present {
			delete(l.objects, k)
		}
	}
	for uid, own := range l.owners {
		if !own.deleted.IsZero() && own.deleted.Before(before) {
			delete(l.owners, uid)
		}
	}
}

// spec points at the state of the object's kind.
func (o *object) spec() (any, error) {
	switch o.kind {
	case KindPod:
		return &o.pod, nil
	case KindNode:
		return &o.node, nil
	case KindJob:
		return &o.job, nil
	case KindClaim:
		return &o.claim, nil
	case KindNamespace:
		return &o.space, nil
	}
	return nil, fmt.Errorf("unknown kind %q in the watch log", o.kind)
}

func (o *object) end() *time.Time {
	switch o.kind {
	case KindPod:
		return o.pod.End
	case KindNode:
		return o.node.Left
	case KindClaim:
		return o.claim.End
	case KindNamespace:
		return o.space.End
	}
	return o.job.End
}

// get is the object of that UID, made when it is new.
func (l *Log) get(kind, uid, namespace, name string) (o *object, isNew bool) {
	o, ok := l.objects[key{kind, uid}]
	if !ok {
		o = &object{kind: kind, uid: uid, namespace: namespace, name: name}
		l.objects[key{kind, uid}] = o
	}
	o.present = true
	return o, !ok
}

// record appends a change if the object differs from its newest one.
func (l *Log) record(o *object, reason string, from time.Time) {
	spec, err := o.spec()
	if err == nil {
		var text json.RawMessage
		if text, err = marshal(spec); err == nil {
			l.append(o, reason, from, text)
		}
	}
	if err != nil {
		l.log.Error("watch log cannot hold an object", "kind", o.kind, "namespace", o.namespace, "name", o.name, "err", err)
	}
}

func (l *Log) append(o *object, reason string, from time.Time, text json.RawMessage) {
	if bytes.Equal(text, o.text) {
		return
	}
	if !from.After(o.from) {
		from = o.from.Add(1)
	}
	o.text, o.from = text, from.UTC()
	l.pending = append(l.pending, Change{Kind: o.kind, UID: o.uid, Name: o.name, Namespace: o.namespace,
		ValidFrom: o.from, Reason: reason, Spec: text})
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
