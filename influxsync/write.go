package influxsync

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"
)

const (
	batchBytes = 1 << 20        // of one write request
	lineSlack  = 32             // by which a line may be longer than the first one, so that it needs no new room
	shard      = 24 * time.Hour // no shard of ours begins but at a multiple of it
)

// Write stores the rows in the given order and returns when they are durable.
// A row overwrites the fields of a row with the same table, tags and time. The
// engine writes the shards of one request in parallel, so a request ends where
// a UTC day does: a crash leaves a prefix of the requests. A row that InfluxDB
// cannot hold is an error before anything is sent; a *WriteError is the
// server's refusal, which another attempt would meet again.
func (d *Database) Write(ctx context.Context, points []Point) error {
	var lines []byte
	var day time.Time
	var requests [][]byte
	for i, p := range points {
		if t := p.Time.Truncate(shard); len(lines) > 0 && (len(lines) >= batchBytes || !t.Equal(day)) {
			requests = append(requests, lines)
			lines = nil
		}
		day = p.Time.Truncate(shard)
		first := len(lines) == 0
		var err error
		if lines, err = appendLine(lines, p); err != nil {
			return fmt.Errorf("write to %s: %w", d.name, err)
		}
		if first { // room for the others, which are mostly as long
			lines = slices.Grow(lines, min(batchBytes, (len(points)-i-1)*(len(lines)+lineSlack)))
		}
	}
	if len(lines) > 0 {
		requests = append(requests, lines)
	}
	for _, request := range requests {
		if err := d.post(ctx, request); err != nil {
			return err
		}
	}
	return nil
}

// post sends lines in one request.
func (d *Database) post(ctx context.Context, lines []byte) error {
	query := url.Values{"db": {d.name}, "precision": {"ns"}}
	response, err := d.server.do(ctx, http.MethodPost, "write", query, bytes.NewReader(lines), "text/plain; charset=utf-8")
	if err != nil {
		return fmt.Errorf("write to %s: %w", d.name, err)
	}
	defer drain(response.Body)
	if response.StatusCode != http.StatusNoContent {
		return fmt.Errorf("write to %s: %w", d.name, writeError(response))
	}
	return nil
}
