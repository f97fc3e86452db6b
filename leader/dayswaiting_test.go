package leader

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/bucket"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// TestDaysWaiting: days that wait are counted, and a bucket that takes nothing is a
// problem of the leader and a word in the list.
func TestDaysWaiting(t *testing.T) {
	credentials := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(credentials, []byte("[default]\naws_access_key_id = a\naws_secret_access_key = b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCentre(t, Config{ArchiveBucket: bucket.Config{URL: "http://127.0.0.1:1/archive", CredentialsFile: credentials}})
	c.describe()
	day := start.Truncate(schema.Day)
	if err := c.registry.Done(t.Context(), registry.Due{Processor: registry.ProcessorUsage, Scope: "a", Quarter: start, Reason: "test"}, "x", nil); err != nil {
		t.Fatal(err)
	}
	if err := c.registry.PutArchived(t.Context(), registry.ArchivedDay{Cluster: "a", Day: day, Revision: 1, Sequence: 1, Manifest: "none", Archived: start}); err != nil {
		t.Fatal(err)
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(daysWaiting{c.registry, c.archive, c.clk})
	waiting := func() map[string]float64 {
		t.Helper()
		families, err := metrics.Gather()
		if err != nil || len(families) != 1 || families[0].GetName() != "accumulus_days_waiting" {
			t.Fatal(families, err)
		}
		found := make(map[string]float64)
		for _, m := range families[0].GetMetric() {
			found[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
		}
		return found
	}
	if got := waiting(); got["fill"] != 0 || got["archive"] != 0 || got["copy"] != 1 {
		t.Errorf("before the day has ended: %v", got)
	}
	c.clk.Set(day.Add(5 * 24 * time.Hour))
	c.archive.Pass(t.Context()) // there is no such file, nor such rows
	if got := waiting(); got["fill"] != 1 || got["copy"] != 1 {
		t.Errorf("afterwards: %v", got)
	}
	overview, err := c.Overview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	told := false
	for _, p := range overview.Leader.Problems {
		told = told || p.Code == "archive-not-copied" && strings.Contains(p.Message, "1 archived day waits to be copied to http://127.0.0.1:1/archive") && p.Since != nil
	}
	if !told {
		t.Errorf("problems: %+v", overview.Leader.Problems)
	}
	code, body := c.callAs(http.MethodGet, "/api/v1/archive", string(c.config.API.Tokens.Viewer), "")
	if code != http.StatusOK || !strings.Contains(body, `"waiting": 1`) || !strings.Contains(body, "not in the archive") {
		t.Errorf("list: %d %s", code, body)
	}
	for name, config := range map[string]Config{
		"no file of credentials":  {Dir: "x", ArchiveBucket: bucket.Config{URL: "https://host/bucket"}},
		"the bucket of exports":   {Dir: "x", ArchiveBucket: bucket.Config{URL: "https://host/b", CredentialsFile: "f"}, Exports: ExportConfig{Format: "focus", Bucket: bucket.Config{URL: "https://host/b", CredentialsFile: "f"}}},
		"a bucket without a name": {Dir: "x", ArchiveBucket: bucket.Config{URL: "https://host", CredentialsFile: "f"}},
	} {
		if err := config.Validate(); err == nil || !strings.Contains(err.Error(), "archive") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
