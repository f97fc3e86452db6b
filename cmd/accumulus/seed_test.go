package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

const seedJSON = `{"cluster":"edge-a","version":"0a1b","generation":"1795435200000000000","packed":"AQID","signature":"BAU="}`

// TestSeedFiles: the files hold what the leader signed, byte by byte.
func TestSeedFiles(t *testing.T) {
	l, dir := &leader{}, filepath.Join(t.TempDir(), "seed")
	if out, code := l.run(t, "", "seed", "edge-a", "--out", dir); code != 0 || !strings.Contains(out, "version 0a1b: 3 bytes") {
		t.Errorf("exit code %d: %s", code, out)
	}
	for name, want := range map[string]string{schema.SeedFile: "\x01\x02\x03", schema.SeedSignatureFile: "\x04\x05"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if out, code := l.run(t, "", "seed", "key"); code != 0 || out != "a2V5\n" {
		t.Errorf("exit code %d: %s", code, out)
	}
	if out, code := l.run(t, "", "seed", "renew", "edge-a"); code != 0 || !strings.Contains(out, "generation 1795435200000000000") {
		t.Errorf("exit code %d: %s", code, out)
	}
	var asked []string
	for _, line := range l.asked {
		asked = append(asked, strings.TrimSpace(line))
	}
	want := []string{"GET /api/v1/clusters/edge-a/seed", "GET /api/v1/seed/key", "POST /api/v1/clusters/edge-a/seed/renew"}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
	if out, code := l.run(t, "", "seed", "edge-a"); code == 0 || !strings.Contains(out, "out") {
		t.Errorf("without a directory: exit code %d: %s", code, out)
	}
}
