package influxsync

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
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
		if parsed, err := models.ParsePoints(append(line, "last f=1i 1\n"...)); err != nil || len(parsed) != 3 {
			t.Fatalf("%q: %d rows, %v", line, len(parsed), err)
		}
		got, err := ParseLine(string(bytes.TrimPrefix(line, []byte("other f=1i 1\n"))))
		if err != nil {
			t.Fatal(err)
		}
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
		statement, err := Query{From: table, Select: []string{field}, Where: []Condition{{Tag: tag, Value: value}, {Tag: tag, Value: value}},
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
	err := points(func(p Point) error {
		rows = append(rows, p)
		return nil
	}).answer(bytes.NewReader(data))
	return rows, err
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
	if err := points(func(Point) error { return stop }).answer(bytes.NewReader(sample())); !errors.Is(err, stop) {
		t.Errorf("error of the caller: %v", err)
	}
	if err := points(func(Point) error { return io.EOF }).answer(bytes.NewReader(sample())); !errors.Is(err, io.EOF) || errors.Is(err, ErrTruncated) {
		t.Errorf("the caller's EOF: %v", err)
	}
}

// rowsOf are the rows of an answer as the copying path sees them, of a flat one
// where kinds say what its columns are.
func rowsOf(data []byte, kinds columnKinds) (rows []Point, hashes []uint64, lines []string, err error) {
	return rowsFrom(bytes.NewReader(data), kinds)
}

func rowsFrom(body io.Reader, kinds columnKinds) (rows []Point, hashes []uint64, lines []string, err error) {
	reader := &rowReader{table: "t", sink: "sink", flat: kinds}
	reader.each = func(r *row) error {
		rows, hashes = append(rows, r.point("t")), append(hashes, r.hash)
		line, err := r.appendLine(nil)
		if err != nil {
			line = nil
		}
		lines = append(lines, string(line))
		return nil
	}
	err = reader.start().answer(body)
	return rows, hashes, lines, err
}

// FuzzRows: the copying path sees the rows that the reading path sees, with
// their hashes, and writes their lines; no foreign bytes make it panic.
func FuzzRows(f *testing.F) {
	f.Add(sample())
	f.Add(numbers())
	f.Add(flatSample(3))
	f.Add([]byte("\x81\xa7results\x91\x81\xa6series\x91\x83\xa4name\xa1t\xa7columns\x92\xa4time\xa1v\xa6values\x91\x92\x01\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		flat(t, data)
		got, hashes, lines, err := rowsOf(data, nil)
		_, slowHashes, slowLines, slowErr := rowsFrom(iotest.OneByteReader(bytes.NewReader(data)), nil)
		if !slices.Equal(hashes, slowHashes) || !slices.Equal(lines, slowLines) || (err == nil) != (slowErr == nil) {
			t.Fatalf("whole %q, %v; byte by byte %q, %v", lines, err, slowLines, slowErr)
		}
		want, wantErr := decodeAll(data)
		if err != nil {
			return // this path wants a time in each row, and bounds texts
		}
		if wantErr != nil || len(got) != len(want) {
			t.Fatalf("%d rows, want %d, %v", len(got), len(want), wantErr)
		}
		for i, p := range want {
			p.Table = "t"
			if !unique(p) {
				continue
			}
			if got[i].Hash() != hashes[i] || p.Hash() != hashes[i] {
				t.Errorf("row %d is %+v, hash %x; want %+v, hash %x", i, got[i], hashes[i], p, p.Hash())
			}
			p.Table = "sink"
			line, err := appendLine(nil, p)
			if err == nil && string(line) != lines[i] || err != nil && lines[i] != "" {
				t.Errorf("row %d: line %q, want %q, %v", i, lines[i], line, err)
			}
		}
	})
}

// sampleKinds are the columns of flatSample, and some of sample.
var sampleKinds = columnKinds{"cluster": true, "pod": true, "a": true, "cpu": false, "memory": false, "z": false, "f": false, "i": false, "s": true}

// flat looks at an answer as if it were a flat one: a row has the hash and the
// line of its point, and each of its columns where it belongs.
func flat(t *testing.T, data []byte) {
	rows, hashes, lines, _ := rowsOf(data, sampleKinds)
	for i, p := range rows {
		if !unique(p) {
			continue
		}
		if p.Hash() != hashes[i] {
			t.Errorf("flat row %d is %+v, hash %x; want %x", i, p, hashes[i], p.Hash())
		}
		for _, tag := range p.Tags {
			if isTag, known := sampleKinds[tag.Key]; tag.Value == "" || known && !isTag {
				t.Errorf("flat row %d has tag %+v", i, tag)
			}
		}
		for _, field := range p.Fields {
			if sampleKinds[field.Name] || field.Value.Type == schema.String {
				t.Errorf("flat row %d has field %+v", i, field)
			}
		}
		p.Table = "sink"
		line, err := appendLine(nil, p)
		if err == nil && string(line) != lines[i] || err != nil && lines[i] != "" {
			t.Errorf("flat row %d: line %q, want %q, %v", i, lines[i], line, err)
		}
	}
}

// flatSample is a flat answer of rows of two pods by turns; every third has
// neither pod nor memory.
func flatSample(rows int) []byte {
	b := msgp.AppendString(msgp.AppendMapHeader(nil, 1), "results")
	b = msgp.AppendString(msgp.AppendMapHeader(msgp.AppendArrayHeader(b, 1), 1), "series")
	b = msgp.AppendMapHeader(msgp.AppendArrayHeader(b, 1), 3)
	b = msgp.AppendString(msgp.AppendString(b, "name"), "pod")
	b = msgp.AppendArrayHeader(msgp.AppendString(b, "columns"), 5)
	for _, name := range []string{"time", "pod", "cluster", "cpu", "memory"} {
		b = msgp.AppendString(b, name)
	}
	b = msgp.AppendArrayHeader(msgp.AppendString(b, "values"), uint32(rows))
	for i := range rows {
		b = msgp.AppendInt64(msgp.AppendArrayHeader(b, 5), int64(i))
		if i%3 == 2 {
			b = msgp.AppendNil(msgp.AppendInt(msgp.AppendString(msgp.AppendString(b, ""), "edge"), i))
			continue
		}
		b = msgp.AppendString(msgp.AppendString(b, "service-6d4cf56db6-"+string(rune('a'+i%2))), "edge")
		b = msgp.AppendFloat64(msgp.AppendInt(b, i), 0.5)
	}
	return b
}

// numbers is an answer of rows of a number and a text, each of another size.
func numbers() []byte {
	values := []int64{0, 1, -1, -32, -33, 127, 128, -128, -129, math.MaxInt16, math.MaxInt16 + 1, math.MinInt16, math.MinInt16 - 1,
		math.MaxInt32, math.MaxInt32 + 1, math.MinInt32, math.MinInt32 - 1, math.MaxInt64, math.MinInt64}
	b := msgp.AppendString(msgp.AppendMapHeader(nil, 1), "results")
	b = msgp.AppendString(msgp.AppendMapHeader(msgp.AppendArrayHeader(b, 1), 1), "series")
	b = msgp.AppendMapHeader(msgp.AppendArrayHeader(b, 1), 2)
	b = msgp.AppendArrayHeader(msgp.AppendString(b, "columns"), 3)
	b = msgp.AppendString(msgp.AppendString(msgp.AppendString(b, "time"), "f"), "s")
	b = msgp.AppendArrayHeader(msgp.AppendString(b, "values"), uint32(len(values)+2))
	for i, v := range values {
		b = msgp.AppendInt64(msgp.AppendInt(msgp.AppendArrayHeader(b, 3), i), v)
		b = msgp.AppendString(b, strings.Repeat("x", i*17))
	}
	b = msgp.AppendNil(msgp.AppendUint64(msgp.AppendInt(msgp.AppendArrayHeader(b, 3), 100), 1<<40))
	return msgp.AppendNil(msgp.AppendFloat32(msgp.AppendInt(msgp.AppendArrayHeader(b, 3), 101), 0.5))
}

// TestQuickRows: a row that lies in the buffer whole is the same as one that is
// read value by value.
func TestQuickRows(t *testing.T) {
	for _, data := range [][]byte{numbers(), sample(), wide(2000)} {
		rows, hashes, lines, err := rowsOf(data, nil)
		_, slowHashes, slowLines, slowErr := rowsFrom(iotest.OneByteReader(bytes.NewReader(data)), nil)
		if err != nil || slowErr != nil || len(rows) < 4 || !slices.Equal(hashes, slowHashes) || !slices.Equal(lines, slowLines) {
			t.Errorf("%d rows whole, %v; %d byte by byte, %v", len(rows), err, len(slowHashes), slowErr)
		}
		want, _ := decodeAll(data)
		for i, p := range want {
			if p.Table = "t"; p.Hash() != hashes[i] {
				t.Errorf("row %d is %+v, want %+v", i, rows[i], p)
			}
		}
	}
}

func TestFlatRows(t *testing.T) {
	rows, _, lines, err := rowsOf(flatSample(4), sampleKinds)
	want := []string{"sink,cluster=edge,pod=service-6d4cf56db6-a cpu=0i,memory=0.5 0\n", "sink,cluster=edge,pod=service-6d4cf56db6-b cpu=1i,memory=0.5 1\n",
		"sink,cluster=edge cpu=2i 2\n", "sink,cluster=edge,pod=service-6d4cf56db6-b cpu=3i,memory=0.5 3\n"}
	if err != nil || !slices.Equal(lines, want) {
		t.Errorf("%q, %v; want %q", lines, err, want)
	}
	flat(t, flatSample(4))
	if p := rows[2]; len(p.Tags) != 1 || len(p.Fields) != 1 {
		t.Errorf("%+v", p)
	}
	for name, kinds := range map[string]columnKinds{
		"a column that is not known":  {"cluster": true, "pod": true, "cpu": false},
		"a text in a field's place":   {"cluster": false, "pod": true, "cpu": false, "memory": false},
		"a number in the tag's place": {"cluster": true, "pod": true, "cpu": true, "memory": false},
	} {
		if rows, _, _, err := rowsOf(flatSample(4), kinds); len(rows) > 0 || !errors.Is(err, errNotFlat) {
			t.Errorf("%s: %v, %v", name, rows, err)
		}
	}
	for name, table := range map[string]schema.Table{
		"no fields":          {Tags: []string{"a"}},
		"a text":             {Tags: []string{"a"}, Fields: []schema.Field{{Name: "s", Type: schema.String}}},
		"a tag and a field":  {Tags: []string{"a"}, Fields: []schema.Field{{Name: "a"}}},
		"what a second x is": {Tags: []string{"x"}, Fields: []schema.Field{{Name: "x_1"}}},
	} {
		if kinds := flatKinds(table); kinds != nil {
			t.Errorf("%s: %v", name, kinds)
		}
	}
	for _, table := range schema.Pulled {
		if got, want := flatKinds(table) != nil, table.DB == schema.MinuteDB; got != want {
			t.Errorf("%s is asked for flat: %t", table.Name, got)
		}
	}
}

// unique says whether no tag and no field of the row is there twice, which no
// server sends.
func unique(p Point) bool {
	seen := make(map[string]bool)
	for _, tag := range p.Tags {
		seen["t"+tag.Key] = true
	}
	for _, field := range p.Fields {
		seen["f"+field.Name] = true
	}
	return len(seen) == len(p.Tags)+len(p.Fields)
}

// wide is an answer of series with one row each, as a tick over a minute gets.
func wide(series int) []byte {
	b := msgp.AppendMapHeader(nil, 1)
	b = msgp.AppendString(b, "results")
	b = msgp.AppendMapHeader(msgp.AppendArrayHeader(b, 1), 1)
	b = msgp.AppendArrayHeader(msgp.AppendString(b, "series"), uint32(series))
	for i := range series {
		b = msgp.AppendMapHeader(b, 4)
		b = msgp.AppendString(msgp.AppendString(b, "name"), "pod")
		b = msgp.AppendMapHeader(msgp.AppendString(b, "tags"), 3)
		for _, text := range []string{"cluster", "edge", "pod", "service-6d4cf56db6-xyz12", "namespace", "team, a"} {
			b = msgp.AppendString(b, text)
		}
		b = msgp.AppendArrayHeader(msgp.AppendString(b, "columns"), 4)
		for _, text := range []string{"time", "cpu", "memory", "quality"} {
			b = msgp.AppendString(b, text)
		}
		b = msgp.AppendArrayHeader(msgp.AppendString(b, "values"), 1)
		b = msgp.AppendInt64(msgp.AppendArrayHeader(b, 4), int64(i)*1e9)
		b = msgp.AppendString(msgp.AppendFloat64(msgp.AppendInt64(b, int64(i)*977), 0.1), "measured")
	}
	return b
}

// TestRowsAllocateNothing: neither a row nor a series costs an allocation.
func TestRowsAllocateNothing(t *testing.T) {
	for name, kinds := range map[string]columnKinds{"grouped": nil, "flat": sampleKinds} {
		answer := wide
		if kinds != nil {
			answer = flatSample
		}
		allocateNothing(t, name, answer, kinds)
	}
}

func allocateNothing(t *testing.T, name string, answer func(int) []byte, kinds columnKinds) {
	allocations := func(series int) float64 {
		data := answer(series)
		line := make([]byte, 0, 1<<10)
		return testing.AllocsPerRun(3, func() {
			reader := &rowReader{table: "pod", sink: "pod", flat: kinds}
			reader.each = func(r *row) (err error) {
				line, err = r.appendLine(line[:0])
				return err
			}
			if err := reader.start().answer(bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
		})
	}
	if few, many := allocations(10), allocations(10_000); many > few+2 {
		t.Errorf("%s: %.0f allocations for 10,000 series, %.0f for 10", name, many, few)
	}
}

// BenchmarkRows is the client's own work on a row: decode, hash, line.
func BenchmarkRows(b *testing.B) {
	const series = 10_000
	data := wide(series)
	line := make([]byte, 0, 1<<10)
	rows := 0
	for b.Loop() {
		reader := &rowReader{table: "pod", sink: "pod"}
		reader.each = func(r *row) (err error) {
			rows++
			line, err = r.appendLine(line[:0])
			return err
		}
		if err := reader.start().answer(bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/row")
}
