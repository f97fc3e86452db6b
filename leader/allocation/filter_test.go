package allocation

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/usage"
)

func TestFilter(t *testing.T) {
	a := &atom{key: map[string]string{"cluster": "edge-a", "namespace": "shop", "workload": "Deployment/web", "pod": "web-1", string(usage.Label("app")): "x", string(usage.Label("a.b/c")): "y"}}
	for text, want := range map[string]bool{
		``: true, `namespace:"shop"`: true, `namespace:"a","shop"`: true, `namespace!:"shop"`: false,
		`namespace:"shop"+label[app]:"x"`: true, `namespace:"shop"+label[app]:"z"`: false, `namespace:"a"|pod<~:"web-"`: true,
		`(namespace:"a"|namespace:"shop")+cluster!:"edge-b"`: true, `pod~:"eb"`: true, `pod!~:"eb"`: false, `pod~>:"-1"`: true, `pod!<~:"web"`: false, `pod!~>:"-2"`: true,
		`controllerKind:"deployment"`: true, `controllerName:"web"`: true, `controller:"api"`: false, `label[a.b/c]:"y"`: true, `label:"app"`: true, `label!:"app"`: false, `label~:"none"`: false,
		` namespace : "sh\u006fp" `: true,
	} {
		f, err := ParseFilter(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := f == nil || f.keeps(a); got != want {
			t.Errorf("%s keeps: %t", text, got)
		}
	}
}

// TestFilterErrors: the error points at the place.
func TestFilterErrors(t *testing.T) {
	for text, at := range map[string]int{`namespace:shop`: 10, `namespaces:"a"`: 0, `namespace"a"`: 9, `namespace:"a"+`: 14, `namespace:"a`: 10, `label[app:"x"`: 5, `namespace:"a"+pod:"b"|pod:"c"`: 21,
		`(namespace:"a"`: 14, `namespace:"a")`: 13, `node[x]:"a"`: 0, `annotation:"a"`: 0, `services:"a"`: 0, strings.Repeat("(", 60): 51, `label[app]<~"x"`: 10} {
		_, err := ParseFilter(text)
		var wrong *FilterError
		if !errors.As(err, &wrong) || wrong.At != at {
			t.Errorf("%s: %v at %+v, want at %d", text, err, wrong, at)
		} else if !strings.HasPrefix(wrong.Hint(), text[:at]+" <-- here: ") {
			t.Errorf("%s: the hint does not point: %s", text, wrong.Hint())
		}
	}
}

func FuzzParseFilter(f *testing.F) {
	for _, seed := range []string{`namespace:"shop"+label[app]:"x"`, `(a:"b"|c!~:"d")+e<~:"f","g"`, `label:"x"`, `"`, `label[`, `pod:"\u00"`} {
		f.Add(seed)
	}
	a := &atom{key: map[string]string{"namespace": "shop"}}
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := ParseFilter(text)
		var wrong *FilterError
		switch {
		case err == nil && filter != nil:
			filter.keeps(a)
			filter.keys()
		case err != nil && !errors.As(err, &wrong):
			t.Errorf("%q: %v", text, err)
		case err != nil:
			_ = wrong.Hint()
		}
	})
}

func TestWindows(t *testing.T) {
	settled := time.Date(2026, 11, 23, 12, 7, 30, 0, time.UTC) // a Monday
	for text, want := range map[string]string{
		"today": "2026-11-23T00:00:00Z 2026-11-23T12:07:00Z", "yesterday": "2026-11-22T00:00:00Z 2026-11-23T00:00:00Z",
		"week": "2026-11-22T00:00:00Z 2026-11-23T12:07:00Z", "lastweek": "2026-11-15T00:00:00Z 2026-11-22T00:00:00Z",
		"month": "2026-11-01T00:00:00Z 2026-11-23T12:07:00Z", "lastmonth": "2026-10-01T00:00:00Z 2026-11-01T00:00:00Z",
		"30m": "2026-11-23T11:37:00Z 2026-11-23T12:07:00Z", "12h": "2026-11-23T00:07:00Z 2026-11-23T12:07:00Z", "7d": "2026-11-17T00:00:00Z 2026-11-23T12:07:00Z",
		"2026-11-01T00:00:00+01:00,2026-11-02T00:00:00Z": "2026-10-31T23:00:00Z 2026-11-02T00:00:00Z", "1586822400,1586908800": "2020-04-14T00:00:00Z 2020-04-15T00:00:00Z",
	} {
		w, err := ParseWindow(text, settled)
		if got := stamp(w.From) + " " + stamp(w.To); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "tomorrow", "0d", "7", "-1h", "1586822400", "1586908800,1586822400", "1586822401,1586908800", "99999999d", "2026-11-02T00:00:00Z,", "x,y"} {
		var wrong *usage.InputError
		if w, err := ParseWindow(text, settled); !errors.As(err, &wrong) {
			t.Errorf("%q is %v, %v", text, w, err)
		}
	}
}
