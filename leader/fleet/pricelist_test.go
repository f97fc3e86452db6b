package fleet

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const fullList = `
apiVersion: accumulus.dev/v1
kind: PriceList
metadata:
  name: full
spec:
  currency: EUR
  minimum: "25"
  markup: "20"
  timeOfUse:
    zone: Europe/Amsterdam
    default: offpeak
    rules:
    - {slot: peak, days: [mon, tue, wed, thu, fri], from: "07:00", to: "23:00"}
  rates:
  - {resource: cpu, mode: reserved+used, price: "0.02"}
  - {resource: cpu_used, match: {region: nl}, price: "0.03"}
  - {resource: memory, tiers: {kind: graduated, steps: [{upTo: "100", price: "0.005"}, {price: "0.004"}]}}
  - {resource: energy, dynamic: {series: epex-nl, factor: "1.21", surcharge: "-0.01", fallback: "0.30"}}
  - {resource: "network_transmit:internet", price: "0.08", slots: {peak: "0.09"}}
  - {resource: node_hours, cost: "0.10"}
  - {resource: "fee:platform", per: month, price: "50"}
  - {resource: heat_credit, price: "0.05"}
  discounts:
  - {resources: [cpu], price: "0.01"}
  - {percent: "5"}
`

func TestFullPriceList(t *testing.T) {
	objects, err := Decode([]byte(fullList))
	if err != nil {
		t.Fatal(err)
	}
	if err := Validate(objects, nil); err != nil {
		t.Fatal(err)
	}
	list, err := objects[0].Spec.(PriceList).Rating("full@x")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range list.Rates {
		names = append(names, string(r.Resource))
	}
	if diff := cmp.Diff([]string{"cpu_requested", "cpu_used", "cpu_used", "memory_max", "energy", "network_transmit:internet", "node_hours", "fee:platform", "heat_credit"}, names); diff != "" {
		t.Error(diff)
	}
	text, err := Encode(objects)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Decode(text)
	if err != nil || !SameSpec(objects[0].Spec, again[0].Spec) {
		t.Errorf("written and read again it is another: %v", err)
	}
}

// Each slip has a message that names its field.
func TestPriceListMessages(t *testing.T) {
	for change, want := range map[[2]string]string{
		{`mode: reserved+used`, `mode: most`}:           `spec.rates[cpu].mode: mode "most" is none of`,
		{`from: "07:00"`, `from: "7 am"`}:               `spec.timeOfUse.rules[0].from: "7 am" is no time`,
		{`from: "07:00"`, `from: "07:10"`}:              "spec.timeOfUse.rules[0]: hours begin and end on a quarter",
		{`[mon, tue,`, `[monday, tue,`}:                 `spec.timeOfUse.rules[0].days: "monday"`,
		{"Europe/Amsterdam", "CET"}:                     "",
		{"Europe/Amsterdam", "Mars"}:                    `spec.timeOfUse.zone: "Mars" is no IANA`,
		{`{peak: "0.09"}`, `{noon: "0.09"}`}:            `spec.network_transmit:internet: slots: "noon" is none`,
		{`upTo: "100", price`, `price`}:                 "has no upTo, which only the last step may lack",
		{`series: epex-nl`, `series: EPEX`}:             `spec.rates[energy].dynamic.series: "EPEX"`,
		{`per: month, `, ``}:                            "neither month nor day",
		{`cost: "0.10"`, `cost: "-1"`}:                  "is negative",
		{`{percent: "5"}`, `{percent: "500"}`}:          "spec.discounts[1]: percent: 500 is more than 100",
		{`{percent: "5"}`, `{}`}:                        "needs one of percent and price",
		{`minimum: "25"`, `minimum: "x"`}:               "spec.minimum:",
		{`match: {region: nl}`, `match: {}`}:            "has two prices",
		{`match: {region: nl}`, `match: {hardware: h}`}: `Hardware "h" does not exist`,
	} {
		objects, err := Decode([]byte(strings.Replace(fullList, change[0], change[1], 1)))
		if err != nil {
			t.Fatal(err)
		}
		err = Validate(objects, nil)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", change[1], err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want %q", change[1], err, want)
		}
	}
}

func TestExchangeRates(t *testing.T) {
	good := ExchangeRates{Month: "2026-11", Base: "EUR", Rates: map[string]Decimal{"USD": "1.08"}}
	if err := Validate([]Object{NewObject("x", good)}, nil); err != nil {
		t.Error(err)
	}
	if err := Validate([]Object{NewObject("x", good), NewObject("y", good)}, nil); err == nil || !strings.Contains(err.Error(), "has the rates of EUR to 2026-11 already") {
		t.Errorf("twice: %v", err)
	}
	for want, bad := range map[string]ExchangeRates{
		"no month":   {Month: "November", Base: "EUR", Rates: map[string]Decimal{"USD": "1"}},
		"at least":   {Month: "2026-11", Base: "EUR"},
		"spec.base":  {Month: "2026-11", Base: "euro", Rates: map[string]Decimal{"USD": "1"}},
		"rates.USD":  {Month: "2026-11", Base: "EUR", Rates: map[string]Decimal{"USD": "0"}},
		"of itself":  {Month: "2026-11", Base: "EUR", Rates: map[string]Decimal{"EUR": "2"}},
		"no decimal": {Month: "2026-11", Base: "EUR", Rates: map[string]Decimal{"USD": "one"}},
	} {
		if err := Validate([]Object{NewObject("x", bad)}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}
