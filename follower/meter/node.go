package meter

import (
	"sort"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// node is all that is held of one node.
type node struct {
	name     string
	own      *series
	kube     *series
	pods     map[string]*pod
	info     reading.NodeInfo
	lives    []reading.NodeInfo // all nodes that had the name, oldest first; info is the last
	known    bool               // the watch told of it
	shift    int64
	newest   int64 // newest sample time of its last body, unshifted
	received int64 // when that came
	seq      int64 // bodies taken since the start
	balance  int64 // Σ __unattributed__ since the start, core-µs
	tags     []identity
	hold     int64 // start of the oldest window that can still be written
	warned   bool
}

// pod is a pod on a node: by its own cgroup, by its containers, by the watch.
type pod struct {
	uid, namespace, name string
	own                  *series
	containers           map[string]*series
	info                 reading.PodInfo
	known                bool
	saved                bool       // info is durable as it is
	restored             bool       // info came from the store: the watch may not know the pod
	guessed              bool       // the end is a guess: the watch does not know the pod
	tags                 []identity // by from: a later one knows what was unknown
	unseen, compared     *unseen
}

func newNode(name string) *node { return &node{name: name, pods: make(map[string]*pod)} }

// podKey is a pod's key on its node. A source without UIDs has names.
func podKey(id reading.Series) string {
	if id.PodUID != "" {
		return id.PodUID
	}
	return id.Namespace + "/" + id.Pod
}

func (n *node) pod(id reading.Series) *pod {
	key := podKey(id)
	p := n.pods[key]
	if p == nil {
		p = &pod{uid: id.PodUID, namespace: id.Namespace, name: id.Pod, containers: make(map[string]*series)}
		n.pods[key] = p
	}
	return p
}

// find is the series of an id, or nil.
func (n *node) find(id reading.Series) *series {
	switch id.Kind {
	case reading.Node:
		return n.own
	case reading.Kubepods:
		return n.kube
	}
	p := n.pods[podKey(id)]
	switch {
	case p == nil:
		return nil
	case id.Kind == reading.Pod:
		return p.own
	}
	return p.containers[id.Container]
}

// series is the series of an id, made when it is new.
func (n *node) series(id reading.Series) *series {
	if s := n.find(id); s != nil {
		return s
	}
	s := &series{id: id}
	switch id.Kind {
	case reading.Node:
		n.own = s
	case reading.Kubepods:
		n.kube = s
	case reading.Pod:
		n.pod(id).own = s
	default:
		n.pod(id).containers[id.Container] = s
	}
	return s
}

// each visits every series of the node with the pod that it belongs to, if any.
func (n *node) each(visit func(*series, *pod)) {
	if n.own != nil {
		visit(n.own, nil)
	}
	if n.kube != nil {
		visit(n.kube, nil)
	}
	for _, p := range n.pods {
		if p.own != nil {
			visit(p.own, p)
		}
		for _, s := range p.containers {
			visit(s, p)
		}
	}
}

// sorted are the node's pods in the order of their keys.
func (n *node) sorted() []*pod {
	keys := make([]string, 0, len(n.pods))
	for key := range n.pods {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	pods := make([]*pod, len(keys))
	for i, key := range keys {
		pods[i] = n.pods[key]
	}
	return pods
}

// ended is when the pod's end is known to lie; 0: it lives, as far as we know.
func (p *pod) ended() int64 { return unixNano(p.info.End) }

// lastSeen is the newest sample of the pod's cgroup, or of its containers.
func (p *pod) lastSeen() int64 {
	if p.own != nil {
		return p.own.last.time
	}
	var t int64
	for _, s := range p.containers {
		t = max(t, s.last.time)
	}
	return t
}

// alive is when the pod lives, as far as readings and the watch tell.
func (p *pod) alive() span {
	life := span{unixNano(p.info.Start), unixNano(p.info.End)}
	if life.from == 0 && p.known { // it waits for its image: no container has started
		return span{maxInt64, maxInt64}
	}
	if life.from == 0 {
		life.from = p.born()
	}
	if life.to == 0 {
		life.to = maxInt64
		if !p.known {
			life.to = p.lastSeen()
		}
	}
	return life
}

func (p *pod) born() int64 {
	for _, s := range append([]*series{p.own}, p.sortedContainers()...) {
		if s != nil {
			if t := s.last.began(); t != 0 {
				return t
			}
			if len(s.steps) > 0 {
				return s.steps[0].from
			}
		}
	}
	return maxInt64
}

func (p *pod) sortedContainers() []*series {
	list := make([]*series, 0, len(p.containers))
	for _, s := range p.containers {
		list = append(list, s)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].id.Container < list[j].id.Container })
	return list
}

// shiftOf is what brings a body's samples to the follower's clock. It is held
// until it is off by more than a body can be old, so that a body that is read
// twice gets the same times; a body that shows nothing new changes nothing. Old
// samples of a node whose clock is right are old: shifted, what was used before
// them would count after them.
func (n *node) shiftOf(body reading.Body, interval time.Duration) int64 {
	newest := unixNano(body.NewestSample)
	if newest == 0 || newest == n.newest {
		return n.shift
	}
	slack := int64(max(2*interval, 30*time.Second))
	age := body.Received.UnixNano() - max(newest, unixNano(body.NodeTime))
	off := age - n.shift
	switch {
	case n.shift == 0 && 0 <= age && age <= slack:
		return 0
	case n.shift != 0 && -slack <= off && off <= slack:
		return n.shift
	case 0 <= age && age <= slack:
		return 0
	}
	return age
}

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func at(ns int64) time.Time { return time.Unix(0, ns).UTC() }

const minute = int64(schema.Minute)

// floorMinute is the start of the window that holds t.
func floorMinute(t int64) int64 { return at(t).Truncate(schema.Minute).UnixNano() }

func window(from int64) schema.Window {
	return schema.Window{From: at(from), To: at(from + minute)}
}
