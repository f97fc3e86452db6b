package influxsync

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/cespare/xxhash/v2"
	"github.com/influxdata/influxdb1-client/models"
)

// rowReader reads the rows of an answer (SELECT * … GROUP BY *, or a flat one) as
// hashes and lines of line protocol. After the first rows it allocates nothing: the head
// of a series and the cells of a row are kept in the same memory again and
// again, and what is the same for all rows of a series is made once for it.
type rowReader struct {
	decoder
	table string // name that the rows are hashed with
	sink  string // name that their lines have
	each  func(*row) error
	row   row
	heads int // of series, for who counts by them
	flat  columnKinds
}

// row is one row while each runs; the next one overwrites it.
type row struct {
	at      int64  // Unix ns
	hash    uint64 // as Point.Hash
	series  *seriesHead
	cells   []cell // in the order of the answer's columns, without the time
	texts   []byte // of the cells
	content []byte // what is hashed beyond the series' key
	times   timeTexts
}

// cell is one value of a row.
type cell struct {
	kind schema.Type
	null bool
	num  uint64
	text stretch // of the row's texts
}

// stretch is where a text begins and ends in a buffer.
type stretch struct{ from, to int }

// seriesHead is what the rows of a series have in common.
type seriesHead struct {
	number  int // counts the heads of an answer
	texts   []byte
	tags    []tagPart     // by key, without empty values
	columns []column      // without the time
	order   []int         // of the columns that are fields, by their names
	tagged  []int         // of the columns that are tags, by their names: of a flat answer
	begun   bool          // key and digest are made
	former  formerTags    // of a flat answer, to see whether a row has others
	sink    string        // table of the lines
	key     []byte        // of a line, with that table
	digest  xxhash.Digest // over table and tags
	checked error         // why no line can be made
}

type tagPart struct{ key, value stretch }

// column is a field as it stands in a line and in what is hashed.
type column struct {
	name   string
	line   []byte // the escaped name and "="
	hashed []byte // the length of the name and the name
	err    error  // why no line can hold it
}

func (h *seriesHead) text(p stretch) []byte { return h.texts[p.from:p.to] }

// tag is the value of a tag, empty where the series does not have it.
func (h *seriesHead) tag(key string) []byte {
	for _, tag := range h.tags {
		if string(h.text(tag.key)) == key {
			return h.text(tag.value)
		}
	}
	return nil
}

// rows reads the rows of the window whole, like TimeQuery, or flat where q says
// so. They are hashed as rows of the table hashed, and their lines are rows of
// the table sink.
func (d *Database) rows(ctx context.Context, q rowQuery, hashed, sink string, each func(*row) error) error {
	if q.flat = q.kinds != nil; !q.flat {
		q.Group = []string{"*"}
	}
	statement, err := q.build()
	if err != nil {
		return fmt.Errorf("query %s: %w", d.name, err)
	}
	reader := &rowReader{table: hashed, sink: sink, each: each, flat: q.kinds}
	if err := d.server.read(ctx, d.name, statement, reader.start()); err != nil {
		return fmt.Errorf("query %s: %w", d.name, err)
	}
	return nil
}

func (r *rowReader) start() *decoder {
	r.row.series = &seriesHead{}
	r.series = r.readSeries
	return &r.decoder
}

// readSeries reads one series, or the next rows of it.
func (r *rowReader) readSeries() error {
	h := r.row.series
	r.heads++
	h.number, h.texts, h.tags, h.checked, h.begun = r.heads, h.texts[:0], h.tags[:0], nil, false
	timed := false
	return r.object(func(key string) (err error) {
		switch key {
		case "name":
			_, err = r.name()
			return err
		case "tags":
			return r.readTags(h)
		case "columns":
			timed, err = r.readColumns(h)
			return err
		case "values":
			if !timed {
				return errors.New("rows without a time")
			}
			if r.flat == nil {
				r.begin(h)
			}
			n, err := r.r.ReadArrayHeader()
			for ; err == nil && n > 0; n-- {
				err = r.readRow(h)
			}
			return err
		case "partial":
			return r.partial()
		default:
			return r.r.Skip()
		}
	})
}

// maxTags bounds the tags of a series, in bytes.
const maxTags = 2 * models.MaxKeyLength

var errManyTags = fmt.Errorf("a series with more than %d bytes of tags", maxTags)

func (r *rowReader) readTags(h *seriesHead) error {
	n, err := r.r.ReadMapHeader()
	for ; err == nil && n > 0; n-- {
		var tag tagPart
		if h.texts, tag.key, err = r.text(h.texts); err != nil {
			return err
		}
		if h.texts, tag.value, err = r.text(h.texts); err != nil {
			return err
		}
		if len(h.texts) > maxTags {
			return errManyTags
		}
		if tag.value.to > tag.value.from {
			h.tags = append(h.tags, tag)
		}
	}
	if err == nil {
		slices.SortFunc(h.tags, func(a, b tagPart) int { return bytes.Compare(h.text(a.key), h.text(b.key)) })
	}
	return err
}

// readColumns keeps the columns of the series before where they are the same.
func (r *rowReader) readColumns(h *seriesHead) (timed bool, err error) {
	n, err := r.r.ReadArrayHeader()
	fields := 0
	same := true
	if n > maxColumns {
		return false, fmt.Errorf("a series of %d columns", n)
	}
	for i := uint32(0); err == nil && i < n; i++ {
		name, err := r.name()
		if err != nil {
			return false, err
		}
		if i == 0 && name == "time" {
			timed = true
			continue
		}
		if fields >= len(h.columns) || h.columns[fields].name != name {
			same = false
			h.columns = append(h.columns[:fields], newColumn(name))
		}
		fields++
	}
	if err != nil {
		return false, err
	}
	if !same || len(h.columns) != fields {
		h.columns = h.columns[:fields]
		h.order = h.order[:0]
		for i := range h.columns {
			h.order = append(h.order, i)
		}
		slices.SortStableFunc(h.order, func(a, b int) int { return strings.Compare(h.columns[a].name, h.columns[b].name) })
		for i := range max(0, len(h.order)-1) {
			if name := h.columns[h.order[i]].name; name == h.columns[h.order[i+1]].name {
				return false, fmt.Errorf("column %q is there twice", name)
			}
		}
		if r.flat != nil {
			return timed, r.flat.part(h)
		}
	}
	return timed, nil
}

func newColumn(name string) column {
	c := column{name: name, hashed: append(binary.LittleEndian.AppendUint64(nil, uint64(len(name))), name...)}
	c.line, c.err = appendFieldName(nil, name)
	return c
}

// begin makes what the rows of the series have in common.
func (r *rowReader) begin(h *seriesHead) {
	h.digest.Reset()
	content := r.row.content[:0]
	content = appendCounted(content, r.table)
	content = binary.LittleEndian.AppendUint64(content, uint64(len(h.tags)))
	h.sink = r.sink
	h.key, h.checked = appendTable(h.key[:0], r.sink)
	for i, tag := range h.tags {
		key, value := h.text(tag.key), h.text(tag.value)
		content = appendCounted(content, key)
		content = appendCounted(content, value)
		if h.checked == nil && i > 0 && bytes.Equal(h.text(h.tags[i-1].key), key) {
			h.checked = fmt.Errorf("tag %q is there twice", key)
		}
		if h.checked == nil {
			h.key, h.checked = appendTag(h.key, key, value)
		}
	}
	_, _ = h.digest.Write(content) // a hash takes all
	r.row.content = content[:0]
}

func appendCounted[T string | []byte](b []byte, text T) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(text))), text...)
}

func (r *rowReader) readRow(h *seriesHead) error {
	row := &r.row
	if !r.quick(len(h.columns)) {
		if err := r.slow(len(h.columns)); err != nil {
			return err
		}
	}
	if r.flat != nil {
		if err := r.tagsOfRow(h); err != nil {
			return err
		}
	}
	row.digest()
	if r.stop = r.each(row); r.stop != nil {
		return r.stop
	}
	return nil
}

// digest hashes the row's time and fields behind the series' key.
func (r *row) digest() {
	content := binary.LittleEndian.AppendUint64(r.content[:0], uint64(r.at))
	for _, i := range r.series.order {
		c := r.cells[i]
		if c.null {
			continue
		}
		content = append(content, r.series.columns[i].hashed...)
		content = append(content, byte(c.kind))
		content = binary.LittleEndian.AppendUint64(content, c.num)
		content = appendCounted(content, r.texts[c.text.from:c.text.to])
	}
	r.content = content
	digest := r.series.digest
	_, _ = digest.Write(content) // a hash takes all
	r.hash = digest.Sum64()
}

// appendLine appends the row's line with its newline.
func (r *row) appendLine(line []byte) ([]byte, error) {
	start := len(line)
	line, err := r.line(line)
	if err != nil {
		return line[:start], fmt.Errorf("row %s: %w", rowName(r.point(r.series.sink)), errNoLine{err})
	}
	return line, nil
}

// errNoLine says why no line can hold a row.
type errNoLine struct{ error }

func (e errNoLine) Unwrap() error { return e.error }

func (r *row) line(line []byte) ([]byte, error) {
	h := r.series
	if h.checked != nil {
		return line, h.checked
	}
	line = append(line, h.key...)
	separator := byte(' ')
	for _, i := range h.order {
		c := r.cells[i]
		if c.null {
			continue
		}
		field := &h.columns[i]
		if field.err != nil {
			return line, field.err
		}
		if len(h.key)+4+len(field.name) > models.MaxKeyLength {
			return line, fmt.Errorf("key longer than %d bytes", models.MaxKeyLength)
		}
		line = append(line, separator)
		separator = ','
		line = append(line, field.line...)
		switch c.kind {
		case schema.Integer:
			line = append(strconv.AppendInt(line, int64(c.num), 10), 'i')
		case schema.Float:
			f := math.Float64frombits(c.num)
			if math.IsNaN(f) || math.IsInf(f, 0) {
				return line, fmt.Errorf("field %s: %v has no representation", field.name, f)
			}
			line = strconv.AppendFloat(line, f, 'g', -1, 64)
		case schema.String:
			line = appendText(line, r.texts[c.text.from:c.text.to])
		case schema.Boolean:
			line = strconv.AppendBool(line, c.num == 1)
		}
	}
	if separator == ' ' {
		return line, errors.New("no fields")
	}
	if r.at < models.MinNanoTime || r.at > models.MaxNanoTime {
		return line, models.ErrTimeOutOfRange
	}
	line = append(line, ' ')
	line = r.times.append(line, r.at)
	return append(line, '\n'), nil
}

// integer is the value of an integer field; 0 where the row has none of the name.
func (r *row) integer(name string) int64 {
	for i, c := range r.cells {
		if !c.null && c.kind == schema.Integer && r.series.columns[i].name == name {
			return int64(c.num)
		}
	}
	return 0
}

// point is a copy of the row.
func (r *row) point(table string) Point {
	h := r.series
	p := Point{Table: table, Time: time.Unix(0, r.at).UTC()}
	for _, tag := range h.tags {
		p.Tags = append(p.Tags, Tag{string(h.text(tag.key)), string(h.text(tag.value))})
	}
	for _, i := range h.order {
		if c := r.cells[i]; !c.null {
			p.Fields = append(p.Fields, FieldValue{h.columns[i].name,
				Value{Type: c.kind, num: c.num, str: string(r.texts[c.text.from:c.text.to])}})
		}
	}
	return p
}

// text appends a string to texts.
func (r *rowReader) text(texts []byte) ([]byte, stretch, error) {
	n, err := r.r.ReadStringHeader()
	if err != nil {
		return texts, stretch{}, err
	}
	return r.bytes(texts, int(n))
}

func (r *rowReader) bytes(texts []byte, n int) ([]byte, stretch, error) {
	if n > maxText {
		return texts, stretch{}, fmt.Errorf("a text of %d bytes", n)
	}
	from := len(texts)
	texts = slices.Grow(texts, n)[:from+n]
	if _, err := r.r.R.ReadFull(texts[from:]); err != nil {
		return texts[:from], stretch{}, noEOF(err)
	}
	return texts, stretch{from, from + n}, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
