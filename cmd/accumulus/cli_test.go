package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/focus"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

const usageJSON = `{"from":"2026-11-23T10:00:00Z","to":"2026-11-23T11:00:00Z","settled":"2026-11-23T11:00:00Z","aggregate":["cluster","namespace"],"total":3,"next":"","provisional":[],"clusters":[],"rows":[
{"key":{"cluster":"edge-a","namespace":"shop"},"from":"2026-11-23T10:00:00Z","to":"2026-11-23T11:00:00Z","cpuCoreSeconds":4321.123456,"memoryByteSeconds":7730941132800,"networkReceiveBytes":123456789,"networkTransmitBytes":999,"cpuRequestCoreSeconds":7200,"memoryRequestByteSeconds":1,"podSeconds":7200,"nodeSeconds":0,"energyJoules":12345.678,"energyActiveJoules":12000,"energyIdleJoules":345.678,"energyOverheadJoules":0,"energyModelledJoules":13000,"cost":"1.234567891","currency":"EUR","coverage":1,"interpolated":15,"quality":"measured","provisional":true},
{"key":{"cluster":"edge-b","namespace":"shop"},"from":"2026-11-23T10:00:00Z","to":"2026-11-23T11:00:00Z","cpuCoreSeconds":0.5,"memoryByteSeconds":1024,"networkReceiveBytes":0,"networkTransmitBytes":0,"cpuRequestCoreSeconds":0,"memoryRequestByteSeconds":0,"podSeconds":60,"nodeSeconds":0,"energyJoules":0,"energyActiveJoules":0,"energyIdleJoules":0,"energyOverheadJoules":0,"energyModelledJoules":0,"cost":"0.000012","currency":"USD","coverage":0.987,"interpolated":0,"quality":"estimated","provisional":false},
{"key":{"cluster":"edge-b","namespace":"__system__"},"from":"2026-11-23T10:00:00Z","to":"2026-11-23T11:00:00Z","cpuCoreSeconds":60,"memoryByteSeconds":0,"networkReceiveBytes":0,"networkTransmitBytes":0,"cpuRequestCoreSeconds":0,"memoryRequestByteSeconds":0,"podSeconds":3600,"nodeSeconds":3600,"energyJoules":3600,"energyActiveJoules":3600,"energyIdleJoules":0,"energyOverheadJoules":0,"energyModelledJoules":3600,"cost":null,"currency":"","coverage":0.5,"interpolated":0,"quality":"mixed","provisional":false}]}`

const boxesJSON = `{"from":"2026-11-23T10:00:00Z","to":"2026-11-23T11:00:00Z","boxes":[
{"box":"box-1","site":"cellar","clusters":["edge-a"],"nodes":["edge-a/n1"],"meters":["m1"],"measuredJoules":180000.5,"attributedJoules":{"edge-a/shop":120000,"edge-a/__system__":20000.5,"idle":30000,"overhead":10000,"unattributed":0},"provisionalJoules":1200,"estimatedJoules":0,"modelledJoules":175000,"residualJoules":0,"measuredUntil":"2026-11-23T10:59:00Z","measuredWatts":50.8,"modelledWatts":48.6,"quality":"mixed"},
{"box":"box-2","clusters":[],"nodes":[],"meters":[],"measuredJoules":null,"attributedJoules":{"idle":0,"overhead":0,"unattributed":0},"provisionalJoules":0,"estimatedJoules":0,"modelledJoules":0,"residualJoules":null,"measuredUntil":null,"measuredWatts":null,"modelledWatts":null,"quality":"estimated"}]}`

const statusJSON = `{"now":"2026-11-23T11:00:40Z","leader":{"version":"v0.1.0","running":true,"started":"2026-11-23T09:00:00Z","tickSeconds":15,"lastTick":"2026-11-23T11:00:30Z","missedTicks":0,"dueWork":2,"quarantined":0,"problems":[{"code":"no-price-list","message":"no price list holds","hint":"apply one"}],"clusterCount":3},"clusters":[
{"name":"edge-a","customer":"acme","provider":"own","region":"berlin","url":"https://edge-a.example:8081","state":"ok","nodes":3,"lastContact":"2026-11-23T11:00:30Z","settled":"2026-11-23T10:59:00Z","lagSeconds":100,"nextWindow":null,"lastError":null,"history":{"from":"2026-11-22T11:00:00Z","to":"2026-11-23T11:00:00Z","done":"2026-11-22T17:00:00Z"},"problems":[]},
{"name":"edge-b","state":"unreachable","nodes":0,"lastContact":null,"settled":null,"lagSeconds":null,"nextWindow":null,"lastError":{"time":"2026-11-23T11:00:30Z","message":"pull: connection refused\nand more"},"problems":[{"code":"follower-unreachable","message":"connection refused","hint":"is it running?","since":"2026-11-23T10:50:40Z"}]},
{"name":"local","state":"waiting","nodes":1,"lastContact":null,"settled":null,"lagSeconds":null,"nextWindow":"2026-11-23T11:01:20Z","lastError":null,"problems":[]}]}`

const completenessJSON = `{"cluster":"edge-a","from":"2026-11-23T10:00:00Z","to":"2026-11-23T10:45:00Z","settled":"2026-11-23T10:45:00Z",
"totals":{"expected":180,"received":172,"audited":60,"rated":58,"refused":3,"missing":8},"complete":false,
"eras":[{"table":"pod","began":"2026-11-23T10:24:00Z","former":"store-1","store":"store-2"},{"table":"pod","began":"2026-11-20T10:24:00Z","former":"store-0","store":"store-1"}],"quarters":[
{"table":"node","quarter":"2026-11-23T10:00:00Z","grain":"quarter","expected":30,"expectedBy":"watch","received":30,"audited":30,"rated":30,"windows":15,"rows":30,"revisions":16,"coverage":1000,"refused":0,"extra":0,"overlaps":0},
{"table":"node","quarter":"2026-11-23T10:15:00Z","grain":"quarter","expected":30,"expectedBy":"watch","received":28,"audited":0,"rated":28,"windows":14,"rows":28,"revisions":14,"coverage":1000,"refused":0,"extra":0,"overlaps":0,"missing":[{"from":"2026-11-23T10:29:00Z","to":"2026-11-23T10:30:00Z","windows":2,"reason":"follower-down","message":"since 2026-11-23T10:29:30Z until 2026-11-23T10:31:00Z: connection refused"}]},
{"table":"node","quarter":"2026-11-23T10:30:00Z","grain":"quarter","expected":30,"expectedBy":"watch","received":28,"audited":0,"rated":0,"windows":14,"rows":28,"revisions":14,"coverage":1000,"refused":0,"extra":0,"overlaps":0,"missing":[{"from":"2026-11-23T10:30:00Z","to":"2026-11-23T10:31:00Z","windows":2,"reason":"follower-down","message":"since 2026-11-23T10:29:30Z until 2026-11-23T10:31:00Z: connection refused"}]},
{"table":"pod","quarter":"2026-11-23T10:00:00Z","grain":"quarter","expected":30,"expectedBy":"watch","received":30,"audited":30,"rated":0,"windows":15,"rows":150,"revisions":16,"coverage":1000,"refused":3,"extra":0,"overlaps":0,"missing":[{"from":"2026-11-23T10:02:00Z","to":"2026-11-23T10:03:00Z","windows":1,"reason":"quarantined","message":"3 rows are in quarantine"}]},
{"table":"pod","quarter":"2026-11-23T10:15:00Z","grain":"quarter","expected":30,"expectedBy":"watch","received":28,"audited":0,"rated":0,"windows":14,"rows":120,"revisions":14,"coverage":990,"refused":0,"extra":0,"overlaps":0,"missing":[{"from":"2026-11-23T10:29:00Z","to":"2026-11-23T10:30:00Z","windows":2,"reason":"follower-down","message":"since 2026-11-23T10:29:30Z until 2026-11-23T10:31:00Z: connection refused"}]},
{"table":"pod","quarter":"2026-11-23T10:30:00Z","grain":"quarter","expected":30,"expectedBy":"watch","received":28,"audited":0,"rated":0,"windows":15,"rows":120,"revisions":15,"coverage":990,"refused":0,"extra":0,"overlaps":0,"missing":[{"from":"2026-11-23T10:40:00Z","to":"2026-11-23T10:42:00Z","node":"n2","windows":2,"reason":"node-silent"}]},
{"table":"run","quarter":"2026-11-23T10:00:00Z","grain":"quarter","expected":0,"received":2,"audited":0,"rated":0,"windows":2,"rows":2,"revisions":2,"coverage":1000,"refused":0,"extra":0,"overlaps":0}]}`

const exportJSON = `{"period":"2026-11","from":"2026-11-01T00:00:00Z","to":"2026-12-01T00:00:00Z","complete":true,"gaps":[],"totals":[{"cost":"0.045","currency":"EUR"}],
"clusters":[{"cluster":"edge-a","expected":10,"received":10,"audited":0,"rated":10,"refused":0,"missing":0,"complete":true,"completeness":"1.0000"}],
"lines":[{"customer":"acme, Inc.","cluster":"edge-a","namespace":"shop","resource":"cpu_used","quantity":"1.5","unit":"core-hour","unitPrice":"0.03","cost":"0.045","currency":"EUR","from":"2026-11-01T00:00:00Z","to":"2026-12-01T00:00:00Z","coverage":1,"quality":"measured","provisional":false,"completeness":"1.0000"}]}
`

const objectsJSON = `{"items":[{"apiVersion":"accumulus.dev/v1","kind":"Box","metadata":{"name":"box-1"},"spec":{"site":"cellar","overheadWatts":12.5}},
{"apiVersion":"accumulus.dev/v1","kind":"PriceList","metadata":{"name":"std"},"validFrom":"2026-11-01T00:00:00Z","spec":{"currency":"EUR","rates":[{"resource":"cpu_used","price":"0.031"}]}}]}`

const planJSON = `{"dryRun":true,"due":4,"warnings":["cluster c: read tokenFile: gone"],"changes":[{"action":"changed","kind":"PriceList","name":"std","validFrom":"2026-11-01T00:00:00Z","fields":[{"field":"spec.rates.0.price","old":"\"0.031\"","new":"\"0.029\""}]},{"action":"unchanged","kind":"Box","name":"box-1"}]}`

// leader answers what is asked, with the answers above, and remembers.
type leader struct {
	asked []string
	fail  int
	usage string // the answer about it; "" = usageJSON
}

func (l *leader) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	asked := r.Method + " " + r.URL.RequestURI()
	if len(body) > 0 {
		asked += " " + strings.TrimSpace(string(body))
	}
	l.asked = append(l.asked, asked+" "+r.Header.Get("Authorization"))
	if l.fail != 0 {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(l.fail)
		_, _ = io.WriteString(w, `{"title":"x","status":422,"detail":"the objects cannot be applied","hint":"Mend them.","errors":["Box/b: spec.site: too long"]}`)
		return
	}
	if r.URL.Path == "/api/v1/fleet" && r.Method == http.MethodPost && len(body) == 0 {
		_, _ = io.WriteString(w, `{"dryRun":true,"changes":[]}`)
		return
	}
	if strings.HasSuffix(r.URL.Path, "/installation") {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"title":"Not Found","status":404}`)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	used := usageJSON
	if l.usage != "" {
		used = l.usage
	}
	answers := map[string]string{"/api/v1/energy": energyJSON, "/api/v1/heat": heatJSON, "/api/v1/carbon": carbonJSON, "/api/v1/usage": used, "/api/v1/rates": ratesJSON, "/api/v1/forecast": forecastJSON, "/api/v1/forecast/job": forecastJobJSON, "/api/v1/estimate": estimateJSON, "/api/v1/recommendations": recommendJSON, "/api/v1/budgets": budgetsJSON, "/api/v1/fleet/budget": budgetObjectsJSON, "/api/v1/reports/run": reportJSON, "/api/v1/boxes": boxesJSON, "/api/v1/status": statusJSON,
		"/api/v1/clusters/edge-a/completeness": completenessJSON, "/api/v1/fleet/all": objectsJSON, "/api/v1/fleet": planJSON, "/api/v1/export": exportJSON,
		"/api/v1/quarantine": quarantineJSON, "/api/v1/quarantine/replay": `{"accepted":2,"refused":{"type-conflict":1}}`, "/api/v1/quarantine/discard": `{"discarded":3}`,
		"/api/v1/clusters/edge-a/audit": auditJSON, "/api/v1/clusters/edge-a/seed": seedJSON, "/api/v1/clusters/edge-a/seed/renew": seedJSON,
		"/api/v1/seed/key": `{"publicKey":"a2V5"}`, "/api/v1/upgrades/7/stop": `{"id":7}`, "/api/v1/upgrades/7/resume": `{"id":7}`,
		"/api/v1/upgrades": upgradesJSON, "/api/v1/tokens": tokensJSON, "/api/v1/audit": changesJSON, "/allocation": allocationJSON}
	if r.Method == http.MethodPost && r.URL.Path == "/api/v1/tokens" {
		_, _ = io.WriteString(w, `{"name":"g","role":"tenant","prefix":"acc_abc","created":"2026-11-23T10:00:00Z","createdBy":"operator","secret":"acc_abc_secret"}`)
		return
	}
	if r.Method == http.MethodPost && r.URL.Path == "/api/v1/upgrades" {
		_, _ = io.WriteString(w, `{"id":7,"version":"1.1.0","state":"running","clusters":[{"cluster":"a","state":"waiting"}]}`)
		return
	}
	_, _ = io.WriteString(w, answers[r.URL.Path])
}

// run runs a command line against the leader and returns what it printed.
func (l *leader) run(t *testing.T, input string, args ...string) (output string, code int) {
	t.Helper()
	server := httptest.NewServer(l)
	defer server.Close()
	var out bytes.Buffer
	a := &app{in: strings.NewReader(input), out: &out, errOut: &out, interactive: input != "", clock: clock.System(), getenv: func(name string) string {
		return map[string]string{"ACCUMULUS_SERVER": server.URL}[name]
	}}
	code = run(t.Context(), a, args)
	return strings.ReplaceAll(out.String(), server.URL, "SERVER"), code
}

// golden compares what a command printed with its golden file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestGolden(t *testing.T) {
	for name, args := range map[string]string{
		"usage":          "usage",
		"usage-base":     "usage --units base",
		"usage-csv":      "usage -o csv",
		"usage-step":     "usage --step 1h",
		"boxes":          "boxes",
		"boxes-csv":      "boxes -o csv",
		"status":         "status",
		"cluster-list":   "cluster list",
		"cluster-status": "cluster status edge-a",
		"get":            "get all",
		"get-yaml":       "get all -o yaml",
		"export":         "export --period 2026-11",
		"quarantine":     "sync quarantine",
		"quarantine-csv": "sync quarantine -o csv",
		"replay":         "sync replay --cluster edge-a",
		"upgrades":       "cluster upgrades",
		"help":           "usage --help",
	} {
		t.Run(name, func(t *testing.T) {
			l := &leader{}
			got, code := l.run(t, "", strings.Fields(args)...)
			if want := map[string]int{"replay": 1}[name]; code != want { // a row was refused again
				t.Fatalf("exit code %d, want %d: %s", code, want, got)
			}
			golden(t, name, got)
		})
	}
}

func TestUsageAsksWhatWasWanted(t *testing.T) {
	l := &leader{}
	if out, code := l.run(t, "", "usage", "-w", "24h", "-a", "cluster,label:team", "-f", "namespace=shop*", "--cluster", "a", "--sort", "-cost", "--limit", "5"); code != 0 {
		t.Fatal(out)
	}
	want := "GET /api/v1/usage?aggregate=cluster%2Clabel%3Ateam&completeness=true&filter=namespace%3Dshop%2A&filter=cluster%3Da&limit=5&sort=-cost&window=24h "
	if diff := cmp.Diff([]string{want}, l.asked); diff != "" {
		t.Error(diff)
	}
}

func TestApplyShowsTheDifferenceAndAsks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleet.yaml")
	if err := os.WriteFile(file, []byte("kind: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	plan, apply := "POST /api/v1/fleet?dryRun=true kind: x ", "POST /api/v1/fleet kind: x "
	for name, test := range map[string]struct {
		input string
		args  []string
		asked []string
		code  int
		says  string
	}{
		"yes":         {"y\n", nil, []string{plan, apply}, 0, "applied"},
		"warnings":    {"y\n", nil, []string{plan, apply}, 0, "Warning: cluster c: read tokenFile: gone; the cluster is not reached until that is mended\n"},
		"no":          {"\n", nil, []string{plan}, 1, "nothing was changed"},
		"--yes":       {"", []string{"--yes"}, []string{plan, apply}, 0, "applied"},
		"--dry-run":   {"", []string{"--dry-run"}, []string{plan}, 0, `spec.rates.0.price: "0.031" → "0.029"`},
		"nobody asks": {"", nil, []string{plan}, 1, "add --yes"},
	} {
		l := &leader{}
		out, code := l.run(t, test.input, append([]string{"apply", "-f", file}, test.args...)...)
		if diff := cmp.Diff(test.asked, l.asked); diff != "" || code != test.code || !strings.Contains(out, test.says) {
			t.Errorf("%s: code %d\n%s\n%s", name, code, out, diff)
		}
	}
}

func TestClusterAddAndRemove(t *testing.T) {
	l := &leader{}
	if out, code := l.run(t, "", "cluster", "add", "edge-c", "--url", "http://127.0.0.1:9", "--customer", "acme"); code != 0 {
		t.Fatal(out)
	}
	if out, code := l.run(t, "", "cluster", "remove", "edge-c"); code == 0 || !strings.Contains(out, "--yes") {
		t.Errorf("removed without a question: %s", out)
	}
	if out, code := l.run(t, "yes\n", "cluster", "remove", "edge-c"); code != 0 {
		t.Fatal(out)
	}
	want := []string{`PUT /api/v1/clusters/edge-c {"customer":"acme","url":"http://127.0.0.1:9"} `, "DELETE /api/v1/clusters/edge-c "}
	if diff := cmp.Diff(want, l.asked); diff != "" {
		t.Error(diff)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	token := filepath.Join(t.TempDir(), "t")
	if err := os.WriteFile(token, []byte("secret-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		fail int
		args string
		says []string
	}{
		"problem":       {422, "boxes", []string{"Error: the objects cannot be applied", "Box/b: spec.site: too long", "Mend them."}},
		"no token":      {401, "boxes", []string{"--token-file"}},
		"unreachable":   {0, "boxes --server http://127.0.0.1:1", []string{"leader at http://127.0.0.1:1 does not answer", "accumulus demo", "--server"}},
		"no URL":        {0, "boxes --server localhost", []string{`server "localhost" is not a URL`}},
		"no file":       {0, "boxes --token-file /nowhere/x", []string{"read token", "/nowhere/x"}},
		"unknown flag":  {0, "usage --agregate x", []string{"unknown flag: --agregate", "accumulus usage --help"}},
		"command":       {0, "usgae", []string{`accumulus has no command "usgae", perhaps you meant usage`, "accumulus --help"}},
		"subcommand":    {0, "cluster state", []string{`accumulus cluster has no command "state", perhaps you meant status`, "accumulus cluster --help"}},
		"carbon":        {0, "carbon imprt", []string{"perhaps you meant import"}},
		"output":        {0, "usage -o yaml", []string{"table, json, csv"}},
		"units":         {0, "usage --units imperial", []string{"human or base"}},
		"export format": {0, "export --format pdf", []string{"csv or json"}},
	} {
		l := &leader{fail: test.fail}
		out, code := l.run(t, "", strings.Fields(test.args)...)
		if code != 1 {
			t.Errorf("%s: exit code %d", name, code)
		}
		for _, want := range test.says {
			if !strings.Contains(out, want) {
				t.Errorf("%s: does not say %q:\n%s", name, want, out)
			}
		}
	}
	l := &leader{}
	if out, code := l.run(t, "", "boxes", "--token-file", token); code != 0 || l.asked[0] != "GET /api/v1/boxes?window=1h Bearer secret-token" {
		t.Errorf("%s %v", out, l.asked)
	}
}

func TestExportToAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.csv")
	l := &leader{}
	if out, code := l.run(t, "", "export", "--period", "2026-11", "--file", file); code != 0 || out != "" {
		t.Fatal(out)
	}
	want := strings.Join(query.Header, ",") + "\n" +
		"\"acme, Inc.\",edge-a,shop,cpu_used,1.5,core-hour,0.03,0.045,EUR,2026-11-01T00:00:00Z,2026-12-01T00:00:00Z,1.0000,measured,false,1.0000,false\n"
	if text, err := os.ReadFile(file); err != nil || string(text) != want {
		t.Errorf("%q, %v", text, err)
	}
	if out, code := l.run(t, "", "export", "--period", "2026-11", "--format", "json", "--file", file); code != 0 || out != "" {
		t.Fatal(out)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != exportJSON {
		t.Errorf("%q, %v", text, err)
	}
}

// TestExportOfAnIncompletePeriod: standard error names each cluster, also one
// without a line; with --require-complete nothing is written.
func TestExportOfAnIncompletePeriod(t *testing.T) {
	incomplete := strings.Replace(exportJSON, `"complete":true,"completeness":"1.0000"}],`,
		`"complete":true,"completeness":"1.0000"},{"cluster":"edge-b","expected":200,"received":199,"refused":2,"missing":1,"complete":false,"completeness":"0.9950"}],`, 1)
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		if r.URL.Query().Get("requireComplete") == "true" {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"title":"Conflict","status":409,"detail":"the period 2026-11 is incomplete for 1 clusters","errors":["edge-b: 199 of 200 node-windows are here"],"hint":"Wait."}`)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, incomplete)
	}))
	defer server.Close()
	export := func(args ...string) (out, errOut string, code int) {
		var stdout, stderr bytes.Buffer
		a := &app{in: strings.NewReader(""), out: &stdout, errOut: &stderr, getenv: func(name string) string {
			return map[string]string{"ACCUMULUS_SERVER": server.URL}[name]
		}}
		code = run(t.Context(), a, append([]string{"export", "--period", "2026-11"}, args...))
		return stdout.String(), stderr.String(), code
	}
	out, errOut, code := export()
	want := "Warning: edge-b: 199 of 200 node-windows are here, 2 rows were refused; `accumulus cluster status edge-b` says why\n"
	if code != 0 || strings.Count(out, "\n") != 2 || errOut != want {
		t.Errorf("code %d, %q, standard error %q, want %q", code, out, errOut, want)
	}
	if out, errOut, code = export("--format", "json"); code != 0 || out != incomplete || errOut != want {
		t.Errorf("JSON: code %d, %q, %q", code, out, errOut)
	}
	file := filepath.Join(t.TempDir(), "none.csv")
	out, errOut, code = export("--require-complete", "--file", file)
	if _, err := os.Stat(file); code == 0 || out != "" || err == nil || !strings.Contains(errOut, "edge-b: 199 of 200") {
		t.Errorf("required: code %d, %q, %q, file %v", code, out, errOut, err)
	}
	if want := "format=json&period=2026-11&requireComplete=true"; asked[len(asked)-1] != want {
		t.Errorf("asked %s, want %s", asked[len(asked)-1], want)
	}
}

// TestUsageSaysWhatIsMissing: below the table.
func TestUsageSaysWhatIsMissing(t *testing.T) {
	var some []query.ClusterCompleteness
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		some = append(some, query.ClusterCompleteness{Cluster: name, Totals: query.Totals{Expected: 30, Received: 27}})
	}
	var out bytes.Buffer
	a := &app{out: &out}
	a.showIncomplete(some)
	if text := out.String(); strings.Count(text, "\n") != 6 || !strings.Contains(text, "Incomplete: a: 27 of 30 node-windows are here; `accumulus cluster status a` says why\n") ||
		!strings.Contains(text, "2 more clusters") {
		t.Errorf("%s", text)
	}
}

func TestHumanMoney(t *testing.T) {
	for amount, want := range map[string]string{"1234.5678": "1234.57 EUR", "0.5": "0.50 EUR", "0.0123": "0.012 EUR", "0.000012345": "0.000012 EUR",
		"0": "0.00 EUR", "-0.0042": "-0.0042 EUR", "": "", "0.000000001": "0.000000001 EUR"} {
		if got := humanMoney(amount, "EUR"); got != want {
			t.Errorf("%s: got %q, want %q", amount, got, want)
		}
	}
}

// TestExportOfFiles: what comes is unpacked below --out, and what is in no row is
// told.
func TestExportOfFiles(t *testing.T) {
	archive := exportArchive(t)
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.RawQuery
		w.Header().Set("Content-Type", api.FilesType)
		_, _ = w.Write(archive)
	}))
	defer server.Close()
	export := func(args ...string) (out string, code int) {
		var output bytes.Buffer
		a := &app{in: strings.NewReader(""), out: &output, errOut: &output, getenv: func(name string) string {
			return map[string]string{"ACCUMULUS_SERVER": server.URL}[name]
		}}
		code = run(t.Context(), a, append([]string{"export", "--period", "2026-11"}, args...))
		return output.String(), code
	}
	dir := t.TempDir()
	out, code := export("--format", "focus", "--out", dir, "--focus-version", "1.2", "--compression", "none", "--customer", "acme")
	for _, part := range []string{"0 rows in 4 files below", "Warning: 2026-11 is not complete", "Not in the rows:\n  1.5 GB of network_receive (no price)"} {
		if code != 0 || !strings.Contains(out, part) {
			t.Errorf("code %d, %q is not in %s", code, part, out)
		}
	}
	for _, part := range []string{"format=focus", "focusVersion=1.2", "compression=none", "customer=acme", "step=1d"} {
		if !strings.Contains(asked, part) {
			t.Errorf("%s was not asked for: %s", part, asked)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "focus", "1.4", "billing_period=2026-11", "manifest.json")); err != nil {
		t.Error(err)
	}
	for _, args := range [][]string{{"--format", "focus"}, {"--format", "focus", "--out", dir, "--file", "x"}, {"--compression", "gzip"}, {"--out", dir, "--file", "x"}} {
		if out, code := export(args...); code == 0 || !strings.Contains(out, "--") {
			t.Errorf("%v: code %d, %s", args, code, out)
		}
	}
}

func exportArchive(t *testing.T) []byte {
	t.Helper()
	p, err := focus.Prepare(t.Context(), leftOut{}, focus.Request{Period: "2026-11"}, focus.Options{Version: focus.V14, Compression: focus.None})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	var archive bytes.Buffer
	packed := focus.NewTar(&archive)
	if err := errors.Join(p.Send(t.Context(), packed), packed.Close()); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// leftOut is a month of which nothing is charged.
type leftOut struct{}

func (leftOut) State(context.Context, focus.Request) (focus.State, error) { return focus.State{}, nil }

func (leftOut) Rows(context.Context, focus.Request, func(*focus.Row) error) ([]focus.LeftOut, error) {
	return []focus.LeftOut{{Resource: "network_receive", Quantity: "1.5", Unit: "GB", Reason: "no price"}}, nil
}
