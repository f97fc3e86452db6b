package api

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/identity"
)

func from(address string) func(*http.Request) {
	return func(r *http.Request) { r.RemoteAddr = address + ":1" }
}

func TestCallersAreLimited(t *testing.T) {
	s, l := newLimited(t, false, identity.Limits{Principal: 1, PrincipalBurst: 2, Address: 10, AddressBurst: 6})
	ask := func(token, path, address string) *http.Response {
		return call(s, "GET", path, token, "", from(address))
	}
	for range 2 {
		if answer := ask(viewerToken, "/api/v1/usage", "192.0.2.1"); answer.StatusCode != 200 {
			t.Fatalf("%d", answer.StatusCode)
		}
	}
	answer := ask(viewerToken, "/api/v1/usage", "192.0.2.2") // the principal, wherever he is
	if body := text(t, answer); answer.StatusCode != 429 || answer.Header.Get("Retry-After") != "1" || !strings.Contains(body, "asks too often") {
		t.Errorf("%d %q %s", answer.StatusCode, answer.Header.Get("Retry-After"), body)
	}
	if answer := ask(operatorToken, "/api/v1/usage", "192.0.2.1"); answer.StatusCode != 200 {
		t.Errorf("another principal: %d", answer.StatusCode)
	}
	l.clock.Advance(time.Second)
	if answer := ask(viewerToken, "/api/v1/usage", "192.0.2.3"); answer.StatusCode != 200 {
		t.Errorf("after a second: %d", answer.StatusCode)
	}
	for range 6 {
		ask("", "/api/v1/usage", "192.0.2.9")
	}
	if answer := ask("", "/api/v1/usage", "192.0.2.9"); answer.StatusCode != 429 {
		t.Errorf("an address: %d", answer.StatusCode)
	}
	if answer := ask("", "/healthz", "192.0.2.9"); answer.StatusCode != 200 {
		t.Errorf("a probe: %d", answer.StatusCode)
	}
	if body := text(t, ask(operatorToken, "/metrics", "192.0.2.4")); !strings.Contains(body, `accumulus_api_limited_total{by="principal"} 1`) || !strings.Contains(body, `accumulus_api_limited_total{by="address"} 1`) {
		t.Error("the metrics do not count it")
	}
}

// TestWrongTokensAreSlowed: who guesses is not looked up any more, while those who
// share his address go on with tokens that the leader itself knows.
func TestWrongTokensAreSlowed(t *testing.T) {
	s, l := newLimited(t, false, identity.Limits{FailedSignIns: 3})
	status := func(token, address string) int {
		return call(s, "GET", "/api/v1/usage", token, "", from(address)).StatusCode
	}
	for range 3 {
		if got := status("guess", "192.0.2.1"); got != 401 {
			t.Fatalf("%d", got)
		}
	}
	for token, want := range map[string]int{"guess": 429, elsewhere: 429, viewerToken: 200, "": 401} {
		if got := status(token, "192.0.2.1"); got != want {
			t.Errorf("%q: %d, want %d", token, got, want)
		}
	}
	if got := status("guess", "192.0.2.2"); got != 401 {
		t.Errorf("another address: %d", got)
	}
	l.clock.Advance(20 * time.Second)
	if got := status("guess", "192.0.2.1"); got != 401 {
		t.Errorf("a third of a minute later: %d", got)
	}
}

// ruled is an access file that a test changes.
type ruled struct{ now identity.Rules }

func (r *ruled) Rules() identity.Rules { return r.now }

// TestProxiesAndLimitsAsTheyAre: behind a proxy that is believed callers are counted
// and logged by their own addresses; what the access file says holds at once.
func TestProxiesAndLimitsAsTheyAre(t *testing.T) {
	s, l := newServer(t, false)
	file := &ruled{}
	s.deps.Access = file
	ask := func(source string) int {
		return call(s, "POST", "/accumulus/start", operatorToken, "", from("10.0.0.1"), func(r *http.Request) { r.Header.Set("X-Forwarded-For", source) }).StatusCode
	}
	logged := func() string { return l.log.lines[len(l.log.lines)-1].Source }
	if code := ask("192.0.2.1"); code != 200 || logged() != "10.0.0.1" {
		t.Errorf("nobody is believed: %d from %s", code, logged())
	}
	var err error
	if file.now.Proxies, err = identity.ParseProxies([]string{"10.0.0.0/8"}); err != nil {
		t.Fatal(err)
	}
	file.now.Limits = identity.Limits{Address: 0.001, AddressBurst: 1}
	if code := ask("192.0.2.1"); code != 200 || logged() != "192.0.2.1" {
		t.Errorf("a proxy: %d from %s", code, logged())
	}
	if code := ask("192.0.2.1"); code != 429 {
		t.Errorf("again: %d", code)
	}
	if code := ask("192.0.2.2"); code != 200 {
		t.Errorf("another behind the same proxy: %d", code)
	}
	file.now.Limits = identity.Limits{}
	if code := ask("192.0.2.1"); code != 200 {
		t.Errorf("with other limits: %d", code)
	}
}
