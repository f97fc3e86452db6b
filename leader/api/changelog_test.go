package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
)

// fakeLog remembers what is logged, as a line each.
type fakeLog struct {
	mu    sync.Mutex
	lines []registry.Logged
	fails error
}

type lineKey struct{}

func (f *fakeLog) LogAsked(ctx context.Context, asked registry.Asked) (context.Context, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails != nil {
		return ctx, f.fails
	}
	f.lines = append(f.lines, registry.Logged{Asked: asked, Objects: []registry.ObjectChange{}})
	return context.WithValue(ctx, lineKey{}, len(f.lines)-1), nil
}

func (f *fakeLog) LogDone(ctx context.Context, status int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines[ctx.Value(lineKey{}).(int)].Status = status
	return nil
}

func (f *fakeLog) Changes(_ context.Context, _, _ time.Time, limit int) ([]registry.Logged, error) {
	return f.lines[:min(limit, len(f.lines))], nil
}

func (f *fakeLog) VerifyChanges(context.Context) (registry.Chain, error) {
	return registry.Chain{Entries: 2, Head: "ab"}, nil
}

// TestEveryChangeIsLogged walks all routes as who may and as who may not: each
// change is in the log with who and what came of it, and nothing else is.
func TestEveryChangeIsLogged(t *testing.T) {
	s, l := newServer(t, false)
	for _, route := range s.Routes() {
		for token, name := range map[string]string{operatorToken: "operator", viewerToken: "viewer", "guess": ""} {
			l.log.lines = nil
			answer := call(s, route.Method, pathOf(route), token, examples[route.Method+" "+route.Path])
			data := strings.HasSuffix(route.Path, "/readings") || route.Path == simulation || route.Path == estimation
			if wanted := route.Changes() && !data && name != ""; len(l.log.lines) > 0 != wanted {
				t.Errorf("%s %s as %q: logged %v", route.Method, route.Path, name, l.log.lines)
				continue
			}
			for _, line := range l.log.lines {
				if line.Principal != name || line.Role != name || line.Via != "file" || line.Source != "127.0.0.1" || line.Status != answer.StatusCode || line.Route != route.Path || line.Method != route.Method {
					t.Errorf("%s %s: %+v, answered %d", route.Method, route.Path, line, answer.StatusCode)
				}
			}
		}
	}
}

func TestWhatIsNotLoggedIsNotDone(t *testing.T) {
	s, l := newServer(t, false)
	l.log.fails = errors.New("disk is full")
	if answer := call(s, "POST", "/accumulus/stop", operatorToken, ""); answer.StatusCode != http.StatusServiceUnavailable || l.changed() != nil {
		t.Errorf("%d", answer.StatusCode)
	}
	if answer := call(s, "GET", "/api/v1/usage", viewerToken, ""); answer.StatusCode != 200 {
		t.Errorf("reading: %d", answer.StatusCode)
	}
}

func TestTheLogIsRead(t *testing.T) {
	s, l := newServer(t, false)
	for i := range 3 {
		l.log.lines = append(l.log.lines, registry.Logged{At: now.Add(-time.Duration(i) * time.Second), Objects: []registry.ObjectChange{}})
	}
	var list ChangeList
	if err := json.NewDecoder(call(s, "GET", "/api/v1/audit?limit=2&since=7d&verify=true", billingToken, "").Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&registry.Chain{Entries: 2, Head: "ab"}, list.Chain); diff != "" || len(list.Changes) != 2 || list.Next == "" {
		t.Errorf("%+v", list)
	}
	for _, query := range []string{"since=soon", "since=-1h", "limit=0", "verify=1", "page=x"} {
		if answer := call(s, "GET", "/api/v1/audit?"+query, operatorToken, ""); answer.StatusCode != 400 {
			t.Errorf("%s: %d", query, answer.StatusCode)
		}
	}
}
