package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	influx "github.com/influxdata/influxdb1-client/v2"
)

const (
	naiveBatch   = 5000    // rows of one write
	chunkRows    = 10000   // rows that the server sends at once
	requestBytes = 1 << 20 // of one write request
	// leastBytes is less than any row takes in an answer: its time and one value.
	leastBytes = 10
)

// plain is a transport that neither asks for compression nor waits for it.
var plain = &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16,
	ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10}}

// flatSpan is below which length influxsync asks for tags as columns.
const flatSpan = 30 * time.Minute

// briefly is what influxsync asks for.
func briefly(t schema.Table, w schema.Window) string {
	if w.Length() >= flatSpan {
		return selection(t, w)
	}
	return fmt.Sprintf(`SELECT *::tag, *::field FROM %q WHERE time >= %d AND time < %d`, t.Name, w.From.UnixNano(), w.To.UnixNano())
}

func selection(t schema.Table, w schema.Window) string {
	return fmt.Sprintf(`SELECT * FROM %q WHERE time >= %d AND time < %d GROUP BY *`, t.Name, w.From.UnixNano(), w.To.UnixNano())
}

// read asks for the rows as influxsync does and throws the answer away.
func (c *client) read(ctx context.Context, t schema.Table, s step) error {
	query := url.Values{"db": {c.Database}, "q": {briefly(t, s.Window)}, "epoch": {"ns"},
		"chunked": {"true"}, "chunk_size": {strconv.Itoa(chunkRows)}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Source+"/query?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/x-msgpack")
	response, err := plain.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	n, err := io.Copy(io.Discard, response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || n < int64(leastBytes*s.Rows[t.Name]) {
		return fmt.Errorf("status %d and %d bytes for %d rows", response.StatusCode, n, s.Rows[t.Name])
	}
	return nil
}

// write sends the lines of a file, whole ones, about 1 MB at a time.
func (c *client) write(ctx context.Context, t schema.Table, s step) error {
	file, err := os.Open(s.Lines[t.Name])
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	buffer, kept := make([]byte, requestBytes), 0
	for {
		n, err := io.ReadFull(file, buffer[kept:])
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return err
		}
		n += kept
		end := bytes.LastIndexByte(buffer[:n], '\n') + 1
		if end > 0 {
			if err := post(ctx, c.Sink, sinkDB, buffer[:end]); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
		kept = copy(buffer, buffer[end:n])
	}
}

func post(ctx context.Context, base, db string, lines []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/write?db="+url.QueryEscape(db)+"&precision=ns", bytes.NewReader(lines))
	if err != nil {
		return err
	}
	response, err := plain.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusNoContent {
		err = fmt.Errorf("write: status %d: %s", response.StatusCode, bytes.TrimSpace(text))
	}
	return err
}

// naive copies with InfluxDB's own client: the rows of a table in one answer,
// written in batches. The types come from the schema, for JSON has none.
func (c *client) naive() (mover, error) {
	source, err := influx.NewHTTPClient(influx.HTTPConfig{Addr: c.Source})
	if err != nil {
		return nil, err
	}
	sink, err := influx.NewHTTPClient(influx.HTTPConfig{Addr: c.Sink})
	if err != nil {
		return nil, err
	}
	return func(_ context.Context, t schema.Table, s step) error {
		query := influx.Query{Command: selection(t, s.Window), Database: c.Database, Precision: "ns"}
		if c.Kind == kindNaiveChunked {
			query.Chunked, query.ChunkSize = true, chunkRows
		}
		response, err := source.Query(query)
		if err != nil {
			return err
		}
		if err := response.Error(); err != nil {
			return err
		}
		b := batcher{client: sink}
		for _, result := range response.Results {
			for _, series := range result.Series {
				types := columnTypes(t, series.Columns)
				for _, row := range series.Values {
					if err := b.add(series.Name, series.Tags, series.Columns, types, row); err != nil {
						return err
					}
				}
			}
		}
		return b.flush()
	}, nil
}

func columnTypes(t schema.Table, columns []string) []schema.Type {
	types := make([]schema.Type, len(columns))
	for i, column := range columns {
		for _, field := range t.Fields {
			if field.Name == column {
				types[i] = field.Type
			}
		}
	}
	return types
}

// batcher collects rows for the naive client's writes.
type batcher struct {
	client influx.Client
	points []*influx.Point
}

func (b *batcher) add(name string, tags map[string]string, columns []string, types []schema.Type, row []any) error {
	fields := make(map[string]any, len(columns)-1)
	for i := 1; i < len(row); i++ {
		number, ok := row[i].(json.Number)
		if !ok {
			continue
		}
		var err error
		if types[i] == schema.Integer {
			fields[columns[i]], err = number.Int64()
		} else {
			fields[columns[i]], err = number.Float64()
		}
		if err != nil {
			return err
		}
	}
	at, ok := row[0].(json.Number)
	if !ok {
		return fmt.Errorf("time is %v", row[0])
	}
	nanoseconds, err := at.Int64()
	if err != nil {
		return err
	}
	point, err := influx.NewPoint(name, tags, fields, time.Unix(0, nanoseconds))
	if err != nil {
		return err
	}
	if b.points = append(b.points, point); len(b.points) == naiveBatch {
		return b.flush()
	}
	return nil
}

func (b *batcher) flush() error {
	if len(b.points) == 0 {
		return nil
	}
	batch, err := influx.NewBatchPoints(influx.BatchPointsConfig{Database: sinkDB, Precision: "ns"})
	if err != nil {
		return err
	}
	batch.AddPoints(b.points)
	b.points = b.points[:0]
	return b.client.Write(batch)
}
