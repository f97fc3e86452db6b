package fleet

import (
	"testing"
	"time"
)

var day = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// sample is a small fleet in which one box holds nodes of two customers.
func sample() []Object {
	return []Object{
		NewObject("acme", Customer{DisplayName: "ACME", TimeZone: "Europe/Amsterdam", Currency: "EUR"}),
		NewObject("globex", Customer{Currency: "USD"}),
		NewObject("alpha", Cluster{Customer: "acme", URL: "https://127.0.0.1:9443"}),
		NewObject("beta", Cluster{Customer: "globex", URL: "https://127.0.0.1:9444"}),
		NewObject("box-1", Box{Site: "Almere", OverheadWatts: 12.5, IdlePolicy: IdleEqual}),
		NewObject("box-2", Box{}),
		NewObject("d1540", Hardware{CPUType: "xeon-d-1540", RAMType: "ddr4", DiskType: "ssd", Cores: 16, MemoryBytes: 1 << 35, IdleWatts: 30, MaxWatts: 80}),
		NewObject("alpha.n1", Node{Cluster: "alpha", Node: "n1", Box: "box-1", Hardware: "d1540"}),
		NewObject("alpha.n2", Node{Cluster: "alpha", Node: "n2", Box: "box-2", Hardware: "d1540"}),
		NewObject("beta.n1", Node{Cluster: "beta", Node: "n1", Box: "box-1", Hardware: "d1540"}),
		NewObject("box-1.main", Meter{Box: "box-1", Driver: DriverShellyGen2, URL: "http://127.0.0.1:9100"}),
		NewObject("web", Assignment{Namespace: "web-*", Project: "shop"}),
		NewObject("default", PriceList{Currency: "EUR", Rates: []Rate{{Resource: "cpu_used", Price: "0.025"}, {Resource: "energy", Price: "0.31"}}}),
		NewObject("globex", PriceList{Currency: "USD", Customers: []string{"globex"}, Rates: []Rate{{Resource: "cpu_used", Price: "0.03"}}}),
	}
}

func TestSampleIsValid(t *testing.T) {
	if err := Validate(sample(), nil); err != nil {
		t.Error(err)
	}
}
