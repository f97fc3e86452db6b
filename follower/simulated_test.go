package follower

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/kubelet"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// TestSimulatedCluster runs the whole follower as it is configured for
// Kubernetes: kubelets and an API server over HTTPS with a CA and a token,
// pods that read at moments of their own, CronJobs that come and go.
func TestSimulatedCluster(t *testing.T) {
	began := epoch.Truncate(time.Hour)
	clk := clock.NewManual(began.Add(30 * time.Minute))
	fleet := simulator.Varying(began)
	sim, err := simulator.Start(t.Context(), simulator.Config{Fleet: fleet, Clock: clk})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	}()
	files := t.TempDir()
	ca, token, err := sim.WriteFiles("varying", files)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	open := func() *rig {
		return start(t, dir, clk, func(c *Config, in *Input) {
			c.Cluster = "varying"
			c.API = watch.ClientConfig{URL: sim.Access("varying").URL, CAFile: ca, TokenFile: token}
			c.Kubelet = kubelet.Config{CAFile: ca, TokenFile: token, DisableKeepAlives: true}
			c.Source = SourceKubelet
			c.SeedDir = filepath.Join(files, "seed")
			made, err := newInput(*c, clk, discard(), prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			*in = made
		})
	}
	if err := seedOf(fleet.Clusters[0], filepath.Join(files, "seed")); err != nil {
		t.Fatal(err)
	}
	r := open()
	for !r.input.Watch().Synced {
		r.tickTo(r.clock.Now().Add(DefaultInterval)) // the watch asks by this clock
	}
	r.tickTo(r.clock.Now().Add(6 * time.Minute))
	r.stop()
	clk.Advance(50 * time.Second)
	r = open()
	for range 60 {
		r.tickTo(r.clock.Now().Add(DefaultInterval))
		if s := r.Status(); s.Facts.RunsWaiting == 0 && len(r.runs()) >= 4 {
			break
		}
	}
	r.checkParts()
	r.checkRuns()
	if s := r.Status(); !s.Clock.Trusted || s.Clock.By != "API server" || s.WaitingRows != 0 || len(s.UnknownNodes) != 0 || len(s.Sources) != 2 {
		t.Errorf("status %+v", s)
	}
}

// seedOf writes a cluster's facts as a seed.
func seedOf(cluster simulator.Cluster, dir string) error {
	text := `CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT);
		CREATE TABLE node(cluster TEXT, node TEXT, box TEXT, cpu_type TEXT, ram_type TEXT, disk_type TEXT, valid_from, valid_to);
		INSERT INTO meta VALUES('cluster', '` + cluster.Name + `'), ('version', '1');`
	for _, n := range cluster.Nodes {
		text += fmt.Sprintf("INSERT INTO node VALUES('%s', '%s', '%s', '%s', '%s', '%s', NULL, NULL);\n",
			cluster.Name, n.Name, n.Box, n.CPUType, n.RAMType, n.DiskType)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "nodes.sql"), []byte(text), 0o600)
}

// checkParts: in every window Σ pods = node and Σ containers = pods' sum.
func (r *rig) checkParts() {
	r.Helper()
	minute := r.client(r.token("viewer")).Database(schema.MinuteDB)
	sums := map[string]map[string]int64{}
	for _, table := range []string{"node", "pod"} {
		sums[table] = map[string]int64{}
		err := minute.TimeQuery(r.Context(), table, schema.Window{}, nil, func(p influxsync.Point) error {
			sums[table][p.Tag(schema.Node)+" "+p.Time.Format(time.RFC3339)] += p.Int(schema.CPU)
			return nil
		})
		if err != nil {
			r.Fatal(err)
		}
	}
	if len(sums["node"]) < 10 {
		r.Errorf("only %d rows of nodes", len(sums["node"]))
	}
	if diff := cmp.Diff(sums["node"], sums["pod"]); diff != "" {
		r.Errorf("Σ pods of a node and window (-node +pods):\n%s", diff)
	}
}

// runs are the rows of the table run, by kind and name.
func (r *rig) runs() map[string]influxsync.Point {
	r.Helper()
	all := map[string]influxsync.Point{}
	db := r.client(r.token("viewer")).Database(schema.FactsDB)
	err := db.TimeQuery(r.Context(), "run", schema.Window{}, nil, func(p influxsync.Point) error {
		all[p.Tag(schema.Kind)+" "+p.Tag("name")] = p
		return nil
	})
	if err != nil {
		r.Fatal(err)
	}
	return all
}

// checkRuns: a pod's run is the sum of its minutes, a Job's that of its pods.
func (r *rig) checkRuns() {
	r.Helper()
	pods, jobs := map[string]int64{}, map[string]int64{}
	for _, run := range r.runs() {
		if run.Tag(schema.WorkloadKind) != "CronJob" || run.Tag(schema.Workload) != "batch" {
			r.Errorf("run of %s %s, want CronJob batch", run.Tag(schema.WorkloadKind), run.Tag(schema.Workload))
		}
		of := pods
		if run.Tag(schema.Kind) == watch.KindJob {
			of = jobs
		} else if got, _ := r.sum("pod", map[string]string{schema.PodUID: run.Tag("uid")}); got != run.Int(schema.CPU) {
			r.Errorf("run of %s: %d core-µs, its minutes %d", run.Tag("name"), run.Int(schema.CPU), got)
		}
		of["total"] += run.Int(schema.CPU)
		of["runs"]++
	}
	if pods["runs"] < 2 || pods["total"] == 0 {
		r.Errorf("runs of pods: %v", pods)
	}
	if diff := cmp.Diff(pods, jobs); diff != "" {
		r.Errorf("Σ runs (-pods +Jobs):\n%s", diff)
	}
}
