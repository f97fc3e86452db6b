package demo

import (
	"math"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// endpoint is how the leader reaches a follower.
type endpoint struct {
	url       string
	tokenFile string
}

// customerOf is who pays for a cluster of the demonstration.
var customerOf = map[string]string{"edge-ams": "acme", "edge-par": "globex", hostCluster: "acme"}

// places are objects whose addresses change at each start.
func places(simulated *simulator.Server, endpoints map[string]endpoint) []fleet.Object {
	var objects []fleet.Object
	for _, cluster := range simulated.Fleet().Clusters {
		objects = append(objects, fleet.NewObject(cluster.Name, clusterSpec(cluster.Name, endpoints[cluster.Name])))
	}
	if to, ok := endpoints[hostCluster]; ok {
		objects = append(objects, fleet.NewObject(hostCluster, clusterSpec(hostCluster, to)))
	}
	for _, box := range simulated.Fleet().Boxes {
		for _, meter := range box.Meters {
			objects = append(objects, fleet.NewObject(meter.Name, meterSpec(box, meter, simulated.MeterURL(box.Name, meter.Name))))
		}
	}
	return objects
}

func clusterSpec(name string, to endpoint) fleet.Cluster {
	spec := fleet.Cluster{Customer: customerOf[name], URL: to.url, TokenFile: to.tokenFile, Provider: "edge", Region: "eu-west"}
	if name == hostCluster {
		spec.Provider, spec.Region = "on-premises", "here"
	}
	return spec
}

// meterSpec is how the leader reads a meter.
func meterSpec(box simulator.Box, meter simulator.Meter, url string) fleet.Meter {
	spec := fleet.Meter{Box: box.Name, Driver: fleet.DriverShellyGen2, Channel: meter.Channel, URL: url}
	switch meter.Kind {
	case simulator.Tasmota:
		spec.Driver = fleet.DriverTasmota
	case simulator.HomeWizard:
		spec.Driver = fleet.DriverHomeWizard
	case simulator.SDM120:
		spec.Driver, spec.Preset, spec.Channel = fleet.DriverModbus, fleet.PresetSDM120, 1
	}
	if len(meter.Beside) > 0 {
		spec.Box, spec.Site = "", sites[box.Name].Site
	}
	if meter.Node != "" {
		spec.Node = nodeName(meter.Cluster, meter.Node)
	}
	return spec
}

// nodeName is the name of a node's object.
func nodeName(cluster, node string) string { return cluster + "." + node }

// sites are where the boxes stand, and who carries their idle energy. In the one
// that two customers share it is carried by requests, whatever is said here.
var sites = map[string]fleet.Box{
	"box-ams":   {Site: "Amsterdam", IdlePolicy: fleet.IdleEqual},
	"box-ams-2": {Site: "Amsterdam", IdlePolicy: fleet.IdleNone},
	"box-par":   {Site: "Paris", IdlePolicy: fleet.IdleUsage},
	"box-colo":  {Site: "Frankfurt"},
}

// described are objects that a user may change afterwards: they are applied at
// the first start only.
func described(simulated *simulator.Simulator) []fleet.Object {
	objects := []fleet.Object{
		fleet.NewObject("acme", fleet.Customer{DisplayName: "Acme", TimeZone: "Europe/Amsterdam", Currency: "EUR"}),
		fleet.NewObject("globex", fleet.Customer{DisplayName: "Globex", TimeZone: "Europe/Paris", Currency: "EUR"}),
	}
	for _, box := range simulated.Fleet().Boxes {
		spec := sites[box.Name]
		spec.OverheadWatts = box.OverheadWatts
		objects = append(objects, fleet.NewObject(box.Name, spec))
	}
	types := make(map[string]bool)
	for _, cluster := range simulated.Fleet().Clusters {
		for _, node := range cluster.Nodes {
			hardware := hardwareName(node)
			if !types[hardware] {
				types[hardware] = true
				objects = append(objects, fleet.NewObject(hardware, hardwareSpec(node)))
			}
			objects = append(objects, fleet.NewObject(nodeName(cluster.Name, node.Name),
				fleet.Node{Cluster: cluster.Name, Node: node.Name, Box: node.Box, Hardware: hardware}))
		}
	}
	objects = append(objects, surroundings()...)
	return append(objects, rules()...)
}

// surroundings are the grids of the sites, what the electricity of one was bought as,
// and who makes use of the heat. This machine may stand anywhere: it has no grid, and
// no grams.
func surroundings() []fleet.Object {
	store := float64(tankMax)
	grid := func(zone string, boxes ...string) fleet.Grid {
		return fleet.Grid{Zone: zone, Binding: fleet.Binding{Boxes: boxes}}
	}
	return []fleet.Object{
		fleet.NewObject("netherlands", grid("NL", "box-ams", "box-ams-2")),
		fleet.NewObject("france", grid("FR", "box-par")),
		fleet.NewObject("germany", grid("DE", "box-colo")),
		fleet.NewObject("wind", fleet.EnergyContract{Binding: fleet.Binding{Boxes: []string{"box-ams", "box-ams-2"}}, GramsPerKWh: "0",
			Instrument: "guarantees-of-origin", Evidence: "made up for the demonstration"}),
		fleet.NewObject("supplier", fleet.EnergyContract{Binding: fleet.Binding{Boxes: []string{"box-colo"}}, GramsPerKWh: "412",
			Instrument: "supplier-mix", Evidence: "made up for the demonstration"}),
		fleet.NewObject(tankName, fleet.HeatSource{Box: tankBox, Method: fleet.HeatTemperatures, MaxStoreCelsius: &store}),
		fleet.NewObject("ams-greenhouse", fleet.HeatSource{Box: "box-ams", Method: fleet.HeatCapture, CaptureFactor: 0.85}),
	}
}

// hardwareName is the name of a node's type: "epyc-3251".
func hardwareName(node simulator.Node) string {
	return strings.ReplaceAll(strings.ToLower(node.CPUType), " ", "-")
}

// hardwareSpec is what its owner knows of a type: two points of its curve, of one
// type four.
func hardwareSpec(node simulator.Node) fleet.Hardware {
	spec := fleet.Hardware{CPUType: node.CPUType, RAMType: node.RAMType, DiskType: node.DiskType,
		Cores: int64(node.Cores), MemoryBytes: node.MemoryBytes, IdleWatts: node.IdleWatts,
		MaxWatts: math.Round(10*node.MaxWatts()) / 10, Source: "nameplate of the demonstration",
		EmbodiedKg: 100 + 25*float64(node.Cores), LifetimeYears: 5} // made up, as the nodes are
	if node.CPUType == calibrated {
		spec.Source = "measured in the demonstration at four loads"
		for _, tenths := range []int{0, 1, 5, 10} {
			spec.Curve = append(spec.Curve, fleet.LoadWatts{Load: float64(10 * tenths), Watts: node.Curve[tenths]})
		}
	}
	return spec
}

// calibrated is the type of node that somebody has measured.
const calibrated = "Xeon D-1541"

// rules are prices and who uses what.
func rules() []fleet.Object {
	rate := func(resource, price string) fleet.Rate {
		return fleet.Rate{Resource: resource, Price: fleet.Decimal(price)}
	}
	objects := []fleet.Object{
		fleet.NewObject("standard", fleet.PriceList{Currency: "EUR", Rates: []fleet.Rate{
			rate("cpu_used", "0.0240"), rate("memory_used", "0.0032"), rate("network_transmit", "0.01"), rate("energy", "0.31")}}),
	}
	for i, team := range []string{"shop", "media", "finance", "data", "platform"} {
		objects = append(objects, fleet.NewObject("team-"+team, fleet.Assignment{Priority: 10 + i,
			Labels: map[string]string{"team": team}, Project: team}))
	}
	return objects
}

// hostNode describes the machine that runs the demonstration, as far as that is
// known: it stands in no box, so its energy is estimated.
func hostNode(name string) fleet.Object {
	return fleet.NewObject(nodeName(hostCluster, name), fleet.Node{Cluster: hostCluster, Node: name})
}
