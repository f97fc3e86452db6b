package simulator

import (
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

// Readings are the bodies that scraping every node of the cluster at t gives,
// without HTTP and without faults: for a history that would take a day's
// scrapes. A node that is not there has no body.
func (s *Simulator) Readings(cluster string, t time.Time) []reading.Body {
	return s.bodies(cluster, t, false)
}

// ReadingsAt is like Readings, but every series has its sample exactly at the
// edge: two lanes of readings that both have the edge join without a loss.
func (s *Simulator) ReadingsAt(cluster string, edge time.Time) []reading.Body {
	return s.bodies(cluster, edge, true)
}

func (s *Simulator) bodies(cluster string, t time.Time, exact bool) []reading.Body {
	var bodies []reading.Body
	c := s.cluster(cluster)
	for n := range c.Nodes {
		samples := s.samples(cluster, &c.Nodes[n], t, exact)
		if len(samples) > 0 {
			bodies = append(bodies, body(c.Nodes[n].Name, t, samples))
		}
	}
	return bodies
}

// body is what decoding the samples' text gives. A pod's network is its
// sandbox's, read at the sandbox's moment, and stands in the pod's reading.
func body(node string, received time.Time, samples []sample) reading.Body {
	b := reading.Body{Node: node, Received: received, NodeTime: received.Truncate(time.Second)}
	pods := make(map[string]int) // by UID
	for _, one := range samples {
		if one.kind == qosCgroup {
			continue
		}
		if one.time.After(b.NewestSample) {
			b.NewestSample = one.time
		}
		series := one.series(node)
		if one.kind == sandboxCgroup {
			if at, sampled := pods[series.PodUID]; sampled {
				b.Readings[at].Values.Set(reading.NetworkReceive, one.receive)
				b.Readings[at].Values.Set(reading.NetworkTransmit, one.transmit)
			}
			continue
		}
		if one.kind == podCgroup {
			pods[series.PodUID] = len(b.Readings)
		}
		b.Readings = append(b.Readings, reading.Reading{Series: series, Time: one.time, Epoch: one.epoch, Values: one.values()})
	}
	return b
}

func (one sample) series(node string) reading.Series {
	switch one.kind {
	case rootCgroup:
		return reading.Series{Kind: reading.Node, Node: node}
	case kubepodsCgroup:
		return reading.Series{Kind: reading.Kubepods, Node: node}
	}
	series := reading.Series{Kind: reading.Pod, Node: node, Namespace: one.instance.Namespace, Pod: one.instance.Name, PodUID: one.instance.UID}
	if one.kind == containerCgroup {
		series.Kind, series.Container = reading.Container, one.container.Name
	}
	return series
}
