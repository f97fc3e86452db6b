package focus

import (
	"fmt"

	"github.com/accumulus-metering/accumulus/processors"
)

// product is how the specification's columns name a resource.
type product struct {
	service, category, subcategory string
	meter                          string
	unit                           string
}

var (
	ofCompute = product{service: "Kubernetes Compute", category: "Compute", subcategory: "Containers"}
	ofNodes   = product{service: "Kubernetes Nodes", category: "Compute", subcategory: "Other (Compute)"}
	ofStorage = product{service: "Kubernetes Storage", category: "Storage", subcategory: "Block Storage"}
	ofNetwork = product{service: "Kubernetes Networking", category: "Networking", subcategory: "Network Connectivity"}
	ofEnergy  = product{service: "Energy", category: "Other", subcategory: "Other (Other)"}
)

func (p product) metered(meter string) product { p.meter = meter; return p }

// products by resource; those of extended resources are told by productOf.
var products = map[processors.Resource]product{
	processors.CPUUsed:         ofCompute.metered("CPU used"),
	processors.CPURequested:    ofCompute.metered("CPU reserved"),
	processors.MemoryUsed:      ofCompute.metered("memory used"),
	processors.MemoryRequested: ofCompute.metered("memory reserved"),
	processors.EphemeralUsed:   ofCompute.metered("ephemeral storage used"),
	processors.NodeHours:       ofNodes.metered("node"),
	processors.NetworkReceive:  ofNetwork.metered("network received"),
	processors.NetworkTransmit: ofNetwork.metered("network sent"),
	processors.NodeReceive:     ofNetwork.metered("node network received"),
	processors.NodeTransmit:    ofNetwork.metered("node network sent"),
	processors.VolumeClaimed:   ofStorage.metered("volume claimed"),
	processors.VolumeUsed:      ofStorage.metered("volume used"),
	processors.Energy:          ofEnergy.metered("energy"),
	"cpu_max":                  ofCompute.metered("CPU used or reserved"),
	"memory_max":               ofCompute.metered("memory used or reserved"),
}

// units are the specification's words for the units that prices are for.
var units = map[string]string{"core-hour": "Core-Hours", "GiB-hour": "GiB-Hours", "GB": "GB", "kWh": "Kilowatt-Hours", "hour": "Unit-Hours"}

// productOf names a resource.
func productOf(r processors.Resource) (product, error) {
	p, known := products[r.General()]
	name, extended := r.ExtendedName()
	switch {
	case extended:
		p = ofCompute.metered(name)
	case !known:
		return product{}, fmt.Errorf("resource %s has no FOCUS service: name one in the export", r)
	}
	if class := string(r)[len(r.General()):]; !extended && class != "" {
		p.meter += " (" + class[1:] + ")"
	}
	if p.unit, known = units[r.Unit()]; !known {
		return product{}, fmt.Errorf("resource %s is priced by %q, which has no FOCUS unit: name one in the export", r, r.Unit())
	}
	if r == processors.NodeHours {
		p.unit = "Node-Hours"
	}
	return p, nil
}
