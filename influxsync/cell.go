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
	packInt64   = 0xd3
	packText8   = 0xd9
	packText32  = 0xdb
)

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
