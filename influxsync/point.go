package influxsync

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/cespare/xxhash/v2"
)

// Value is one typed field value. It is comparable, so that a changed type is
// a changed value.
type Value struct {
	Type schema.Type
	num  uint64 // int64, float64 bits or 0/1
	str  string
}

// Int is an integer value.
func Int(v int64) Value { return Value{Type: schema.Integer, num: uint64(v)} }

// Float is a float value; InfluxDB refuses NaN and infinities.
func Float(v float64) Value { return Value{Type: schema.Float, num: math.Float64bits(v)} }

// Str is a string value.
func Str(v string) Value { return Value{Type: schema.String, str: v} }

// Bool is a boolean value.
func Bool(v bool) Value {
	if v {
		return Value{Type: schema.Boolean, num: 1}
	}
	return Value{Type: schema.Boolean}
}

// Int is the integer, or 0 of another type.
func (v Value) Int() int64 {
	if v.Type != schema.Integer {
		return 0
	}
	return int64(v.num)
}

// Float is the float, or 0 of another type.
func (v Value) Float() float64 {
	if v.Type != schema.Float {
		return 0
	}
	return math.Float64frombits(v.num)
}

// Str is the string, or "" of another type.
func (v Value) Str() string { return v.str }

// Bool is the boolean, or false of another type.
func (v Value) Bool() bool { return v.Type == schema.Boolean && v.num == 1 }

// Tag is one part of a row's key.
type Tag struct{ Key, Value string }

// FieldValue is one column of a row.
type FieldValue struct {
	Name  string
	Value Value
}

// Point is one row: measurement, key, time and typed fields. NewPoint sorts
// tags and fields; code that builds one by hand keeps them sorted by name.
type Point struct {
	Table  string
	Tags   []Tag // sorted; without empty values, which InfluxDB cannot hold
	Fields []FieldValue
	Time   time.Time // UTC
}

// NewPoint makes a row of maps. Tags with an empty value are left out.
func NewPoint(table string, tags map[string]string, fields map[string]Value, t time.Time) Point {
	p := Point{Table: table, Time: t.UTC(),
		Tags: make([]Tag, 0, len(tags)), Fields: make([]FieldValue, 0, len(fields))}
	for key, value := range tags {
		if value != "" {
			p.Tags = append(p.Tags, Tag{key, value})
		}
	}
	for name, value := range fields {
		p.Fields = append(p.Fields, FieldValue{name, value})
	}
	p.Sort()
	return p
}

// Sort brings tags and fields into their canonical order.
func (p Point) Sort() {
	slices.SortFunc(p.Tags, func(a, b Tag) int { return strings.Compare(a.Key, b.Key) })
	slices.SortFunc(p.Fields, func(a, b FieldValue) int { return strings.Compare(a.Name, b.Name) })
}

// Tag is the value of a tag, or "".
func (p Point) Tag(key string) string {
	for _, tag := range p.Tags {
		if tag.Key == key {
			return tag.Value
		}
	}
	return ""
}

// Field is the value of a field, and whether the row has it.
func (p Point) Field(name string) (Value, bool) {
	for _, field := range p.Fields {
		if field.Name == name {
			return field.Value, true
		}
	}
	return Value{}, false
}

// Int is an integer field, or 0 where the row does not have it.
func (p Point) Int(name string) int64 {
	value, _ := p.Field(name)
	return value.Int()
}

// Hash is the 64-bit xxHash of the row's key, time, field names, types and
// values in canonical order. Tags and fields must be sorted.
func (p Point) Hash() uint64 {
	d := xxhash.New()
	var buf [9]byte
	text := func(s string) {
		binary.LittleEndian.PutUint64(buf[:8], uint64(len(s)))
		_, _ = d.Write(buf[:8])
		_, _ = d.WriteString(s)
	}
	text(p.Table)
	binary.LittleEndian.PutUint64(buf[:8], uint64(len(p.Tags)))
	_, _ = d.Write(buf[:8])
	for _, tag := range p.Tags {
		text(tag.Key)
		text(tag.Value)
	}
	binary.LittleEndian.PutUint64(buf[:8], uint64(p.Time.UnixNano()))
	_, _ = d.Write(buf[:8])
	for _, field := range p.Fields {
		text(field.Name)
		buf[0] = byte(field.Value.Type)
		binary.LittleEndian.PutUint64(buf[1:], field.Value.num)
		_, _ = d.Write(buf[:])
		text(field.Value.str)
	}
	return d.Sum64()
}

// Digest is the sum mod 2^64 of the rows' hashes: it does not depend on their
// order, and rows can be added to it and taken from it.
type Digest uint64

// Add counts a row in.
func (d *Digest) Add(p Point) { *d += Digest(p.Hash()) }

// Remove takes a row out.
func (d *Digest) Remove(p Point) { *d -= Digest(p.Hash()) }
