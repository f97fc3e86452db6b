package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/accumulus-metering/accumulus/leader/books/sealtest"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/leader/seed"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// steady is an engine of a cluster whose namespace uses the same in each minute, but
// on 7 November, of which an hour is missing until it comes, and on the 20th, with
// ten times as much.
type steady struct{ here bool }

var outage = schema.Window{From: time.Date(2026, 11, 7, 3, 0, 0, 0, time.UTC), To: time.Date(2026, 11, 7, 4, 0, 0, 0, time.UTC)}

func (s *steady) Cells(_ context.Context, _ string, w schema.Window, _ time.Duration) ([]query.Cell, error) {
	ms := w.Length().Milliseconds()
	if !s.here {
		ms -= w.Overlap(outage.From, outage.To).Milliseconds()
	}
	cell := query.Cell{From: w.From, To: w.To, Customer: "acme", Namespace: "shop", Project: "web", Uptime: ms, Covered: ms,
		Quantities: processors.Quantities{processors.CPUUsed: 2000 * ms, processors.MemoryMax: 4 << 20 / 1000 * ms, processors.Energy: 45 * ms}}
	if w.From.Day() == 20 {
		cell.Quantities[processors.CPUUsed] *= 10
	}
	cell.EnergyMeasured, cell.CarbonOf = 45*ms, 45*ms
	cell.CarbonMicrograms = 4 * ms
	return []query.Cell{cell}, nil
}

func (s *steady) PodCells(ctx context.Context, cluster string, _ []string, w schema.Window, step time.Duration) ([]query.PodCell, error) {
	cells, err := s.Cells(ctx, cluster, w, step)
	return []query.PodCell{{Pod: "web-1", Cell: cells[0]}}, err
}

func (s *steady) Boxes(context.Context, string) (query.BoxAnswer, error) {
	return query.BoxAnswer{}, nil
}

func (s *steady) HeatCells(context.Context, string, schema.Window, time.Duration) ([]query.Cell, error) {
	return nil, nil
}

func (s *steady) Assets(context.Context, query.ChargeRequest) ([]query.Charges, error) {
	return nil, nil
}

func (s *steady) NodePods(context.Context, string, string, schema.Window, time.Duration) ([]query.PodCell, error) {
	return nil, nil
}

func (s *steady) NodeWorkloads(context.Context, string, string, schema.Window, time.Duration) ([]query.PodCell, error) {
	return nil, nil
}

func (s *steady) Arrived(_ context.Context, cluster string, w schema.Window) (query.ClusterCompleteness, []query.Gap, error) {
	n := int(w.Length() / time.Minute)
	c := query.ClusterCompleteness{Cluster: cluster, Complete: true, Totals: query.Totals{Expected: n, Received: n}}
	if w.Overlap(outage.From, outage.To) == 0 || s.here {
		return c, nil, nil
	}
	c.Complete, c.Received = false, n-60
	return c, []query.Gap{{Cluster: cluster, Tables: []string{"pod"}, Gap: registry.Gap{From: outage.From, To: outage.To, Windows: 60, Reason: registry.GapLinkDown}}}, nil
}

// persons are callers whose token begins with their name.
type persons struct{}

func (persons) Who(_ context.Context, token string) (identity.Principal, error) {
	name, _, ok := strings.Cut(token, "-")
	if !ok {
		return identity.Anonymous, identity.ErrUnknown
	}
	return identity.Principal{Name: name, Role: identity.Billing, Via: identity.ViaToken}, nil
}

// bookkeeping serves books over a registry and that engine.
func bookkeeping(t *testing.T) (serve func(args ...string) string, late func()) {
	t.Helper()
	clk := clock.NewManual(time.Date(2026, 12, 2, 9, 0, 0, 0, time.UTC))
	reg, err := registry.Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), clk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	since := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).Add(-time.Hour)
	_, err = reg.Apply(t.Context(), []fleet.Object{
		fleet.NewObject("acme", fleet.Customer{DisplayName: "Acme B.V.", TimeZone: "Europe/Amsterdam"}),
		fleet.NewObject("edge-a", fleet.Cluster{Customer: "acme", URL: "http://127.0.0.1:1"}).Since(since),
		fleet.NewObject("standard", fleet.PriceList{Currency: "EUR", Rates: []fleet.Rate{{Resource: "cpu_used", Price: "0.031"}, {Resource: "memory", Price: "0.004"},
			{Resource: "energy", Price: "0.28"}, {Resource: "fee:platform", Per: "month", Price: "25"}}}).Since(since)}, "erik")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, seed.KeyFile), []byte(testKey), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := seed.EnsureKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	engine := &steady{}
	kept, err := books.New(books.Config{Archive: new(sealtest.Archive)}, reg, engine, key, clk, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	metrics := prometheus.NewRegistry()
	server, err := api.New(api.Config{Listen: "127.0.0.1:0", Tokens: api.Tokens{Operator: "operator-token-of-the-test", Viewer: "viewer-token-of-the-test"}},
		api.Deps{Books: kept, Callers: persons{}, Log: reg, Metrics: metrics, Clock: clk}, slog.New(slog.DiscardHandler), metrics)
	if err != nil {
		t.Fatal(err)
	}
	listening := httptest.NewServer(server.Handler())
	t.Cleanup(listening.Close)
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("operator-token-of-the-test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	serve = func(args ...string) string {
		var out bytes.Buffer
		a := &app{in: strings.NewReader(""), out: &out, errOut: &out, clock: clk, getenv: func(name string) string {
			return map[string]string{"ACCUMULUS_SERVER": listening.URL, "ACCUMULUS_TOKEN_FILE": token}[name]
		}}
		run(t.Context(), a, args)
		return out.String()
	}
	late = func() {
		engine.here = true
		due := registry.Due{Processor: registry.ProcessorUsage, Scope: "edge-a", Quarter: outage.From, Reason: "test"}
		if err := reg.Done(t.Context(), due, "came", nil); err != nil {
			t.Fatal(err)
		}
	}
	return serve, late
}

// testKey is a key of this test alone.
const testKey = `-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f
-----END PRIVATE KEY-----
`

// TestLifeOfAPeriodInTheDocs runs the commands of docs/books.md, in their order, and
// compares what they print.
func TestLifeOfAPeriodInTheDocs(t *testing.T) {
	path, err := filepath.Abs("../../docs/books.md")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	serve, late := bookkeeping(t)
	t.Chdir(t.TempDir()) // for the files that commands write
	for _, name := range []string{"dora", "anna"} {
		if err := os.WriteFile(name+".token", []byte(name+"-has-a-token-of-her-own\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	inside, commands := false, 0
	for line := range strings.Lines(string(text)) {
		command, isCommand := strings.CutPrefix(strings.TrimSpace(line), "$ accumulus ")
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console\n"
		case inside && isCommand:
			commands++
			out.WriteString(line)
			out.WriteString(trimLines(serve(words(command)...)))
			continue
		case inside:
			continue // what it printed
		case line == "<!-- rows come late -->\n":
			late()
		}
		out.WriteString(line)
	}
	if *update {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(text), out.String()); diff != "" && !*update {
		t.Errorf("%s is not what the commands print (-update writes it anew):\n%s", path, diff)
	}
	if commands < 12 {
		t.Errorf("%d commands", commands)
	}
	page := serve("books", "statement", "--customer", "acme", "--number", "1", "-o", "html")
	if !strings.Contains(page, "Statement acme-0001") || strings.Contains(page, "<script") {
		t.Errorf("page:\n%s", page)
	}
	if note := serve("books", "statement", "--customer", "acme", "--number", "2", "--json"); !strings.Contains(note, `"refersTo": 1`) {
		t.Errorf("credit note: %s", note)
	}
	for _, args := range []string{"statement --customer acme", "rerate --customer acme --period 2026-11 --apply", "draft --customer nobody --period 2026-11 --as x", "draft --customer acme --period november --as x", "list --json"} {
		if printed := serve(append([]string{"books"}, words(args)...)...); !strings.Contains(printed, "Error") && !strings.Contains(printed, "acme") {
			t.Errorf("books %s: %s", args, printed)
		}
	}
}

// TestFailuresOfNodes records a failure, and says what is wrong.
func TestFailuresOfNodes(t *testing.T) {
	serve, _ := bookkeeping(t)
	for _, test := range []struct{ args, said string }{
		{"failures", "No node has failed."},
		{"failures --json", `"items": []`},
		{"failures record --cluster edge-a --node n1 --at yesterday --reason x --as olga", "write it as 2026"},
		{"failures record --cluster edge-a --node n1 --at 2026-11-20T14:00:00Z --reason x --as olga", "accumulus usage --aggregate node"},
		{"failures record --cluster edge-a --node n1 --at 2026-11-20T14:00:00Z --reason x", "nobody is named"},
		{"failures dismiss three --reason x --as olga", "by the number"},
		{"failures dismiss 3 --reason x --as olga", "failure 3"},
		{"failures reinstate three --reason x --as olga", "by the number"},
		{"failures reinstate 3 --reason x --as olga", "failure 3"},
		{"refund --customer acme --statement 1 --amount 5 --reason x --approver anna", "token create"},
	} {
		if printed := serve(append([]string{"books"}, words(test.args)...)...); !strings.Contains(printed, test.said) {
			t.Errorf("books %s: %s", test.args, printed)
		}
	}
}

// trimLines is a text without spaces at the ends of its lines.
func trimLines(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n") + "\n"
}

// words are those of a command line; quotes keep spaces.
func words(line string) []string {
	var all []string
	for i, part := range strings.Split(line, `"`) {
		if i%2 == 1 {
			all = append(all, part)
			continue
		}
		all = append(all, strings.Fields(part)...)
	}
	return all
}
