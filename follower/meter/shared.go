package meter

import (
	"slices"
	"strings"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

// Nodes that are containers on one host mostly have a cgroup namespace of their
// own, so that their root group is their own, too. Where they have none, each
// reads the host's: the same counter, once per node, with the pods of all of
// them in it. Readings cannot tell the one from the other, since two quiet nodes
// count alike; Config.SharedRoot says it. Then, in each window and for what
// control groups count,
//
//	S = the host's counter − Σ kubepods of its nodes
//
// is shared by the nodes alike, in integers, and a node is its kubepods and its
// share of S: the nodes of a host add up to its counter, once.

// ofGroups are the quantities that a root control group counts. Networks are
// those of the node's own namespace.
var ofGroups = []reading.Quantity{reading.CPU, reading.Memory, reading.DiskRead, reading.DiskWrite}

// ofHost is what a node is counted for itself, where several read one host: own
// is what its root group showed.
func (m *Meter) ofHost(n *node, own amount, win span) amount {
	if !m.cfg.SharedRoot {
		return own
	}
	nodes := m.beside(n, win)
	if len(nodes) < 2 {
		return own
	}
	interval := int64(m.cfg.Interval)
	host, kube := amount{covered: -1}, make([]amount, len(nodes))
	for i, other := range nodes {
		kube[i] = other.kube.amount(win, interval)
		if root := other.own.amount(win, interval); root.covered > host.covered { // the first of those that were read best
			host = root
		}
	}
	at, count := int64(slices.Index(nodes, n)), int64(len(nodes))
	for _, of := range ofGroups {
		q, rest := int(of), int64(0)
		if !host.has(q) || slices.ContainsFunc(kube, func(a amount) bool { return !a.has(q) }) {
			continue
		}
		for _, a := range kube {
			rest -= a.q[q]
		}
		rest += host.q[q]
		own.q[q] = kube[at].q[q] + rest/count
		if over := rest % count; at < max(over, -over) { // what the division leaves, one each
			own.q[q] += over / max(over, -over)
		}
	}
	return own
}

// beside are the nodes that read the host's root group in a window, by name: n
// and those with a boot id that n had in it.
func (m *Meter) beside(n *node, win span) []*node {
	var all []*node
	for _, part := range n.stretches() {
		if part.BootID == "" || win.overlap(part.from, part.to) == 0 {
			continue
		}
		for _, other := range m.hosts[part.BootID] {
			there := slices.ContainsFunc(other.stretches(), func(o stretch) bool {
				return o.BootID == part.BootID && win.overlap(o.from, o.to) > 0
			})
			if there && other.own != nil && other.kube != nil && !slices.Contains(all, other) {
				all = append(all, other)
			}
		}
	}
	if !slices.Contains(all, n) {
		return nil
	}
	slices.SortFunc(all, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	return all
}

// touchHost marks the windows of all nodes whose rows depend on a node's readings.
func (m *Meter) touchHost(n *node, from, to int64, reason string) {
	m.touch(n, from, to, reason)
	if !m.cfg.SharedRoot {
		return
	}
	for _, siblings := range m.hosts {
		if !slices.Contains(siblings, n) {
			continue
		}
		for _, other := range siblings {
			m.touch(other, max(from, other.hold), to, reason)
		}
	}
}
