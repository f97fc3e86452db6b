package allocation

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/google/go-cmp/cmp"
)

func metrics(t *testing.T, real *query.Engine) {
	e := New(real, real)
	gatherer, err := e.Metrics(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	families, err := gatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			got = append(got, fmt.Sprintf("%s{%s} %g", family.GetName(), strings.Join(labels, ","), m.GetGauge().GetValue()))
		}
	}
	for _, want := range []string{
		"node_cpu_hourly_cost{cluster=edge-a,currency=EUR,instance=n1,node=n1} 0.03",
		"node_ram_hourly_cost{cluster=edge-b,currency=EUR,instance=n1,node=n1} 0.004",
		"node_total_hourly_cost{cluster=edge-a,currency=EUR,instance=n2,node=n2} 0.152",
		"container_cpu_allocation{cluster=edge-a,container=main,instance=n1,namespace=shop,node=n1,pod=web-1} 0.5",
		"container_memory_allocation_bytes{cluster=edge-b,container=main,instance=n1,namespace=shop,node=n1,pod=api-1} 1.073741824e+09",
		"pv_hourly_cost{cluster=edge-a,currency=EUR,namespace=base,persistentvolumeclaim=data} 0.0001",
		"pod_pvc_allocation{cluster=edge-a,namespace=base,persistentvolumeclaim=data,pod=db-0} 1.073741824e+10",
		fmt.Sprintf("accumulus_allocation_until_timestamp_seconds{} %g", float64(now.Unix())),
	} {
		if !slices.Contains(got, want) {
			t.Errorf("without %s", want)
		}
	}
	if t.Failed() {
		t.Log(cmp.Diff(nil, got))
	}
	one, err := e.Metrics(t.Context(), "edge-b")
	if err != nil {
		t.Fatal(err)
	}
	if families, err = one.Gather(); err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "cluster" && l.GetValue() != "edge-b" {
					t.Errorf("%s of %s", family.GetName(), l.GetValue())
				}
			}
		}
	}
}
