package archive

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/ordered"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
	"github.com/parquet-go/parquet-go/encoding"
)

// Columns that stand beside tags and fields.
const (
	timeColumn = "time"
	// restColumn is line protocol of the tags and fields that the table's description
	// does not have: another version wrote them.
	restColumn = "__rest__"
)

// Keys of a file's metadata.
const (
	measurementKey = "accumulus.measurement" // table that the rows are hashed with
	tagsKey        = "accumulus.tags"        // columns that are tags, by comma
)

const (
	// groupRows bounds a row group, which the writer holds in memory.
	groupRows = 50_000
	// batchRows are given to the writer at once.
	batchRows = 512
)

// tally is what can be checked of rows without comparing each.
type tally struct {
	Rows   int64
	Digest influxsync.Digest
}

func (t *tally) add(p influxsync.Point) {
	t.Rows++
	t.Digest.Add(p)
}

// tableWriter writes rows as Parquet: the time, the tags, the fields of a table, in
// that order, and what else a row has as text. Its bytes depend on the rows alone.
type tableWriter struct {
	table  schema.Table
	out    *parquet.GenericWriter[any]
	count  *counter
	batch  []parquet.Row
	used   int
	tags   map[string]int // column by name
	fields map[string]fieldColumn
	rest   int
	tally
}

type fieldColumn struct {
	at   int
	kind schema.Type
}

// counter counts and hashes what passes.
type counter struct {
	to    io.Writer
	bytes int64
	hash  hash.Hash
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.to.Write(b)
	c.bytes += int64(n)
	_, _ = c.hash.Write(b[:n]) // a hash takes all
	return n, err
}

func encoded(node parquet.Node, how encoding.Encoding) parquet.Node {
	return parquet.Optional(parquet.Encoded(node, how))
}

// newTableWriter begins a file. Fields with the name of a tag, and more than one
// column of a name, are no description of ours.
func newTableWriter(to io.Writer, table schema.Table) *tableWriter {
	w := &tableWriter{table: table, count: &counter{to: to, hash: sha256.New()}, tags: make(map[string]int), fields: make(map[string]fieldColumn)}
	root := ordered.New(len(table.Tags) + len(table.Fields) + 2)
	root.Add(timeColumn, parquet.Encoded(parquet.Timestamp(parquet.Nanosecond), &parquet.DeltaBinaryPacked))
	for i, tag := range table.Tags {
		root.Add(tag, encoded(parquet.String(), &parquet.RLEDictionary))
		w.tags[tag] = i + 1
	}
	for _, field := range table.Fields {
		var node parquet.Node
		switch field.Type {
		case schema.Integer:
			node = encoded(parquet.Int(64), &parquet.DeltaBinaryPacked)
		case schema.Float:
			node = encoded(parquet.Leaf(parquet.DoubleType), &parquet.Plain)
		case schema.Boolean:
			node = encoded(parquet.Leaf(parquet.BooleanType), &parquet.Plain)
		default:
			node = encoded(parquet.String(), &parquet.RLEDictionary)
		}
		w.fields[field.Name] = fieldColumn{1 + len(table.Tags) + len(w.fields), field.Type}
		root.Add(field.Name, node)
	}
	w.rest = 1 + len(table.Tags) + len(w.fields)
	root.Add(restColumn, encoded(parquet.String(), &parquet.Plain))
	w.batch = make([]parquet.Row, batchRows)
	for i := range w.batch {
		w.batch[i] = make(parquet.Row, w.rest+1)
	}
	w.out = parquet.NewGenericWriter[any](w.count, parquet.NewSchema(table.Name, root), parquet.CreatedBy("accumulus", "", ""),
		parquet.Compression(&zstd.Codec{}), parquet.MaxRowsPerRowGroup(groupRows),
		parquet.KeyValueMetadata(measurementKey, table.Name), parquet.KeyValueMetadata(tagsKey, strings.Join(table.Tags, ",")))
	return w
}

// write adds a row, whose tags and fields are sorted.
func (w *tableWriter) write(p influxsync.Point) error {
	row := w.batch[w.used]
	row[0] = parquet.Int64Value(p.Time.UnixNano()).Level(0, 0, 0)
	for i := 1; i < len(row); i++ {
		row[i] = parquet.NullValue().Level(0, 0, i)
	}
	rest := influxsync.Point{Table: w.table.Name, Time: p.Time}
	for _, tag := range p.Tags {
		if at, ok := w.tags[tag.Key]; ok {
			row[at] = parquet.ByteArrayValue([]byte(tag.Value)).Level(0, 1, at)
		} else {
			rest.Tags = append(rest.Tags, tag)
		}
	}
	for _, field := range p.Fields {
		if c, ok := w.fields[field.Name]; ok && c.kind == field.Value.Type {
			row[c.at] = valueOf(field.Value).Level(0, 1, c.at)
		} else {
			rest.Fields = append(rest.Fields, field)
		}
	}
	if len(rest.Tags)+len(rest.Fields) > 0 {
		line, err := restLine(rest)
		if err != nil {
			return fmt.Errorf("row of %s at %s: %w", w.table.Name, p.Time.Format(time.RFC3339Nano), err)
		}
		row[w.rest] = parquet.ByteArrayValue([]byte(line)).Level(0, 1, w.rest)
	}
	w.add(p)
	if w.used++; w.used < len(w.batch) {
		return nil
	}
	return w.flush()
}

// noField is the field of a rest that has only tags, for line protocol has no row
// without a field.
const noField = "__none__"

func restLine(rest influxsync.Point) (string, error) {
	if len(rest.Fields) == 0 {
		rest.Fields = []influxsync.FieldValue{{Name: noField, Value: influxsync.Bool(true)}}
	}
	return influxsync.LineOf(rest)
}

func valueOf(v influxsync.Value) parquet.Value {
	switch v.Type {
	case schema.Integer:
		return parquet.Int64Value(v.Int())
	case schema.Float:
		return parquet.DoubleValue(v.Float())
	case schema.Boolean:
		return parquet.BooleanValue(v.Bool())
	default:
		return parquet.ByteArrayValue([]byte(v.Str()))
	}
}

func (w *tableWriter) flush() error {
	_, err := w.out.WriteRows(w.batch[:w.used])
	w.used = 0
	return err
}

// close ends the file.
func (w *tableWriter) close() error {
	if err := w.flush(); err != nil {
		return err
	}
	return w.out.Close()
}

func (w *tableWriter) sum() string { return hex.EncodeToString(w.count.hash.Sum(nil)) }

// tableReader reads what a tableWriter wrote; its description is in the file.
type tableReader struct {
	file        *parquet.File
	measurement string
	columns     []readColumn
}

type readColumn struct {
	name string
	role byte // t(ime), g (tag), f(ield), r(est)
	kind schema.Type
}

// errColumns is a Parquet file that no archive has.
var errColumns = fmt.Errorf("the file has not the columns of an archive")

func newTableReader(from io.ReaderAt, size int64) (*tableReader, error) {
	file, err := parquet.OpenFile(from, size, parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true))
	if err != nil {
		return nil, err
	}
	r := &tableReader{file: file}
	r.measurement, _ = file.Lookup(measurementKey)
	tags, ok := file.Lookup(tagsKey)
	if !ok || r.measurement == "" {
		return nil, errColumns
	}
	for _, field := range file.Schema().Fields() {
		if !field.Leaf() {
			return nil, errColumns
		}
		c := readColumn{name: field.Name(), role: 'f'}
		switch {
		case c.name == timeColumn:
			c.role = 't'
		case c.name == restColumn:
			c.role = 'r'
		case slices.Contains(strings.Split(tags, ","), c.name):
			c.role = 'g'
		}
		switch field.Type().Kind() {
		case parquet.Int64:
			c.kind = schema.Integer
		case parquet.Double:
			c.kind = schema.Float
		case parquet.Boolean:
			c.kind = schema.Boolean
		case parquet.ByteArray:
			c.kind = schema.String
		default:
			return nil, errColumns
		}
		if (c.role == 't') != (len(r.columns) == 0) || c.role == 't' && c.kind != schema.Integer || (c.role == 'r' || c.role == 'g') && c.kind != schema.String {
			return nil, errColumns
		}
		r.columns = append(r.columns, c)
	}
	if len(r.columns) == 0 {
		return nil, errColumns
	}
	return r, nil
}

// each calls fn with every row whose time is in the window, in the order of the file;
// the zero window is all.
func (r *tableReader) each(w schema.Window, fn func(influxsync.Point) error) error {
	all := w == schema.Window{}
	for i, group := range r.file.RowGroups() {
		if !all && !r.touches(i, w) {
			continue
		}
		err := r.group(group, func(p influxsync.Point) error {
			if !all && !w.Contains(p.Time) {
				return nil
			}
			return fn(p)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// touches says whether a row group may have rows in the window, by the least and the
// greatest time that the file says it has.
func (r *tableReader) touches(group int, w schema.Window) bool {
	groups := r.file.Metadata().RowGroups
	if group >= len(groups) || len(groups[group].Columns) == 0 {
		return true
	}
	said := groups[group].Columns[0].MetaData.Statistics
	if len(said.MinValue) != 8 || len(said.MaxValue) != 8 {
		return true
	}
	least, greatest := int64(binary.LittleEndian.Uint64(said.MinValue)), int64(binary.LittleEndian.Uint64(said.MaxValue))
	return least < w.To.UnixNano() && greatest >= w.From.UnixNano()
}

func (r *tableReader) group(group parquet.RowGroup, fn func(influxsync.Point) error) (err error) {
	rows := group.Rows()
	defer func() {
		if closed := rows.Close(); err == nil {
			err = closed
		}
	}()
	batch := make([]parquet.Row, batchRows)
	for {
		n, err := rows.ReadRows(batch)
		for _, row := range batch[:n] {
			p, err := r.point(row)
			if err != nil {
				return err
			}
			if err := fn(p); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrNoProgress
		}
	}
}

// point is a row; its texts are copies.
func (r *tableReader) point(row parquet.Row) (influxsync.Point, error) {
	p := influxsync.Point{Table: r.measurement}
	var rest string
	for _, v := range row {
		at := v.Column()
		if at < 0 || at >= len(r.columns) {
			return p, errColumns
		}
		if v.IsNull() {
			continue
		}
		switch c := r.columns[at]; c.role {
		case 't':
			p.Time = time.Unix(0, v.Int64()).UTC()
		case 'g':
			p.Tags = append(p.Tags, influxsync.Tag{Key: c.name, Value: string(v.ByteArray())})
		case 'r':
			rest = string(v.ByteArray())
		default:
			p.Fields = append(p.Fields, influxsync.FieldValue{Name: c.name, Value: fieldOf(v, c.kind)})
		}
	}
	if rest != "" {
		more, err := influxsync.ParseLine(rest)
		if err != nil {
			return p, fmt.Errorf("column %s: %w", restColumn, err)
		}
		p.Tags = append(p.Tags, more.Tags...)
		for _, field := range more.Fields {
			if field.Name != noField {
				p.Fields = append(p.Fields, field)
			}
		}
	}
	p.Sort()
	return p, nil
}

func fieldOf(v parquet.Value, kind schema.Type) influxsync.Value {
	switch kind {
	case schema.Integer:
		return influxsync.Int(v.Int64())
	case schema.Float:
		return influxsync.Float(v.Double())
	case schema.Boolean:
		return influxsync.Bool(v.Boolean())
	default:
		return influxsync.Str(string(v.ByteArray()))
	}
}
