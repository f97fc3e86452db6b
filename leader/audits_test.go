package leader

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/audit"
	"github.com/accumulus-metering/accumulus/leader/quarantine"
	"github.com/accumulus-metering/accumulus/leader/status"
)

// ask sends a request to the API as an operator and decodes the answer.
func (c *centre) ask(method, path, body string, into any) string {
	c.t.Helper()
	request := httptest.NewRequest(method, "http://leader"+path, strings.NewReader(body))
	request.Header.Set("Authorization", "Bearer "+string(c.config.API.Tokens.Operator))
	recorder := httptest.NewRecorder()
	c.api.Handler().ServeHTTP(recorder, request)
	text, err := io.ReadAll(recorder.Result().Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if recorder.Code != http.StatusOK {
		c.t.Errorf("%s %s: %d %s", method, path, recorder.Code, text)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			c.t.Fatal(err)
		}
	}
	return string(text)
}

// metric are the lines of a metric.
func (c *centre) metric(name string) (lines []string) {
	c.t.Helper()
	for line := range strings.SplitSeq(c.ask("GET", "/metrics", "", nil), "\n") {
		if strings.HasPrefix(line, name+"{") {
			lines = append(lines, strings.TrimPrefix(line, name))
		}
	}
	return lines
}

// TestRefusedRowsAreShownAndReplayed: from a real conflict to the sums of the
// quarter, by the API alone.
func TestRefusedRowsAreShownAndReplayed(t *testing.T) {
	c := newCentre(t, Config{})
	c.describe()
	other := influxsync.NewPoint(schema.PodMinute.Name, map[string]string{"by": "somebody"}, map[string]influxsync.Value{schema.CPU: influxsync.Float(1)}, start)
	minutes := c.store.Database(schema.MinuteDB)
	if err := minutes.Write(t.Context(), []influxsync.Point{other}); err != nil {
		t.Fatal(err)
	}
	c.tick()
	if codes := c.codes(); !slices.Contains(codes, status.RowsRefused) || slices.Contains(codes, status.FollowerUnreachable) {
		t.Errorf("problems %v", codes)
	}
	if got := c.metric("accumulus_quarantine_rows"); !slices.Equal(got, []string{`{class="type-conflict",cluster="a",kind="refused",table="pod"} 15`}) {
		t.Errorf("metric %v", got)
	}
	var list api.QuarantineList
	c.ask("GET", "/api/v1/quarantine?cluster=a&limit=10", "", &list)
	if len(list.Rows) != 10 || list.Next == "" || len(list.Counts) != 1 || list.Counts[0].Rows != 15 {
		t.Errorf("%d rows, next %q, counts %+v", len(list.Rows), list.Next, list.Counts)
	}
	if err := minutes.Clear(t.Context(), schema.PodMinute.Name, nil); err != nil {
		t.Fatal(err)
	}
	var outcome quarantine.Outcome
	c.ask("POST", "/api/v1/quarantine/replay", `{"cluster":"a"}`, &outcome)
	if outcome.Accepted != 15 || len(outcome.Refused) != 0 {
		t.Errorf("replayed %+v", outcome)
	}
	c.tick()
	if codes := c.codes(); slices.Contains(codes, status.RowsRefused) || len(c.metric("accumulus_quarantine_rows")) != 0 {
		t.Errorf("problems %v, metric %v after the replay", codes, c.metric("accumulus_quarantine_rows"))
	}
	if got := c.sums()["quarter.usage."+schema.CPU]; got != 15*300e6 {
		t.Errorf("usage of %d core-microseconds, want %d", got, int64(15*300e6))
	}
	var report audit.Report
	c.ask("POST", "/api/v1/clusters/a/audit?window=1h", "", &report)
	if report.Wrong() != 0 || report.Tables[1].OK != 15 || report.Tables[1].Source != "" {
		t.Errorf("audit %+v", report)
	}
}

// TestAudits: by the schedule, of the UTC day before, without repair; what an
// operator has repaired is not counted any more.
func TestAudits(t *testing.T) {
	c := newCentre(t, Config{Audits: AuditConfig{Schedule: "17 3 * * *"}})
	c.describe()
	c.tick()
	changed := followerRow(300e6 + 1)
	if err := c.store.Database(schema.MinuteDB).Write(t.Context(), []influxsync.Point{changed}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	asleep, done := make(chan time.Time), make(chan error, 1)
	c.Leader.clock = telling{c.clk, asleep}
	go func() { done <- c.runAudits(ctx) }()
	first := time.Date(2026, 11, 24, 3, 17, 0, 0, time.UTC)
	if next := <-asleep; !next.Equal(first) {
		t.Errorf("the first audit is at %s, want %s", next, first)
	}
	c.clk.Set(first)
	<-asleep // it is done, and waits for the next day
	c.Leader.clock = c.clk
	cancel()
	if err := <-done; err != nil {
		t.Errorf("schedule: %v", err)
	}
	if got := c.metric("accumulus_audit_findings"); !slices.Equal(got, []string{`{cluster="a",kind="rows-differ",table="node"} 1`}) {
		t.Errorf("metric %v", got)
	}
	var report audit.Report
	c.ask("POST", "/api/v1/clusters/a/audit?window=2026-11-23T00:00:00Z,2026-11-24T00:00:00Z&repair=true", "", &report)
	if report.Wrong() != 0 || len(report.Tables[0].Findings) != 1 || !report.Tables[0].Findings[0].Repaired {
		t.Errorf("audit %+v", report)
	}
	day := schema.Window{From: first.Truncate(24*time.Hour).AddDate(0, 0, -1), To: first.Truncate(24 * time.Hour)}
	if err := c.AuditAll(t.Context(), day); err != nil || len(c.metric("accumulus_audit_findings")) != 0 {
		t.Errorf("%v, metric %v after the repair", err, c.metric("accumulus_audit_findings"))
	}
}

// followerRow is a row of the described node with another CPU.
func followerRow(cpu int64) influxsync.Point {
	return influxsync.NewPoint(schema.NodeMinute.Name, map[string]string{schema.Cluster: "a", schema.Node: "n1"},
		map[string]influxsync.Value{schema.CPU: influxsync.Int(cpu)}, start)
}

func TestAuditConfig(t *testing.T) {
	for schedule, fine := range map[string]bool{"": true, "17 3 * * *": true, "often": false, "17 3 * * * *": false} {
		if err := (AuditConfig{Schedule: schedule}).Validate(); (err == nil) != fine || !fine && !strings.Contains(fmt.Sprint(err), schedule) {
			t.Errorf("%q: %v", schedule, err)
		}
	}
}
