package main

import (
	"strings"
	"testing"
)

const budgetsJSON = `{"items":[{"budget":"acme","from":"2026-11-01T00:00:00Z","to":"2026-12-01T00:00:00Z","zone":"UTC","amount":"500","currency":"EUR","actual":"410.00","forecast":"520.00","p10":null,"p90":null,"actualShare":0.82,"forecastShare":1.04,"spentBy":{"p10":"2026-11-28T04:00:00Z","p50":"2026-11-29T07:00:00Z","p90":null},
"alerts":[{"budget":"acme","period":"2026-11-01T00:00:00Z","percent":80,"of":"actual","state":"sent","at":"2026-11-20T10:12:00Z","attempts":1},{"budget":"acme","period":"2026-11-01T00:00:00Z","percent":100,"of":"forecast","state":"refused","at":"2026-11-21T10:12:00Z","attempts":1,"error":"410 Gone"}]}]}`

const budgetObjectsJSON = `{"items":[{"apiVersion":"accumulus.dev/v1","kind":"Budget","metadata":{"name":"acme"},"spec":{"customer":"acme","amount":"500","currency":"EUR","thresholds":[{"percent":80},{"percent":100,"of":"forecast"}],"webhook":{"url":"https://hook.example/secret"}}}]}`

func TestBudgetCommands(t *testing.T) {
	for name, args := range map[string]string{"budget-status": "budget status", "budget-list": "budget list"} {
		l := &leader{}
		out, code := l.run(t, "", strings.Fields(args)...)
		if code != 0 {
			t.Fatal(out)
		}
		golden(t, name, out)
		if strings.Contains(out, "secret") {
			t.Error("the webhook's path is shown")
		}
	}
}
