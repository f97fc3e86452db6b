package simulator

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// Instance is one pod that lives or lived: a template's only one, or one run
// of a CronJob.
type Instance struct {
	Cluster, Node, Namespace string
	Name, UID                string
	WorkloadKind, Workload   string    // the top of its owner chain
	Start, End               time.Time // End zero: nothing ends it

	pod *Pod
	run int64 // of a CronJob
}

// alive says whether the instance lives at t: [Start, End).
func (i Instance) alive(t time.Time) bool {
	return !t.Before(i.Start) && (i.End.IsZero() || t.Before(i.End))
}

// age is how long the instance had lived at t; not more than its whole life.
func (i Instance) age(t time.Time) time.Duration {
	if !i.End.IsZero() && t.After(i.End) {
		t = i.End
	}
	return max(0, t.Sub(i.Start))
}

// job is the Job between a CronJob and the instance, "" without one.
func (i Instance) job() string {
	switch i.pod.Kind {
	case "CronJob": // as the controller names it: the scheduled time in minutes
		return fmt.Sprintf("%s-%d", i.pod.Name, i.Start.Unix()/60)
	case "Job":
		return i.pod.Workload
	}
	return ""
}

// identify fills what follows from the others by hashing.
func (i Instance) identify(seed uint64) Instance {
	i.Namespace, i.Node = i.pod.Namespace, i.pod.Node
	i.WorkloadKind, i.Workload = i.pod.Kind, i.pod.Workload
	i.Name = i.pod.Name
	if i.pod.Kind == "CronJob" {
		i.Workload = i.pod.Name
		i.Name = i.job() + "-" + suffix(seed, i.Cluster, i.Namespace, i.job())
	}
	if i.pod.Kind == "Pod" {
		i.Workload = i.pod.Name
	}
	i.UID = uid(seed, "pod", i.Cluster, i.Namespace, i.Name, i.Start.UTC().Format(time.RFC3339))
	return i
}

// runs is how many runs had begun at t, the running one included.
func (p *Pod) runs(t time.Time) int64 {
	if t.Before(p.Start) {
		return 0
	}
	n := int64(t.Sub(p.Start)/p.Every) + 1
	if !p.End.IsZero() {
		n = min(n, int64((p.End.Sub(p.Start)-p.Duration)/p.Every)+1)
	}
	return max(n, 0)
}

// instance is the template's n-th instance.
func (s *Simulator) instance(cluster string, p *Pod, run int64) Instance {
	return s.life(cluster, p, run).identify(s.fleet.Seed)
}

// life is the template's n-th instance without its names.
func (s *Simulator) life(cluster string, p *Pod, run int64) Instance {
	i := Instance{Cluster: cluster, pod: p, run: run, Start: p.Start, End: p.End}
	if p.Every > 0 {
		i.Start = p.Start.Add(time.Duration(run) * p.Every)
		i.End = i.Start.Add(p.Duration)
	}
	node := s.node(cluster, p.Node)
	if left := node.Left; !left.IsZero() && (i.End.IsZero() || i.End.After(left)) {
		i.End = left
	}
	return i
}

// overlapping are the template's instances that live at some moment of
// [from, to], without their names.
func (s *Simulator) overlapping(cluster string, p *Pod, from, to time.Time) []Instance {
	first, last := int64(0), int64(0)
	if p.Every > 0 {
		first, last = max(0, p.runs(from)-1), p.runs(to)-1
	}
	var all []Instance
	for run := first; run <= last; run++ {
		i := s.life(cluster, p, run)
		if !i.Start.After(to) && (i.End.IsZero() || i.End.After(from)) && (i.End.IsZero() || i.End.After(i.Start)) {
			all = append(all, i)
		}
	}
	return all
}

// Instances are the pods of a cluster that live at some moment of [from, to],
// in the fleet's order, then by start.
func (s *Simulator) Instances(cluster string, from, to time.Time) []Instance {
	c := s.cluster(cluster)
	var all []Instance
	for n := range c.Pods {
		for _, i := range s.overlapping(cluster, &c.Pods[n], from, to) {
			all = append(all, i.identify(s.fleet.Seed))
		}
	}
	return all
}

// hash is a stable 32 bytes of the seed and the parts.
func hash(seed uint64, parts ...string) [32]byte {
	buffer := binary.BigEndian.AppendUint64(nil, seed)
	return sha256.Sum256(append(buffer, strings.Join(parts, "\x00")...))
}

// uid has the form of a random UUID.
func uid(seed uint64, parts ...string) string {
	sum := hash(seed, parts...)
	sum[6], sum[8] = sum[6]&0x0f|0x40, sum[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// suffix is five letters as Kubernetes' generated names end in.
func suffix(seed uint64, parts ...string) string {
	const letters = "bcdfghjklmnpqrstvwxz2456789"
	sum := hash(seed, append(parts, "suffix")...)
	var name [5]byte
	for n := range name {
		name[n] = letters[int(sum[n])%len(letters)]
	}
	return string(name[:])
}
