package influxsync

import (
	"context"
	"fmt"
	"strings"
)

// LineRefusal is a line that the server does not take.
type LineRefusal struct {
	Line   string // as it was given
	Index  int    // in the lines given
	Class  Class
	Reason string // what the server said
}

// errUnsendable is a row that was kept without a line, as unsendableLine shows it.
const errUnsendable = "InfluxDB has no line for this row: mend it at its source, whose next revision replaces it, or discard it"

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
	var at []int // where the lines of the batch stand
	size := 0
	flush := func() error {
		list, err := writeLines(ctx, batch, d.post)
		for _, r := range list {
			refused = append(refused, LineRefusal{Line: lines[at[r.index]], Index: at[r.index], Class: r.class, Reason: r.reason})
		}
		batch, at, size = batch[:0], at[:0], 0
		return err
	}
	for _, line := range lines {
		if _, err := oneRow(line); err != nil && !strings.HasPrefix(line, unsendableMark) {
			return nil, fmt.Errorf("write to %s: %w", d.name, err)
		}
	}
	for i, line := range lines {
		if strings.HasPrefix(line, unsendableMark) {
			refused = append(refused, LineRefusal{Line: line, Index: i, Class: Malformed, Reason: errUnsendable})
			continue
		}
		row, _ := oneRow(line) // looked at above
		batch, at, size = append(batch, row), append(at, i), size+len(row)
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
