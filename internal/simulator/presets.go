package simulator

import (
	"fmt"
	"time"
)

const (
	mebibyte = 1 << 20
	gibibyte = 1 << 30
)

// Demo is DemoSince 25 hours before now, so that there is a day of history.
func Demo(now time.Time) Fleet { return DemoSince(now.Add(-25 * time.Hour)) }

// DemoSince is the fleet of the demonstration: two edge clusters of two customers,
// three nodes each and about ten pods, alive since the full hour of start, in boxes
// of different hardware:
//
//	box-ams   a small node; a meter that shows 1.5 % too much
//	box-ams-2 another one, without a meter: that of the site counts both
//	box-par   two servers; a plug that counts whole Wh and was dead for the 21st
//	          hour, and a meter of one of the two
//	box-colo  a node of each customer, behind a meter on a bus
//
// Who keeps data across restarts keeps start too, and meets the same fleet again.
// Its kubelets sample every 4 to 6 s, for a scrape every 5 s.
func DemoSince(start time.Time) Fleet {
	start = start.UTC().Truncate(time.Hour)
	fleet := Fleet{Seed: 1, Housekeeping: Housekeeping{Min: 4 * time.Second, Max: 6 * time.Second, Jitter: time.Second}}
	fleet.Boxes = []Box{
		{Name: "box-ams", OverheadWatts: 6, Since: start, Meters: []Meter{{Name: "meter-ams", Generation: 2, Gain: 1.015}}},
		{Name: "box-ams-2", OverheadWatts: 5, Since: start, Meters: []Meter{{Name: "meter-amsterdam", Generation: 2, Beside: []string{"box-ams"}}}},
		{Name: "box-par", OverheadWatts: 11, Since: start, Meters: []Meter{
			{Name: "meter-par", Kind: Tasmota, Gain: 0.994, Dead: []Span{{From: start.Add(20 * time.Hour), To: start.Add(21 * time.Hour)}}},
			{Name: "meter-par-2", Kind: HomeWizard, Cluster: "edge-par", Node: "par-2"}}},
		{Name: "box-colo", OverheadWatts: 8, Since: start, Meters: []Meter{{Name: "meter-colo", Kind: SDM120}}},
	}
	ams := Cluster{Name: "edge-ams", Nodes: []Node{node("ams-1", "box-ams", start, 1), node("ams-2", "box-ams-2", start, 2), node("ams-3", "box-colo", start, 3)}}
	par := Cluster{Name: "edge-par", Nodes: []Node{node("par-1", "box-par", start, 1), node("par-2", "box-par", start, 2), node("par-3", "box-colo", start, 3)}}
	ams.Nodes[0], ams.Nodes[1], ams.Nodes[2] = small.of(ams.Nodes[0]), small.of(ams.Nodes[1]), middle.of(ams.Nodes[2])
	par.Nodes[0], par.Nodes[1], par.Nodes[2] = large.of(par.Nodes[0]), large.of(par.Nodes[1]), middle.of(par.Nodes[2])
	ams.Pods = append(ams.Pods, agents(&ams, start)...)
	ams.Pods = append(ams.Pods, replicas(&ams, "shop", "web", "shop", start, 3, wave(0.55, 0.45, 40*time.Minute))...)
	ams.Pods = append(ams.Pods, replicas(&ams, "shop", "cart", "shop", start, 1, wave(0.2, 0.1, 25*time.Minute))...)
	ams.Pods = append(ams.Pods, stateful(&ams, "data", "db", "data", start, wave(0.5, 0.2, 3*time.Hour)))
	ams.Pods = append(ams.Pods, cron(&ams, "batch", "report", "finance", start, 1, 5*time.Minute, 95*time.Second, Constant(0.9)))
	ams.Pods = append(ams.Pods, cron(&ams, "batch", "thumbnails", "shop", start, 2, 3*time.Minute, 50*time.Second, wave(2.4, 1.2, 20*time.Second)))
	par.Pods = append(par.Pods, agents(&par, start)...)
	par.Pods = append(par.Pods, replicas(&par, "media", "stream", "media", start, 3, wave(3, 2.6, 90*time.Minute))...)
	par.Pods = append(par.Pods, replicas(&par, "media", "api", "media", start, 2, wave(0.75, 0.25, 15*time.Minute))...)
	par.Pods = append(par.Pods, stateful(&par, "data", "queue", "data", start, Constant(1.1)))
	par.Pods = append(par.Pods, cron(&par, "batch", "transcode", "media", start, 0, 4*time.Minute, 110*time.Second, Wave{Base: 3.5,
		Burst: 2.5, BurstPeriod: 30 * time.Second, BurstLength: 10 * time.Second}))
	fleet.Clusters = []Cluster{ams, par}
	return fleet
}

// machine is a type of server: what it is, and its watts at every tenth of its load.
type machine struct {
	cpu, ram, disk string
	cores          int
	memory         int64
	curve          []float64
}

// Types of the demonstration's nodes. Their curves are made up, in the forms that
// published ones have: a steep rise from idle, and another where turbo ends.
var (
	small = machine{"N100", "DDR5", "NVMe", 4, 16 * gibibyte,
		[]float64{7.2, 11.6, 14.5, 16.7, 18.4, 19.9, 21.4, 23.0, 24.7, 26.6, 28.8}}
	middle = machine{"Xeon D-1541", "DDR4", "SATA SSD", 8, 64 * gibibyte,
		[]float64{31, 39.5, 44.6, 49.2, 53.4, 57.8, 62.9, 68.8, 75.3, 82.1, 88.6}}
	large = machine{"EPYC 3251", "DDR4", "NVMe", 16, 128 * gibibyte,
		[]float64{46, 66, 76.5, 85.1, 93.4, 102.2, 111.8, 122.9, 135.8, 149.4, 163}}
)

// of is a node of the type.
func (m machine) of(n Node) Node {
	n.CPUType, n.RAMType, n.DiskType, n.Cores, n.MemoryBytes = m.cpu, m.ram, m.disk, m.cores, m.memory
	n.AllocatableMillicores, n.AllocatableMemoryBytes = int64(m.cores*1000-200), m.memory-gibibyte
	n.IdleWatts, n.WattsPerCore, n.Curve = m.curve[0], 0, m.curve
	return n
}

// Steady is one cluster of two nodes in one box whose rates are constant and
// whose pods stay: interpolation is exact up to rounding.
func Steady(start time.Time) Fleet {
	fleet := Fleet{Seed: 2, Housekeeping: Usual, Boxes: []Box{{Name: "box-a", OverheadWatts: 4, Since: start,
		Meters: []Meter{{Name: "meter-a", Generation: 2}}}}}
	cluster := Cluster{Name: "steady"}
	for n := 1; n <= 2; n++ {
		one := node(fmt.Sprintf("n%d", n), "box-a", start, n)
		one.System = Constant(0.1 * float64(n))
		cluster.Nodes = append(cluster.Nodes, one)
	}
	cluster.Pods = append(cluster.Pods, replicas(&cluster, "team-a", "web", "a", start, 4, Constant(0.25))...)
	cluster.Pods = append(cluster.Pods, stateful(&cluster, "team-b", "db", "b", start, Constant(0.4)))
	fleet.Clusters = []Cluster{cluster}
	return fleet
}

// Varying is like Steady with rates that vary, a container that restarts, a
// node that boots anew after two hours and pods that end: a CronJob's every
// four minutes, and a replica after 90 minutes.
func Varying(start time.Time) Fleet {
	fleet := Steady(start)
	fleet.Seed = 3
	cluster := &fleet.Clusters[0]
	cluster.Name = "varying"
	cluster.Nodes[1].Boots = []time.Time{start.Add(2 * time.Hour)}
	cluster.Nodes[1].System = wave(0.2, 0.1, 7*time.Minute)
	for p := range cluster.Pods {
		cluster.Pods[p].CPU = Wave{Base: 0.3, Amplitude: 0.2, Period: time.Duration(3+p) * time.Minute, Phase: time.Duration(p) * 17 * time.Second,
			Burst: 0.1 * float64(p%2), BurstPeriod: 7 * time.Minute, BurstLength: time.Minute}
		cluster.Pods[p].Memory = wave(200*mebibyte, 50*mebibyte, 9*time.Minute)
	}
	cluster.Pods[0].End = start.Add(90 * time.Minute)
	cluster.Pods[1].Containers[0].Restarts = []time.Duration{37 * time.Minute, 95 * time.Minute}
	cluster.Pods = append(cluster.Pods, cron(cluster, "team-a", "batch", "a", start, 0, 4*time.Minute, 75*time.Second, Constant(0.8)))
	return fleet
}

// Shared is a box whose three nodes belong to two clusters of two customers,
// which both have a namespace default; one more box has no meter.
func Shared(start time.Time) Fleet {
	fleet := Fleet{Seed: 4, Housekeeping: Usual, Boxes: []Box{
		{Name: "box-shared", OverheadWatts: 5, Since: start, Meters: []Meter{{Name: "meter-shared", Generation: 2}}},
		{Name: "box-unmetered", OverheadWatts: 3, Since: start},
	}}
	red, blue := Cluster{Name: "red"}, Cluster{Name: "blue"}
	red.Nodes = []Node{node("red-1", "box-shared", start, 1), node("red-2", "box-shared", start, 2)}
	blue.Nodes = []Node{node("blue-1", "box-shared", start, 3), node("blue-2", "box-unmetered", start, 1)}
	red.Pods = append(replicas(&red, "default", "web", "red", start, 3, wave(0.4, 0.2, 11*time.Minute)),
		stateful(&red, "data", "db", "red", start, Constant(0.3)))
	blue.Pods = append(replicas(&blue, "default", "web", "blue", start, 3, wave(0.25, 0.1, 13*time.Minute)),
		cron(&blue, "batch", "report", "blue", start, 0, 5*time.Minute, 90*time.Second, Constant(0.7)))
	fleet.Clusters = []Cluster{red, blue}
	return fleet
}

// Scale is one cluster of as many nodes and pods as asked for, all alike but
// for their phases: for benchmarks.
func Scale(start time.Time, nodes, podsPerNode int) Fleet {
	cluster := Cluster{Name: "scale"}
	for n := range nodes {
		cluster.Nodes = append(cluster.Nodes, node(fmt.Sprintf("n%d", n+1), "box-scale", start, 1))
	}
	cluster.Pods = replicas(&cluster, "load", "load", "load", start, nodes*podsPerNode, wave(0.02, 0.01, 10*time.Minute))
	for p := range cluster.Pods {
		cluster.Pods[p].Start = start.Add(10 * time.Second)
		cluster.Pods[p].Memory = Constant(32 * mebibyte)
	}
	return Fleet{Seed: 5, Housekeeping: Usual, Clusters: []Cluster{cluster}, Boxes: []Box{{Name: "box-scale", Since: start}}}
}

// node is a small server of four cores, the n-th of its kind.
func node(name, box string, joined time.Time, n int) Node {
	return Node{Name: name, Box: box, CPUType: "N100", RAMType: "DDR5", DiskType: "NVMe", Cores: 4, MemoryBytes: 16 * gibibyte,
		AllocatableMillicores: 3800, AllocatableMemoryBytes: 15 * gibibyte, Joined: joined,
		System: wave(0.12, 0.04, time.Duration(20+3*n)*time.Minute), SystemMemory: Constant(900 * mebibyte),
		Receive: Constant(3000), Transmit: Constant(2000), Filesystem: Constant(40 * gibibyte),
		IdleWatts: 7 + float64(n)/2, WattsPerCore: 5}
}

func wave(base, amplitude float64, period time.Duration) Wave {
	return Wave{Base: base, Amplitude: amplitude, Period: period}
}

func labels(workload, team string) map[string]string {
	return map[string]string{"app": workload, "team": team, "app.kubernetes.io/name": workload, "app.kubernetes.io/part-of": team}
}

// pod has a main container and a small one beside it.
func pod(cluster *Cluster, namespace, kind, workload, team string, at int, start time.Time, cpu Wave) Pod {
	cpu.Phase += time.Duration(at) * 97 * time.Second
	request := int64(1000*(cpu.Base+cpu.Amplitude)) / 10 * 10
	return Pod{Namespace: namespace, Kind: kind, Workload: workload, Labels: labels(workload, team),
		Node: cluster.Nodes[at%len(cluster.Nodes)].Name, Start: start.Add(time.Duration(10+at) * time.Second), CPU: cpu,
		Memory: Constant(float64(180+20*at) * mebibyte), Receive: Constant(float64(4000 + 500*at)), Transmit: Constant(float64(9000 + 700*at)),
		Containers: []Container{
			{Name: workload, Share: 0.9, RequestMillicores: max(request, 50), LimitMillicores: max(2*request, 2000), RequestMemoryBytes: 128 * mebibyte, LimitMemoryBytes: gibibyte},
			{Name: "proxy", Share: 0.08, RequestMillicores: 20, RequestMemoryBytes: 32 * mebibyte},
		}}
}

// replicas are a Deployment's pods, on the nodes in turn.
func replicas(cluster *Cluster, namespace, name, team string, start time.Time, count int, cpu Wave) []Pod {
	var all []Pod
	set := name + "-" + suffix(0, "replicaset", namespace, name) + "55b7"
	for n := range count {
		one := pod(cluster, namespace, "Deployment", name, team, n, start, cpu)
		one.Name = set + "-" + suffix(uint64(n), cluster.Name, namespace, name)
		all = append(all, one)
	}
	return all
}

func stateful(cluster *Cluster, namespace, name, team string, start time.Time, cpu Wave) Pod {
	one := pod(cluster, namespace, "StatefulSet", name, team, 1, start, cpu)
	one.Name = name + "-0"
	one.Claims = []Claim{
		{Name: "data-" + one.Name, Local: true, Bytes: 20 * gibibyte, Used: wave(6*gibibyte, 2*gibibyte, 5*time.Hour)},
		{Name: "backup-" + one.Name, Bytes: 50 * gibibyte, Used: Constant(12 * gibibyte)},
	}
	one.Ephemeral = wave(300*mebibyte, 60*mebibyte, time.Hour)
	return one
}

// agents are a DaemonSet's pods: one on each node, without requests.
func agents(cluster *Cluster, start time.Time) []Pod {
	var all []Pod
	for n := range cluster.Nodes {
		one := pod(cluster, "kube-system", "DaemonSet", "node-agent", "platform", n, start, Constant(0.03))
		one.Name = "node-agent-" + suffix(uint64(n), cluster.Name, "agent")
		one.Containers = []Container{{Name: "agent", Share: 0.97}}
		all = append(all, one)
	}
	return all
}

func cron(cluster *Cluster, namespace, name, team string, start time.Time, at int, every, duration time.Duration, cpu Wave) Pod {
	one := pod(cluster, namespace, "CronJob", name, team, at, start, cpu)
	one.Name, one.Start, one.Every, one.Duration = name, start.Add(every), every, duration
	one.Containers = one.Containers[:1]
	return one
}
