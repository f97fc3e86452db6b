package focus

import (
	"io"
	"math/big"

	"github.com/accumulus-metering/accumulus/internal/ordered"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
)

// decimalBytes hold 38 digits.
const decimalBytes = 16

// schemaOf is STRING for text and JSON, TIMESTAMP in UTC for moments, DECIMAL for
// numbers; columns that may be null are optional.
func schemaOf(name string, all []column) *parquet.Schema {
	root := ordered.New(len(all))
	for _, c := range all {
		node := parquet.String()
		switch c.Type {
		case Decimal:
			node = parquet.Decimal(c.Scale, precision, parquet.FixedLenByteArrayType(decimalBytes))
		case Moment:
			node = parquet.Timestamp(parquet.Millisecond)
		}
		if !c.NotNull {
			node = parquet.Optional(node)
		}
		root.Add(c.Name, node)
	}
	return parquet.NewSchema(name, root)
}

// parquetTable is a Parquet file of one row group, compressed with zstd. Its bytes
// depend on the rows alone.
type parquetTable struct {
	out     *parquet.GenericWriter[any]
	columns []column
	batch   []parquet.Row
}

func newParquet(to io.Writer, name string, all []column) *parquetTable {
	return &parquetTable{columns: all, out: parquet.NewGenericWriter[any](to, schemaOf(name, all),
		parquet.CreatedBy("accumulus", "", ""), parquet.Compression(&zstd.Codec{}), parquet.MaxRowsPerRowGroup(1<<40))}
}

func (t *parquetTable) write(cells []cell) error {
	row := make(parquet.Row, len(cells))
	for i, c := range cells {
		column, level := t.columns[i], 0
		if !column.NotNull {
			level = 1
		}
		switch {
		case c.null:
			row[i] = parquet.NullValue().Level(0, 0, i)
			continue
		case column.Type == Decimal:
			n, _ := unscaled(c.number, column.Scale) // the check has seen that it fits
			row[i] = parquet.FixedLenByteArrayValue(bigEndian(n))
		case column.Type == Moment:
			row[i] = parquet.Int64Value(c.at.UnixMilli())
		default:
			row[i] = parquet.ByteArrayValue([]byte(c.text))
		}
		row[i] = row[i].Level(0, level, i)
	}
	if t.batch = append(t.batch, row); len(t.batch) < 1000 {
		return nil
	}
	return t.flush()
}

func (t *parquetTable) flush() error {
	_, err := t.out.WriteRows(t.batch)
	t.batch = t.batch[:0]
	return err
}

func (t *parquetTable) close() error {
	if err := t.flush(); err != nil {
		return err
	}
	return t.out.Close()
}

// bigEndian is a number in two's complement.
func bigEndian(n *big.Int) []byte {
	out := make([]byte, decimalBytes)
	if n.Sign() < 0 {
		n = new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), 8*decimalBytes))
	}
	return n.FillBytes(out)
}
