// Package influxsync speaks the InfluxDB 1.x API: databases, tables, typed
// rows, statements, the journal of what a store settled, and the copying of
// settled windows between stores. Nothing else in the project speaks it.
//
// It guarantees that a value comes back with the type and the bits it was
// written with, that a row which InfluxDB cannot hold is refused before it is
// sent, that an answer which ended early is an error, and that a mark only
// moves past windows whose rows the sink was seen to hold. It keeps no state
// on disk and never asks for the time. It tries nothing again but the writes of a
// copy: everything else is the caller's loop.
package influxsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/reread"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Secret is a credential. It prints as ***, whatever the verb.
type Secret string

// Format writes *** for every verb and flag.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "***") }

// MarshalText is ***, so that no encoder of JSON or YAML shows the secret.
func (Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// LogValue is ***.
func (Secret) LogValue() slog.Value { return slog.StringValue("***") }

// Config says where a server is.
type Config struct {
	// URL is the server's base, http or https. A path in it is kept as prefix,
	// which is what the proxy of a Kubernetes API server needs. Credentials in
	// it are refused.
	URL string
	// Token is sent as bearer token when it is not empty.
	Token Secret
	// TokenFile holds it, in place of Token, and is read again when it changes.
	TokenFile string
	// Transport carries the requests; nil is a transport of its own with TLS
	// verification and without compression.
	Transport http.RoundTripper
	// Compress asks for gzip answers and packs the bodies of writes, which is
	// worth its CPU on a slow link only: the source pays most of it.
	Compress bool
}

// Server is one InfluxDB 1.x server, or what forwards to one. It is safe for
// concurrent use.
type Server struct {
	base        url.URL
	token       func() (string, error) // nil without
	http        *http.Client
	compression *compression // nil without
}

// New checks the configuration. It does no I/O.
func New(c Config) (*Server, error) {
	base, err := url.Parse(c.URL)
	if err != nil {
		return nil, fmt.Errorf("parse server URL: %w", err)
	}
	switch {
	case base.Scheme != "http" && base.Scheme != "https":
		return nil, fmt.Errorf("server URL %q: scheme must be http or https", base.Redacted())
	case base.Host == "":
		return nil, fmt.Errorf("server URL %q: no host", base.Redacted())
	case base.User != nil:
		return nil, fmt.Errorf("server URL %q: credentials do not belong in a URL", base.Redacted())
	case base.RawQuery != "" || base.Fragment != "":
		return nil, fmt.Errorf("server URL %q: query and fragment are not kept", base.Redacted())
	}
	transport := c.Transport
	if transport == nil {
		own := http.DefaultTransport.(*http.Transport).Clone()
		own.DisableCompression = true
		own.MaxIdleConnsPerHost = 32
		own.ReadBufferSize, own.WriteBufferSize = 64<<10, 64<<10
		transport = own
	}
	server := &Server{base: *base, token: c.token(), http: &http.Client{
		Transport: transport,
		// A redirect could carry the token to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if c.Compress {
		server.compression = newCompression()
	}
	return server, nil
}

// token gives the token for a request; nil where there is none.
func (c Config) token() func() (string, error) {
	switch {
	case c.TokenFile != "":
		return reread.NewWord(c.TokenFile).Get
	case c.Token != "":
		return func() (string, error) { return string(c.Token), nil }
	}
	return nil
}

// Authorize adds the token of a configuration to a request.
func (s *Server) Authorize(request *http.Request) error {
	if s.token == nil {
		return nil
	}
	token, err := s.token()
	if err != nil {
		return fmt.Errorf("read token of the server: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	return nil
}

// Ping asks the server whether it is there.
func (s *Server) Ping(ctx context.Context) error {
	response, err := s.do(ctx, http.MethodGet, "ping", nil, nil, "")
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	defer drain(response.Body)
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("ping: %w", statusError(response))
	}
	return nil
}

// Create makes those of the named databases that do not exist. Their rows
// never expire by the engine's clock. Shards of the raw and minute databases
// are a day long, those of databases that are kept for good 30 days.
func (s *Server) Create(ctx context.Context, names ...string) error {
	have, err := s.Databases(ctx)
	if err != nil {
		return fmt.Errorf("create databases: %w", err)
	}
	for _, name := range names {
		if slices.Contains(have, name) {
			continue
		}
		quoted, err := quoteIdent(name)
		if err != nil {
			return fmt.Errorf("create database: %w", err)
		}
		shard := "30d"
		if name == schema.RawDB || name == schema.MinuteDB {
			shard = "1d"
		}
		err = s.execute(ctx, "", "CREATE DATABASE "+quoted+" WITH DURATION INF SHARD DURATION "+shard+` NAME "autogen"`)
		if err != nil {
			return fmt.Errorf("create database %s: %w", name, err)
		}
	}
	return nil
}

// Databases are the names of the server's databases, without its own.
func (s *Server) Databases(ctx context.Context) ([]string, error) {
	var names []string
	err := s.read(ctx, "", "SHOW DATABASES", points(func(p Point) error {
		if name, ok := p.Field("name"); ok && name.Str() != "_internal" {
			names = append(names, name.Str())
		}
		return nil
	}))
	if err != nil {
		return nil, fmt.Errorf("list databases: %w", err)
	}
	return names, nil
}

// Database is a handle on one database; it does no I/O.
func (s *Server) Database(name string) *Database { return &Database{server: s, name: name} }

// Database is one database of a server. It is safe for concurrent use.
type Database struct {
	server *Server
	name   string
}

// Name is the database's name.
func (d *Database) Name() string { return d.name }

// execute runs a statement that changes something.
func (s *Server) execute(ctx context.Context, db, statement string) error {
	form := url.Values{"q": {statement}}
	if db != "" {
		form.Set("db", db)
	}
	return s.answer(ctx, http.MethodPost, nil, form, points(func(Point) error { return nil }))
}

func (s *Server) do(ctx context.Context, method, path string, query url.Values, body io.Reader, contentType string) (*http.Response, error) {
	target := s.base.JoinPath(path)
	target.RawQuery = query.Encode()
	packed := s.compression != nil && path == "write"
	if packed {
		var err error
		if body, err = s.compression.pack(body); err != nil {
			return nil, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	if packed {
		request.Header.Set("Content-Encoding", "gzip")
	}
	if s.compression != nil {
		request.Header.Set("Accept-Encoding", "gzip")
	} else { // compression costs the source more than the bytes are worth
		request.Header.Set("Accept-Encoding", "identity")
	}
	request.Header.Set("Accept", "application/x-msgpack")
	if err := s.Authorize(request); err != nil {
		return nil, err
	}
	response, err := s.http.Do(request)
	var wrapped *url.Error
	if errors.As(err, &wrapped) { // its text repeats the whole statement
		return nil, fmt.Errorf("%s %s: %w", method, target.Path, linkError{wrapped.Err})
	}
	if err != nil {
		return nil, err
	}
	if err := unpack(response); err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, target.Path, err)
	}
	return response, nil
}

// drain reads a little of what is left, so that the connection can be used
// again, and closes.
func drain(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, 4<<10)
	_ = body.Close()
}

// nanoseconds is a time as the statements of InfluxQL want it.
func nanoseconds(t time.Time) int64 { return t.UnixNano() }

func trimMessage(text []byte) string {
	return strings.TrimSpace(strings.ToValidUTF8(string(text), "�"))
}
