package follower

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/kubelet"
	"github.com/accumulus-metering/accumulus/follower/pseudonym"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/prometheus/client_golang/prometheus"
)

// canary stands in every name of the cluster that must not leave it.
const canary = "canary7q"

// canaries is a cluster in which every such name has the canary in it.
func canaries(began time.Time) simulator.Fleet {
	fleet := simulator.Varying(began)
	cluster := &fleet.Clusters[0]
	for i := range cluster.Pods {
		p := &cluster.Pods[i]
		p.Namespace = canary + "-" + p.Namespace
		p.Name, p.Workload = canary+"-"+p.Name, canary+"-"+p.Workload
		if p.Kind == "CronJob" {
			p.Workload = p.Name
		}
		labels := map[string]string{}
		for key := range p.Labels {
			labels[key] = canary + "-value"
		}
		p.Labels = labels
		for c := range p.Containers {
			p.Containers[c].Name = canary + "-" + p.Containers[c].Name
		}
		for c := range p.Claims {
			p.Claims[c].Name = canary + "-" + p.Claims[c].Name
		}
	}
	return fleet
}

// runCluster meters a simulated cluster with the real watch and kubelet source,
// long enough for runs and volumes to have settled, and stops.
func runCluster(t *testing.T, fleet simulator.Fleet, began time.Time, dir, keyFile string, look func(r *rig)) {
	t.Helper()
	clk := clock.NewManual(began.Add(30 * time.Minute))
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
	name := fleet.Clusters[0].Name
	ca, token, err := sim.WriteFiles(name, files)
	if err != nil {
		t.Fatal(err)
	}
	if err := seedOf(fleet.Clusters[0], filepath.Join(files, "seed")); err != nil {
		t.Fatal(err)
	}
	r := start(t, dir, clk, func(c *Config, in *Input) {
		c.Cluster, c.Source, c.PseudonymKey = name, SourceKubelet, keyFile
		c.Namespace = "team-b"
		c.API = watch.ClientConfig{URL: sim.Access(name).URL, CAFile: ca, TokenFile: token}
		c.Kubelet = kubelet.Config{CAFile: ca, TokenFile: token, DisableKeepAlives: true}
		c.SeedDir = filepath.Join(files, "seed")
		made, err := newInput(*c, clk, discard(), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		*in = made
	})
	for s := r.input.Watch(); !s.Synced || len(s.Unlisted) > 0; s = r.input.Watch() {
		r.tickTo(r.clock.Now().Add(DefaultInterval)) // the watch asks by this clock
	}
	r.tickTo(r.clock.Now().Add(10 * time.Minute))
	for range 60 {
		r.tickTo(r.clock.Now().Add(DefaultInterval))
		if s := r.Status(); s.Facts.RunsWaiting == 0 && len(r.runs()) >= 2 {
			break
		}
	}
	look(r)
	r.stop()
}

// leaks are the places in which the canary stands: rows of all databases, as the
// store gives them, and the bytes of all its files, with those of its index.
func (r *rig) leaks(dir string) []string {
	r.Helper()
	var found []string
	for db, tables := range map[string][]string{
		schema.RawDB:    {"raw", "identity", "lifetime", "unseen", "lane", "volume_reading"},
		schema.MinuteDB: {"node", "pod", "container", "volume"},
		schema.FactsDB:  {"object", "run"}} {
		for _, table := range tables {
			rows := 0
			err := r.store.Database(db).TimeQuery(r.Context(), table, schema.Window{}, nil, func(p influxsync.Point) error {
				rows++
				text := ""
				for _, tag := range p.Tags {
					text += tag.Value + "\n"
				}
				for _, f := range p.Fields {
					text += f.Value.Str() + "\n"
				}
				if strings.Contains(text, canary) {
					found = append(found, db+"."+table)
				}
				return nil
			})
			if err != nil {
				r.Fatal(err)
			}
			if rows == 0 && table != "unseen" {
				r.Errorf("no row of %s.%s was looked at", db, table)
			}
		}
	}
	return append(found, filesWith(r.T, dir, canary)...)
}

// filesWith are the files below dir that hold the text, but for the table of
// names.
func filesWith(t *testing.T, dir, text string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasPrefix(entry.Name(), "names.db") {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(text)) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestNamesStayInTheCluster: with a key, no name is in any database, nor in any
// file of the store; without, as the control, it is found in all kinds of both.
func TestNamesStayInTheCluster(t *testing.T) {
	began := epoch.Truncate(time.Hour)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("a key of at least sixteen bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, keyFile := range map[string]string{"with a key": key, "control": ""} {
		dir := t.TempDir()
		var leaks []string
		runCluster(t, canaries(began), began, dir, keyFile, func(r *rig) {
			leaks = r.leaks(dir)
			if status, err := json.Marshal(r.Status()); err != nil || bytes.Contains(status, []byte(canary)) {
				leaks = append(leaks, "status")
			}
			if r.checkParts(); keyFile != "" {
				r.checkResolved()
				r.checkOwnNames()
			}
		})
		leaks = append(leaks, filesWith(t, dir, canary)...)
		kinds := strings.Join(leaks, " ")
		switch {
		case keyFile != "" && len(leaks) > 0:
			t.Errorf("%s: the canary stands in %s", name, kinds)
		case keyFile == "":
			for _, place := range []string{"raw.raw", "raw.identity", "raw.lifetime", "raw.volume_reading", "minute.pod", "minute.container", "minute.volume",
				"facts.object", "facts.run", "_series"} {
				if !strings.Contains(kinds, place) {
					t.Errorf("%s: the canary was not found in %s", name, place)
				}
			}
		}
	}
}

// checkResolved: every pod's names can be resolved here, and a workload is one
// name in all tables.
func (r *rig) checkResolved() {
	r.Helper()
	names := map[string]int{}
	err := r.store.Database(schema.MinuteDB).TimeQuery(r.Context(), schema.PodMinute.Name, schema.Window{}, nil, func(p influxsync.Point) error {
		if space := p.Tag(schema.Namespace); !strings.HasPrefix(space, "__") {
			for _, tag := range []string{schema.Namespace, schema.Pod, schema.Workload} {
				names[p.Tag(tag)]++
			}
		}
		return nil
	})
	if err != nil {
		r.Fatal(err)
	}
	kinds := map[string]bool{}
	for alias := range names {
		name, ok, err := r.Names().Resolve(r.Context(), alias)
		if err != nil || !ok || !strings.HasPrefix(name.Name, canary) || !strings.HasPrefix(alias, pseudonym.Prefix) {
			r.Errorf("%s stands for %+v, %v, %v", alias, name, ok, err)
		}
		kinds[name.Kind] = true
	}
	for _, kind := range []string{"Namespace", "Pod", "Deployment", "StatefulSet", "CronJob"} {
		if !kinds[kind] {
			r.Errorf("no pseudonym of a %s in the table pod, of %v", kind, kinds)
		}
	}
}

// TestVolumesOfACluster: sizes and uses of claims, as the fleet says, and a node
// that counts no memory is said and not billed as zero.
func TestVolumesOfACluster(t *testing.T) {
	began := epoch.Truncate(time.Hour)
	fleet := simulator.Varying(began)
	cluster := &fleet.Clusters[0]
	cluster.Nodes[0].MemoryOff = true
	runCluster(t, fleet, began, t.TempDir(), "", func(r *rig) {
		r.checkVolumes(cluster)
		said := 0
		for _, source := range r.Status().Sources {
			said += len(source.Problems)
			if len(source.Problems) > 0 != (source.Name == "n1") {
				r.Errorf("problems of %s: %q", source.Name, source.Problems)
			}
		}
		if said == 0 {
			r.Error("no problem is told")
		}
		r.checkMemory()
	})
}

// checkMemory: pods of the node without memory have what they request, and no
// coverage; those of the other are measured.
func (r *rig) checkMemory() {
	r.Helper()
	seen := map[string]int{}
	err := r.store.Database(schema.MinuteDB).TimeQuery(r.Context(), schema.PodMinute.Name, schema.Window{}, nil, func(p influxsync.Point) error {
		if strings.HasPrefix(p.Tag(schema.Namespace), "__") || p.Int(schema.Uptime) < 60_000 {
			return nil
		}
		switch node := p.Tag(schema.Node); {
		case node == "n1" && (p.Int(schema.Memory) != p.Int(schema.MemoryRequest) || p.Int(schema.Memory) == 0 || p.Int(schema.Coverage) != 0):
			r.Errorf("pod %s of n1: memory %d, requested %d, coverage %d", p.Tag(schema.Pod), p.Int(schema.Memory), p.Int(schema.MemoryRequest), p.Int(schema.Coverage))
		default:
			seen[node]++
		}
		return nil
	})
	if err != nil || seen["n1"] == 0 || seen["n2"] == 0 {
		r.Errorf("rows by node %v, %v", seen, err)
	}
}

func (r *rig) checkVolumes(cluster *simulator.Cluster) {
	r.Helper()
	covered := map[string]int{}
	db := r.store.Database(schema.MinuteDB)
	err := db.TimeQuery(r.Context(), schema.VolumeMinute.Name, schema.Window{}, nil, func(p influxsync.Point) error {
		name := p.Tag(schema.Claim)
		want, storage := int64(20<<20*60), watch.StorageLocal
		if strings.HasPrefix(name, "backup") {
			want, storage = 50<<20*60, watch.StorageCentral
		}
		if p.Int(schema.Claimed) != want || p.Tag(schema.Storage) != storage || p.Int(schema.Mounted) != 60_000 || p.Int(schema.Uptime) != 60_000 {
			r.Errorf("claim %s at %s: %v %v", name, p.Time, p.Tags, p.Fields)
		}
		if p.Int(schema.Coverage) == 60 {
			covered[name]++
			if used := p.Int(schema.Used); strings.HasPrefix(name, "backup") && used != 12<<20*60 {
				r.Errorf("claim %s uses %d KiB·s, want 12 GiB for a minute", name, used)
			}
		}
		return nil
	})
	if err != nil {
		r.Fatal(err)
	}
	if len(covered) != 2 || covered["data-db-0"] < 5 || covered["backup-db-0"] < 5 {
		r.Errorf("covered minutes by claim %v", covered)
	}
	entries, err := influxsync.ReadJournal(r.Context(), db, "varying", schema.VolumeMinute.Name, time.Time{}, 0)
	if err != nil || len(entries) < 5 || influxsync.VerifyChain(entries, "") != nil {
		r.Errorf("journal of volumes: %d entries, %v", len(entries), err)
	}
}
