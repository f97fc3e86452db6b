package leader

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/prometheus/client_golang/prometheus"
)

const pricesYAML = `apiVersion: accumulus.dev/v1
kind: PriceList
metadata: {name: standard}
spec: {currency: EUR, rates: [{resource: energy, price: "0.31"}]}
`

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// open is a leader on a directory that outlives it.
func open(t *testing.T, dir string, config Config) (*Leader, error) {
	t.Helper()
	config.Dir, config.API.Listen = dir, "127.0.0.1:0"
	l, err := Open(t.Context(), config, clock.NewManual(at(16)), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err == nil {
		t.Cleanup(func() { _ = l.Close() })
	}
	return l, err
}

// TestInitialFileIsAppliedOnce: what the operator removes stays away.
func TestInitialFileIsAppliedOnce(t *testing.T) {
	dir, config := t.TempDir(), Config{InitialFile: write(t, pricesYAML)}
	count := func(l *Leader) int {
		t.Helper()
		objects, err := l.Registry().Objects(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(objects)
	}
	first, err := open(t, dir, config)
	if err != nil {
		t.Fatal(err)
	}
	if got := count(first); got != 1 {
		t.Fatalf("%d objects at the first start, want the price list", got)
	}
	if _, err := first.Registry().Remove(t.Context(), fleet.KindPriceList, "standard", "operator"); err != nil {
		t.Fatal(err)
	}
	left := count(first)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := open(t, dir, config)
	if err != nil {
		t.Fatal(err)
	}
	if got := count(second); got != left {
		t.Errorf("%d objects at the second start, want %d", got, left)
	}
	for _, entry := range changes(t, second) {
		if entry != "apply initial-file" && entry != "remove operator" {
			t.Errorf("an unexpected change: %s", entry)
		}
	}
}

func changes(t *testing.T, l *Leader) []string {
	t.Helper()
	entries, err := l.Registry().Audit(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 {
		t.Errorf("%d changes, want 2", len(entries))
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Action+" "+e.By)
	}
	return all
}

func TestInitialFileThatIsWrong(t *testing.T) {
	for name, path := range map[string]string{"absent": filepath.Join(t.TempDir(), "none"), "no fleet file": write(t, "kind: Ship\n")} {
		_, err := open(t, t.TempDir(), Config{InitialFile: path})
		if err == nil || !strings.Contains(err.Error(), "initial-file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTokensFromFiles(t *testing.T) {
	operator, viewer := write(t, "the-operators-token\n"), write(t, "the-viewers-token\n")
	feeder := write(t, "the-token-of-the-meters\n")
	dir := t.TempDir()
	l, err := open(t, dir, Config{Tokens: api.TokenFiles{Operator: operator, Viewer: viewer, Meters: feeder}})
	if err != nil {
		t.Fatal(err)
	}
	if got := l.config.API.Tokens; got.Operator != "the-operators-token" || got.Viewer != "the-viewers-token" || got.Meters != "the-token-of-the-meters" {
		t.Error("the tokens are not those of the files")
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*.token")); len(files) != 0 {
		t.Errorf("tokens were made beside the given ones: %v", files)
	}
	for name, files := range map[string]api.TokenFiles{
		"absent": {Operator: filepath.Join(dir, "none"), Viewer: viewer},
		"short":  {Operator: write(t, "short-one"), Viewer: viewer},
		"same":   {Operator: operator, Viewer: operator},
		"meters": {Operator: operator, Viewer: viewer, Meters: viewer},
	} {
		_, err := open(t, t.TempDir(), Config{Tokens: files})
		if err == nil || strings.Contains(err.Error(), "short-one") || strings.Contains(err.Error(), "operators-token") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestInitialFileBesideTheLocalCluster: that the leader adds its own cluster at the
// start is no change of the fleet by somebody.
func TestInitialFileBesideTheLocalCluster(t *testing.T) {
	dir, config := t.TempDir(), Config{InitialFile: write(t, pricesYAML), Access: AccessConfig{LocalCluster: "home", Namespace: "accumulus"}}
	for range 2 {
		l, err := open(t, dir, config)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := l.Registry().Objects(t.Context())
		if err != nil || len(objects) != 2 {
			t.Errorf("%d objects, want the price list and the cluster: %v", len(objects), err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
