package leader

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
)

// hostile are requests about money that cannot be carried out as they are.
func hostile() []string {
	list := func(name, spec string) string {
		return "POST /api/v1/fleet\napiVersion: accumulus.dev/v1\nkind: PriceList\nmetadata: {name: " + name + "}\nspec: " + spec
	}
	budget := func(name, spec string) string {
		return "POST /api/v1/fleet\napiVersion: accumulus.dev/v1\nkind: Budget\nmetadata: {name: " + name + "}\nspec: " + spec
	}
	all := []string{
		// price lists
		list("bad", `{currency: EUR, rates: [{resource: cpu_max, price: "-0.031"}]}`),
		list("bad", `{currency: EUR, rates: [{resource: cpu_max, price: "NaN"}]}`),
		list("bad", `{currency: EUR, rates: [{resource: cpu_max, price: "1e400"}]}`),
		list("bad", `{currency: EUR, rates: [{resource: cpu_max, price: "`+strings.Repeat("9", 5000)+`"}]}`),
		list("bad", `{currency: XXQ, rates: [{resource: cpu_max, price: "1"}]}`),
		list("bad", `{currency: "", rates: [{resource: cpu_max, price: "1"}]}`),
		list("bad", `{currency: EUR, rates: [{resource: nothing, price: "1"}]}`),
		list("bad", `{currency: EUR, rates: [{resource: cpu_max, price: "1"}, {resource: cpu_max, price: "2"}]}`),
		list("a/b", `{currency: EUR, rates: [{resource: cpu_max, price: "1"}]}`),
		list(`"../x"`, `{currency: EUR, rates: [{resource: cpu_max, price: "1"}]}`),
		list(`"prïce"`, `{currency: EUR, rates: [{resource: cpu_max, price: "1"}]}`),
		list(`"x\u202ey"`, `{currency: EUR, rates: [{resource: cpu_max, price: "1"}]}`),
		list(`""`, `{currency: EUR, rates: [{resource: cpu_max, price: "1"}]}`),
		list("bad", `{currency: EUR, timeOfUse: {zone: Mars/Olympus, rules: [{slot: peak, days: [mon], from: "07:00", to: "22:00"}]}, rates: [{resource: cpu_max, price: "1"}]}`),
		list("bad", `{currency: EUR, timeOfUse: {zone: Europe/Amsterdam, rules: [{slot: peak, days: [mon], from: "25:00", to: "22:00"}]}, rates: [{resource: cpu_max, price: "1", slots: {peak: "2"}}]}`),
		list("bad", `{currency: EUR, timeOfUse: {zone: Europe/Amsterdam, rules: [{slot: peak, days: [mon], from: "07:07", to: "22:00"}]}, rates: [{resource: cpu_max, price: "1", slots: {peak: "2"}}]}`),
		list("bad", `{currency: EUR, discounts: [{customers: [acme], percent: "150"}], rates: [{resource: cpu_max, price: "1"}]}`),
		list("bad", `{currency: EUR, discounts: [{customers: [acme], percent: "-5"}], rates: [{resource: cpu_max, price: "1"}]}`),
		list("bad", `{currency: EUR, minimum: "-20", rates: [{resource: cpu_max, price: "1"}]}`),
		list("bad", `{currency: EUR, rates: [{resource: cpu_max, tiers: {kind: graduated, steps: [{upTo: "10", price: "1"}, {upTo: "5", price: "2"}, {price: "1"}]}}]}`),
		list("bad", `{currency: EUR, rates: [{resource: cpu_max, tiers: {kind: graduated, steps: []}}]}`),
		list("bad", `{currency: EUR, rates: [{resource: "fee:x", price: "1", per: fortnight}]}`),
		list("bad", `{currency: EUR, customers: [acme], rates: [{resource: cpu_max, price: "1"}], unknownField: 1}`),
		list("bad", `{currency: EUR, rates: []}`),
		"POST /api/v1/fleet\nnot: [yaml",
		"POST /api/v1/fleet\n" + strings.Repeat("a: b\n", 2_100_000),
		"POST /api/v1/fleet?dryRun=perhaps\n{}",
		"POST /api/v1/fleet\napiVersion: accumulus.dev/v1\nkind: ExchangeRates\nmetadata: {name: x}\nspec: {month: 2026-13, base: EUR, rates: {USD: \"1\"}}",
		"POST /api/v1/fleet\napiVersion: accumulus.dev/v1\nkind: ExchangeRates\nmetadata: {name: x}\nspec: {month: 2026-11, base: EUR, rates: {USD: \"0\"}}",
		"POST /api/v1/fleet\napiVersion: accumulus.dev/v1\nkind: ExchangeRates\nmetadata: {name: x}\nspec: {month: 2026-11, base: EUR, rates: {USD: \"-1\"}}",
		"POST /api/v1/fleet\napiVersion: accumulus.dev/v1\nkind: ExchangeRates\nmetadata: {name: x}\nspec: {month: 2026-11, base: EUR, rates: {QQQ: \"1\"}}",
		"POST /api/v1/fleet\napiVersion: accumulus.dev/v1\nkind: Customer\nmetadata: {name: acme}\nspec: {timeZone: Nowhere/Never}",
		"POST /api/v1/fleet\napiVersion: accumulus.dev/v1\nkind: Customer\nmetadata: {name: acme}\nspec: {currency: euro}",
		budget("b", `{customer: acme, amount: "-5", currency: EUR, thresholds: [{percent: 50}]}`),
		budget("b", `{customer: acme, amount: "0", currency: EUR, thresholds: [{percent: 50}]}`),
		budget("b", `{customer: acme, amount: "5", currency: QQQ, thresholds: [{percent: 50}]}`),
		budget("b", `{customer: nobody, amount: "5", currency: EUR, thresholds: [{percent: 50}]}`),
		budget("b", `{customer: acme, amount: "5", currency: EUR, thresholds: [{percent: -1}]}`),
		budget("b", `{customer: acme, amount: "5", currency: EUR, thresholds: [{percent: 50}, {percent: 50}]}`),
		budget("b", `{customer: acme, amount: "5", currency: EUR, webhook: "file:///etc/passwd", thresholds: [{percent: 50}]}`),
		budget("b", `{customer: acme, amount: "5", currency: EUR, webhook: "http://user:secret@127.0.0.1/x", thresholds: [{percent: 50}]}`),
		budget("b", `{customer: acme, amount: "5", currency: EUR, thresholds: [{percent: 50}], webhook: {url: "file:///etc/passwd"}}`),
		budget("b", `{customer: acme, amount: "5", currency: EUR, thresholds: [{percent: 50}], webhook: {url: "http://user:secret@127.0.0.1/x"}}`),
		budget("b", `{customer: acme, amount: "5", currency: EUR, thresholds: [{percent: 50}]}`+"\n---\napiVersion: accumulus.dev/v1\nkind: Budget\nmetadata: {name: b}\nspec: {customer: acme, amount: \"6\", currency: EUR, thresholds: [{percent: 50}]}"),
		// series
		`POST /api/v1/prices/series/spot` + "\n" + `{"slots":[{"from":"2026-11-03T12:07:00Z","to":"2026-11-03T13:00:00Z","price":"0.21"}]}`,
		`POST /api/v1/prices/series/spot` + "\n" + `{"slots":[{"from":"2026-11-03T14:00:00Z","to":"2026-11-03T13:00:00Z","price":"0.21"}]}`,
		`POST /api/v1/prices/series/spot` + "\n" + `{"slots":[{"from":"2026-11-03T12:00:00Z","to":"2026-11-03T13:00:00Z","price":"x"}]}`,
		`POST /api/v1/prices/series/spot` + "\n" + `{"slots":[{"from":"1026-11-03T12:00:00Z","to":"9026-11-03T13:00:00Z","price":"1"}]}`,
		`POST /api/v1/prices/series/spot` + "\n" + `{"slots":[{"from":"2026-11-03T12:00:00Z","to":"2026-11-03T13:00:00Z","price":"1"},{"from":"2026-11-03T12:00:00Z","to":"2026-11-03T13:00:00Z","price":"2"}]}`,
		`POST /api/v1/prices/series/spot` + "\n" + `{"slots":[]}`,
		`POST /api/v1/prices/series/a%2fb` + "\n" + `{"slots":[{"from":"2026-11-03T12:00:00Z","to":"2026-11-03T13:00:00Z","price":"1"}]}`,
		"POST /api/v1/prices/series/spot\n" + strings.Repeat(" ", 10<<20),
		"GET /api/v1/prices/ahead?hours=-1", "GET /api/v1/prices/ahead?hours=1e9", "GET /api/v1/prices/ahead?customer=nobody", "GET /api/v1/prices/ahead?hour=3",
		"GET /api/v1/prices/lists/nothing/history", "GET /api/v1/prices/lists/%2e%2e%2f/history",
		"POST /api/v1/prices/simulate\n{}", "POST /api/v1/prices/simulate?period=2026-13\n{}", "POST /api/v1/prices/simulate?period=2026-11\n{}",
		"POST /api/v1/prices/simulate?period=3026-11\napiVersion: accumulus.dev/v1\nkind: PriceList\nmetadata: {name: all}\nspec: {currency: EUR, rates: [{resource: cpu_max, price: \"1\"}]}",
		"POST /api/v1/prices/simulate?period=0001-01\napiVersion: accumulus.dev/v1\nkind: PriceList\nmetadata: {name: all}\nspec: {currency: EUR, rates: [{resource: cpu_max, price: \"1\"}]}",
		"POST /api/v1/prices/simulate?period=2026-11\napiVersion: accumulus.dev/v1\nkind: Customer\nmetadata: {name: all}\nspec: {}",
		"POST /api/v1/prices/simulate?period=2026-11\napiVersion: accumulus.dev/v1\nkind: PriceList\nmetadata: {name: all}\nspec: {currency: EUR, rates: [{resource: cpu_max, price: \"-1\"}]}",
		// books
		"GET /api/v1/books?period=2026-1", "GET /api/v1/books?period=2026-11-01", "GET /api/v1/books?month=2026-11", "GET /api/v1/books?period=%00",
		"POST /api/v1/books/acme/2026-11/draft\n{\"by\":\"dora\"}", "POST /api/v1/books/acme/2027-11/draft\n{\"by\":\"dora\"}", "POST /api/v1/books/acme/2026-13/draft\n{\"by\":\"dora\"}",
		"POST /api/v1/books/nobody/2026-11/draft\n{\"by\":\"dora\"}", "POST /api/v1/books/acme/2026-12/draft\n{\"by\":\"\"}", "POST /api/v1/books/acme/2026-12/draft\n", "POST /api/v1/books/acme/2026-12/draft\nnull",
		"POST /api/v1/books/acme/2026-12/draft\n[]", "POST /api/v1/books/acme/2026-12/draft\n{\"by\":\"dora\"}{}", "POST /api/v1/books/acme/2026-12/draft\n{\"by\":\"dora\\u0000\"}", "POST /api/v1/books/acme/2026-12/draft\n{\"by\":\"" + strings.Repeat("d", 300) + "\"}",
		"POST /api/v1/books/acme/2026-12/draft\n{\"by\":\"" + strings.Repeat("d", 10<<20) + "\"}", "POST /api/v1/books/acme/2026-12/draft\n{\"who\":\"dora\"}", "POST /api/v1/books/acme/2026-12/draft?as=dora\n{\"by\":\"dora\"}",
		"POST /api/v1/books/acme/0000-01/draft\n{\"by\":\"dora\"}", "POST /api/v1/books/acme/9999-12/draft\n{\"by\":\"dora\"}", "POST /api/v1/books/acme/1800-01/draft\n{\"by\":\"dora\"}",
		"POST /api/v1/books/ac%2fme/2026-11/draft\n{\"by\":\"dora\"}", "POST /api/v1/books/acm%C3%A9/2026-11/draft\n{\"by\":\"dora\"}", "POST /api/v1/books/%20/2026-11/draft\n{\"by\":\"dora\"}",
		"POST /api/v1/books/acme/2026-12/review\n{\"by\":\"dora\"}", "POST /api/v1/books/acme/2026-12/approve\n{\"by\":\"dora\"}", "POST /api/v1/books/acme/2026-12/close\n{\"by\":\"dora\"}",
		"POST /api/v1/books/acme/2026-11/review\n{\"by\":\"dora\"}", "POST /api/v1/books/acme/2026-11/close\n{\"by\":\"dora\"}", "POST /api/v1/books/acme/2026-10/close\n{\"by\":\"dora\",\"estimateMethod\":\"guess\"}",
		"GET /api/v1/books/acme/2026-10/review", "GET /api/v1/books/acme/2026-10/statement", "GET /api/v1/books/acme/2026-11/statement?format=pdf", "GET /api/v1/books/acme/2026-10/rerate", "GET /api/v1/books/acme/2026-99/rerate", "GET /api/v1/books/nobody/2026-11/rerate",
		"GET /api/v1/books/nobody/chain", "GET /api/v1/books/nobody/log", "GET /api/v1/books/nobody/refunds",
		"POST /api/v1/books/acme/2026-11/rerate\n{\"by\":\"dora\"}", "POST /api/v1/books/acme/2026-11/rerate\n{\"by\":\"dora\",\"reason\":\"\\u0007\"}", "POST /api/v1/books/acme/2026-11/rerate\n{\"by\":\"dora\",\"reason\":\"" + strings.Repeat("r", 5000) + "\"}",
		"GET /api/v1/books/acme/statements/0", "GET /api/v1/books/acme/statements/-1", "GET /api/v1/books/acme/statements/99999999999999999999", "GET /api/v1/books/acme/statements/x", "GET /api/v1/books/acme/statements/7",
		"GET /api/v1/books/acme/statements/7/archive", "GET /api/v1/books/acme/lines/0/explanation", "GET /api/v1/books/acme/lines/77/explanation", "GET /api/v1/books/acme/lines/x/explanation",
		"POST /api/v1/books/acme/refunds\n{\"statement\":1,\"amount\":\"1.00\",\"reason\":\"x\"}", "POST /api/v1/books/acme/refunds/1/approve\n{}", "POST /api/v1/books/acme/refunds/x/approve\n{}", "POST /api/v1/books/acme/refunds/1/decline\n{}",
		"POST /api/v1/books/failures\n{\"cluster\":\"own\",\"node\":\"n1\",\"at\":\"yesterday\",\"reason\":\"x\",\"by\":\"dora\"}", "POST /api/v1/books/failures\n{\"cluster\":\"nowhere\",\"node\":\"n1\",\"at\":\"2026-11-30T23:30:00Z\",\"reason\":\"x\",\"by\":\"dora\"}",
		"POST /api/v1/books/failures/99/dismiss\n{\"by\":\"dora\",\"reason\":\"x\"}", "POST /api/v1/books/failures/x/dismiss\n{\"by\":\"dora\",\"reason\":\"x\"}",
		// exports
		"GET /api/v1/export?period=2026-13", "GET /api/v1/export?period=", "GET /api/v1/export?period=2026-11&format=xlsx", "GET /api/v1/export?period=2026-11&format=focus&focusVersion=0.9", "GET /api/v1/export?period=2026-11&format=focus&compression=rar",
		"GET /api/v1/export?period=2026-11&format=focus&customer=nobody", "GET /api/v1/export?period=3026-11&format=focus", "GET /api/v1/export?period=0000-00&format=focus", "GET /api/v1/export?period=2026-11&requireComplete=maybe", "GET /api/v1/export?period=2026-11&step=1s&format=focus",
		"GET /api/v1/export?period=2026-11&format=focus&labels=" + url.QueryEscape(strings.Repeat("x,", 3000)),
		// allocation and figures
		"GET /allocation", "GET /allocation?window=", "GET /allocation?window=2026-11-30", "GET /allocation?window=2026-02-30T00:00:00Z,2026-03-02T00:00:00Z", "GET /allocation?window=2026-12-01T00:00:00Z,2026-11-01T00:00:00Z", "GET /allocation?window=1000000d", "GET /allocation?window=-1d", "GET /allocation?window=0001-01-01T00:00:00Z,9999-12-31T00:00:00Z",
		"GET /allocation?window=1d&step=1s", "GET /allocation?window=90d&step=1m", "GET /allocation?window=1d&step=0s", "GET /allocation?window=1d&step=-1h", "GET /allocation?window=1d&aggregate=colour", "GET /allocation?window=1d&aggregate=label:", "GET /allocation?window=1d&accumulate=decade", "GET /allocation?window=1d&includeIdle=sure", "GET /allocation?window=1d&shareIdle=lots",
		"GET /allocation?window=1d&filter=((", "GET /allocation?window=1d&filter=namespace", "GET /allocation?window=1d&currency=QQQ", "GET /allocation?window=1d&format=pdf", "GET /allocation?window=1d&limit=-1", "GET /allocation?window=1d&offset=x", "GET /allocation?window=1d&window=2d", "GET /allocation?window=1d&shareCost=-5",
		"GET /allocation?window=1d&aggregate=" + strings.Repeat("namespace,", 100),
		"GET /api/v1/usage?window=400000d", "GET /api/v1/usage?window=1d&step=7m", "GET /api/v1/usage?window=1d&page=%ff", "GET /api/v1/usage?window=1d&limit=999999999", "GET /api/v1/usage?window=1d&sort=colour", "GET /api/v1/usage?window=2026-03-29T02:30:00+01:00",
		"GET /api/v1/rates?aggregate=nothing", "GET /api/v1/rates?filter=x", "GET /api/v1/forecast?until=yesterday", "GET /api/v1/forecast?until=1000y", "GET /api/v1/forecast?until=month&zone=Mars/X", "GET /api/v1/forecast?until=month&amount=-5+EUR", "GET /api/v1/forecast?until=month&amount=5+QQQ", "GET /api/v1/forecast?until=month&amount=lots", "GET /api/v1/forecast?until=2026-01-01T00:00:00Z",
		"GET /api/v1/forecast/job", "GET /api/v1/forecast/job?name=x&completions=-1", "GET /api/v1/forecast/job?name=x&namespace=y&cluster=nowhere",
		"POST /api/v1/estimate\n", "POST /api/v1/estimate\nkind: Job", "POST /api/v1/estimate?duration=-1h\n" + `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"x"},"spec":{"template":{"spec":{"containers":[{"name":"a","resources":{"requests":{"cpu":"1"}}}]}}}}`,
		"POST /api/v1/estimate?duration=1000000h\n" + `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"x"},"spec":{"template":{"spec":{"containers":[{"name":"a","resources":{"requests":{"cpu":"1"}}}]}}}}`,
		"POST /api/v1/estimate?duration=1h\n" + `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"x"},"spec":{"completions":-3,"template":{"spec":{"containers":[{"name":"a","resources":{"requests":{"cpu":"1"}}}]}}}}`,
		"POST /api/v1/estimate?duration=1h\n" + `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"x"},"spec":{"template":{"spec":{"containers":[{"name":"a","resources":{"requests":{"cpu":"-1"}}}]}}}}`,
		"POST /api/v1/estimate?duration=1h&cluster=nowhere\n" + `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"x"},"spec":{"template":{"spec":{"containers":[{"name":"a","resources":{"requests":{"cpu":"1"}}}]}}}}`,
		"POST /api/v1/estimate?duration=1h\n" + `{"apiVersion":"v1","kind":"Service","metadata":{"name":"x"}}`,
		"GET /api/v1/reports/run", "GET /api/v1/reports/run?name=nothing", "GET /api/v1/reports/run?name=nightly&format=pdf", "GET /api/v1/reports/run?name=nightly&window=forever", "GET /api/v1/reports/run?group=x", "GET /api/v1/reports/run?name=a&group=b=c",
		"GET /api/v1/recommendations?filter=x", "GET /api/v1/recommendations?window=1d", "GET /api/v1/budgets?customer=x",
	}
	return all
}

// money is all that the registry holds of it.
func (c *centre) money() string {
	c.t.Helper()
	ctx := c.t.Context()
	var all []any
	note := func(one any, err error) {
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, one)
	}
	for _, customer := range []string{"acme", "canary", "nobody"} {
		var lines []registry.BookLine
		note(&lines, c.registry.BookLines(ctx, customer, "", func(l registry.BookLine) error { lines = append(lines, l); return nil }))
		statements, err := c.registry.BookStatements(ctx, customer)
		note(statements, err)
		corrections, err := c.registry.BookCorrections(ctx, customer, "")
		note(corrections, err)
		refunds, err := c.registry.BookRefunds(ctx, customer)
		note(refunds, err)
		actions, err := c.registry.BookActions(ctx, customer)
		note(actions, err)
	}
	periods, err := c.registry.BookPeriods(ctx, "", "")
	note(periods, err)
	failures, err := c.registry.BookFailures(ctx, "")
	note(failures, err)
	w := schema.Window{From: time.Unix(0, 0), To: lastHour.AddDate(1, 0, 0)}
	for _, kind := range []fleet.Kind{fleet.KindPriceList, fleet.KindBudget, fleet.KindCustomer, fleet.KindExchangeRates} {
		objects, err := c.registry.History(ctx, kind, w)
		note(objects, err)
	}
	names, err := c.registry.SeriesNames(ctx)
	note(names, err)
	series, err := c.registry.PriceSeries(ctx, names, w)
	note(fmt.Sprint(series), err)
	text, err := json.Marshal(all)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

// TestHostileRequests about money are refused, each with what to do, and change nothing.
// Control: the same of one that is right is seen.
func TestHostileRequests(t *testing.T) {
	c := newTenants(t)
	operator := string(c.config.API.Tokens.Operator)
	before := c.money()
	for _, request := range hostile() {
		head, body, _ := strings.Cut(request, "\n")
		method, path, _ := strings.Cut(head, " ")
		code, said := c.callAs(method, path, operator, body)
		var problem struct{ Detail, Hint string }
		_ = json.Unmarshal([]byte(said), &problem) // what is none has no hint
		if code/100 != 4 || problem.Detail == "" || problem.Hint == "" {
			t.Errorf("%.300q: %d %.300s", request, code, said)
		}
	}
	if diff := cmp.Diff(before, c.money()); diff != "" {
		t.Errorf("something was changed: %s", diff)
	}
	if code, said := c.callAs("POST", "/api/v1/books/acme/2026-12/draft", operator, `{"by":"dora"}`); code != http.StatusOK || c.money() == before {
		t.Errorf("the draft that is right is not seen: %d %s", code, said)
	}
}
