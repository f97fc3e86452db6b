package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
)

// Columns of volumes and devices are there where some row has them, and what a
// price list excludes is told below the table.
func TestTableOfStorage(t *testing.T) {
	row := func(namespace string, claimed int64, extended map[string]usage.Exact, excluded ...query.Money) query.Row {
		return query.Row{Key: map[string]string{"namespace": namespace}, VolumeClaimedByteSeconds: usage.ByteSeconds(claimed), Extended: extended, Excluded: excluded}
	}
	answer := query.Answer{Answer: usage.Answer{Aggregate: []query.Key{query.Namespace}, Rows: []query.Row{
		row("ml", 0, map[string]usage.Exact{"nvidia.com/gpu": usage.Whole(7200), "hugepages-2Mi": usage.ByteSeconds(3600 << 20)}),
		row("shop", 1800<<20, nil),
		row("accumulus", 0, nil, query.Money{Cost: "0.1", Currency: "EUR"}, query.Money{Cost: "2", Currency: "USD"}), row("kube-system", 0, nil, query.Money{Cost: "0.05", Currency: "EUR"})}}}
	var out bytes.Buffer
	a := &app{out: &out, output: asTable, units: humanUnits}
	if err := a.showUsage(answer, false, "accumulus status"); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	fields := func(line int, from int) string { return strings.Join(strings.Fields(lines[line])[from:], " ") }
	if got := fields(0, 10); got != "ENERGY IS VOLUMES GiB-h hugepages-2Mi GiB-h nvidia.com/gpu h" {
		t.Errorf("columns: %s", got)
	}
	for line, want := range map[int]string{1: "0 1.00 2.00", 2: "0.500 0 0", 5: "0.500 1.00 2.00"} {
		if !strings.HasSuffix(strings.Join(strings.Fields(lines[line]), " "), want) {
			t.Errorf("line %d: %q, want it to end with %s", line, lines[line], want)
		}
	}
	for _, want := range []string{"Not in the cost: 0.15 EUR of namespaces", "Not in the cost: 2.00 USD of namespaces"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}

// TestVolumesHaveNoQualityOfEnergy: only what ran can have used energy.
func TestVolumesHaveNoQualityOfEnergy(t *testing.T) {
	row := func(claim string, alive int64) query.Row {
		return query.Row{Key: map[string]string{"claim": claim}, PodSeconds: usage.Whole(alive), Quality: "estimated", Provisional: true}
	}
	table := usageTable(query.Answer{Answer: usage.Answer{Aggregate: []query.Key{usage.Claim}, Rows: []query.Row{row("data-0", 0), row("", 60)}}}, false, false)
	var out bytes.Buffer
	if err := table.write(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if strings.Contains(lines[1], "estimated") || !strings.Contains(lines[2], "estimated *") {
		t.Errorf("%s", out.String())
	}
}

// TestNothingOfACluster: where nothing is there of one cluster, its status says
// why, be it that the leader does not know it.
func TestNothingOfACluster(t *testing.T) {
	for args, want := range map[string]string{"": "`accumulus status` says why", "--cluster=b": "`accumulus cluster status b` says why", "--cluster=b,c": "`accumulus status` says why"} {
		l := &leader{usage: `{"rows":[]}`}
		if out, code := l.run(t, "", append([]string{"usage"}, strings.Fields(args)...)...); code != 0 || !strings.Contains(out, want) {
			t.Errorf("%q: %d %s", args, code, out)
		}
	}
}
