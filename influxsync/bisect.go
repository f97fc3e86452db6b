package influxsync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// blindRefusals is how many single lines in a row may be refused for a reason
// that is not known, before any was taken, until the server counts as one that
// refuses everything.
const blindRefusals = 8

// refusedLine is a line that the server does not take, whatever is sent with it.
type refusedLine struct {
	index  int // in the lines given
	class  Class
	reason string // what the server said
}

// writeLines posts the lines, each with its newline, in one request. Where the
// server refuses some of them it finds out which: each line then is in a
// request that was answered well, or is refused. The rest of a request that is
// refused in part counts as not stored, because the engine stops at the first
// shard that refuses, and with the index in memory at the first row. Parts are
// sent in their order, so that of two rows with one key the last one stays.
//
// An error that is not about rows is returned as it is, and then no line counts
// as refused: the whole is to be repeated. So is a refusal for no known reason
// that strikes every line, for it is the server's and not the rows'.
func writeLines(ctx context.Context, lines [][]byte, post func(context.Context, []byte) error) ([]refusedLine, error) {
	b := &bisection{post: post}
	if err := b.write(ctx, lines, 0); err != nil {
		return nil, err
	}
	if b.taken == 0 && b.blind != nil && b.blindly == len(b.refused) {
		return nil, b.blind
	}
	return b.refused, nil
}

// bisection is one call of writeLines.
type bisection struct {
	post    func(context.Context, []byte) error
	buffer  []byte
	refused []refusedLine
	taken   int   // lines that the server acknowledged
	blindly int   // of refused, for no known reason
	blind   error // of the last of those
}

// write sends lines, the first of which has the given index.
func (b *bisection) write(ctx context.Context, lines [][]byte, index int) error {
	if len(lines) == 0 {
		return nil
	}
	b.buffer = b.buffer[:0]
	for _, line := range lines {
		b.buffer = append(b.buffer, line...)
	}
	err := b.post(ctx, b.buffer)
	if err == nil {
		b.taken += len(lines)
		return nil
	}
	var refusal *WriteError
	if !errors.As(err, &refusal) || !selective(refusal) {
		return err
	}
	class := ClassOf(refusal)
	if len(lines) > 1 && !allDropped(refusal, len(lines)) {
		half := len(lines) / 2
		if err := b.write(ctx, lines[:half], index); err != nil {
			return err
		}
		return b.write(ctx, lines[half:], index+half)
	}
	for i := range lines {
		b.refused = append(b.refused, refusedLine{index: index + i, class: class, reason: refusal.Message})
	}
	if class == Rejected && !strings.HasPrefix(refusal.Message, partly) {
		b.blindly, b.blind = b.blindly+1, err
		if b.taken == 0 && b.blindly >= blindRefusals {
			return err
		}
	}
	return nil
}

// selective says whether a refusal may be about some of the lines: a bad
// request, or one that is too large.
func selective(refusal *WriteError) bool {
	class := ClassOf(refusal)
	return class.Row() || class == Rejected &&
		(refusal.Status == http.StatusBadRequest || refusal.Status == http.StatusUnprocessableEntity)
}

// partly is how the engine begins where it tells rows apart.
const partly = "partial write: "

// partialWrite is that message in full: what stands between may be text of the
// rows, so that only its beginning and its very end say anything.
var partialWrite = regexp.MustCompile(`(?s)^` + partly + `.* dropped=(\d+)$`)

// allDropped says whether the server says that it stored none of the lines.
func allDropped(refusal *WriteError, lines int) bool {
	found := partialWrite.FindStringSubmatch(refusal.Message)
	if found == nil || refusal.Status != http.StatusBadRequest {
		return false
	}
	dropped, err := strconv.Atoi(found[1])
	return err == nil && dropped == lines
}

// splitLines cuts line protocol into its lines, each with its newline, where
// the server does: a newline within a quoted string ends none.
func splitLines(text []byte) [][]byte {
	var lines [][]byte
	for len(text) > 0 {
		end := lineEnd(text)
		lines = append(lines, text[:end:end])
		text = text[end:]
	}
	return lines
}

// lineEnd is the length of the first line, with its newline.
func lineEnd(text []byte) int {
	fields, quoted := false, false
	values := 0 // equals signs less commas, of the fields
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+2 < len(text):
			i++
		case c == '\n' && !quoted:
			return i + 1
		case c == ' ':
			fields = true
		case !fields:
		case c == '"' && values > 0:
			quoted = !quoted
		case c == '=' && !quoted:
			values++
		case c == ',' && !quoted:
			values--
		}
	}
	return len(text)
}

// oneRow is a kept line with its newline, or an error where it is not one row:
// the server takes a comment or nothing at all for success.
func oneRow(line string) ([]byte, error) {
	text := []byte(line)
	if !bytes.HasSuffix(text, []byte("\n")) {
		text = append(text, '\n')
	}
	if start := bytes.TrimLeft(text, " \t\x00"); start[0] == '\n' || start[0] == '#' || lineEnd(text) != len(text) {
		return nil, fmt.Errorf("line %.80q is not one row", line)
	}
	return text, nil
}
