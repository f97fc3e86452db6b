package registry_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/tagger"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/leader/seed"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// canaries are words and digits that stand in the registry and that alpha may
// not know. Every text and number of the objects below is one, unless it is of
// alpha's own nodes or of what alpha shares with others by name alone.
var canaries = []string{"canary", "17.251", "31.251", "82.251", "0.314159", "271828", "57.721", "11259375", "1763812345678901234",
	"1234567890123456789", "2345678901234567890", "271.828"}

// objects share with alpha: its box, its nodes' names, its type of hardware.
func objects() []fleet.Object {
	since := time.Unix(0, 1763812345678901234)
	return []fleet.Object{
		fleet.NewObject("canary-customer", fleet.Customer{DisplayName: "canary name", TimeZone: "Asia/Tokyo", Currency: "CHF"}),
		fleet.NewObject("canary-other", fleet.Customer{DisplayName: "canary other"}),
		fleet.NewObject("alpha", fleet.Cluster{Customer: "canary-customer", URL: "http://canary.example:1", Provider: "canary-provider",
			Region: "canary-region", TokenFile: "/canary/token", CAFile: "/canary/ca"}),
		fleet.NewObject("canary-beta", fleet.Cluster{Customer: "canary-other", URL: "http://canary.example:2"}),
		fleet.NewObject("canary-box", fleet.Box{Site: "canary street", OverheadWatts: 17.251}),
		fleet.NewObject("canary-elsewhere", fleet.Box{Site: "canary road"}),
		fleet.NewObject("canary-type", fleet.Hardware{CPUType: "xeon-d", RAMType: "ddr4", DiskType: "ssd", Cores: 271828, MemoryBytes: 11259375,
			IdleWatts: 31.251, MaxWatts: 82.251, Source: "canary sheet"}),
		fleet.NewObject("canary-secret", fleet.Hardware{CPUType: "canary-cpu", RAMType: "canary-ram", DiskType: "canary-disk"}),
		fleet.NewObject("canary.alpha.n1", fleet.Node{Cluster: "alpha", Node: "n1", Box: "canary-box", Hardware: "canary-type"}),
		fleet.NewObject("canary.alpha.n2", fleet.Node{Cluster: "alpha", Node: "n2", Box: "canary-box", Hardware: "canary-type"}),
		fleet.NewObject("canary.beta.n1", fleet.Node{Cluster: "canary-beta", Node: "n1", Box: "canary-box", Hardware: "canary-secret"}).Since(since),
		fleet.NewObject("canary.beta.n2", fleet.Node{Cluster: "canary-beta", Node: "n2", Box: "canary-elsewhere", Hardware: "canary-type"}),
		fleet.NewObject("canary.beta.n3", fleet.Node{Cluster: "canary-beta", Node: "canary-n3", Box: "canary-box", Hardware: "canary-secret"}),
		fleet.NewObject("canary-meter", fleet.Meter{Box: "canary-box", Driver: fleet.DriverShellyGen2, URL: "http://canary.example:3", StepJoules: 57.721}),
		fleet.NewObject("canary-prices", fleet.PriceList{Currency: "CHF", Clusters: []string{"alpha"}, Rates: []fleet.Rate{{Resource: "energy", Price: "0.314159"}}}),
		fleet.NewObject("canary-tank", fleet.HeatSource{Box: "canary-box", Household: "canary-household", Method: fleet.HeatCapture, CaptureFactor: 0.5}),
		fleet.NewObject("canary-grid", fleet.Grid{Zone: "NL", Binding: fleet.Binding{Clusters: []string{"alpha"}, Regions: []string{"canary-region"}}}),
		fleet.NewObject("canary-contract", fleet.EnergyContract{Binding: fleet.Binding{Boxes: []string{"canary-box"}}, GramsPerKWh: "271.828", Instrument: "canary-wind", Evidence: "canary paper"}),
		fleet.NewObject("canary-rule", fleet.Assignment{Cluster: "alpha", Namespace: "canary-*", Project: "canary-project", User: "canary-user"}),
	}
}

// place is what somebody gets or holds, by name.
type place map[string][]byte

// found are the canaries that stand there: as they are, and in other cases, in
// UTF-16, in base64 of any offset, in hexadecimal, or as an integer's eight
// bytes.
func (p place) found(words ...string) []string {
	var all []string
	for name, content := range p {
		lower := bytes.ToLower(content)
		for _, word := range words {
			if bytes.Contains(lower, []byte(strings.ToLower(word))) || bytes.Contains(lower, []byte(fmt.Sprintf("%x", word))) ||
				bytes.Contains(content, []byte(strings.Join(strings.Split(word, ""), "\x00"))) || inBase64(content, word) || asInteger(content, word) {
				all = append(all, word+" in "+name)
			}
		}
	}
	slices.Sort(all)
	return all
}

// add takes all files below a directory.
func (p place) add(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		p[path] = content
		if err == nil && strings.HasSuffix(path, ".gz") {
			p["unpacked "+path] = unpack(t, content)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func unpack(t *testing.T, packed []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// told is everything that alpha's cluster gets of a seed and that its follower
// makes of it: the text, the ConfigMap as the API server has it, the mounted
// files, the database.
func told(t *testing.T, s seed.Seed, key seed.Key) (place, tagger.Status) {
	t.Helper()
	signed, err := key.Sign(s)
	if err != nil {
		t.Fatal(err)
	}
	client := fake.NewClientset()
	if _, err := signed.Apply(t.Context(), client, "accumulus"); err != nil {
		t.Fatal(err)
	}
	held, err := client.CoreV1().ConfigMaps("accumulus").Get(t.Context(), seed.ConfigMap, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	whole, err := json.Marshal(held)
	if err != nil {
		t.Fatal(err)
	}
	all := place{"text": []byte(s.Text), "ConfigMap": whole, "unpacked": unpack(t, held.BinaryData[schema.SeedFile])}
	dir, data := t.TempDir(), t.TempDir()
	for name, content := range held.BinaryData {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	public, err := tagger.ParsePublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	follower := tagger.New(tagger.Config{Dir: dir, PublicKey: public, Path: filepath.Join(data, "facts.db"), Cluster: "alpha"},
		clock.NewManual(noon), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err := follower.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	all.add(t, dir)
	all.add(t, data)
	return all, follower.Status()
}

// TestNothingLeaks: of the registry's canaries none is in anything that a
// cluster is told or makes of it. Without the one condition of the query they
// are found in each of these places, and in the registry they are all found.
func TestNothingLeaks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "registry.db")
	clk := clock.NewManual(noon)
	r, err := registry.Open(t.Context(), file, clk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if _, err := r.Apply(t.Context(), objects(), "canary-person"); err != nil {
		t.Fatal(err)
	}
	temperature := processors.Value{Micro: 1234567890123456789, Known: true}
	if err := r.PutHeatReadings(t.Context(), "canary-tank", "canary-box", time.Minute, []processors.HeatReading{{Time: noon, Supply: temperature}}); err != nil {
		t.Fatal(err)
	}
	if err := r.PutHeatQuarters(t.Context(), []registry.HeatQuarter{{Quarter: noon, HeatSums: registry.HeatSums{Source: "canary-tank",
		Household: "canary-household", Box: "canary-box", Useful: 2345678901234567890}}}); err != nil {
		t.Fatal(err)
	}
	beta, err := seed.Of(t.Context(), r, "canary-beta")
	if err != nil {
		t.Fatal(err)
	}
	there, err := r.BoxID(t.Context(), "canary-beta", "canary-box")
	if err != nil {
		t.Fatal(err)
	}
	words := append(slices.Clone(canaries), there, beta.Version, fmt.Sprint(beta.Generation))
	key, err := seed.EnsureKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}

	clk.Advance(time.Hour)
	alpha, err := seed.Of(t.Context(), r, "alpha")
	if err != nil {
		t.Fatal(err)
	}
	all, status := told(t, alpha, key)
	if status.Nodes != 2 || !status.Signed || len(all) < 6 {
		t.Fatalf("the follower has %+v, searched are %d places", status, len(all))
	}
	if found := all.found(words...); len(found) > 0 {
		t.Errorf("alpha is told %q", found)
	}

	k, err := r.KnowledgeOfAll(t.Context(), "alpha")
	if err != nil {
		t.Fatal(err)
	}
	k.Nodes = slices.DeleteFunc(k.Nodes, func(n registry.NodeFacts) bool { return n.Node != "canary-n3" }) // the others' names are alpha's
	leaked, status := told(t, seed.New("alpha", k), key)
	if status.Nodes != 1 {
		t.Fatalf("the control's follower has %+v", status)
	}
	names := make(map[string]bool)
	for _, hit := range leaked.found("canary-n3", "canary-cpu") {
		names[hit[strings.Index(hit, " in ")+4:]] = true
	}
	for name := range leaked {
		if packed := strings.HasSuffix(name, schema.SeedFile) && !strings.HasPrefix(name, "unpacked") || strings.HasSuffix(name, schema.SeedSignatureFile) || name == "ConfigMap"; names[name] == packed {
			t.Errorf("the control: found in %s: %t", name, !packed)
		}
	}

	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	own := place{}
	own.add(t, filepath.Dir(file))
	var missing []string
	for _, word := range canaries {
		if len(own.found(word)) == 0 {
			missing = append(missing, word)
		}
	}
	if diff := cmp.Diff([]string(nil), missing); diff != "" {
		t.Errorf("not found in the registry itself: %s", diff)
	}
}

// inBase64 says whether the content holds the word in base64, at one of the
// three places in which it can begin.
func inBase64(content []byte, word string) bool {
	for shift := range 3 {
		encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\x00", shift) + word))
		from := []int{0, 2, 3}[shift]
		to := (shift + len(word)) * 4 / 3 // the last digit may hold bits of what follows
		if bytes.Contains(content, []byte(encoded[from:to])) {
			return true
		}
	}
	return false
}

// asInteger says whether the content holds the number that a word is, as SQLite
// stores it or the other way round.
func asInteger(content []byte, word string) bool {
	n, err := strconv.ParseInt(word, 10, 64)
	return err == nil && n > 1<<32 && (bytes.Contains(content, binary.BigEndian.AppendUint64(nil, uint64(n))) ||
		bytes.Contains(content, binary.LittleEndian.AppendUint64(nil, uint64(n))))
}
