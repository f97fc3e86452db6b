package meter

import (
	"slices"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

// size is what a node could give in a window: core-µs and KiB·s.
type size struct{ capacityCPU, allocatableCPU, allocatableMemory int64 }

// stretch is a time in which a node was of one size.
type stretch struct {
	span
	reading.PastNode
}

// stretches are the times in which a node of the name was there, oldest first.
func (n *node) stretches() []stretch {
	var all []stretch
	for _, info := range n.lives {
		from, left := unixNano(info.Joined), orEver(info.Left)
		now := reading.PastNode{BootID: info.BootID, CapacityMillicores: info.CapacityMillicores,
			AllocatableMilli: info.AllocatableMilli, AllocatableMemoryKiB: info.AllocatableMemoryKiB}
		for _, past := range info.Past {
			until := min(max(from, past.Until.UnixNano()), left)
			all = append(all, stretch{span{from, until}, past})
			from = until
		}
		all = append(all, stretch{span{from, left}, now})
	}
	return all
}

// sizeOf is the node's in the window. Nodes that have one boot id at one time are
// containers on one host (kind, k3d), and each says that it has all of it: they
// share it alike, so that the host is counted once.
func (m *Meter) sizeOf(n *node, win span) size {
	if !n.known {
		return size{}
	}
	var sum size
	for _, part := range n.stretches() {
		from, to := max(part.from, win.from), min(part.to, win.to)
		for from < to {
			share, until := m.sharers(part.BootID, span{from, to})
			ns := until - from
			sum.capacityCPU += mulDiv(part.CapacityMillicores, ns, 1e6*share)
			sum.allocatableCPU += mulDiv(part.AllocatableMilli, ns, 1e6*share)
			sum.allocatableMemory += mulDiv(part.AllocatableMemoryKiB, ns, 1e9*share)
			from = until
		}
	}
	return sum
}

// sharers is how many nodes have the boot id at the begin of w, and until when
// they are the same.
func (m *Meter) sharers(boot string, w span) (count, until int64) {
	until = w.to
	siblings := m.hosts[boot]
	if boot == "" || len(siblings) < 2 {
		return 1, until
	}
	for _, n := range siblings {
		for _, part := range n.stretches() {
			if part.BootID != boot || part.from >= part.to {
				continue
			}
			if part.from <= w.from && w.from < part.to {
				count++
			}
			for _, cut := range []int64{part.from, part.to} {
				if cut > w.from {
					until = min(until, cut)
				}
			}
		}
	}
	return max(1, count), until
}

// sharedHosts are the names of the nodes that are containers on one host, by
// host, where there are several.
func (m *Meter) sharedHosts() [][]string {
	var all [][]string
	for boot, nodes := range m.hosts {
		var names []string
		for _, n := range nodes {
			if n.info.BootID == boot && n.info.Left.IsZero() {
				names = append(names, n.name)
			}
		}
		if len(names) > 1 {
			slices.Sort(names)
			all = append(all, names)
		}
	}
	slices.SortFunc(all, func(a, b []string) int { return slices.Compare(a, b) })
	return all
}
