package books

import (
	"strings"
	"testing"
	"time"
)

// TestStatementForPeople: a customer reads words, amounts with their cents and
// shares in percent; the ids and the whole of a quantity are in the line.
func TestStatementForPeople(t *testing.T) {
	from := time.Date(2026, 10, 31, 23, 0, 0, 0, time.UTC)
	page, err := Statement{ID: "acme-0001", Customer: "acme", Name: "Acme B.V.", Issuer: "Example", Kind: StatementKind, Period: "2026-11", From: from, To: from.AddDate(0, 0, 30),
		Zone: "Europe/Amsterdam", Issued: from.AddDate(0, 0, 32), Currency: "EUR", Usage: "36.5", Corrections: "0", Total: "36.5",
		Resources: []Sum{{Name: "memory_max", Quantity: "2875.792 GiB-hour", Cost: "11.50"}},
		Places:    []Sum{{Name: "edge-a/shop", Cost: "10.00"}, {Name: "edge-a/__system__", Cost: "1.50"}},
		Measured:  []Measured{{Cluster: "edge-a", Completeness: "0.9986", Coverage: "1.0000", EnergyKWh: "32.355000", MeasuredKWh: "30.000000"}},
		Unpriced:  []Quantity{{Resource: "volume_claimed:fast", Text: "3 GiB-hour"}, {Resource: "network_receive", Text: "1 GB"}},
		Lines: []Line{
			{ID: "acme/1", Kind: KindUsage, Resource: "memory_max", Rate: "memory_max", Version: "standard@2026-11", PricingQuantity: "2875.791549682617", Unit: "GiB-hour", UnitPrice: "0.004", Cost: "11.50"},
			{ID: "acme/2", Kind: KindFee, Resource: "fee:platform", Rate: "fee:platform", PricingQuantity: "1", Unit: "month", UnitPrice: "25", Cost: "25.00"},
		}}.HTML()
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	for _, want := range []string{">Memory used or reserved<", ">Fee: platform<", ">2875.791550 GiB-hour<", "36.50 EUR", "edge-a: system, what the nodes use beside their pods", ">99.86 %<", ">100 %<",
		"unknown", "Volume claimed (fast) 3 GiB-hour; Network received 1 GB.", `name="viewport"`, "2026-11-01 to 2026-11-30, Europe/Amsterdam"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, wrong := range []string{"__system__", "Corrections and refunds"} {
		if strings.Contains(text, wrong) {
			t.Errorf("%q in\n%s", wrong, text)
		}
	}
}

func TestShortened(t *testing.T) {
	for in, want := range map[string]string{"": "", "1870": "1870", "0.1234567": "0.123457", "-0.1234565": "-0.123457", "0.123456": "0.123456", "a": "a"} {
		if got := shortened(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
	for _, test := range [][3]string{{"0", "EUR", "0.00"}, {"103.5", "EUR", "103.50"}, {"7", "JPY", "7"}, {"1", "KWD", "1.000"}, {"0.1234", "EUR", "0.1234"}, {"1", "", "1"}, {"", "EUR", ""}} {
		if got := padded(test[0], test[1]); got != test[2] {
			t.Errorf("%s %s is %s, want %s", test[0], test[1], got, test[2])
		}
	}
}
