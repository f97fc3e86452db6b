package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"github.com/accumulus-metering/accumulus/leader/focus"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
)

// examples are a body for each route that needs one.
var examples = map[string]string{
	"POST /accumulus/clusters/add/{name}":                `{"url":"http://127.0.0.1:1"}`,
	"PUT /accumulus/clusters/add/{name}":                 `{"url":"http://127.0.0.1:1"}`,
	"PUT /api/v1/clusters/{name}":                        `{"url":"http://127.0.0.1:1"}`,
	"POST /api/v1/models/calibrations":                   `{"cluster":"a","node":"n1","points":[{"load":0,"utilisation":0,"watts":60}]}`,
	"POST /accumulus/clear":                              `{"confirm":"all"}`,
	"POST /api/v1/clusters/{name}/credentials":           `{"kubeconfig":"x"}`,
	"POST /api/v1/quarantine/replay":                     `{"all":true}`,
	"POST /api/v1/quarantine/discard":                    `{"all":true,"reason":"test"}`,
	"POST /api/v1/carbon/intensities":                    "zone,from,grams_per_kwh,to\nNL,2026-11-23T10:00:00Z,231.4,2026-11-23T11:00:00Z\n",
	"POST /api/v1/heat/{source}/readings":                `{"time":"2026-11-23T10:00:00Z","supply":45,"return":40,"flow":1}`,
	"POST /api/v1/meters/{id}/readings":                  `{"readings":[{"time":"2026-11-23T11:00:00Z","counter":1}]}`,
	"POST /api/v1/prices/series/{name}":                  `{"slots":[{"from":"2026-11-23T12:00:00Z","to":"2026-11-23T13:00:00Z","price":"0.21"}]}`,
	"POST /api/v1/prices/simulate":                       `{"apiVersion":"accumulus.dev/v1","kind":"PriceList","metadata":{"name":"b"},"spec":{"currency":"EUR"}}`,
	"POST /api/v1/books/{customer}/{period}/draft":       `{"by":"dora2","reason":"test"}`,
	"POST /api/v1/books/{customer}/{period}/review":      `{"by":"dora2","reason":"test"}`,
	"POST /api/v1/books/{customer}/{period}/approve":     `{"by":"dora2","reason":"test"}`,
	"POST /api/v1/books/{customer}/{period}/rerate":      `{"by":"dora2","reason":"test"}`,
	"POST /api/v1/books/{customer}/{period}/close":       `{"by":"carl"}`,
	"POST /api/v1/books/{customer}/refunds":              `{"statement":1,"amount":"5.00","reason":"test"}`,
	"POST /api/v1/books/{customer}/refunds/{id}/approve": `{}`,
	"POST /api/v1/books/{customer}/refunds/{id}/decline": `{"reason":"test"}`,
	"POST /api/v1/books/failures":                        `{"cluster":"edge-a","node":"n1","at":"2026-11-23T11:00:00Z","reason":"test","by":"dora2"}`,
	"POST /api/v1/books/failures/{id}/dismiss":           `{"by":"dora2","reason":"test"}`,
	"POST /api/v1/books/failures/{id}/reinstate":         `{"by":"dora2","reason":"test"}`,
	"POST /api/v1/fleet":                                 `{"apiVersion":"accumulus.dev/v1","kind":"PriceList","metadata":{"name":"b"},"spec":{"currency":"EUR"}}`,
	"POST /api/v1/estimate":                              `{"kind":"Job","metadata":{"name":"nightly"}}`,
	"POST /api/v1/tokens":                                `{"name":"t","role":"viewer"}`,
}

func pathOf(route Route) string {
	return strings.NewReplacer("{kind}", "cluster", "{name}", "edge-a", "{id}", "1", "{source}", "tank", "{customer}", "acme", "{period}", "2026-10", "{number}", "1", "{cluster}", "edge-a", "{day}", "2026-11-27", "/metrics/allocation", "/metrics/allocation", "/allocation/compute", "/allocation/compute?window=7d", "/allocation", "/allocation?window=7d", "/prices/simulate", "/prices/simulate?period=2026-10", "/models/measure", "/models/measure?node=a.n1&from=2026-11-23T10:00:00Z&to=2026-11-23T10:05:00Z").Replace(route.Path)
}

func TestGetOfAChangingEndpointSaysSo(t *testing.T) {
	s, l := newServer(t, false)
	for _, path := range []string{"/accumulus/start", "/accumulus/stop", "/accumulus/clusters/add/x", "/accumulus/clusters/remove/x", "/accumulus/clear"} {
		for _, token := range []string{viewerToken, operatorToken} {
			answer := call(s, "GET", path, token, "")
			body := text(t, answer)
			if answer.StatusCode != http.StatusMethodNotAllowed || !strings.Contains(body, "changes state") || !strings.Contains(answer.Header.Get("Allow"), "POST") {
				t.Errorf("GET %s: %d, Allow %q, %s", path, answer.StatusCode, answer.Header.Get("Allow"), body)
			}
		}
	}
	if changes := l.changed(); changes != nil {
		t.Errorf("GET changed %v", changes)
	}
	if answer := call(s, "DELETE", "/api/v1/usage", operatorToken, ""); answer.StatusCode != http.StatusMethodNotAllowed || answer.Header.Get("Allow") != "GET" {
		t.Errorf("DELETE usage: %d, Allow %q", answer.StatusCode, answer.Header.Get("Allow"))
	}
}

func TestAnonymousViewerOnlyInTheDemoAndOnLoopback(t *testing.T) {
	demo, _ := newServer(t, true)
	plain, _ := newServer(t, false)
	with := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for name, test := range map[string]struct {
		server *Server
		method string
		path   string
		token  string
		edit   func(*http.Request)
		want   int
	}{
		"demo":                 {demo, "GET", "/api/v1/usage", "", nil, 200},
		"demo by name":         {demo, "GET", "/api/v1/usage", "", func(r *http.Request) { r.Host = "localhost:8080" }, 200},
		"demo, IPv6":           {demo, "GET", "/api/v1/usage", "", func(r *http.Request) { r.RemoteAddr, r.Host = "[::1]:1", "[::1]:8080" }, 200},
		"demo, change":         {demo, "POST", "/accumulus/stop", "", nil, 403},
		"demo, wrong token":    {demo, "GET", "/api/v1/usage", "guess", nil, 401},
		"demo, from elsewhere": {demo, "GET", "/api/v1/usage", "", func(r *http.Request) { r.RemoteAddr = "192.0.2.1:1" }, 401},
		"demo, rebound name":   {demo, "GET", "/api/v1/usage", "", func(r *http.Request) { r.Host = "evil.example:8080" }, 401},
		"demo, by a proxy":     {demo, "GET", "/api/v1/usage", "", with("X-Forwarded-For", "192.0.2.1"), 401},
		"demo, another proxy":  {demo, "GET", "/api/v1/usage", "", with("Via", "1.1 proxy"), 401},
		"demo, own page":       {demo, "GET", "/api/v1/usage", "", with("Sec-Fetch-Site", "same-origin"), 200},
		"demo, other site":     {demo, "GET", "/api/v1/usage", "", with("Sec-Fetch-Site", "cross-site"), 401},
		"not the demo":         {plain, "GET", "/api/v1/usage", "", nil, 401},
	} {
		edit := test.edit
		if edit == nil {
			edit = func(*http.Request) {}
		}
		if answer := call(test.server, test.method, test.path, test.token, "", edit); answer.StatusCode != test.want {
			t.Errorf("%s: %d, want %d", name, answer.StatusCode, test.want)
		}
	}
}

func TestUsageParameters(t *testing.T) {
	s, l := newServer(t, false)
	path := "/api/v1/usage?window=24h&aggregate=cluster,label:team&step=15m&filter=namespace%3Dshop*&cluster=a,b&sort=-cost&limit=5&page=10"
	if answer := call(s, "GET", path, viewerToken, ""); answer.StatusCode != 200 {
		t.Fatalf("%d %s", answer.StatusCode, text(t, answer))
	}
	want := query.Request{Window: "24h", Aggregate: []query.Key{"cluster", "label:team"}, Step: 15 * time.Minute, Sort: "-cost", Limit: 5, Page: "10",
		Filter: []query.Condition{{Key: "namespace", Values: []string{"shop*"}}, {Key: "cluster", Values: []string{"a", "b"}}}}
	if diff := cmp.Diff(want, l.asked[0]); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsNotUnderstoodChangesNothing(t *testing.T) {
	s, l := newServer(t, false)
	for _, test := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/api/v1/fleet?dryRun=yes", "", 400},
		{"POST", "/api/v1/fleet?dryRun=1", "", 400},
		{"POST", "/api/v1/fleet?dryRun=true&dryRun=false", "", 400},
		{"GET", "/api/v1/fleet/all?history=1", "", 400},
		{"GET", "/api/v1/fleet/all?format=xml", "", 400},
		{"GET", "/api/v1/usage?window=1h&window=2h", "", 400},
		{"GET", "/api/v1/boxes?window=1h&window=2h", "", 400},
		{"POST", "/accumulus/clear", `{"confirm":"all"} {"cluster":"edge"}`, 422},
		{"PUT", "/api/v1/clusters/edge", `{"url":"http://h"}]`, 422},
	} {
		if answer := call(s, test.method, test.path, operatorToken, test.body); answer.StatusCode != test.want {
			t.Errorf("%s %s: %d, want %d", test.method, test.path, answer.StatusCode, test.want)
		}
	}
	if changes := l.changed(); changes != nil {
		t.Errorf("changed %v", changes)
	}
}

func TestProblems(t *testing.T) {
	s, l := newServer(t, false)
	for _, test := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/api/v1/usage?agregate=cluster", "", 400, "agregate"},
		{"GET", "/api/v1/usage?aggregate=clutser", "", 400, "namespace"},
		{"GET", "/api/v1/usage?step=7m", "", 400, "15m"},
		{"GET", "/api/v1/usage?limit=0", "", 400, "limit"},
		{"GET", "/api/v1/usage?window=overflow", "", 422, "shorter window"},
		{"GET", "/api/v1/usage?window=broken", "", 500, "connection lost"},
		{"GET", "/api/v1/usage?window=moved", "", 503, "Ask again"},
		{"GET", "/api/v1/boxes?windw=1h", "", 400, "windw"},
		{"GET", "/api/v1/export?format=pdf", "", 400, "csv"},
		{"GET", "/api/v1/export?requireComplete=1", "", 400, "true or false"},
		{"GET", "/api/v1/export?period=2026-11&compression=gzip", "", 400, "format=focus"},
		{"GET", "/api/v1/export?period=2026-11&format=focus&labels=app", "", 400, "opencost-csv"},
		{"GET", "/api/v1/export?period=2026-11&format=opencost-csv&labels=app,", "", 400, "with commas"},
		{"GET", "/api/v1/export?period=lastweek&format=focus", "", 400, "2026-11"},
		{"GET", "/api/v1/export?period=2026-11&format=focus&focusVersion=1.3", "", 400, "1.4 or 1.2"},
		{"GET", "/api/v1/export?period=2026-11&format=focus&compression=zip", "", 400, "parquet"},
		{"GET", "/api/v1/export?period=2026-11&format=focus&step=15m", "", 400, "1h or 1d"},
		{"GET", "/api/v1/export?period=2026-11&format=focus&requireComplete=true", "", 409, "3 charge periods"},
		{"GET", "/api/v1/export?period=2026-11&format=focus&customer=broken", "", 422, "Nothing was exported"},
		{"GET", "/api/v1/usage?completeness=1", "", 400, "true or false"},
		{"GET", "/api/v1/export?period=2026-11&requireComplete=true", "", 409, "edge-a: 199 of 200 node-windows are here"},
		{"GET", "/api/v1/clusters/nowhere", "", 404, "nowhere"},
		{"GET", "/api/v1/clusters/nowhere/completeness", "", 404, "nowhere"},
		{"GET", "/api/v1/fleet/thing", "", 400, "customer"},
		{"GET", "/api/v1/fleet/cluster/old", "", 404, "history"},
		{"DELETE", "/api/v1/clusters/nowhere", "", 404, "nowhere"},
		{"PUT", "/api/v1/clusters/x", "", 422, "url"},
		{"PUT", "/api/v1/clusters/taken", `{"url":"http://127.0.0.1:1"}`, 409, "taken"},
		{"PUT", "/api/v1/clusters/x", `{"urll":"http://127.0.0.1:1"}`, 422, "urll"},
		{"POST", "/accumulus/clear", "", 422, "nothing was deleted"},
		{"POST", "/accumulus/clear", `{"cluster":"edge-a","confirm":"all"}`, 422, "nothing was deleted"},
		{"POST", "/api/v1/fleet", "kind: [", 422, "apiVersion"},
		{"POST", "/api/v1/fleet", `{"apiVersion":"accumulus.dev/v1","kind":"Node","metadata":{"name":"n"},"spec":{"cluster":"c","node":"n","box":"none"}}`, 422, "none"},
		{"POST", "/api/v1/fleet", strings.Repeat("#", maxBody+1), 413, "4 MiB"},
		{"POST", "/api/v1/books/acme/2026-10/draft", strings.Repeat(" ", maxBody+1), 413, "4 MiB"},
		{"GET", "/api/v1/books/acme/statements/2", "", 404, "Look the name or number up"},
	} {
		answer := call(s, test.method, test.path, operatorToken, test.body)
		body := text(t, answer)
		var problem Problem
		if err := json.Unmarshal([]byte(body), &problem); err != nil || answer.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %v, %s: %s", test.method, test.path, err, answer.Header.Get("Content-Type"), body)
			continue
		}
		if answer.StatusCode != test.status || problem.Status != test.status || problem.Title == "" || !strings.Contains(body, test.says) {
			t.Errorf("%s %.60s: got %d, want %d and %q:\n%s", test.method, test.path, answer.StatusCode, test.status, test.says, body)
		}
	}
	if changes := l.changed(); changes != nil {
		t.Errorf("refused requests changed %v", changes)
	}
}

func TestChanges(t *testing.T) {
	s, l := newServer(t, false)
	box := "apiVersion: accumulus.dev/v1\nkind: Box\nmetadata: {name: b}\nspec: {site: attic}\n"
	for _, test := range []struct{ method, path, body, want string }{
		{"POST", "/accumulus/start", "", "start"},
		{"POST", "/accumulus/stop", "", "stop"},
		{"POST", "/accumulus/clusters/add/x?url=http://127.0.0.1:9", "", "add x http://127.0.0.1:9"},
		{"PUT", "/api/v1/clusters/x", `{"url":"http://127.0.0.1:1"}`, "add x http://127.0.0.1:1"},
		{"DELETE", "/accumulus/clusters/remove/x", "", "remove x"},
		{"DELETE", "/api/v1/clusters/x?force=true", "", "remove x by force"},
		{"POST", "/accumulus/clear", `{"cluster":"x","confirm":"x"}`, `clear "x"`},
		{"POST", "/accumulus/clear", `{"confirm":"all"}`, `clear ""`},
		{"POST", "/api/v1/fleet", box, "apply 1 by operator"},
	} {
		answer := call(s, test.method, test.path, operatorToken, test.body)
		if diff := cmp.Diff([]string{test.want}, l.changed()); answer.StatusCode >= 300 || diff != "" {
			t.Errorf("%s %s: %d\n%s", test.method, test.path, answer.StatusCode, diff)
		}
	}
	answer := call(s, "POST", "/api/v1/fleet?dryRun=true", operatorToken, box)
	if body := text(t, answer); !strings.Contains(body, `"added"`) || !strings.Contains(body, `"dryRun": true`) || l.changed() != nil {
		t.Errorf("dry run: %s", body)
	}
}

// TestApplyWarnsOfFiles: they may be there later, so it applies all the same.
func TestApplyWarnsOfFiles(t *testing.T) {
	s, l := newServer(t, false)
	cluster := "apiVersion: accumulus.dev/v1\nkind: Cluster\nmetadata: {name: c}\n%sspec: {url: 'http://127.0.0.1:9', tokenFile: /mnt/token}\n"
	for ends, warns := range map[string]bool{"": true, "validTo: 2027-01-01T00:00:00Z\n": true, "validFrom: 2026-01-01T00:00:00Z\nvalidTo: 2026-02-01T00:00:00Z\n": false} {
		answer := text(t, call(s, "POST", "/api/v1/fleet", operatorToken, fmt.Sprintf(cluster, ends)))
		if strings.Contains(answer, `"cluster c: read tokenFile: open /mnt/token`) != warns || len(l.changed()) != 1 {
			t.Errorf("%q: %s", ends, answer)
		}
	}
}

func TestHealth(t *testing.T) {
	s, l := newServer(t, false)
	l.ready = errors.New("cluster edge-b has no rows yet")
	if answer := call(s, "GET", "/readyz", "", ""); answer.StatusCode != 503 || !strings.Contains(text(t, answer), "edge-b has no rows") {
		t.Errorf("not ready: %d", answer.StatusCode)
	}
	l.ready, l.live = nil, errors.New("the pull loop hangs")
	if answer := call(s, "GET", "/livez", "", ""); answer.StatusCode != 503 {
		t.Errorf("hanging: %d", answer.StatusCode)
	}
	if answer := call(s, "GET", "/readyz", "", ""); answer.StatusCode != 200 {
		t.Errorf("ready: %d", answer.StatusCode)
	}
	if body := text(t, call(s, "GET", "/metrics", viewerToken, "")); !strings.Contains(body, `accumulus_api_requests_total{method="GET",route="/readyz",status="503"} 1`) {
		t.Errorf("metrics:\n%s", body)
	}
}

func TestExportCSV(t *testing.T) {
	s, _ := newServer(t, false)
	answer := call(s, "GET", "/api/v1/export?period=2026-11&format=csv", viewerToken, "")
	want := "customer,cluster,namespace,resource,quantity,unit,unitPrice,cost,currency,from,to,coverage,quality,provisional,completeness,excluded\n" +
		"\"acme, Inc.\",edge-a,shop,cpu_used,1.5,core-hour,0.03,0.045,EUR,2026-11-23T12:00:00Z,2026-11-23T12:00:00Z,1.0000,measured,false,0.9950,false\n"
	if diff := cmp.Diff(want, text(t, answer)); diff != "" || !strings.Contains(answer.Header.Get("Content-Disposition"), "accumulus-2026-11.csv") {
		t.Errorf("%s\n%s", answer.Header.Get("Content-Disposition"), diff)
	}
}

// A period that must be complete and is not: the answer has each gap.
// TestExportFiles: an archive that unpacks to what its manifest says.
func TestExportFiles(t *testing.T) {
	s, _ := newServer(t, false)
	answer := call(s, "GET", "/api/v1/export?period=2026-11&format=focus&focusVersion=1.2&compression=parquet", viewerToken, "")
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != FilesType {
		t.Fatalf("%d %s: %s", answer.StatusCode, answer.Header.Get("Content-Type"), text(t, answer))
	}
	dir := t.TempDir()
	manifest, err := focus.Fetch(t.Context(), answer.Body, focus.Dir(dir))
	if err != nil || manifest.FocusVersion != focus.V12 || len(manifest.Files) != 3 {
		t.Errorf("%v, %+v", err, manifest)
	}
}

func TestExportRequiresCompleteness(t *testing.T) {
	s, _ := newServer(t, false)
	var problem Problem
	answer := call(s, "GET", "/api/v1/export?period=2026-11&format=csv&requireComplete=true", viewerToken, "")
	if err := json.NewDecoder(answer.Body).Decode(&problem); err != nil || answer.StatusCode != http.StatusConflict {
		t.Fatalf("%d, %v", answer.StatusCode, err)
	}
	if len(problem.Gaps) != 1 || problem.Gaps[0].Cluster != "edge-a" || problem.Gaps[0].Reason != registry.GapLinkDown || problem.Hint == "" {
		t.Errorf("%+v", problem)
	}
}

func TestObjectsByKindAndTime(t *testing.T) {
	s, _ := newServer(t, false)
	for path, want := range map[string]int{"cluster": 1, "Clusters": 1, "boxes": 1, "all": 3, "cluster?history=true": 2, "cluster?at=2026-11-23T10:00:00Z": 2, "pricelists": 0} {
		var list ObjectList
		answer := call(s, "GET", "/api/v1/fleet/"+path, viewerToken, "")
		if err := json.NewDecoder(answer.Body).Decode(&list); err != nil || len(list.Items) != want {
			t.Errorf("%s: got %d objects, %v; want %d", path, len(list.Items), err, want)
		}
	}
	if body := text(t, call(s, "GET", "/api/v1/fleet/box/box-1?format=yaml", viewerToken, "")); !strings.Contains(body, "site: cellar") {
		t.Errorf("yaml: %s", body)
	}
}

func TestPageHoldsNoDataAndAllowsOnlyItself(t *testing.T) {
	s, _ := newServer(t, false)
	first, second := call(s, "GET", "/", "", ""), call(s, "GET", "/", "", "")
	policy := first.Header.Get("Content-Security-Policy")
	if policy == second.Header.Get("Content-Security-Policy") {
		t.Error("the nonce does not change")
	}
	body := text(t, first)
	if strings.Contains(policy, "unsafe") || !strings.Contains(policy, "default-src 'none'") || strings.Contains(body, "edge-a") {
		t.Errorf("policy %s", policy)
	}
	for _, outside := range []string{`src="http`, `href="http`, "url(http", "@import", "ZgotmplZ"} {
		if strings.Contains(body, outside) {
			t.Errorf("the page has %s", outside)
		}
	}
	if !strings.Contains(body, "setTimeout(refresh") || !strings.Contains(body, "--accent: #2f6fde") {
		t.Error("style or script are not in the page as they were written")
	}
}

func TestTokensAreMadeOnceAndPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "leader")
	first, err := EnsureTokens(dir, TokenFiles{})
	if err != nil {
		t.Fatal(err)
	}
	if !first.distinct() || len(first.Operator) < 40 || len(first.Meters) < 40 {
		t.Error("tokens are equal or short")
	}
	for _, name := range []string{OperatorFile, ViewerFile, MetersFile} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	for name, text := range map[string]string{"short": "abc", "two words": "an operator's token", "no text": strings.Repeat("\xff\x00", 20), "endless": strings.Repeat("x", 4097)} {
		if err := os.WriteFile(filepath.Join(dir, "other"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadToken(filepath.Join(dir, "other")); err == nil || !strings.Contains(err.Error(), "there, or delete it") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if again, err := EnsureTokens(dir, TokenFiles{}); err != nil || again != first {
		t.Errorf("second start: other tokens, %v", err)
	}
	if err := os.Chmod(filepath.Join(dir, ViewerFile), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := EnsureTokens(dir, TokenFiles{}); err == nil || strings.Contains(err.Error(), string(first.Viewer)) {
		t.Errorf("a token that others can read: %v", err)
	}
	if text := first.Operator.String() + first.Operator.GoString(); text != "******" {
		t.Errorf("a token prints as %s", text)
	}
}

func TestConfigSaysAllThatIsWrong(t *testing.T) {
	tokens := Tokens{Operator: operatorToken, Viewer: viewerToken}
	for name, test := range map[string]struct {
		config Config
		wrong  []string
	}{
		"loopback":           {Config{Listen: "127.0.0.1:8080", Tokens: tokens}, nil},
		"outside":            {Config{Listen: "0.0.0.0:8080", Tokens: tokens}, []string{"can be reached from outside"}},
		"every address":      {Config{Listen: ":8080", Tokens: tokens}, []string{"can be reached from outside"}},
		"outside with TLS":   {Config{Listen: ":8443", TLSCert: "c", TLSKey: "k", Tokens: tokens}, nil},
		"outside, explicit":  {Config{Listen: ":8080", Insecure: true, Tokens: tokens}, nil},
		"demo outside":       {Config{Listen: ":8080", Insecure: true, Demo: true, Tokens: tokens}, []string{"the demo"}},
		"all":                {Config{Listen: "8080", TLSCert: "c"}, []string{"host:port", "both a certificate", "no operator token"}},
		"one token":          {Config{Listen: "127.0.0.1:0", Tokens: Tokens{Operator: operatorToken, Viewer: operatorToken}}, []string{"same token"}},
		"one token of three": {Config{Listen: "127.0.0.1:0", Tokens: Tokens{Operator: operatorToken, Viewer: viewerToken, Meters: viewerToken}}, []string{"same token"}},
	} {
		err := test.config.Validate()
		if (err == nil) != (test.wrong == nil) {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range test.wrong {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v does not say %q", name, err, want)
			}
		}
	}
}

// TestTokensAreReadAgain: a token that is replaced lets in at once, and the former
// one no more; a file that cannot be taken locks nobody out.
func TestTokensAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	files := TokenFiles{}.In(dir)
	tokens, err := EnsureTokens(dir, TokenFiles{})
	if err != nil {
		t.Fatal(err)
	}
	d := newDoor(Config{Tokens: tokens, TokenFiles: files}, slog.New(slog.DiscardHandler))
	want := func(token Secret, role Role) {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+string(token))
		if got := d.who(r).Role; got != role {
			t.Errorf("role %s, want %s", got, role)
		}
	}
	replace := func(path, text string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	const next = "the-next-token-of-the-operator"
	want(tokens.Operator, Operator)
	replace(files.Operator, next+"\n")
	want(tokens.Operator, Nobody)
	want(next, Operator)
	want(tokens.Viewer, Viewer)
	want(tokens.Meters, Feeder)
	replace(files.Meters, "the-next-token-of-the-meters")
	want(tokens.Meters, Nobody)
	want("the-next-token-of-the-meters", Feeder)
	for _, slip := range []string{"short", "", string(tokens.Viewer)} {
		replace(files.Operator, slip)
		want(next, Operator)
		want(tokens.Viewer, Viewer)
	}
	if err := os.Remove(files.Viewer); err != nil {
		t.Fatal(err)
	}
	want(tokens.Viewer, Viewer)

	d = newDoor(Config{Tokens: tokens}, slog.New(slog.DiscardHandler))
	want(tokens.Operator, Operator)
}
