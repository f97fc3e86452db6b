package api

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// TestNoPathLeadsElsewhere: a name that would be another path is refused on every route,
// with a problem that says so; nobody is sent elsewhere, and nothing is changed.
func TestNoPathLeadsElsewhere(t *testing.T) {
	s, l := newServer(t, false)
	seen := 0
	for _, route := range s.Routes() {
		paths := []string{"/." + route.Path, "/x/.." + route.Path, "/x/" + route.Path}
		if strings.Contains(route.Path, "{") {
			for _, name := range []string{"..%2F", "..%2fx", "..%2F..%2Fetc%2Fpasswd", "a%2Fb", "%2E%2E", "%2e", "..", "."} {
				paths = append(paths, inPath.ReplaceAllString(route.Path, name))
			}
		}
		for _, path := range paths {
			seen++
			answer := call(s, route.Method, path, operatorToken, examples[route.Method+" "+route.Path])
			body := text(t, answer)
			var problem Problem
			if err := json.Unmarshal([]byte(body), &problem); err != nil || answer.StatusCode != http.StatusBadRequest || problem.Hint == "" || problem.Status != answer.StatusCode ||
				answer.Header.Get("Content-Type") != "application/problem+json" || answer.Header.Get("Location") != "" {
				t.Errorf("%s %s: %d %s %v", route.Method, path, answer.StatusCode, body, err)
			}
		}
	}
	if changes := l.changed(); changes != nil || seen < 500 {
		t.Errorf("%d paths changed %v", seen, changes)
	}
	if answer := call(s, "GET", "/api/v1/books/..%2F..%2Fetc/log", "", ""); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a token: %d", answer.StatusCode)
	}
	// Control: a name with dots and percent signs that is none of these is a name.
	if answer := call(s, "GET", "/api/v1/books/acme%20..b.v./log", operatorToken, ""); answer.StatusCode != http.StatusOK {
		t.Errorf("a plain name: %d %s", answer.StatusCode, text(t, answer))
	}
}

// TestWhoIsRefusedIsToldWhichToken: by role of the caller and of the route.
func TestWhoIsRefusedIsToldWhichToken(t *testing.T) {
	for _, test := range []struct {
		route, caller Role
		said, not     string
	}{
		{Viewer, Tenant, "Ask the operator", ViewerFile}, {Operator, Tenant, "Ask the operator", OperatorFile}, {Billing, Tenant, "/api/v1/me", "token create"},
		{Viewer, Feeder, ViewerFile, OperatorFile}, {Billing, Viewer, `"role":"billing"`, OperatorFile}, {Operator, Billing, OperatorFile, ViewerFile},
	} {
		if hint, _ := whichToken(test.route, test.caller); !strings.Contains(hint, test.said) || strings.Contains(hint, test.not) {
			t.Errorf("route %s, caller %s: %q", test.route, test.caller, hint)
		}
	}
	s, _ := newServer(t, false)
	answer := call(s, "GET", "/api/v1/audit", tenantToken, "")
	if body := text(t, answer); answer.StatusCode != http.StatusForbidden || strings.Contains(body, ".token") || !strings.Contains(body, "open to him") {
		t.Errorf("a tenant: %d %s", answer.StatusCode, body)
	}
}

// TestContentsOfTheDocs: the page's contents link to each tag and each route, once, and
// every link leads to something on the page.
func TestContentsOfTheDocs(t *testing.T) {
	s, _ := newServer(t, false)
	page := text(t, call(s, "GET", "/docs/api", "", ""))
	nav, _, ok := strings.Cut(page, "</nav>")
	if !ok || strings.Contains(page, "<script") {
		t.Fatalf("no contents, or a script:\n%.2000s", page)
	}
	ids := make(map[string]int)
	for _, found := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if ids[found[1]]++; ids[found[1]] > 1 {
			t.Errorf("the id %s is there twice", found[1])
		}
	}
	links := regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(nav, -1)
	if want := len(s.Routes()) + len(tags); len(links) != want {
		t.Errorf("%d links in the contents, want %d", len(links), want)
	}
	for _, found := range regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if ids[found[1]] != 1 {
			t.Errorf("the link #%s leads nowhere", found[1])
		}
	}
	for _, route := range s.Routes() {
		if tagOf(route.Path) < 0 {
			t.Errorf("%s has no tag", route.Path)
		}
	}
	if tagOf("/api/v1/nothing") >= 0 || tagOf("/api/v1x") >= 0 { // control
		t.Error("any path has a tag")
	}
}
