package influxsync_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
)

// external are the servers that are processes of their own.
var external influxtest.Group

func TestMain(m *testing.M) {
	code := m.Run()
	if err := external.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func embeddedServer(t testing.TB) *influxsync.Server { return influxtest.New(t) }

// target is an empty server with the plain way to it, without this package.
type target struct {
	*influxsync.Server
	url       string
	transport http.RoundTripper
}

func (x target) embedded() bool { return x.url == embeddedURL }

const embeddedURL = "http://embedded"

// targets runs the test on each kind of server that a user may have: the
// embedded engine, the distribution's package and the last 1.8. The three run
// side by side; they wait for the disk more than for anything else.
func targets(t *testing.T, test func(*testing.T, target)) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		test(t, embeddedTarget(t))
	})
	for _, kind := range influxtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, reach(t, external.Get(t, kind).URL(), plain()))
		})
	}
}

// servers is targets for tests that go through this package only.
func servers(t *testing.T, test func(*testing.T, *influxsync.Server)) {
	targets(t, func(t *testing.T, x target) { test(t, x.Server) })
}

// processes is targets for tests that need a server of their own, configured
// so or killed; the embedded engine is not among them.
func processes(t *testing.T, options influxtest.Options, test func(*testing.T, target, *influxtest.Process)) {
	for _, kind := range influxtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			p := influxtest.Start(t, kind, options)
			test(t, reach(t, p.URL(), plain()), p)
		})
	}
}

// plain is a transport that adds no header, as curl does not.
func plain() *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = true
	return transport
}

func embeddedTarget(t testing.TB) target {
	return reach(t, embeddedURL, influxtest.Open(t, t.TempDir()).Transport())
}

func reach(t testing.TB, base string, transport http.RoundTripper) target {
	t.Helper()
	if closer, ok := transport.(*http.Transport); ok {
		t.Cleanup(closer.CloseIdleConnections)
	}
	return target{client(t, base, transport), base, transport}
}

func client(t testing.TB, base string, transport http.RoundTripper) *influxsync.Server {
	t.Helper()
	s, err := influxsync.New(influxsync.Config{URL: base, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// answer is what came to a request without this package.
type answer struct {
	status int
	header http.Header
	body   string
}

// request makes one request without this package. Values come in pairs of name
// and value, and go into the URL.
func (x target) request(ctx context.Context, method, path, body string, header http.Header, pairs ...string) (answer, error) {
	values := make(url.Values)
	for i := 0; i < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	request, err := http.NewRequestWithContext(ctx, method, x.url+path+"?"+values.Encode(), strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for name, value := range header {
		request.Header[name] = value
	}
	response, err := x.transport.RoundTrip(request)
	if err != nil {
		return answer{}, err
	}
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(text)}, errors.Join(err, response.Body.Close())
}

// send is request for tests that want an answer.
func (x target) send(t testing.TB, method, path, body string, header http.Header, pairs ...string) answer {
	t.Helper()
	got, err := x.request(t.Context(), method, path, body, header, pairs...)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// ask runs a statement as curl would: JSON, in one piece, times in nanoseconds.
func (x target) ask(t testing.TB, db, q string, pairs ...string) string {
	t.Helper()
	got := x.send(t, http.MethodPost, "/query", "", nil, append([]string{"db", db, "q", q, "epoch", "ns"}, pairs...)...)
	if got.status != http.StatusOK {
		t.Fatalf("%s: status %d: %s", q, got.status, got.body)
	}
	return got.body
}

// put writes lines as curl would, and returns the status and what was said.
func (x target) put(t testing.TB, db, lines string, pairs ...string) (int, string) {
	t.Helper()
	got := x.send(t, http.MethodPost, "/write", lines, nil, append([]string{"db", db}, pairs...)...)
	return got.status, got.body
}
