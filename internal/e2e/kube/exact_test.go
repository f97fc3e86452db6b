package kube

import (
	"os"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

func TestShortJobs(t *testing.T) {
	cluster := kubetest.Inside(t).Cluster(t, "beta")
	node := cluster.Nodes[0]
	clk := clock.System()
	s := newSpace(t, cluster)
	m := startMeter(t, s, cluster, 18471, "--settle-deadline", "40s", "--facts-deadline", "60s")
	kube := follow(t, node.Cgroup+"/kubepods")
	if err := clk.Sleep(t.Context(), 35*time.Second); err != nil {
		t.Fatal(err)
	}
	begun := clk.Now().Truncate(time.Minute)
	lengths := []time.Duration{time.Second, 3 * time.Second, 7 * time.Second}
	var jobs []ended
	used := make(map[string]int64)
	for i, length := range lengths {
		before := kube.last()
		s.stressJob(t, "job-"+length.String(), node.Name, length)
		jobs = s.stressed(t, i+1)
		if err := clk.Sleep(t.Context(), 2*time.Second); err != nil {
			t.Fatal(err)
		}
		for _, j := range jobs {
			if _, ok := used[j.uid]; !ok {
				used[j.uid] = kube.last() - before
			}
		}
		if err := clk.Sleep(t.Context(), 20*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	to := clk.Now().Truncate(time.Minute).Add(time.Minute)
	m.until(to)
	pods, whole, err := m.cpuOf(t.Context(), node.Name, schema.Window{From: begun.Add(-time.Hour), To: to})
	if err != nil {
		t.Fatal(err)
	}
	rows, _ := m.rows(t.Context(), schema.PodMinute.Name)
	for _, r := range rows {
		t.Log(r["time"], r["namespace"], r["pod"], r[schema.CPU], r[schema.Uptime], r["workload"])
	}
	us, _ := os.ReadFile(m.viewer)
	_ = us
	db := m.Database(schema.RawDB)
	for _, table := range []string{"raw", "unseen", "lifetime"} {
		_ = db.TimeQuery(t.Context(), table, schema.Window{}, nil, func(p influxsync.Point) error {
			if p.Tag("kind") != "" && p.Tag("kind") != "kubepods" && p.Tag("namespace") != s.name {
				return nil
			}
			f, _ := p.Field("info")
			from, _ := p.Field("from")
			t.Log(table, p.Time.Format("15:04:05.000"), p.Tags, p.Int(schema.CPU), f.Str(), time.Unix(0, from.Int()).UTC())
			return nil
		})
	}
	t.Log(whole, pods[schema.UnattributedNamespace], pods[schema.SystemNamespace])
	for _, j := range jobs {
		t.Logf("%s %s: own %d metered %d (%.2f %%) kubepods grew %d", j.name, j.length, j.own, pods[j.uid], 100*(float64(pods[j.uid])/float64(j.own)-1), used[j.uid])
	}
}
