package fleet

import (
	"strings"
	"testing"
)

func TestBudgets(t *testing.T) {
	const head = "apiVersion: accumulus.dev/v1\nkind: Budget\nmetadata: {name: b}\nspec: "
	for spec, want := range map[string]string{
		`{amount: "500", currency: EUR, thresholds: [{percent: 80}, {percent: 80, of: forecast}], webhook: {url: "https://hook.example/x"}}`: "",
		`{currency: EUR}`:                                                                      "amount",
		`{amount: "-1", currency: EUR}`:                                                        "amount",
		`{amount: "1", currency: EURO}`:                                                        "currency",
		`{amount: "1", currency: EUR, period: week}`:                                           "period",
		`{amount: "1", currency: EUR, zone: Mars/Base}`:                                        "zone",
		`{amount: "1", currency: EUR, namespace: "a*"}`:                                        "namespace",
		`{amount: "1", currency: EUR, customer: unknown}`:                                      "customer",
		`{amount: "1", currency: EUR, thresholds: [{percent: 0}]}`:                             "thresholds",
		`{amount: "1", currency: EUR, thresholds: [{percent: 80}, {percent: 80, of: actual}]}`: "twice",
		`{amount: "1", currency: EUR, thresholds: [{percent: 80, of: hope}]}`:                  "neither",
		`{amount: "1", currency: EUR, webhook: {url: "ftp://x"}}`:                              "webhook.url",
	} {
		objects, err := Decode([]byte(head + spec))
		if err != nil {
			t.Fatal(err)
		}
		err = Validate(objects, nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", spec, err, want)
		}
	}
}
