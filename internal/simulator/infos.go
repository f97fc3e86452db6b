package simulator

import (
	"maps"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

// NodeInfos are the cluster's nodes as a watch that saw everything up to at
// knows them.
func (s *Simulator) NodeInfos(cluster string, at time.Time) []reading.NodeInfo {
	var all []reading.NodeInfo
	a := apiServer{sim: s, cluster: cluster}
	c := s.cluster(cluster)
	for n := range c.Nodes {
		node := &c.Nodes[n]
		if at.Before(node.Joined) {
			continue
		}
		millicores, bytes := node.allocatable()
		info := reading.NodeInfo{Name: node.Name, UID: string(a.uid("Node", "", node.Name)), BootID: s.bootID(cluster, node, at),
			CapacityMillicores: int64(node.Cores) * 1000, AllocatableMilli: millicores, AllocatableMemoryKiB: bytes / 1024, Joined: node.Joined}
		for _, boot := range node.Boots {
			if !boot.After(at) {
				info.Past = append(info.Past, reading.PastNode{Until: boot, BootID: s.bootID(cluster, node, boot.Add(-1)),
					CapacityMillicores: info.CapacityMillicores, AllocatableMilli: millicores, AllocatableMemoryKiB: info.AllocatableMemoryKiB})
			}
		}
		if !node.alive(at) {
			info.Left = node.Left
		}
		all = append(all, info)
	}
	return all
}

// PodInfos are the pods that live at some moment of [from, to] as a watch that
// saw everything up to to knows them, with all their labels.
func (s *Simulator) PodInfos(cluster string, from, to time.Time) []reading.PodInfo {
	var all []reading.PodInfo
	a := apiServer{sim: s, cluster: cluster}
	for _, i := range s.Instances(cluster, from, to) {
		info := reading.PodInfo{UID: i.UID, Namespace: i.Namespace, Name: i.Name, Node: i.Node, WorkloadKind: i.WorkloadKind, Workload: i.Workload,
			OwnerKnown: true, Labels: maps.Clone(a.labels(i)), Created: i.Start, Start: i.Start}
		if !i.End.IsZero() && !i.End.After(to) {
			info.End, info.ExitCode, info.EndReason = i.End, i.pod.ExitCode, i.reason()
		}
		for _, c := range i.pod.Claims {
			info.Claims = append(info.Claims, c.Name)
		}
		slices.Sort(info.Claims)
		for _, c := range i.pod.Containers {
			info.Containers = append(info.Containers, reading.ContainerInfo{Name: c.Name, RequestMillicores: c.RequestMillicores,
				LimitMillicores: c.LimitMillicores, RequestMemoryBytes: c.RequestMemoryBytes, LimitMemoryBytes: c.LimitMemoryBytes})
		}
		all = append(all, info)
	}
	return all
}

// reason is why a container of the instance ended, as the runtime says it.
func (i Instance) reason() string {
	if i.pod.ExitCode != 0 {
		return "Error"
	}
	return "Completed"
}
