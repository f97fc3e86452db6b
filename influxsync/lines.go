package influxsync

import (
	"context"
	"fmt"
)

// LineRefusal is a line that the server does not take.
type LineRefusal struct {
	Line   string // as it was given
	Index  int    // in the lines given
	Class  Class
	Reason string // what the server said
}

// LineOf is the row as one line of line protocol, without its newline. The
// error says why InfluxDB cannot hold it.
func LineOf(p Point) (string, error) {
	line, err := appendLine(nil, p)
	if err != nil {
		return "", err
	}
	return string(line[:len(line)-1]), nil
}

// WriteLines stores rows that were kept as line protocol, one each, with or
// without its newline, and returns those that the server refuses for what they
// are. Rows of other lines are durable then. Any other error (no answer, a
// server that fails, is full or busy, one that refuses everything) is
// returned, and then none of the lines counts as stored or as refused. It may
// be repeated.
func (d *Database) WriteLines(ctx context.Context, lines []string) ([]LineRefusal, error) {
	var refused []LineRefusal
	var batch [][]byte
	first, size := 0, 0
	flush := func() error {
		list, err := writeLines(ctx, batch, d.post)
		for _, r := range list {
			refused = append(refused, LineRefusal{Line: lines[first+r.index], Index: first + r.index, Class: r.class, Reason: r.reason})
		}
		first, size, batch = first+len(batch), 0, batch[:0]
		return err
	}
	for _, line := range lines {
		if _, err := oneRow(line); err != nil {
			return nil, fmt.Errorf("write to %s: %w", d.name, err)
		}
	}
	for _, line := range lines {
		row, _ := oneRow(line) // looked at above
		batch, size = append(batch, row), size+len(row)
		if size < batchBytes {
			continue
		}
		if err := flush(); err != nil {
			return nil, err
		}
	}
	if err := flush(); err != nil {
		return nil, err
	}
	return refused, nil
}
