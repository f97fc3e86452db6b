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
	processors.CPUUsed:         ofCompute,
	processors.CPURequested:    ofCompute,
	processors.CPUMax:          ofCompute,
	processors.CPUIdle:         ofCompute,
	processors.MemoryUsed:      ofCompute,
	processors.MemoryRequested: ofCompute,
	processors.MemoryMax:       ofCompute,
	processors.MemoryIdle:      ofCompute,
	processors.EphemeralUsed:   ofCompute,
	processors.NodeHours:       ofNodes,
	processors.NetworkReceive:  ofNetwork,
	processors.NetworkTransmit: ofNetwork,
	processors.NodeReceive:     ofNetwork,
	processors.NodeTransmit:    ofNetwork,
	processors.VolumeClaimed:   ofStorage,
	processors.VolumeUsed:      ofStorage,
	processors.Energy:          ofEnergy,
	processors.UsefulHeat:      ofEnergy,
}

// units are the specification's words for the units that prices are for.
var units = map[string]string{"core-hour": "Core-Hours", "GiB-hour": "GiB-Hours", "GB": "GB", "kWh": "Kilowatt-Hours", "hour": "Unit-Hours"}

// productOf names a resource.
func productOf(r processors.Resource) (product, error) {
	p, known := products[r.General()]
	if _, extended := r.ExtendedName(); extended {
		p, known = ofCompute, true
	}
	if !known {
		return product{}, fmt.Errorf("resource %s has no FOCUS service: name one in the export", r)
	}
	p = p.metered(r.Words())
	if p.unit, known = units[r.Unit()]; !known {
		return product{}, fmt.Errorf("resource %s is priced by %q, which has no FOCUS unit: name one in the export", r, r.Unit())
	}
	if r == processors.NodeHours {
		p.unit = "Node-Hours"
	}
	return p, nil
}
