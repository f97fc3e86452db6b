package e2e

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/dashboards"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/query"
)

// units are how much of what is stored makes one of what has a price.
var units = map[string]int64{"cpu_used": 3600e6, "memory_used": 3600 << 20, "network_transmit": 1e9, "energy": 3600e6}

// rated is the cost of quantities at the one price list, in nanos, rounded once.
func rated(quantities map[string]int64) string {
	total := new(big.Rat)
	for _, rate := range prices {
		price, _ := new(big.Rat).SetString(string(rate.Price))
		total.Add(total, price.Mul(price, big.NewRat(quantities[rate.Resource], units[rate.Resource])))
	}
	return total.FloatString(9)
}

func sameMoney(a, b string) bool {
	x, okay := new(big.Rat).SetString(a)
	y, fine := new(big.Rat).SetString(b)
	return okay && fine && x.Cmp(y) == 0
}

func (w *world) usage(t testing.TB, window schema.Window, aggregate string) []query.Row {
	t.Helper()
	answer, err := w.centre.client.Usage(context.Background(), url.Values{"window": {between(window)}, "aggregate": {aggregate}})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Rows
}

// exact writes an integer with so many decimals as the API does.
func exact(n int64, decimals int) string {
	text := new(big.Rat).SetFrac(big.NewInt(n), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(decimals)), nil)).FloatString(decimals)
	if decimals == 0 {
		return text
	}
	return strings.TrimRight(strings.TrimRight(text, "0"), ".")
}

// checkUsage compares the API's usage by cluster and namespace with the sums
// of the rows, and its cost with those sums times the prices.
func checkUsage(t testing.TB, w *world, window schema.Window) {
	t.Helper()
	within := func(p influxsync.Point) bool { return window.Contains(p.Time) }
	minute := w.centre.database(schema.MinuteDB)
	pods, energy := read(t, minute, schema.PodMinute.Name, ""), read(t, minute, schema.EnergyMinute.Name, "")
	sum := func(rows []influxsync.Point, field string) map[string]int64 {
		return sums(rows, field, within, schema.Cluster, schema.Namespace)
	}
	cpu, memory, transmit := sum(pods, schema.CPU), sum(pods, schema.Memory), sum(pods, schema.NetworkTransmit)
	active, idle, overhead := sum(energy, schema.EnergyActive), sum(energy, schema.EnergyIdle), sum(energy, schema.EnergyOverhead)
	rows := w.usage(t, window, "cluster,namespace")
	seen := 0
	for _, r := range rows {
		id := r.Key["cluster"] + " " + r.Key["namespace"]
		joules := active[id] + idle[id] + overhead[id]
		got := []string{r.CPUCoreSeconds.String(), r.MemoryByteSeconds.String(), r.NetworkTransmitBytes.String(), r.EnergyJoules.String()}
		want := []string{exact(cpu[id], 6), exact(memory[id]*1024, 0), exact(transmit[id], 0), exact(joules, 3)}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("usage of %s: %v, sums of the rows %v", id, got, want)
		}
		cost := rated(map[string]int64{"cpu_used": cpu[id], "memory_used": memory[id], "network_transmit": transmit[id], "energy": joules})
		if r.Key["cluster"] != schema.BoxCluster && (r.Cost == nil || !sameMoney(*r.Cost, cost) || r.Currency != "EUR") {
			t.Errorf("cost of %s: %v %s, by hand %s EUR", id, r.Cost, r.Currency, cost)
		}
		if cpu[id] != 0 {
			seen++
		}
	}
	if seen < 10 {
		t.Errorf("only %d of %d rows have usage", seen, len(rows))
	}
}

// checkExport: the lines of a customer's namespace add up to the API's cost.
func checkExport(t testing.TB, w *world, window schema.Window) {
	t.Helper()
	text, err := w.centre.client.Export(context.Background(), between(window), "csv")
	if err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil || len(lines) < 20 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	column := make(map[string]int)
	for i, name := range lines[0] {
		column[name] = i
	}
	costs := make(map[string]*big.Rat)
	for _, line := range lines[1:] {
		id := fmt.Sprint(line[column["customer"]], " ", line[column["cluster"]], " ", line[column["namespace"]])
		if costs[id] == nil {
			costs[id] = new(big.Rat)
		}
		if cost, ok := new(big.Rat).SetString(line[column["cost"]]); ok {
			costs[id].Add(costs[id], cost)
		}
	}
	for _, r := range w.usage(t, window, "customer,cluster,namespace") {
		id := fmt.Sprint(r.Key["customer"], " ", r.Key["cluster"], " ", r.Key["namespace"])
		if r.Cost == nil {
			continue
		}
		if costs[id] == nil || !sameMoney(costs[id].FloatString(9), *r.Cost) {
			t.Errorf("%s: exported %v, cost of the API %s", id, costs[id], *r.Cost)
		}
	}
}

// checkBoards runs every query of the boards.
func checkBoards(t testing.TB, w *world, window schema.Window) {
	t.Helper()
	queries, err := dashboards.Queries()
	if err != nil || len(queries) == 0 {
		t.Fatalf("%d queries, %v", len(queries), err)
	}
	filter := fmt.Sprintf("time >= %d AND time < %d", window.From.UnixNano(), window.To.UnixNano())
	for _, q := range queries {
		rows := 0
		err := w.centre.database(schema.MinuteDB).Select(context.Background(), q.Fill(filter), func(p influxsync.Point) error {
			if len(p.Fields) > 0 {
				rows++
			}
			return nil
		})
		if err != nil || rows == 0 {
			t.Errorf("%s, %s: %d rows, %v\n%s", q.Board, q.Panel, rows, err, q.Fill(filter))
		}
	}
}
