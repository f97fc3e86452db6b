package influxsync

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/influxdata/influxql"
)

const (
	chunkRows  = "10000" // rows that the server sends at once
	longestURL = 4 << 10 // a longer statement goes into the body
)

// Select runs one statement, SELECT or SHOW and nothing that writes, and hands over each row as it arrives.
// The tags of a series (GROUP BY) are the row's tags, empty ones left out;
// columns that are not null are its fields; a column "time" first is its time.
// Tags are shared by the rows of a series and must not be changed. The first
// error of each ends the reading and is returned. An error in the stream, and
// an answer that ends early, are errors: rows that came before them were
// handed over. An unknown database is ErrNotFound, an unknown table no rows.
func (d *Database) Select(ctx context.Context, q string, each func(Point) error) error {
	if err := readsOnly(q); err != nil {
		return fmt.Errorf("query %s: %w", d.name, err)
	}
	if err := d.server.read(ctx, d.name, q, points(each)); err != nil {
		return fmt.Errorf("query %s: %w", d.name, err)
	}
	return nil
}

// readsOnly refuses what changes something: the engine runs it for a GET too.
func readsOnly(q string) error {
	parsed, err := influxql.ParseQuery(q)
	if err != nil {
		return fmt.Errorf("parse: %w", err)
	}
	if len(parsed.Statements) != 1 {
		return fmt.Errorf("%d statements, want one", len(parsed.Statements))
	}
	switch statement := parsed.Statements[0].(type) {
	case *influxql.SelectStatement:
		if statement.Target == nil {
			return nil
		}
	default:
		if strings.HasPrefix(statement.String(), "SHOW ") {
			return nil
		}
	}
	return fmt.Errorf("statement does not only read")
}

func (s *Server) read(ctx context.Context, db, q string, rows *decoder) error {
	values := url.Values{"q": {q}}
	if db != "" {
		values.Set("db", db)
	}
	if len(q) > longestURL {
		return s.answer(ctx, http.MethodPost, nil, values, rows)
	}
	return s.answer(ctx, http.MethodGet, values, nil, rows)
}

func (s *Server) answer(ctx context.Context, method string, query, form url.Values, rows *decoder) error {
	options := query
	if form != nil {
		options = form
	}
	options.Set("chunked", "true")
	options.Set("chunk_size", chunkRows)
	options.Set("epoch", "ns")
	var body io.Reader
	var contentType string
	if form != nil {
		body, contentType = strings.NewReader(form.Encode()), "application/x-www-form-urlencoded"
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the query where the reading stopped early
	response, err := s.do(ctx, method, "query", query, body, contentType)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return statusError(response)
	}
	if kind := response.Header.Get("Content-Type"); kind != "application/x-msgpack" {
		return fmt.Errorf("answer is %q, not msgpack", kind)
	}
	return rows.answer(response.Body)
}
