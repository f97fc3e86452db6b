package kubelet

import (
	"cmp"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

// forgetAfter is in how many bodies in a row a cgroup must be missing until
// its epoch is forgotten.
const forgetAfter = 20

// readings are those of the body that was just read: the node, kubepods, pods,
// containers, each series in the order of its epochs and times.
func (d *decoder) readings(find func(uid string) (Pod, bool)) []reading.Reading {
	groups := make([]*cgroup, 0, len(d.cgroups))
	for _, group := range d.cgroups {
		if group.seen == d.body && group.kind != "" {
			groups = append(groups, group)
			d.live(group)
		}
	}
	slices.SortFunc(groups, func(a, b *cgroup) int {
		return cmp.Or(cmp.Compare(rank[a.kind], rank[b.kind]), cmp.Compare(a.podUID, b.podUID),
			cmp.Compare(a.container, b.container), a.life.Epoch().Compare(b.life.Epoch()), cmp.Compare(a.id, b.id))
	})
	pods := newPods(groups, find, d.alias)
	out := make([]reading.Reading, 0, len(groups))
	for i, group := range groups {
		if group.sandbox() {
			continue
		}
		for j, at := range group.moments {
			if group.kind == reading.Container && d.superseded(groups, i, at) {
				continue
			}
			group.given = at.timestamp
			values, ok := at.toValues(group.kind != reading.Pod)
			if group.kind == reading.Pod && j == len(group.moments)-1 {
				pods.network(&values, group.podUID)
				if used, ok := d.further.ephemeral[group.podUID]; ok {
					values.Set(reading.Ephemeral, used)
				}
			}
			if group.kind == reading.Container && j == len(group.moments)-1 {
				d.further.layer(&values, group)
			}
			if ok {
				out = append(out, reading.Reading{Series: pods.series(d, group), Time: at.time(), Epoch: group.life.Epoch(), Values: values})
			}
		}
	}
	return out
}

// layer sets the space of a container's writable layer, where cAdvisor does not
// show it: it does not of containerd's.
func (f *further) layer(values *reading.Values, group *cgroup) {
	if _, shown := values.Get(reading.Filesystem); shown {
		return
	}
	if used, ok := f.layers[layer{group.podUID, group.container}]; ok {
		values.Set(reading.Filesystem, used)
	}
}

var rank = map[reading.Kind]int{reading.Node: 0, reading.Kubepods: 1, reading.Pod: 2, reading.Container: 3}

// live moves the group's life on by this body's moments.
func (d *decoder) live(group *cgroup) {
	slices.SortFunc(group.moments, func(a, b moment) int { return cmp.Compare(a.timestamp, b.timestamp) })
	for i := range group.moments {
		at := &group.moments[i]
		if at.unused(); !at.has[reading.CPU] {
			continue
		}
		series := reading.Series{Kind: group.kind, Node: d.node, PodUID: group.podUID}
		if group.kind == reading.Container {
			series.Container = d.shown(group)
		}
		cpu := at.values[reading.CPU].whole
		if last, ok := d.restored[series]; ok && !group.sandbox() {
			group.life.Resume(last, group.start, cpu)
		}
		group.life.Observe(group.start, cpu, at.time())
	}
}

// superseded says whether the moment belongs to a container that was followed
// by another of the same name, and came after that one's start. Its usage then
// stays in the pod's own counter, so that the series has one counter at a time:
// nothing is lost to the pod, and nothing is counted twice. A last sample from
// before the successor's start is a reading of the old epoch, given once.
func (d *decoder) superseded(groups []*cgroup, i int, at moment) bool {
	group := groups[i]
	if i+1 >= len(groups) {
		return false
	}
	next := groups[i+1]
	if next.podUID != group.podUID || next.container != group.container || len(next.moments) == 0 {
		return false
	}
	if !at.time().After(next.life.Epoch()) {
		return at.timestamp <= group.given
	}
	d.refused[refusedOverlap]++
	return true
}

func (m moment) time() time.Time { return time.UnixMilli(m.timestamp).UTC() }

// toValues are the moment's quantities, the network only where asked.
func (m moment) toValues(network bool) (reading.Values, bool) {
	var values reading.Values
	some := false
	for q := range reading.Quantities {
		isNetwork := q == reading.NetworkReceive || q == reading.NetworkTransmit
		if m.has[q] && (network || !isNetwork) {
			values.Set(q, m.values[q].whole)
			some = true
		}
	}
	return values, some
}

// pods joins what a body says of a pod in different places: names, network.
type pods struct {
	find  func(uid string) (Pod, bool)
	named map[string]Pod     // by UID
	wire  map[string]*cgroup // the cgroup with the pod's network: its newest sandbox
	host  []string           // the node's own interfaces
}

func newPods(groups []*cgroup, find func(uid string) (Pod, bool), alias Aliaser) *pods {
	p := &pods{find: find, named: make(map[string]Pod), wire: make(map[string]*cgroup)}
	for _, group := range groups {
		switch {
		case group.kind == reading.Node:
			p.host = group.interfaces
		case group.podUID == "":
			continue
		case group.kind == reading.Pod || group.sandbox():
			if len(group.interfaces) == 0 {
				break
			}
			if before, ok := p.wire[group.podUID]; !ok || !group.life.Epoch().Before(before.life.Epoch()) {
				p.wire[group.podUID] = group
			}
		}
		if _, ok := p.named[group.podUID]; !ok && group.namespace != "" && group.pod != "" {
			p.named[group.podUID] = Pod{Namespace: aliasOf(alias, "Namespace", "", group.namespace), Name: aliasOf(alias, "Pod", group.namespace, group.pod)}
		}
	}
	return p
}

// series is the identity of a group. The names are the body's own; where the
// kubelet knows none (its cAdvisor has no runtime to ask), the watch's.
func (p *pods) series(d *decoder, group *cgroup) reading.Series {
	s := reading.Series{Kind: group.kind, Node: d.node, PodUID: group.podUID}
	if group.podUID == "" {
		return s
	}
	named, ok := p.named[group.podUID]
	if !ok {
		named, _ = p.find(group.podUID)
		p.named[group.podUID] = named
	}
	s.Namespace, s.Pod = named.Namespace, named.Name
	if group.kind == reading.Container {
		s.Container = d.shown(group)
	}
	return s
}

// network sets the pod's network. It is its sandbox's, which is read some
// seconds before or after the pod's own group; it is given with the pod's
// reading, since a series has one moment per body, so its bytes may stand that
// much too early or too late, and their sum is exact. A sandbox that was made
// anew is a counter that falls. A pod on the node's network has none: what it
// would show is the node's.
func (p *pods) network(values *reading.Values, uid string) {
	wire, ok := p.wire[uid]
	if !ok || len(wire.moments) == 0 || p.onHost(uid, wire.interfaces) {
		return
	}
	newest := wire.moments[len(wire.moments)-1]
	for q := reading.NetworkReceive; q <= reading.NetworkTransmit; q++ {
		if newest.has[q] {
			values.Set(q, newest.values[q].whole)
		}
	}
}

// onHost says whether a pod uses the node's network: the watch knows; of a pod
// that it has not seen, one that shows all of the node's interfaces, where
// those are more than one, does.
func (p *pods) onHost(uid string, interfaces []string) bool {
	if known, ok := p.find(uid); ok {
		return known.HostNetwork
	}
	if len(p.host) < 2 {
		return false
	}
	for _, name := range p.host {
		if !slices.Contains(interfaces, name) {
			return false
		}
	}
	return true
}

// forget drops the cgroups that are gone.
func (d *decoder) forget() {
	for id, group := range d.cgroups {
		if d.body-group.seen >= forgetAfter {
			delete(d.cgroups, id)
		}
	}
}

// restore tells the decoder the last reading of a series before the follower's
// restart.
func (d *decoder) restore(last reading.Reading) {
	key := last.Series
	key.Namespace, key.Pod = "", ""
	if _, ok := last.Values.Get(reading.CPU); ok && d.restored[key].Time.Before(last.Time) {
		d.restored[key] = last
	}
}

// booted forgets every life when the node's boot is another one than before.
func (d *decoder) booted(id string) {
	if d.boot != "" && id != "" && d.boot != id {
		clear(d.cgroups)
		clear(d.restored)
	}
	if id != "" {
		d.boot = id
	}
}
