package follower

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestInfluxDBClients(t *testing.T) {
	o := startOwn(t)
	o.push(epoch.Add(time.Hour + 5*time.Minute))
	viewer, leader := o.token("viewer"), o.token("leader")
	get := func(path string, prepare func(*http.Request)) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, o.server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		prepare(request)
		return o.do(http.DefaultClient, request)
	}
	nothing := func(*http.Request) {}
	header := func(value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", value) }
	}
	const query = "/query?db=minute&epoch=ms&q=SHOW+measurements"
	for name, tc := range map[string]struct {
		path    string
		prepare func(*http.Request)
		want    int
	}{
		"basic":               {query, func(r *http.Request) { r.SetBasicAuth("viewer", viewer) }, 200},
		"token":               {query, header("Token viewer:" + viewer), 200},
		"parameters":          {query + "&u=viewer&p=" + viewer, nothing, 200},
		"bearer":              {query, header("Bearer " + viewer), 200},
		"ping":                {"/ping?u=viewer&p=" + viewer, nothing, 204},
		"another user":        {query, func(r *http.Request) { r.SetBasicAuth("admin", viewer) }, 401},
		"the leader's token":  {query, func(r *http.Request) { r.SetBasicAuth("viewer", leader) }, 401},
		"the same, in a URL":  {query + "&u=viewer&p=" + leader, nothing, 401},
		"wrong":               {query, func(r *http.Request) { r.SetBasicAuth("viewer", "wrong") }, 401},
		"nothing":             {query, nothing, 401},
		"half a basic header": {query, header("Basic x"), 401},
		"no user":             {query + "&p=" + viewer, nothing, 401},
		"another database":    {"/query?db=raw&q=SHOW+MEASUREMENTS&u=viewer&p=" + viewer, nothing, 403},
		"a write":             {"/query?db=minute&q=DROP+MEASUREMENT+pod&u=viewer&p=" + viewer, nothing, 403},
	} {
		if got, body := get(tc.path, tc.prepare); got != tc.want || strings.Contains(body, viewer) {
			t.Errorf("%s: %d, want %d\n%s", name, got, tc.want, body)
		}
	}
	// What Grafana's data source asks, in its words.
	for _, q := range []string{"SHOW measurements", `SHOW RETENTION POLICIES on "minute"`, "SHOW MEASUREMENTS WITH MEASUREMENT =~ /(?i)po/ LIMIT 100", `SHOW TAG KEYS FROM "autogen"."pod"`,
		`SHOW TAG VALUES FROM "pod" WITH KEY = "namespace" WHERE "node" =~ /^n1$/`, `SHOW FIELD KEYS FROM "pod"`,
		`SELECT sum("cpu_core_microseconds") FROM "pod" WHERE time >= 1793534400000ms and time <= 1793620800000ms GROUP BY time(1m), "namespace"::tag fill(null)`} {
		status, body := get("/query?db=minute&epoch=ms&q="+url.QueryEscape(q), func(r *http.Request) { r.SetBasicAuth("viewer", viewer) })
		if status != http.StatusOK || strings.Contains(body, `"error"`) || !strings.Contains(body, "series") {
			t.Errorf("%s: %d %s", q, status, body)
		}
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, o.server.URL+"/write?db=results", strings.NewReader("energy x=1"))
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth("viewer", viewer)
	if got, _ := o.do(http.DefaultClient, request); got != http.StatusForbidden {
		t.Errorf("a viewer writes: %d", got)
	}
}

func TestPageAndItsDoor(t *testing.T) {
	o := startOwn(t)
	o.put(epoch.Add(time.Hour + 5*time.Minute))
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	base, err := url.Parse(o.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	post := func(path, token, site string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, o.server.URL+path, strings.NewReader(url.Values{"token": {token}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Sec-Fetch-Site", site)
		return o.do(browser, request)
	}
	get := func(path string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, o.server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return o.do(browser, request)
	}
	if status, body := get("/"); status != http.StatusUnauthorized || !strings.Contains(body, `name="token"`) || strings.Contains(body, "shop") {
		t.Errorf("without a session: %d\n%s", status, body)
	}
	for _, wrong := range []string{"", "garbage"} {
		if status, body := post("/login", wrong, "same-origin"); status != http.StatusUnauthorized || len(jar.Cookies(base)) != 0 || strings.Contains(body, "garbage") {
			t.Errorf("token %q: %d, cookies %v", wrong, status, jar.Cookies(base))
		}
	}
	if status, _ := post("/login", "token-of-ann", "cross-site"); status != http.StatusForbidden || len(jar.Cookies(base)) != 0 {
		t.Errorf("another site's form: %d", status)
	}
	status, body := post("/login", "token-of-ann", "same-origin")
	if status != http.StatusOK || !strings.Contains(body, "Deployment/web") || strings.Contains(body, "canary") || strings.Contains(body, "<script") || strings.Contains(body, "style=") {
		t.Errorf("after the door: %d\n%s", status, body)
	}
	cookies := jar.Cookies(base)
	if len(cookies) != 1 || strings.Contains(cookies[0].Value, "token-of-ann") || len(cookies[0].Value) < 40 {
		t.Fatalf("cookies: %v", cookies)
	}
	if status, body := get("/api/v1/usage?window=10m&aggregate=namespace&format=csv"); status != http.StatusOK || !strings.HasPrefix(body, "namespace,") {
		t.Errorf("the page's link: %d\n%s", status, body)
	}
	o.clock.Advance(12 * time.Hour)
	if status, _ := get("/"); status != http.StatusUnauthorized {
		t.Errorf("a session of twelve hours: %d", status)
	}
	if status, _ := post("/login", "token-of-ann", "same-origin"); status != http.StatusOK {
		t.Errorf("again: %d", status)
	}
	stolen := jar.Cookies(base)[0]
	if status, body := post("/logout", "", "same-origin"); status != http.StatusUnauthorized || !strings.Contains(body, `name="token"`) {
		t.Errorf("after signing out: %d", status)
	}
	jar.SetCookies(base, []*http.Cookie{stolen})
	if status, _ := get("/"); status != http.StatusUnauthorized {
		t.Errorf("a session that was ended opens the page: %d", status)
	}
}

// TestHeadersOfThePage: it may load nothing, and its cookie goes to it alone.
func TestHeadersOfThePage(t *testing.T) {
	o := startOwn(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, o.server.URL+"/login", strings.NewReader("token=token-of-root"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	cookie := response.Cookies()[0]
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Secure || response.Header.Get("Location") != "./" {
		t.Errorf("over plain HTTP: %v, to %q", cookie, response.Header.Get("Location"))
	}
	request, err = http.NewRequestWithContext(t.Context(), http.MethodGet, o.server.URL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.AddCookie(cookie)
	page, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer page.Body.Close()
	policy := page.Header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; style-src 'nonce-") || strings.Contains(policy, "script") || strings.Contains(policy, "unsafe") || page.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("policy %q, headers %v", policy, page.Header)
	}
}

// TestProblemsInWords: an error of the watch is told while it stands.
func TestProblemsInWords(t *testing.T) {
	for name, tc := range map[string]struct {
		watch *WatchStatus
		want  string
	}{
		"none":              {nil, ""},
		"fine":              {&WatchStatus{Synced: true}, ""},
		"before the first":  {&WatchStatus{}, "the first list of pods and nodes is not here yet"},
		"it cannot start":   {&WatchStatus{LastError: "forbidden"}, "forbidden"},
		"it stands still":   {&WatchStatus{Synced: true, LastError: "reset"}, "reset"},
		"something missing": {&WatchStatus{Synced: true, Unlisted: []string{"Job"}}, "not listed yet: Job"},
	} {
		if got := watchProblem(tc.watch); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	if got := listed([]string{"a", "b", "c", "d", "e", "f", "g"}); got != "a, b, c, d, e and 2 more" {
		t.Errorf("got %q", got)
	}
}

// TestTroublesOnThePage: who sees the whole cluster is told which node cannot be
// read and why; others are told that something is wrong, without names.
func TestTroublesOnThePage(t *testing.T) {
	o := startOwn(t)
	o.machine.fail(fmt.Errorf("node n-secret: connection refused"))
	o.tickTo(o.clock.Now().Add(10 * time.Minute))
	_, whole := o.ask("token-of-root", "/")
	for _, want := range []string{"1 of 1 nodes cannot be read", "node n-secret: connection refused", "not read"} {
		if !strings.Contains(whole, want) {
			t.Errorf("who sees all is not told %q", want)
		}
	}
	_, part := o.ask("token-of-ann", "/")
	if !strings.Contains(part, "The metering of this cluster has a problem") || strings.Contains(part, "n-secret") || strings.Contains(part, "cannot be read") {
		t.Errorf("who sees one namespace is told:\n%s", part)
	}
}
