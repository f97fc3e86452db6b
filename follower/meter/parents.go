package meter

import "github.com/accumulus-metering/accumulus/follower/reading"

// Counters that were running when the node was read first count from their
// first reading, each at a moment of its own: the node's may be seconds after
// its pods'. Where a parent was not read yet, or is read no more, it is the sum
// of its parts. Otherwise what the parts counted in these seconds would be
// missing from it for good, and the rest would be below zero.

// beforeRead adds to the node and to kubepods what their parts counted in the
// times of the window that lie before their first or after their last reading.
func (n *node) beforeRead(own, kube *amount, win span, interval int64) {
	n.kubeBeforeRead(kube, win, interval)
	if n.own != nil {
		for _, part := range n.own.unread(win) {
			own.addCounted(n.partsIn(part, interval))
		}
	}
}

func (n *node) kubeBeforeRead(kube *amount, win span, interval int64) {
	if n.kube == nil {
		return
	}
	for _, part := range n.kube.unread(win) {
		kube.addCounted(n.podsIn(part, interval))
	}
}

// unread are the parts of a window before a series' first and after its last
// reading.
func (s *series) unread(win span) []span {
	if len(s.steps) == 0 {
		return nil
	}
	var parts []span
	for _, part := range []span{{win.from, min(win.to, s.steps[0].from)}, {max(win.from, s.last.time), win.to}} {
		if part.from < part.to {
			parts = append(parts, part)
		}
	}
	return parts
}

// podsIn is what the node's pods counted in a span. A share of the time in which
// a pod was not read is not among it: its parent counted it, elsewhere.
func (n *node) podsIn(win span, interval int64) amount {
	var sum amount
	for _, p := range n.pods {
		a := p.amount(win, interval)
		a.q[reading.CPU] = p.counted(win, interval).q[reading.CPU]
		sum.add(a)
	}
	return sum
}

// partsIn is what the parts of the node counted in a span: kubepods, and the
// pods what it does not count.
func (n *node) partsIn(win span, interval int64) amount {
	pods, kube := n.podsIn(win, interval), n.kube.amount(win, interval)
	n.kubeBeforeRead(&kube, win, interval)
	for q := range pods.q {
		if kube.has(q) {
			pods.q[q] = kube.q[q]
		}
	}
	return pods
}

// addCounted adds the quantities that a itself counts.
func (a *amount) addCounted(b amount) {
	for q := range a.q {
		if a.has(q) && !isNetwork(q) {
			a.q[q] += b.q[q]
		}
	}
}

func isNetwork(q int) bool {
	return q == int(reading.NetworkReceive) || q == int(reading.NetworkTransmit)
}
