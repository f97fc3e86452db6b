package e2e

import (
	"bytes"
	"context"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/leader/api"
)

// browsers are the names under which distributions have Chromium.
var browsers = []string{"chromium", "chromium-browser", "google-chrome"}

// browser is the program; `make test` installs it where it can.
func browser(t testing.TB) string {
	t.Helper()
	for _, name := range browsers {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const missing = "no Chromium: `make browser` installs it by apt"
	if os.Getenv("CI") == "true" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// shown is the document that the browser has made of an address, some seconds of
// its own time after it began.
func shown(t testing.TB, address string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, browser(t), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--user-data-dir="+t.TempDir(), "--window-size=1600,2160", "--virtual-time-budget=4000", "--dump-dom", address)
	var said bytes.Buffer
	command.Stderr = &said
	text, err := command.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	return string(text)
}

// element is the inside of the first one with an id, up to the end of its kind.
func element(t testing.TB, page, kind, id string) string {
	t.Helper()
	found := regexp.MustCompile(`(?s)<` + kind + ` id="` + id + `"[^>]*>(.*?)</` + kind + `>`).FindStringSubmatch(page)
	if found == nil {
		t.Fatalf("no %s %s in\n%s", kind, id, page)
	}
	return found[1]
}

// checkPage has a browser show the leader's status page: it asks for a token, and
// with one it shows each cluster, each namespace and each box that the API tells
// of.
func checkPage(t *testing.T, w *world) {
	page := shown(t, w.centre.url)
	if said := element(t, page, "p", "summary"); said != "A token is needed." || !strings.Contains(page, `<div id="content" hidden`) {
		t.Errorf("without a token: %q\n%s", said, page)
	}
	token, err := os.ReadFile(filepath.Join(w.centre.dir, api.ViewerFile))
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(w.centre.url)
	if err != nil {
		t.Fatal(err)
	}
	signed := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}})
	defer signed.Close()
	page = shown(t, signed.URL)
	overview, err := w.centre.client.Overview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if said := element(t, page, "p", "summary"); !strings.Contains(said, "of "+strconv.Itoa(len(overview.Clusters))+" clusters up to date") || !strings.Contains(said, "metered until") {
		t.Errorf("it says %q", said)
	}
	clusters, rows := element(t, page, "table", "clusters"), element(t, page, "table", "usage")
	for _, c := range overview.Clusters {
		if !strings.Contains(clusters, ">"+c.Name+"<") {
			t.Errorf("cluster %s is not in\n%s", c.Name, clusters)
		}
	}
	answer, err := w.centre.client.Usage(t.Context(), url.Values{"window": {"1h"}, "aggregate": {"cluster,namespace"}})
	if err != nil {
		t.Fatal(err)
	}
	usage := answer.Rows
	for _, r := range usage {
		name := r.Key["namespace"]
		if ended, special := map[string]string{"__system__": "system", "__unattributed__": "unattributed", "__idle__": "idle", "__overhead__": "overhead"}[name]; special {
			name = ended
		}
		if !strings.Contains(rows, ">"+name+"<") {
			t.Errorf("namespace %s is not in\n%s", name, rows)
		}
	}
	bands := element(t, page, "div", "chart")
	if n := strings.Count(rows, "<tr>"); n != len(usage)+1 || len(usage) < 10 || strings.Count(bands, "<polygon") != len(usage) {
		t.Errorf("%d lines and %d bands of %d rows", n, strings.Count(bands, "<polygon"), len(usage))
	}
	for _, tile := range []string{"Power", "Energy", "CO₂e", "Cost", "CPU", "Memory", "Coverage"} {
		if value := regexp.MustCompile(`<div class="name">` + tile + `</div><div class="value">([^<]*)<`).FindStringSubmatch(page); value == nil || !strings.ContainsAny(value[1], "0123456789") {
			t.Errorf("tile %s: %q", tile, value)
		}
	}
	for fact, of := range map[string]string{"Heat": " produced", "CO₂e": " by location"} {
		if !regexp.MustCompile(`<dt>` + fact + `</dt><dd>.*?` + of).MatchString(page) {
			t.Errorf("no box tells of %s", fact)
		}
	}
	for _, box := range w.sim.Fleet().Boxes {
		if !strings.Contains(page, `<span class="main">`+box.Name+`</span>`) {
			t.Errorf("box %s is not shown", box.Name)
		}
	}
}
