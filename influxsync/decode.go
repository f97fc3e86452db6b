package influxsync

import (
	"errors"
	"fmt"
	"io"
	"sort"
	"time"

	"github.com/tinylib/msgp/msgp"
)

// decoder reads a chunked answer in msgpack: one document after another, each
// {"results":[{"series":[{"name","tags","columns","values"}]}]}.
type decoder struct {
	r       *msgp.Reader
	series  func() error // reads one series and hands over its rows
	stop    error        // what the rows' taker returned
	open    bool         // the last series goes on in the next document
	names   map[string]string
	scratch []byte // the name that is being read
}

// pointReader hands over rows as points.
type pointReader struct {
	decoder
	each  func(Point) error
	arena []FieldValue
}

// points is a decoder of an answer's rows as points.
func points(each func(Point) error) *decoder {
	reader := &pointReader{each: each}
	reader.series = reader.readSeries
	return &reader.decoder
}

// series is the head of the rows that follow.
type series struct {
	table   string
	tags    []Tag
	columns []string
	timed   bool // column 0 is the time
	sorted  bool // the others are in the order of their names
}

// errAnswer marks what the server said, against what could not be read.
type errAnswer struct{ err error }

func (e errAnswer) Error() string { return e.err.Error() }
func (e errAnswer) Unwrap() error { return e.err }

// maxText bounds a text of an answer in bytes: a tag or a text field has at most
// 64 KiB, and a server that claims more would be believed with memory.
const maxText = 1 << 20

// maxElements bounds a list of an answer, which has chunkRows rows at most, and
// maxColumns the columns of a series.
const (
	maxElements = 1 << 20
	maxColumns  = 1 << 14
)

// answer reads the whole body.
func (d *decoder) answer(body io.Reader) error {
	// A body that can seek would be sought beyond its end, which is no error.
	d.r = msgp.NewReaderSize(struct{ io.Reader }{body}, 64<<10)
	d.r.SetMaxStringLength(maxText)
	d.r.SetMaxElements(maxElements)
	d.names = make(map[string]string)
	for documents := 0; ; documents++ {
		_, err := d.r.NextType()
		if errors.Is(err, io.EOF) {
			if documents == 0 || d.open {
				return ErrTruncated
			}
			return nil
		}
		if err == nil {
			err = d.document()
		}
		var said errAnswer
		switch {
		case err == nil:
		case d.stop != nil:
			return d.stop
		case errors.As(err, &said):
			return said.err
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("%w: %w", ErrTruncated, err)
		default:
			return fmt.Errorf("read answer: %w", err)
		}
	}
}

func (d *decoder) document() error {
	d.open = false
	return d.object(func(key string) error {
		switch key {
		case "results":
			return d.array(func() error { return d.object(d.result) })
		case "error":
			return d.failure()
		default:
			return d.r.Skip()
		}
	})
}

func (d *decoder) result(key string) error {
	switch key {
	case "series":
		return d.array(d.series)
	case "partial":
		return d.partial()
	case "error":
		return d.failure()
	default:
		return d.r.Skip()
	}
}

// partial says that rows follow in another document.
func (d *decoder) partial() error {
	more, err := d.r.ReadBool()
	d.open = d.open || more
	return err
}

func (d *decoder) failure() error {
	message, err := d.r.ReadString()
	if err != nil {
		return err
	}
	return errAnswer{statementError(message)}
}

func (d *pointReader) readSeries() error {
	var s series
	return d.object(func(key string) (err error) {
		switch key {
		case "name":
			s.table, err = d.name()
			return err
		case "tags":
			err = d.object(func(key string) error {
				value, err := d.r.ReadString()
				if value != "" {
					s.tags = append(s.tags, Tag{key, value})
				}
				return err
			})
			sort.Slice(s.tags, func(i, j int) bool { return s.tags[i].Key < s.tags[j].Key })
			return err
		case "columns":
			if err := d.array(func() error {
				column, err := d.name()
				s.columns = append(s.columns, column)
				if err == nil && len(s.columns) > maxColumns {
					err = fmt.Errorf("a series of more than %d columns", maxColumns)
				}
				return err
			}); err != nil {
				return err
			}
			s.inspect()
			return nil
		case "values":
			return d.array(func() error { return d.row(&s) })
		case "partial":
			return d.partial()
		default:
			return d.r.Skip()
		}
	})
}

func (s *series) inspect() {
	s.timed = len(s.columns) > 0 && s.columns[0] == "time"
	fields := s.columns
	if s.timed {
		fields = fields[1:]
	}
	s.sorted = sort.StringsAreSorted(fields)
}

// row reads the values in the order of the columns and hands the row over with
// its fields in the order of their names.
func (d *pointReader) row(s *series) error {
	n, err := d.r.ReadArrayHeader()
	if err != nil {
		return err
	}
	if int(n) != len(s.columns) {
		return fmt.Errorf("row of %d values under %d columns", n, len(s.columns))
	}
	if len(d.arena) < len(s.columns) {
		d.arena = make([]FieldValue, max(512, len(s.columns)))
	}
	cells := d.arena[:len(s.columns):len(s.columns)]
	p := Point{Table: s.table, Tags: s.tags}
	if s.timed {
		at, err := d.r.ReadInt64()
		if err != nil {
			return err
		}
		p.Time = time.Unix(0, at).UTC()
	}
	for i := range s.columns {
		if i == 0 && s.timed {
			continue
		}
		value, ok, err := d.value()
		if err != nil {
			return err
		}
		cells[i] = FieldValue{Value: value}
		if ok {
			cells[i].Name = s.columns[i]
		}
	}
	p.Fields = s.present(cells)
	d.arena = d.arena[len(s.columns):]
	if d.stop = d.each(p); d.stop != nil {
		return d.stop
	}
	return nil
}

// present keeps the cells that are not null, by name, without time.
func (s *series) present(cells []FieldValue) []FieldValue {
	fields := cells
	if s.timed {
		fields = cells[1:]
	}
	if !s.sorted {
		sort.SliceStable(fields, func(i, j int) bool { return fields[i].Name < fields[j].Name })
	}
	kept := fields[:0]
	for _, field := range fields {
		if field.Name != "" {
			kept = append(kept, field)
		}
	}
	return kept
}

// value reads one cell; false is null.
func (d *pointReader) value() (Value, bool, error) {
	kind, err := d.r.NextType()
	if err != nil {
		return Value{}, false, err
	}
	switch kind {
	case msgp.NilType:
		return Value{}, false, d.r.ReadNil()
	case msgp.IntType, msgp.UintType:
		v, err := d.r.ReadInt64()
		return Int(v), true, err
	case msgp.Float64Type, msgp.Float32Type:
		v, err := d.r.ReadFloat64()
		return Float(v), true, err
	case msgp.StrType:
		v, err := d.r.ReadString()
		return Str(v), true, err
	case msgp.BoolType:
		v, err := d.r.ReadBool()
		return Bool(v), true, err
	default:
		return Value{}, false, fmt.Errorf("value of type %s", kind)
	}
}

// name reads a name that comes again and again.
func (d *decoder) name() (string, error) {
	text, err := d.r.ReadStringAsBytes(d.scratch)
	if err != nil {
		return "", err
	}
	d.scratch = text[:0]
	if name, ok := d.names[string(text)]; ok {
		return name, nil
	}
	name := string(text)
	if len(d.names) < 1024 {
		d.names[name] = name
	}
	return name, nil
}

func (d *decoder) object(read func(key string) error) error {
	n, err := d.r.ReadMapHeader()
	if err != nil {
		return err
	}
	for ; n > 0; n-- {
		key, err := d.name()
		if err != nil {
			return err
		}
		if err := read(key); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) array(read func() error) error {
	n, err := d.r.ReadArrayHeader()
	if err != nil {
		return err
	}
	for ; n > 0; n-- {
		if err := read(); err != nil {
			return err
		}
	}
	return nil
}
