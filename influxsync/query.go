package influxsync

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Condition is equality on a tag. An empty value means that a row does not
// have the tag. It never matches a field.
type Condition struct {
	Tag, Value string
	Prefix     bool // the tag's value begins with Value, which is not empty
}

// Keeps says whether a row's value of the tag, "" where it has none, meets the condition.
func (c Condition) Keeps(value string) bool {
	return value == c.Value || c.Prefix && strings.HasPrefix(value, c.Value)
}

// Text is that a field of texts holds a part.
type Text struct{ Field, Part string }

// Query is a reading statement whose parts are quoted, whatever they hold.
type Query struct {
	// Select names fields; none is all of them.
	Select []string
	// Aggregate is applied to each of Select, and the result has the field's
	// name: count, distinct, first, last, max, mean, median, min, spread,
	// stddev or sum. Integers stay integers but in mean, median and stddev; a
	// sum wraps silently at 2^63. Empty is the rows as they are.
	Aggregate string
	// From is the table.
	From  string
	Where []Condition
	Holds []Text
	// Group lists tags; "*" alone is all of them. Tags that are not grouped by
	// are not in the rows.
	Group []string
	// Window is of the rows' times; a zero From or To is open, and an
	// aggregate then ends at the server's present.
	Window schema.Window
	// Every cuts the window for Aggregate, at whole multiples since the Unix
	// epoch; parts without rows are left out.
	Every      time.Duration
	Descending bool
	// flat selects tags and fields as columns, in the place of Select.
	flat bool
	// Limit is of rows per group; 0 is none.
	Limit int
}

var aggregates = []string{"count", "distinct", "first", "last", "max", "mean", "median", "min", "spread", "stddev", "sum"}

// Query builds the statement and runs it like Select.
func (d *Database) Query(ctx context.Context, q Query, each func(Point) error) error {
	statement, err := q.build()
	if err != nil {
		return fmt.Errorf("query %s: %w", d.name, err)
	}
	return d.Select(ctx, statement, each)
}

// TimeQuery reads the rows of a table whose time is in the window, whole: all
// tags, all fields.
func (d *Database) TimeQuery(ctx context.Context, table string, w schema.Window, where []Condition, each func(Point) error) error {
	return d.Query(ctx, Query{From: table, Window: w, Where: where, Group: []string{"*"}}, each)
}

func (q Query) build() (string, error) {
	b := &builder{}
	b.text("SELECT ")
	if err := q.fields(b); err != nil {
		return "", err
	}
	b.text(" FROM ")
	b.ident(q.From)
	b.where(q.Where, q.Holds, q.Window)
	q.group(b)
	if q.Descending {
		b.text(" ORDER BY time DESC")
	}
	if q.Limit > 0 {
		b.text(" LIMIT " + strconv.Itoa(q.Limit))
	}
	if q.From == "" && b.err == nil {
		b.err = fmt.Errorf("no table")
	}
	return b.String(), b.err
}

func (q Query) fields(b *builder) error {
	switch {
	case q.Aggregate == "" && q.Every != 0:
		return fmt.Errorf("a step needs an aggregate")
	case q.Aggregate != "" && len(q.Select) == 0:
		return fmt.Errorf("an aggregate needs its fields named")
	case q.Aggregate != "" && !slices.Contains(aggregates, q.Aggregate):
		return fmt.Errorf("unknown aggregate %q", q.Aggregate)
	case q.flat:
		b.text("*::tag, *::field")
	case len(q.Select) == 0:
		b.text("*")
	}
	for i, field := range q.Select {
		if i > 0 {
			b.text(", ")
		}
		if q.Aggregate == "" {
			b.ident(field)
			b.text("::field") // never a tag of that name
			continue
		}
		b.text(q.Aggregate + "(")
		b.ident(field)
		b.text(") AS ")
		b.ident(field)
	}
	return nil
}

func (q Query) group(b *builder) {
	separator := " GROUP BY "
	if q.Every > 0 {
		b.text(separator + "time(" + strconv.FormatInt(int64(q.Every), 10) + "ns)")
		separator = ", "
	}
	for _, tag := range q.Group {
		b.text(separator)
		separator = ", "
		if tag == "*" {
			b.text("*")
		} else {
			b.ident(tag)
		}
	}
	if q.Every > 0 {
		b.text(" fill(none)")
	}
}

// builder writes InfluxQL and remembers the first part that has no quoted form.
type builder struct {
	strings.Builder
	err error
}

func (b *builder) text(s string) { b.WriteString(s) }

func (b *builder) ident(name string) {
	quoted, err := quoteIdent(name)
	if b.err == nil {
		b.err = err
	}
	b.WriteString(quoted)
}

func (b *builder) literal(value string) {
	quoted, err := quote(value, '\'')
	if b.err == nil {
		b.err = err
	}
	b.WriteString(quoted)
}

// pattern is a regular expression that matches what holds the text, where the anchor
// says.
func (b *builder) pattern(anchor, text string) {
	if strings.ContainsAny(text, "\x00\r\n\\") && b.err == nil {
		b.err = fmt.Errorf("%q cannot be looked for in a query", text)
	}
	b.text("/" + anchor + strings.ReplaceAll(regexp.QuoteMeta(text), "/", `\/`) + "/")
}

func (b *builder) where(conditions []Condition, holds []Text, w schema.Window) {
	separator := " WHERE "
	for _, c := range conditions {
		b.text(separator)
		separator = " AND "
		b.ident(c.Tag)
		if c.Prefix {
			b.text("::tag =~ ")
			b.pattern("^", c.Value)
			continue
		}
		b.text("::tag = ")
		b.literal(c.Value)
	}
	for _, text := range holds {
		b.text(separator)
		separator = " AND "
		b.ident(text.Field)
		b.text("::field =~ ")
		b.pattern("", text.Part)
	}
	if !w.From.IsZero() {
		b.text(separator + "time >= " + strconv.FormatInt(nanoseconds(w.From), 10))
		separator = " AND "
	}
	if !w.To.IsZero() {
		b.text(separator + "time < " + strconv.FormatInt(nanoseconds(w.To), 10))
	}
}

// quoteIdent quotes a name of a database, table, tag or field.
func quoteIdent(name string) (string, error) {
	if name == "" {
		return "", fmt.Errorf("empty name")
	}
	return quote(name, '"')
}

// quote escapes the quote, the backslash and the newline, which is all that
// InfluxQL has an escape for; what its scanner would change is refused.
func quote(text string, mark byte) (string, error) {
	if !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\r") {
		return "", fmt.Errorf("%q cannot be written in a query", text)
	}
	quoted := make([]byte, 0, len(text)+2)
	quoted = append(quoted, mark)
	for i := range len(text) {
		switch c := text[i]; c {
		case '\n':
			quoted = append(quoted, `\n`...)
		case mark, '\\':
			quoted = append(quoted, '\\', c)
		default:
			quoted = append(quoted, c)
		}
	}
	return string(append(quoted, mark)), nil
}
