package influxsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestClassOf(t *testing.T) {
	refused := func(status int, message string) error { return &WriteError{Status: status, Message: message} }
	failed := func(status int, message string) error { return &StatusError{Status: status, Message: message} }
	for _, c := range []struct {
		err  error
		want Class
	}{
		// As the engine says it.
		{refused(400, `partial write: field type conflict: input field "v" on measurement "m" is type integer, already exists as type float dropped=1`), TypeConflict},
		{refused(400, "field type conflict"), TypeConflict},
		{refused(400, "partial write: points beyond retention policy dropped=3"), Retention},
		{refused(400, "unable to parse 'm v=': missing field value"), Malformed},
		{refused(400, "partial write: unable to parse 'm v=': missing field value dropped=0"), Malformed},
		{refused(400, `partial write: invalid field name: input field "time" on measurement "m" is invalid dropped=1`), Malformed},
		{refused(400, `partial write: invalid tag key: input tag "time" on measurement "m" is invalid dropped=1`), Malformed},
		{refused(400, "partial write: key contains invalid unicode: \"m\xff\" dropped=1"), Malformed},
		{refused(400, "partial write: max key length exceeded: 65600 > 65535 dropped=1"), Malformed},
		{refused(400, `partial write: max-values-per-tag limit exceeded (1000/1000): measurement="cpu" tag="host" value="server9999" dropped=1`), SeriesLimit},
		{refused(400, "partial write: max-series-per-database limit exceeded: (1000) dropped=1"), SeriesLimit},
		{refused(400, "partial write: shard 3 is pending deletion dropped=9"), Busy},
		{refused(400, "unexpected EOF"), NoAnswer},
		{refused(413, "Request Entity Too Large"), TooLarge},
		{refused(404, `database not found: "minute"`), NoDatabase},
		{failed(500, "database not found: minute"), NoDatabase},
		{failed(500, "retention policy not found: weekly"), NoPolicy},
		{refused(401, "authorization failed"), Denied},
		{refused(403, `"u" user is not authorized to write to database "minute"`), Denied},
		{failed(500, "engine: cache-max-memory-size exceeded: (8388700/8388608)"), Busy},
		{failed(500, "engine: error writing WAL entry: write /data/wal/1.wal: no space left on device"), DiskFull},
		{failed(500, "[shard 4] open /data/1/index: disk quota exceeded"), DiskFull},
		{failed(500, "engine is closed"), Failing},
		{failed(500, "timeout"), Failing},
		{failed(502, "bad gateway"), Failing},
		{failed(503, "service unavailable"), Busy},
		{refused(429, "too many requests"), Busy},
		{refused(408, ""), NoAnswer},
		{refused(409, "a write with a higher fence number came before"), Fenced},
		{fmt.Errorf("write: %w", ErrFenced), Fenced},
		// What a row says of itself is not what the server says.
		{refused(400, "unable to parse 'm,a=field\\ type\\ conflict v': missing dropped=1"), Malformed},
		{refused(400, "m field type conflict"), Rejected},
		{refused(404, "404 page not found"), Rejected},
		{refused(400, "database is required"), Rejected},
		{refused(405, "method not allowed"), Rejected},
		{failed(302, "moved"), Rejected},
		// What no server said.
		{&url.Error{Op: "Post", URL: "http://x", Err: syscall.ECONNREFUSED}, NoAnswer},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, NoAnswer},
		{context.DeadlineExceeded, NoAnswer},
		{fmt.Errorf("write: %w", io.ErrUnexpectedEOF), NoAnswer},
		{linkError{errors.New("a transport's own words")}, NoAnswer},
		{fmt.Errorf("query: %w", ErrTruncated), NoAnswer},
		{fmt.Errorf("write: %w", context.Canceled), ""},
		{linkError{context.Canceled}, ""},
		{errors.New("row \"m\": no fields"), ""},
		{ErrMismatch, ""},
		{nil, ""},
	} {
		for _, err := range []error{c.err, fmt.Errorf("sync: %w", c.err)} {
			if c.err == nil {
				err = nil
			}
			if got := ClassOf(err); got != c.want {
				t.Errorf("%v: %q, want %q", err, got, c.want)
			}
		}
	}
}

// TestEveryClass: one is of rows, passes, or needs somebody; all have a hint.
func TestEveryClass(t *testing.T) {
	passes := map[Class]bool{DiskFull: true, Busy: true, Failing: true, NoAnswer: true}
	rows := map[Class]bool{TypeConflict: true, Retention: true, Malformed: true, SeriesLimit: true, TooLarge: true}
	for _, c := range []Class{TypeConflict, Retention, Malformed, SeriesLimit, TooLarge, NoDatabase, NoPolicy, Denied, Fenced, Rejected,
		DiskFull, Busy, Failing, NoAnswer} {
		if c.Row() != rows[c] || c.Passes() != passes[c] {
			t.Errorf("%s: of rows %t, passes %t", c, c.Row(), c.Passes())
		}
		if !strings.HasSuffix(c.Hint(), ".") {
			t.Errorf("%s: hint %q", c, c.Hint())
		}
	}
	if none := Class(""); none.Row() || none.Passes() || none.Hint() != "" {
		t.Error("no class is of rows, passes or has a hint")
	}
}

type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

func TestNoAnswerOfATransport(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Class
	}{{errors.New("cut off"), NoAnswer}, {context.Canceled, ""}, {context.DeadlineExceeded, NoAnswer}} {
		server, err := New(Config{URL: "http://sink", Transport: failing{c.err}})
		if err != nil {
			t.Fatal(err)
		}
		err = server.Database("minute").Write(t.Context(), []Point{NewPoint("m", nil, map[string]Value{"v": Int(1)}, time.Unix(1, 0))})
		if got := ClassOf(err); got != c.want {
			t.Errorf("%v: %q, want %q", err, got, c.want)
		}
		if !errors.Is(err, c.err) || !strings.HasSuffix(err.Error(), c.err.Error()) {
			t.Errorf("%v does not say %v", err, c.err)
		}
	}
}
