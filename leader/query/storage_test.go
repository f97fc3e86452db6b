package query

import (
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/google/go-cmp/cmp"
)

const gib = 1 << 20 // KiB

// claims writes a minute of two claims, 100 GiB fast and 10 GiB slow, at each of
// the minutes, or their sums at each of the quarters.
func (f *fixture) claims(db *influxsync.Database, table schema.Table, from, to int) {
	f.t.Helper()
	step := int(table.Grain / time.Minute)
	var points []influxsync.Point
	for i := from; i < to; i += step {
		for _, c := range []struct {
			namespace, name, class, storage string
			size                            int64
		}{{"shop", "data", "fast", "local", 100 * gib}, {"base", "logs", "slow", "central", 10 * gib}} {
			points = append(points, point(table, at(i), map[string]string{schema.Cluster: "edge-a", schema.Namespace: c.namespace, schema.Claim: c.name,
				schema.ClaimUID: "uid-" + c.name, schema.StorageClass: c.class, schema.Storage: c.storage},
				map[string]int64{schema.Claimed: c.size * 60 * int64(step), schema.Used: c.size * 30 * int64(step), schema.Mounted: 60_000 * int64(step), schema.Uptime: 60_000 * int64(step), schema.Coverage: 60 * int64(step)}))
		}
	}
	f.write(db, points)
}

// object puts a row of the table object into the registry.
func (f *fixture) object(kind, namespace, name string, from time.Time, to time.Time, spec string) {
	f.t.Helper()
	valid := map[string]influxsync.Value{"spec": influxsync.Str(spec), "reason": influxsync.Str(""), "valid_from": influxsync.Int(from.UnixNano()), "valid_to": influxsync.Int(0)}
	if !to.IsZero() {
		valid["valid_to"] = influxsync.Int(to.UnixNano())
	}
	tags := map[string]string{schema.Cluster: "edge-a", schema.Kind: kind, "name": name, "uid": "uid-" + name}
	if namespace != "" {
		tags[schema.Namespace] = namespace
	}
	if err := f.books.PutObjects(f.ctx, []influxsync.Point{influxsync.NewPoint(schema.Object.Name, tags, valid, from)}); err != nil {
		f.t.Fatal(err)
	}
}

func stamp(minute int) string { return at(minute).Format(time.RFC3339) }

func TestVolumes(t *testing.T) {
	f := newFixture(t, edge()...)
	f.fill(pods, 0, 120)
	f.receive("edge-a", 120)
	f.receive("edge-b", 120)
	f.claims(f.minute, schema.VolumeMinute, 0, 120)
	request := Request{Window: window(7, 112), Aggregate: []Key{Cluster, Namespace, usage.Claim, usage.StorageClass, usage.Storage}}
	want := f.usage(request)
	row := rowsByKey(want)["edge-a/shop/data/fast/local"]
	for name, check := range map[string]struct{ got, want Exact }{
		"claimed": {row.VolumeClaimedByteSeconds, usage.ByteSeconds(100 * gib * 60 * 105)}, "used": {row.VolumeUsedByteSeconds, usage.ByteSeconds(100 * gib * 30 * 105)},
		"mounted": {row.VolumeMountedSeconds, usage.Whole(60 * 105)}, "CPU": {row.CPUCoreSeconds, usage.CoreSeconds(0)},
	} {
		if check.got.String() != check.want.String() {
			t.Errorf("%s: %s, want %s", name, check.got, check.want)
		}
	}
	if pods := rowsByKey(want)["edge-a/shop///"]; pods.CPUCoreSeconds.Cmp(usage.CoreSeconds(0)) <= 0 {
		t.Errorf("the pods of the namespace have no row of their own: %v", pods)
	}
	whole := rowsByKey(f.usage(Request{Window: window(7, 112), Aggregate: []Key{Cluster}}))["edge-a"]
	if got := whole.VolumeClaimedByteSeconds; got.Cmp(usage.ByteSeconds(110*gib*60*105)) != 0 {
		t.Errorf("the cluster's volumes: %s", got)
	}
	local := f.usage(Request{Window: window(0, 120), Filter: []Condition{{Key: usage.Storage, Values: []string{"local"}}}})
	if len(local.Rows) != 1 || local.Rows[0].VolumeClaimedByteSeconds.Cmp(usage.ByteSeconds(100*gib*7200)) != 0 || local.Rows[0].CPUCoreSeconds.Float() != 0 {
		t.Errorf("local storage alone: %+v", local.Rows)
	}
}

func TestVolumesOfWholeQuarters(t *testing.T) {
	rows := func(quarters bool) []string {
		f := newFixture(t, edge()...)
		f.receive("edge-a", 120)
		f.receive("edge-b", 120)
		if quarters {
			f.settle(0, 8)
			f.claims(f.quarter, schema.VolumeQuarter, 15, 105)
			f.claims(f.minute, schema.VolumeMinute, 0, 15)
			f.claims(f.minute, schema.VolumeMinute, 105, 120)
		} else {
			f.claims(f.minute, schema.VolumeMinute, 0, 120)
		}
		var all []string
		for _, row := range f.usage(Request{Window: window(7, 112), Aggregate: []Key{Namespace, usage.StorageClass}}).Rows {
			all = append(all, fmt.Sprint(row.Key, row.VolumeClaimedByteSeconds, row.VolumeUsedByteSeconds, row.VolumeMountedSeconds))
		}
		return all
	}
	if diff := cmp.Diff(rows(false), rows(true)); diff != "" {
		t.Errorf("from minutes (-) and from quarters (+):\n%s", diff)
	}
}

// A pod's devices count from its first container to its end, with each request
// while it held; rows of pods that ended, and of those that wait, count no more.
func TestExtendedResources(t *testing.T) {
	f := newFixture(t, edge()...)
	f.fill(pods, 0, 60)
	f.receive("edge-a", 60)
	f.receive("edge-b", 60)
	gpus := func(n int) string {
		return fmt.Sprintf(`[{"name":"c","extended":{"nvidia.com/gpu":%d,"ephemeral-storage":1073741824}},{"name":"i","init":true,"extended":{"nvidia.com/gpu":9}}]`, n)
	}
	head := `{"node":"n1","workloadKind":"Job","workload":"train","labels":{"team":"red"},`
	f.object("Pod", "shop", "resized", at(10), time.Time{}, head+`"start":"`+stamp(10)+`","containers":`+gpus(1)+`}`)
	f.object("Pod", "shop", "resized", at(20), time.Time{}, head+`"start":"`+stamp(10)+`","containers":`+gpus(4)+`,"past":[{"until":"`+stamp(20)+`","containers":`+gpus(1)+`}]}`)
	f.object("Pod", "shop", "ended", at(0), time.Time{}, head+`"start":"`+stamp(0)+`","containers":`+gpus(2)+`}`)
	f.object("Pod", "shop", "ended", at(5), at(5), head+`"start":"`+stamp(0)+`","end":"`+stamp(5)+`","containers":`+gpus(2)+`}`)
	f.object("Pod", "shop", "waits", at(0), time.Time{}, head+`"containers":`+gpus(8)+`}`)
	got := func(from, to int) map[string]string {
		all := make(map[string]string)
		for _, row := range f.usage(Request{Window: window(from, to), Aggregate: []Key{usage.Pod}, Filter: []Condition{{Key: Namespace, Values: []string{"shop"}}}}).Rows {
			for name, quantity := range row.Extended {
				all[row.Key["pod"]+" "+name] = quantity.String()
			}
		}
		return all
	}
	want := map[string]string{"resized nvidia.com/gpu": "3000", "ended nvidia.com/gpu": "600",
		"resized ephemeral-storage": fmt.Sprint(int64(1200) << 30), "ended ephemeral-storage": fmt.Sprint(int64(300) << 30)}
	if diff := cmp.Diff(want, got(0, 30)); diff != "" {
		t.Errorf("half an hour:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"resized nvidia.com/gpu": "7200", "resized ephemeral-storage": fmt.Sprint(int64(1800) << 30)}, got(30, 90)); diff != "" {
		t.Errorf("beyond the last settled minute nothing is known:\n%s", diff)
	}
	var sum Exact
	for _, row := range f.usage(Request{Window: window(3, 47), Step: 5 * time.Minute, Aggregate: []Key{usage.Label("team"), Workload}}).Rows {
		if q, ok := row.Extended["nvidia.com/gpu"]; ok {
			if row.Key["label:team"] != "red" || row.Key["workload"] != "Job/train" {
				t.Errorf("whose: %v", row.Key)
			}
			sum = sum.Plus(q)
		}
	}
	if want := usage.Whole(2*120 + 600 + 4*27*60); sum.Cmp(want) != 0 {
		t.Errorf("steps add up to %s, want %s", sum, want)
	}
}

// Volumes, disks, devices and nodes' interfaces have prices, and the lines of an
// export add up to the cost of the same rows.
func TestStorageIsPriced(t *testing.T) {
	objects := slices.DeleteFunc(edge(), func(o fleet.Object) bool { return o.Name() == "prices-a" })
	f := newFixture(t, append(objects, fleet.NewObject("prices-a", fleet.PriceList{Currency: "EUR", Clusters: []string{"edge-a"}, Rates: []fleet.Rate{
		{Resource: "volume_claimed", Price: "0.0001"}, {Resource: "volume_claimed:fast", Price: "0.01"}, {Resource: "volume_used", Price: "0.002"},
		{Resource: "extended:nvidia.com/gpu", Price: "2.5"}, {Resource: "ephemeral_used", Price: "0.5"}, {Resource: "node_network_receive", Price: "0.09"}}}))...)
	f.receive("edge-a", 60)
	f.receive("edge-b", 60)
	f.claims(f.minute, schema.VolumeMinute, 0, 60)
	f.write(f.minute, []influxsync.Point{
		point(schema.PodMinute, at(0), pods[0].tags(), map[string]int64{schema.Uptime: 60_000, schema.Ephemeral: 3 * gib * 60}),
		point(schema.NodeMinute, at(0), map[string]string{schema.Cluster: "edge-a", schema.Node: "n1"}, map[string]int64{schema.Uptime: 60_000, schema.InterfaceReceive: 7_000_000_001})})
	f.object("Pod", "shop", "train", at(0), time.Time{}, `{"node":"n1","start":"`+stamp(0)+`","containers":[{"name":"c","extended":{"nvidia.com/gpu":2}}]}`)
	want := new(big.Rat)
	add := func(quantity, base, price, per int64) {
		want.Add(want, new(big.Rat).Mul(big.NewRat(quantity, base), big.NewRat(price, per)))
	}
	add(100*gib*3600, gib*3600, 1, 100)
	add(10*gib*3600, gib*3600, 1, 10_000)
	add(55*gib*3600, gib*3600, 2, 1000)
	add(2, 1, 25, 10)
	add(3*gib*60, gib*3600, 5, 10)
	add(7_000_000_001, 1_000_000_000, 9, 100)
	row := rowsByKey(f.usage(Request{Window: window(0, 60), Aggregate: []Key{Cluster}}))["edge-a"]
	if row.Cost == nil || *row.Cost != usage.Decimal(want, "EUR") {
		t.Errorf("cost %v, want %s", row.Cost, usage.Decimal(want, "EUR"))
	}
	export, err := f.Export(f.ctx, ExportRequest{Period: window(0, 60)})
	if err != nil {
		t.Fatal(err)
	}
	sum, resources := new(big.Rat), make(map[string]bool)
	for _, line := range export.Lines {
		resources[line.Resource] = true
		if cost, ok := new(big.Rat).SetString(line.Cost); ok && line.Cluster == "edge-a" {
			sum.Add(sum, cost)
		}
	}
	for _, resource := range []string{"volume_claimed:fast", "volume_claimed:slow", "volume_used:fast", "extended:nvidia.com/gpu", "ephemeral_used", "node_network_receive"} {
		if !resources[resource] {
			t.Errorf("no line of %s", resource)
		}
	}
	if diff := new(big.Rat).Sub(sum, want); diff.Abs(diff).Cmp(big.NewRat(4, 1_000_000_000)) > 0 { // a namespace's lines are rounded together
		t.Errorf("the lines are %s, want %s", sum.FloatString(9), want.FloatString(9))
	}
}

// The metering's own namespace stays in the usage and has no cost, unless the
// price list says so; what it would have cost is told, and nothing disappears.
func TestNamespacesWithoutCost(t *testing.T) {
	list := fleet.PriceList{Currency: "EUR", Customers: []string{"acme"}, Rates: []fleet.Rate{{Resource: "cpu_used", Price: "36"}}}
	of := func(list fleet.PriceList) (rows map[string]Row, export Export) {
		objects := slices.DeleteFunc(edge(), func(o fleet.Object) bool { return o.Name() == "prices-a" })
		f := newFixture(t, append(objects, fleet.NewObject("prices-a", list))...)
		f.fill(pods, 0, 15)
		f.receive("edge-a", 15)
		f.receive("edge-b", 15)
		f.object("Namespace", "", "base", at(0), time.Time{}, `{"metering":true}`)
		f.object("Namespace", "", "shop", at(0), time.Time{}, `{}`)
		export, err := f.Export(f.ctx, ExportRequest{Period: window(0, 15)})
		if err != nil {
			t.Fatal(err)
		}
		return rowsByKey(f.usage(Request{Window: window(0, 15), Aggregate: []Key{Cluster, Namespace}})), export
	}
	rows, export := of(list)
	base := rows["edge-a/base"]
	if base.Cost != nil || base.CPUCoreSeconds.Float() == 0 || len(base.Excluded) != 1 || rows["edge-a/shop"].Cost == nil {
		t.Errorf("base: %+v; shop: %v", base, rows["edge-a/shop"].Cost)
	}
	if diff := cmp.Diff(base.Excluded, export.Excluded); diff != "" {
		t.Errorf("export and usage:\n%s", diff)
	}
	seen := false
	for _, line := range export.Lines {
		if wanted := line.Cluster == "edge-a" && line.Namespace == "base"; line.Excluded != wanted {
			t.Errorf("%s/%s %s: excluded %v", line.Cluster, line.Namespace, line.Resource, line.Excluded)
		}
		if line.Excluded && line.Resource == string(processors.CPUUsed) {
			seen = line.Cost == "" && line.Quantity != ""
		}
	}
	if !seen {
		t.Error("the excluded CPU has no line of its own")
	}
	list.Exclude = []string{} // the control: with nothing excluded, it has a cost
	rows, all := of(list)
	if got := rows["edge-a/base"]; got.Cost == nil || *got.Cost != base.Excluded[0].Cost || len(got.Excluded) != 0 {
		t.Errorf("nothing excluded: %v, want %v", got.Cost, base.Excluded)
	}
	if len(all.Excluded) != 0 {
		t.Errorf("nothing is excluded, and it would have cost %v", all.Excluded)
	}
	list.Exclude = []string{"sho?"}
	if rows, _ := of(list); rows["edge-a/shop"].Cost != nil || rows["edge-a/base"].Cost == nil {
		t.Error("a pattern excludes shop alone")
	}
}
