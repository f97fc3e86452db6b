package e2e

import (
	"math"
	"path/filepath"
	"time"

	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// whole is the fleet of the tests: constant rates, rates that vary with pods
// and nodes that end and boot, and a box that two customers' clusters share
// beside one that no meter measures.
func whole() simulator.Fleet {
	all := simulator.Fleet{Seed: 7, Housekeeping: simulator.Usual}
	for _, part := range []simulator.Fleet{simulator.Steady(start), simulator.Varying(start), simulator.Shared(start)} {
		for _, c := range part.Clusters {
			for i, n := range c.Nodes {
				if n.Box == "box-a" {
					c.Nodes[i].Box = "box-" + c.Name
				}
			}
			if c.Name == "varying" {
				hasten(&c)
			}
			all.Clusters = append(all.Clusters, c)
		}
		for _, b := range part.Boxes {
			if b.Name == "box-a" {
				b.Name = "box-" + part.Clusters[0].Name
				b.Meters = []simulator.Meter{{Name: "meter-" + part.Clusters[0].Name, Generation: 2}}
			}
			all.Boxes = append(all.Boxes, b)
		}
	}
	return all
}

// hasten lets everything that happens in a varying cluster happen within the
// hour that is tested.
func hasten(c *simulator.Cluster) {
	c.Nodes[1].Boots = []time.Time{at(70 * time.Minute)}
	c.Pods[0].End = at(65*time.Minute + 7*time.Second)
	c.Pods[1].Containers[0].Restarts = []time.Duration{50*time.Minute + 11*time.Second, 80 * time.Minute}
}

// customers own the clusters.
var customers = map[string]string{"steady": "acme", "varying": "acme", "red": "rubin", "blue": "azure"}

// prices are of the one list that holds for all.
var prices = []fleet.Rate{{Resource: "cpu_used", Price: "0.0240"}, {Resource: "memory_used", Price: "0.0032"},
	{Resource: "network_transmit", Price: "0.01"}, {Resource: "energy", Price: "0.31"}}

// objects describe the fleet to the leader.
func objects(w *world) []fleet.Object {
	all := []fleet.Object{fleet.NewObject("standard", fleet.PriceList{Currency: "EUR", Rates: prices}), fleet.NewObject("netherlands", fleet.Grid{Zone: "NL"}),
		fleet.NewObject("owners", fleet.Assignment{Project: "all"})}
	for _, name := range []string{"acme", "rubin", "azure"} {
		all = append(all, fleet.NewObject(name, fleet.Customer{Currency: "EUR"}))
	}
	for _, s := range w.sites {
		all = append(all, fleet.NewObject(s.cluster, clusterOf(s, customers[s.cluster])))
	}
	for _, c := range w.sim.Fleet().Clusters {
		for _, n := range c.Nodes {
			all = append(all, hardware(c.Name, n, n.CPUType),
				fleet.NewObject(c.Name+"."+n.Name, fleet.Node{Cluster: c.Name, Node: n.Name, Box: n.Box, Hardware: hardwareName(c.Name, n)}))
		}
	}
	for _, b := range w.sim.Fleet().Boxes {
		all = append(all, fleet.NewObject(b.Name, fleet.Box{OverheadWatts: b.OverheadWatts}))
		for _, m := range b.Meters {
			all = append(all, fleet.NewObject(m.Name, fleet.Meter{Box: b.Name, Driver: fleet.DriverShellyGen2, URL: w.sim.MeterURL(b.Name, m.Name)}))
		}
	}
	return all
}

func clusterOf(s *site, customer string) fleet.Cluster {
	return fleet.Cluster{Customer: customer, URL: s.server.URL, TokenFile: filepath.Join(s.config.Dir, "leader.token")}
}

func hardwareName(cluster string, n simulator.Node) string { return "hw-" + cluster + "-" + n.Name }

// hardware is a node's, with a CPU type that may be wrong.
func hardware(cluster string, n simulator.Node, cpuType string) fleet.Object {
	return fleet.NewObject(hardwareName(cluster, n), fleet.Hardware{CPUType: cpuType, RAMType: n.RAMType, DiskType: n.DiskType,
		Cores: int64(n.Cores), MemoryBytes: n.MemoryBytes, IdleWatts: n.IdleWatts,
		MaxWatts: math.Round(10*(n.IdleWatts+n.WattsPerCore*float64(n.Cores))) / 10})
}

// at is a moment of the fleet's life.
func at(since time.Duration) time.Time { return start.Add(since) }
