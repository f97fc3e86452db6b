package influxsync

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/tinylib/msgp/msgp"
)

// The first bytes of a value in msgpack, as far as InfluxDB writes them.
const (
	packNil     = 0xc0
	packFalse   = 0xc2
	packTrue    = 0xc3
	packFloat32 = 0xca
	packFloat64 = 0xcb
	packUint8   = 0xcc
	packUint64  = 0xcf
	packInt8    = 0xd0
	packInt16   = 0xd1
	packInt32   = 0xd2
	packInt64   = 0xd3
	packText8   = 0xd9
	packText32  = 0xdb
	packList    = 0x90 // of less than 16, with their number
	packList16  = 0xdc
)

// packSizes are those of numbers from packFloat64 to packInt64, with their first
// byte.
var packSizes = [...]uint8{9, 2, 3, 5, 9, 2, 3, 5, 9}

// slow reads the time and the cells of a row, one after the other, and says what
// is wrong with them.
func (r *rowReader) slow(columns int) error {
	n, err := r.r.ReadArrayHeader()
	if err != nil {
		return err
	}
	if int(n) != columns+1 {
		return fmt.Errorf("row of %d values under %d columns", n, columns+1)
	}
	row := &r.row
	if row.at, err = r.r.ReadInt64(); err != nil {
		return err
	}
	row.cells, row.texts = row.cells[:0], row.texts[:0]
	for range columns {
		var c cell
		if c, row.texts, err = r.cell(row.texts); err != nil {
			return err
		}
		row.cells = append(row.cells, c)
	}
	return nil
}

// quick reads the time and the cells of a row that lies in the buffer whole, and
// says whether it did. A row with a value that is rare, or wrong, it leaves to
// slow, and has read nothing.
func (r *rowReader) quick(columns int) bool {
	b, err := r.r.R.Peek(r.r.R.Buffered())
	if err != nil {
		return false
	}
	at := 0
	switch n := columns + 1; {
	case n < 16 && len(b) > 0 && b[0] == packList|byte(n):
		at = 1
	case n >= 16 && len(b) > 2 && b[0] == packList16 && int(binary.BigEndian.Uint16(b[1:])) == n:
		at = 3
	default:
		return false
	}
	row := &r.row
	when, size := unpacked(b[at:])
	if size == 0 || when.kind != schema.Integer {
		return false
	}
	at += size
	row.at = int64(when.num)
	row.cells, row.texts = row.cells[:0], row.texts[:0]
	for range columns {
		c, size := unpacked(b[at:])
		if size == 0 {
			return false
		}
		if c.kind == schema.String {
			row.texts, c.text = appendStretch(row.texts, b[at+c.text.from:at+c.text.to])
		}
		row.cells = append(row.cells, c)
		at += size
	}
	_, err = r.r.R.Skip(at)
	return err == nil
}

// unpacked is the value that b begins with, and its size; its text is a stretch of
// b. The size is 0 where b does not hold it whole, and of values that are rare.
func unpacked(b []byte) (c cell, size int) {
	if len(b) == 0 {
		return c, 0
	}
	lead := b[0]
	switch {
	case lead < 0x80 || lead >= 0xe0:
		return cell{num: uint64(int64(int8(lead)))}, 1
	case lead == packNil || lead == packFalse || lead == packTrue:
		return cell{kind: schema.Boolean, null: lead == packNil, num: uint64(lead & 1)}, 1
	case lead&0xe0 == 0xa0:
		if size = 1 + int(lead&0x1f); size > len(b) {
			return c, 0
		}
		return cell{kind: schema.String, text: stretch{1, size}}, size
	case lead < packFloat64 || lead > packInt64:
		return c, 0
	}
	if size = int(packSizes[lead-packFloat64]); size > len(b) {
		return c, 0
	}
	switch lead {
	case packFloat64:
		c = cell{kind: schema.Float, num: binary.BigEndian.Uint64(b[1:])}
	case packInt64:
		c.num = binary.BigEndian.Uint64(b[1:])
	case packInt32:
		c.num = uint64(int64(int32(binary.BigEndian.Uint32(b[1:]))))
	case packInt16:
		c.num = uint64(int64(int16(binary.BigEndian.Uint16(b[1:]))))
	case packInt8:
		c.num = uint64(int64(int8(b[1])))
	default: // a server of ours has no unsigned numbers
		return c, 0
	}
	return c, size
}

// cell reads one value. A text is appended to texts.
func (r *rowReader) cell(texts []byte) (cell, []byte, error) {
	lead, err := r.r.R.PeekByte()
	if err != nil {
		return cell{}, texts, noEOF(err)
	}
	switch {
	case lead < 0x80 || lead >= 0xe0:
		_, err := r.r.R.Skip(1)
		return cell{num: uint64(int64(int8(lead)))}, texts, err
	case lead == packInt64 || lead == packFloat64:
		b, err := r.r.R.Next(9)
		if err != nil {
			return cell{}, texts, noEOF(err)
		}
		c := cell{num: binary.BigEndian.Uint64(b[1:])}
		if lead == packFloat64 {
			c.kind = schema.Float
		}
		return c, texts, nil
	case lead == packNil || lead == packFalse || lead == packTrue:
		_, err := r.r.R.Skip(1)
		return cell{kind: schema.Boolean, null: lead == packNil, num: uint64(lead & 1)}, texts, err
	case lead >= packUint8 && lead <= packUint64, lead >= packInt8 && lead < packInt64:
		v, err := r.r.ReadInt64()
		return cell{num: uint64(v)}, texts, err
	case lead == packFloat32:
		v, err := r.r.ReadFloat32()
		return cell{kind: schema.Float, num: math.Float64bits(float64(v))}, texts, err
	case lead&0xe0 == 0xa0, lead >= packText8 && lead <= packText32:
		c := cell{kind: schema.String}
		texts, c.text, err = r.text(texts)
		return c, texts, err
	default:
		return cell{}, texts, fmt.Errorf("value of type %s", msgp.NextType([]byte{lead}))
	}
}
