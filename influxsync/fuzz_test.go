package influxsync

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/influxdata/influxdb1-client/models"
	"github.com/influxdata/influxql"
	"github.com/tinylib/msgp/msgp"
)

// FuzzLine: a row that is accepted is parsed back as it was, and as one row.
func FuzzLine(f *testing.F) {
	for _, seed := range []string{"a", `a\b`, `a\`, "a b", "a,b=c", "a\nb", `"`, `\"`, "#", "", "é", "\xff", "\t", `a\\`, `\ `, "\r", "\x00"} {
		f.Add(seed, "k", seed, "v", seed, int64(1), 1.5)
		f.Add("t", seed, "x", seed, "s", int64(math.MinInt64), -0.0)
	}
	f.Fuzz(func(t *testing.T, table, key, value, name, text string, number int64, float float64) {
		p := NewPoint(table, map[string]string{key: value, "zz": value + "x"},
			map[string]Value{name: Str(text), "ff": Float(float), "nn": Int(number), "bb": Bool(number > 0)},
			time.Unix(0, number/4))
		line, err := appendLine([]byte("other f=1i 1\n"), p)
		if err != nil {
			return
		}
		parsed, err := models.ParsePoints(append(line, "last f=1i 1\n"...))
		if err != nil || len(parsed) != 3 {
			t.Fatalf("%q: %d rows, %v", line, len(parsed), err)
		}
		got := Point{Table: string(parsed[1].Name()), Time: parsed[1].Time()}
		for _, tag := range parsed[1].Tags() {
			got.Tags = append(got.Tags, Tag{string(tag.Key), string(tag.Value)})
		}
		fields, err := parsed[1].Fields()
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range fields {
			switch v := value.(type) {
			case int64:
				got.Fields = append(got.Fields, FieldValue{name, Int(v)})
			case float64:
				got.Fields = append(got.Fields, FieldValue{name, Float(v)})
			case string:
				got.Fields = append(got.Fields, FieldValue{name, Str(v)})
			case bool:
				got.Fields = append(got.Fields, FieldValue{name, Bool(v)})
			}
		}
		got.Sort()
		if got.Hash() != p.Hash() {
			t.Errorf("%q\n got %+v\nwant %+v", line, got, p)
		}
	})
}

// FuzzQuery: whatever the parts hold, the statement is one SELECT, and its
// names and literals are those that were given.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"a", `'; DROP DATABASE x; --`, `"`, `\`, `\"`, "\n", "\r", "\x00", "*", "/x/", "é", "\xff", "time", "::tag", ""} {
		f.Add(seed, seed, seed, seed, seed)
	}
	f.Fuzz(func(t *testing.T, table, field, tag, value, group string) {
		statement, err := Query{From: table, Select: []string{field}, Where: []Condition{{tag, value}, {tag, value}},
			Group: []string{"g", group}, Window: schema.Window{From: time.Unix(1, 0), To: time.Unix(2, 0)}, Limit: 3}.build()
		if err != nil {
			return
		}
		parsed, err := influxql.ParseQuery(statement)
		if err != nil || len(parsed.Statements) != 1 {
			t.Fatalf("%s: %v", statement, err)
		}
		q := parsed.Statements[0].(*influxql.SelectStatement)
		if source := q.Sources[0].(*influxql.Measurement); source.Name != table || source.Regex != nil || len(q.Sources) != 1 {
			t.Errorf("%s: table %+v, want %q", statement, source, table)
		}
		if name := q.Fields[0].Expr.(*influxql.VarRef); name.Val != field || len(q.Fields) != 1 {
			t.Errorf("%s: field %q, want %q", statement, name.Val, field)
		}
		if dimension, ok := q.Dimensions[1].Expr.(*influxql.VarRef); group != "*" && (!ok || dimension.Val != group || len(q.Dimensions) != 2) {
			t.Errorf("%s: group %+v, want %q", statement, q.Dimensions[1], group)
		}
		var values, names []string
		influxql.WalkFunc(q.Condition, func(n influxql.Node) {
			switch n := n.(type) {
			case *influxql.StringLiteral:
				values = append(values, n.Val)
			case *influxql.VarRef:
				names = append(names, n.Val)
			}
		})
		if !slices.Equal(values, []string{value, value}) || !slices.Equal(names, []string{tag, tag, "time", "time"}) {
			t.Errorf("%s: condition on %q with %q, want %q, %q", statement, names, values, tag, value)
		}
	})
}

// sample is an answer of two documents: a series that goes on, and its rest.
func sample() []byte {
	var b []byte
	text := func(values ...string) {
		for _, value := range values {
			b = msgp.AppendString(b, value)
		}
	}
	for i := range 2 {
		b = msgp.AppendMapHeader(b, 1)
		text("results")
		b = msgp.AppendMapHeader(msgp.AppendArrayHeader(b, 1), 3)
		text("statement_id")
		b = msgp.AppendInt(b, 0)
		text("series")
		b = msgp.AppendMapHeader(msgp.AppendArrayHeader(b, 1), 4)
		text("name", "t", "tags")
		b = msgp.AppendMapHeader(b, 2)
		text("b", "", "a", "1", "columns")
		b = msgp.AppendArrayHeader(b, 5)
		text("time", "z", "f", "i", "s", "values")
		b = msgp.AppendArrayHeader(b, 2)
		b = msgp.AppendInt(msgp.AppendArrayHeader(b, 5), i)
		b = msgp.AppendInt(msgp.AppendFloat64(msgp.AppendBool(b, true), 1.5), -7)
		text("x")
		b = msgp.AppendInt64(msgp.AppendArrayHeader(b, 5), 9)
		b = msgp.AppendNil(msgp.AppendInt(msgp.AppendNil(msgp.AppendNil(b)), 1))
		text("partial")
		b = msgp.AppendBool(b, i == 0)
	}
	return b
}

func decodeAll(data []byte) ([]Point, error) {
	var rows []Point
	d := decoder{r: newReader(bytes.NewReader(data)), each: func(p Point) error {
		rows = append(rows, p)
		return nil
	}}
	return rows, d.answer()
}

// FuzzDecode: foreign bytes are rows or an error, never a panic.
func FuzzDecode(f *testing.F) {
	f.Add(sample())
	f.Add([]byte("\x81\xa5error\xa4oops"))
	f.Add([]byte("\x81\xa7results\x91\x81\xa6series\xdd\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rows, _ := decodeAll(data)
		for _, row := range rows {
			for i := 1; i < len(row.Fields); i++ {
				if row.Fields[i-1].Name > row.Fields[i].Name {
					t.Errorf("fields out of order: %v", row.Fields)
				}
			}
		}
	})
}

func TestDecode(t *testing.T) {
	rows, err := decodeAll(sample())
	if err != nil || len(rows) != 4 {
		t.Fatalf("%d rows, %v; want 4", len(rows), err)
	}
	want := Point{Table: "t", Tags: []Tag{{"a", "1"}}, Time: time.Unix(0, 1).UTC(),
		Fields: []FieldValue{{"f", Float(1.5)}, {"i", Int(-7)}, {"s", Str("x")}, {"z", Bool(true)}}}
	if rows[2].Hash() != want.Hash() {
		t.Errorf("got %+v, want %+v", rows[2], want)
	}
	if got := rows[3].Fields; len(got) != 1 || got[0] != (FieldValue{"i", Int(1)}) {
		t.Errorf("nulls became fields: %+v", got)
	}
	for n := range len(sample()) {
		if _, err := decodeAll(sample()[:n]); !errors.Is(err, ErrTruncated) {
			t.Errorf("answer of %d bytes of %d: %v; want ErrTruncated", n, len(sample()), err)
		}
	}
	if _, err := decodeAll([]byte("\x81\xa7results\x91\x81\xa5error\xb7database not found: xyz")); !errors.Is(err, ErrNotFound) {
		t.Errorf("error in the stream: %v; want ErrNotFound", err)
	}
	broken := append(sample(), "\x81\xa7results\x91\x81\xa5error\xb1query interrupted"...)
	if rows, err := decodeAll(broken); err == nil || len(rows) != 4 {
		t.Errorf("error after rows: %d rows, %v", len(rows), err)
	}
	stop := errors.New("enough")
	d := decoder{r: msgp.NewReader(bytes.NewReader(sample())), each: func(Point) error { return stop }}
	if err := d.answer(); !errors.Is(err, stop) {
		t.Errorf("error of the caller: %v", err)
	}
	d = decoder{r: msgp.NewReader(bytes.NewReader(sample())), each: func(Point) error { return io.EOF }}
	if err := d.answer(); !errors.Is(err, io.EOF) || errors.Is(err, ErrTruncated) {
		t.Errorf("the caller's EOF: %v", err)
	}
}
