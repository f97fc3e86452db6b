package answers

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/google/go-cmp/cmp"
)

// few is the sight of whoever may see these namespaces.
type few []string

func (few) All(context.Context) (bool, error) { return false, nil }

func (f few) Visible(_ context.Context, names []string) ([]string, error) {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !slices.Contains(f, name) }), nil
}

// Volumes are answered by claim, class and storage, in rows beside those of pods,
// to those who may see their namespace; so are what pods wrote to nodes' disks and
// what nodes' interfaces counted.
func TestVolumes(t *testing.T) {
	server := openStore(t)
	for i := range 10 {
		at := monday.Add(time.Duration(i) * time.Minute)
		put(t, server, at, "shop", 1000)
		var rows []influxsync.Point
		for _, claim := range [][4]string{{"shop", "data", "fast", "local"}, {"blog", "posts", "slow", "central"}} {
			rows = append(rows, influxsync.NewPoint(schema.VolumeMinute.Name, map[string]string{schema.Cluster: "edge", schema.Namespace: claim[0],
				schema.Claim: claim[1], schema.ClaimUID: "uid", schema.StorageClass: claim[2], schema.Storage: claim[3]},
				map[string]influxsync.Value{schema.Claimed: influxsync.Int(60 << 20), schema.Used: influxsync.Int(6 << 20), schema.Mounted: influxsync.Int(60_000),
					schema.Uptime: influxsync.Int(60_000), schema.Coverage: influxsync.Int(60)}, at))
		}
		rows = append(rows, influxsync.NewPoint("node", map[string]string{schema.Cluster: "edge", schema.Node: "n-shop"}, map[string]influxsync.Value{schema.InterfaceReceive: influxsync.Int(7)}, at),
			influxsync.NewPoint("pod", map[string]string{schema.Cluster: "edge", schema.Namespace: "shop", schema.Pod: "q", schema.PodUID: "v"}, map[string]influxsync.Value{schema.Ephemeral: influxsync.Int(5)}, at))
		if err := server.Database(schema.MinuteDB).Write(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
	}
	end := monday.Add(10 * time.Minute)
	engine := New(Config{Cluster: "edge"}, server, Plain{}, func() time.Time { return end }, nil, clock.NewManual(end))
	ask := func(sight Sight, filter ...usage.Condition) map[string][5]string {
		t.Helper()
		answer, err := engine.Usage(t.Context(), usage.Request{Window: "10m", Aggregate: []usage.Key{usage.Namespace, usage.Claim, usage.StorageClass, usage.Storage}, Filter: filter}, sight)
		if err != nil {
			t.Fatal(err)
		}
		rows := make(map[string][5]string)
		for _, r := range answer.Rows {
			id := r.Key["namespace"] + "/" + r.Key["claim"] + "/" + r.Key["storageClass"] + "/" + r.Key["storage"]
			rows[id] = [5]string{r.CPUCoreSeconds.String(), r.VolumeClaimedByteSeconds.String(), r.VolumeMountedSeconds.String(), r.EphemeralByteSeconds.String(), r.NodeReceiveBytes.String()}
		}
		return rows
	}
	const claimed = "644245094400" // 600 GiB·s
	data, posts := [5]string{"0", claimed, "600", "0", "0"}, [5]string{"0", claimed, "600", "0", "0"}
	pods, node := [5]string{"0.01", "0", "0", "51200", "0"}, [5]string{"0", "0", "0", "0", "70"}
	if diff := cmp.Diff(map[string][5]string{"shop/data/fast/local": data, "blog/posts/slow/central": posts, "shop///": pods, "__system__///": node}, ask(Everything{})); diff != "" {
		t.Errorf("the whole cluster:\n%s", diff)
	}
	if diff := cmp.Diff(map[string][5]string{"shop/data/fast/local": data, "shop///": pods}, ask(few{"shop"})); diff != "" {
		t.Errorf("one namespace:\n%s", diff)
	}
	if diff := cmp.Diff(map[string][5]string{"blog/posts/slow/central": posts}, ask(few{"blog"})); diff != "" {
		t.Errorf("a namespace that has nothing but a volume:\n%s", diff)
	}
	if diff := cmp.Diff(map[string][5]string{"shop/data/fast/local": data}, ask(Everything{}, usage.Condition{Key: usage.Storage, Values: []string{"local"}})); diff != "" {
		t.Errorf("local storage:\n%s", diff)
	}
}
