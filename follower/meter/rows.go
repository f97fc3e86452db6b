package meter

import (
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// rowSet are rows of one window, by table.
type rowSet map[string][]influxsync.Point

// usage is what a row says.
type usage struct {
	amount
	requests [4]int64 // core-µs requested, limit; KiB·s requested, limit
	uptime   int64    // ns
	// unmetered says that the node counts no memory: it is what was requested, and
	// nothing of the window is covered.
	unmetered bool
}

// build makes the rows of a node in the window at w: a pure function of the
// readings held, of the watch and of the facts. Rows whose facts are missing
// are left out; the rests carry what they would have said.
func (m *Meter) build(n *node, w, now int64, rows rowSet) missing {
	win := span{w, w + minute}
	interval := int64(m.cfg.Interval)
	if !m.present(n, win) {
		return missing{}
	}
	tags, ok := m.nodeTags(n, w, now)
	if !ok {
		return missing{node: true, rows: 1 + len(n.pods)}
	}
	if tags.facts == unknownFacts {
		m.met.unknown.Inc()
	}
	var lacks missing
	var pods amount
	base := rowTags{cluster: m.cfg.Cluster, node: n.name, facts: tags.facts, time: at(w)}
	for _, p := range n.sorted() {
		u, ok := p.usage(win, interval, n.unmetered())
		if !ok {
			continue
		}
		id, ok := m.podTags(n, p, tags, w, now)
		if !ok {
			lacks.pods = append(lacks.pods, p.key())
			lacks.rows += 2 + len(p.containers)
			continue
		}
		row := base
		row.facts, row.kind, row.workload = id.facts, id.kind, id.name
		row.namespace, row.pod, row.uid = p.namespace, p.name, p.key()
		pods.add(u.amount)
		rows.add(schema.PodMinute.Name, row.point(schema.PodMinute.Name, u))
		p.containerRows(row, u, win, interval, rows)
	}
	m.rests(n, base, pods, win, rows)
	return lacks
}

// rests adds the node's own row, __system__ and __unattributed__: node =
// Σ pods + both, for each quantity. What kubepods does not count (all of it on a
// host without such a cgroup) is taken from the node directly; what the node
// does not count is the sum of its parts, and so is its network: what its
// interfaces counted stands beside it (schema.InterfaceReceive).
func (m *Meter) rests(n *node, row rowTags, pods amount, win span, rows rowSet) {
	interval := int64(m.cfg.Interval)
	own, kube := m.ofHost(n, n.own.amount(win, interval), win), n.kube.amount(win, interval)
	n.beforeRead(&own, &kube, win, interval)
	interfaces := own
	system, rest := usage{amount: own}, usage{amount: kube}
	for q := 0; q < quantities; q++ {
		parts := pods.q[q]
		if kube.has(q) {
			parts = kube.q[q]
		}
		rest.q[q] = parts - pods.q[q]
		if isNetwork(q) {
			own.q[q] = parts
			own.counts |= 1 << q
		}
		if !own.has(q) {
			own.q[q] = parts
			if pods.has(q) || kube.has(q) {
				own.counts |= 1 << q
			}
		}
		if q == int(reading.Memory) && n.unmetered() { // the parts are requests, which may be more than all
			own.q[q] = max(own.q[q], parts)
		}
		system.q[q] = own.q[q] - parts
	}
	system.counts, rest.counts = own.counts, own.counts
	rows.add(schema.NodeMinute.Name, row.nodePoint(m.sizeOf(n, win), usage{amount: own, uptime: n.alive(win)}, interfaces))
	row.namespace, row.pod, row.uid = schema.SystemNamespace, schema.SystemNamespace, schema.SystemNamespace
	rows.add(schema.PodMinute.Name, row.point(schema.PodMinute.Name, system))
	if n.kube != nil {
		row.namespace, row.pod, row.uid = schema.UnattributedNamespace, schema.UnattributedNamespace, schema.UnattributedNamespace
		rows.add(schema.PodMinute.Name, row.point(schema.PodMinute.Name, rest))
	}
}

// unmetered says whether the node counts its pods' CPU and not their memory.
func (n *node) unmetered() bool {
	return n.kube != nil && n.kube.counts&(1<<reading.CPU) != 0 && n.kube.counts&(1<<reading.Memory) == 0
}

func (r rowSet) add(table string, p influxsync.Point) { r[table] = append(r[table], p) }

// present says whether a window has rows of the node: the watch knows it
// there, or it was read there.
func (m *Meter) present(n *node, win span) bool {
	if n.known && n.there(win) > 0 {
		return true
	}
	if n.own == nil || len(n.own.steps) == 0 {
		return false
	}
	return n.own.steps[0].from < win.to && n.own.last.time > win.from
}

// alive is the node's time in the window, ns.
func (n *node) alive(win span) int64 {
	if n.known {
		return n.there(win)
	}
	return win.overlap(n.own.steps[0].from, n.own.last.time)
}

// there is how long a node of the name was there in the window, ns.
func (n *node) there(win span) int64 {
	var sum int64
	for _, info := range n.lives {
		sum += win.overlap(unixNano(info.Joined), orEver(info.Left))
	}
	return min(sum, win.to-win.from)
}

func orEver(t time.Time) int64 {
	if t.IsZero() {
		return maxInt64
	}
	return t.UnixNano()
}

// usage is the pod's in the window, and whether it has a row there.
func (p *pod) usage(win span, interval int64, unmetered bool) (usage, bool) {
	u := usage{amount: p.amount(win, interval)}
	life := p.alive()
	u.uptime = win.overlap(life.from, life.to)
	u.requests = p.requested(win)
	if u.unmetered = unmetered && !u.has(int(reading.Memory)); u.unmetered {
		u.q[reading.Memory], u.covered = u.requests[2], 0
	}
	shown := u.uptime > 0 || u.covered > 0 || u.q != [quantities]int64{}
	for _, s := range p.containers {
		shown = shown || s.amount(win, interval).q != [quantities]int64{}
	}
	return u, shown
}

// requests are a container's requests and limits times the time it had them.
// An init container's are within those of its pod's others.
func requests(c reading.ContainerInfo, ns int64) [4]int64 {
	if c.Init && !c.Sidecar {
		return [4]int64{}
	}
	return [4]int64{
		mulDiv(c.RequestMillicores, ns, 1e6), mulDiv(c.LimitMillicores, ns, 1e6),
		mulDiv(c.RequestMemoryBytes, ns, 1024*1e9), mulDiv(c.LimitMemoryBytes, ns, 1024*1e9),
	}
}

// asked calls f with each container of the pod and how long of the window it had
// these requests: a pod that was resized has some twice.
func (p *pod) asked(win span, f func(c reading.ContainerInfo, ns int64)) {
	life := p.alive()
	from := life.from
	for _, past := range p.info.Past {
		until := min(max(from, past.Until.UnixNano()), life.to)
		for _, c := range past.Containers {
			f(c, win.overlap(from, until))
		}
		from = until
	}
	for _, c := range p.info.Containers {
		f(c, win.overlap(from, life.to))
	}
}

// requested are the pod's requests and limits over the window.
func (p *pod) requested(win span) [4]int64 {
	var sum [4]int64
	p.asked(win, func(c reading.ContainerInfo, ns int64) {
		for i, r := range requests(c, ns) {
			sum[i] += r
		}
	})
	return sum
}

// requestedBy are those of each container.
func (p *pod) requestedBy(win span) map[string][4]int64 {
	by := make(map[string][4]int64, len(p.info.Containers))
	p.asked(win, func(c reading.ContainerInfo, ns int64) {
		sum := by[c.Name]
		for i, r := range requests(c, ns) {
			sum[i] += r
		}
		by[c.Name] = sum
	})
	return by
}

// requestMemory is what the pod asked for in a span, KiB·s.
func (p *pod) requestMemory(w span) int64 { return p.requested(w)[2] }

// containerRows adds the pod's containers and what none of them counted.
func (p *pod) containerRows(row rowTags, of usage, win span, interval int64, rows rowSet) {
	rest := of
	asked := p.requestedBy(win)
	rest.requests = asked[schema.PodRest]
	rest.q[reading.Filesystem] = 0
	if p.own != nil && p.own.counts&(1<<reading.Filesystem) != 0 {
		rest.q[reading.Filesystem] = of.q[reading.Filesystem]
	}
	told := make(map[string]bool, len(p.info.Containers))
	add := func(name string, u usage) {
		for q := 0; q < quantities; q++ {
			if q != int(reading.Filesystem) || p.own != nil && p.own.counts&(1<<q) != 0 {
				rest.q[q] -= u.q[q]
			}
		}
		if of.unmetered {
			u.covered = 0
		}
		r := row
		r.container = name
		rows.add(schema.ContainerMinute.Name, r.point(schema.ContainerMinute.Name, u))
	}
	for _, c := range p.info.Containers {
		if c.Name == schema.PodRest {
			continue
		}
		told[c.Name] = true
		u := usage{amount: p.containers[c.Name].amount(win, interval), requests: asked[c.Name], uptime: of.uptime}
		if c.Init && !c.Sidecar {
			u.uptime = p.containers[c.Name].seen(win)
			if u.uptime == 0 && u.q == [quantities]int64{} {
				continue
			}
		}
		if of.unmetered {
			u.q[reading.Memory] = asked[c.Name][2]
		}
		add(c.Name, u)
	}
	for _, s := range p.sortedContainers() {
		if told[s.id.Container] {
			continue
		}
		u := usage{amount: s.amount(win, interval), uptime: s.seen(win)}
		if u.uptime > 0 || u.q != [quantities]int64{} {
			add(s.id.Container, u)
		}
	}
	row.container = schema.PodRest
	rows.add(schema.ContainerMinute.Name, row.point(schema.ContainerMinute.Name, rest))
}

// seen is the part of the window between readings of the series, ns.
func (s *series) seen(win span) int64 {
	if s == nil {
		return 0
	}
	var sum int64
	for _, st := range s.steps {
		sum += win.overlap(st.from, st.to)
	}
	return min(sum, win.to-win.from)
}

// rowTags is a row's key.
type rowTags struct {
	cluster, node, namespace, pod, uid, container string
	facts                                         reading.Facts
	kind, workload                                string
	time                                          time.Time
}

// point is a row of the pod or container table. Tags and fields are written
// down in the order of their names.
func (r rowTags) point(table string, u usage) influxsync.Point {
	container := table == schema.ContainerMinute.Name
	class := schema.Unclassified
	if container {
		class = ""
	}
	p := influxsync.Point{Table: table, Time: r.time, Tags: tagList(
		schema.Box, r.facts.Box, schema.Cluster, r.cluster, schema.Container, r.container,
		schema.CPUType, r.facts.CPUType, schema.DiskType, r.facts.DiskType, schema.Namespace, r.namespace,
		schema.NetworkClass, class, schema.Node, r.node, schema.Pod, r.pod, schema.PodUID, r.uid,
		schema.RAMType, r.facts.RAMType, schema.Workload, r.workload, schema.WorkloadKind, r.kind)}
	f := fieldList(make([]influxsync.FieldValue, 0, 16))
	f.int(schema.Coverage, coveredSeconds(u.covered))
	f.int(schema.CPU, u.q[reading.CPU])
	f.int(schema.CPULimit, u.requests[1])
	if !container {
		f.int(schema.CPUMax, larger(u.q[reading.CPU], u.requests[0]))
	}
	f.int(schema.CPURequest, u.requests[0])
	f.disk(u.amount)
	if !container && u.has(int(reading.Ephemeral)) {
		f.int(schema.Ephemeral, u.q[reading.Ephemeral])
	}
	if container {
		f.int(schema.Filesystem, u.q[reading.Filesystem])
	}
	f.int(schema.Interpolated, ceilSeconds(u.interpolated))
	f.int(schema.Memory, u.q[reading.Memory])
	f.int(schema.MemoryLimit, u.requests[3])
	if !container {
		f.int(schema.MemoryMax, larger(u.q[reading.Memory], u.requests[2]))
	}
	f.int(schema.MemoryRequest, u.requests[2])
	if !container {
		f.int(schema.NetworkReceive, u.q[reading.NetworkReceive])
		f.int(schema.NetworkTransmit, u.q[reading.NetworkTransmit])
	}
	f.int(schema.Uptime, u.uptime/1e6)
	p.Fields = f
	return p
}

// larger is what of a pod's minute is billed where the larger one of both is. What
// requests nothing is what it used, also a rest, which is signed.
func larger(used, requested int64) int64 {
	if requested == 0 {
		return used
	}
	return max(used, requested)
}

// nodePoint is a row of the node table.
func (r rowTags) nodePoint(size size, u usage, interfaces amount) influxsync.Point {
	p := influxsync.Point{Table: schema.NodeMinute.Name, Time: r.time, Tags: tagList(
		schema.Box, r.facts.Box, schema.Cluster, r.cluster, schema.CPUType, r.facts.CPUType,
		schema.DiskType, r.facts.DiskType, schema.Node, r.node, schema.RAMType, r.facts.RAMType)}
	f := fieldList(make([]influxsync.FieldValue, 0, 15))
	f.int(schema.AllocatableCPU, size.allocatableCPU)
	f.int(schema.AllocatableMem, size.allocatableMemory)
	f.int(schema.CapacityCPU, size.capacityCPU)
	f.int(schema.Coverage, coveredSeconds(u.covered))
	f.int(schema.CPU, u.q[reading.CPU])
	f.disk(u.amount)
	f.int(schema.Filesystem, u.q[reading.Filesystem])
	if interfaces.has(int(reading.NetworkReceive)) {
		f.int(schema.InterfaceReceive, interfaces.q[reading.NetworkReceive])
	}
	if interfaces.has(int(reading.NetworkTransmit)) {
		f.int(schema.InterfaceTransmit, interfaces.q[reading.NetworkTransmit])
	}
	f.int(schema.Interpolated, ceilSeconds(u.interpolated))
	f.int(schema.Memory, u.q[reading.Memory])
	f.int(schema.NetworkReceive, u.q[reading.NetworkReceive])
	f.int(schema.NetworkTransmit, u.q[reading.NetworkTransmit])
	if interfaces.powered == minute {
		f.int(schema.ProcessorEnergy, interfaces.q[reading.Processor])
	}
	f.int(schema.Uptime, u.uptime/1e6)
	p.Fields = f
	return p
}

type fieldList []influxsync.FieldValue

func (f *fieldList) int(name string, v int64) {
	*f = append(*f, influxsync.FieldValue{Name: name, Value: influxsync.Int(v)})
}

// disk adds the optional fields, where they are counted.
func (f *fieldList) disk(a amount) {
	if a.has(int(reading.DiskRead)) {
		f.int(schema.DiskRead, a.q[reading.DiskRead])
	}
	if a.has(int(reading.DiskWrite)) {
		f.int(schema.DiskWrite, a.q[reading.DiskWrite])
	}
}

// coveredSeconds is floored, but 0 only where nothing is covered.
func coveredSeconds(ns int64) int64 {
	if ns > 0 && ns < 1e9 {
		return 1
	}
	return ns / 1e9
}

func ceilSeconds(ns int64) int64 { return (ns + 1e9 - 1) / 1e9 }
