package rules

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
)

// ReadFile reads a data file by the end of its name: .csv, .csv.gz or .parquet.
func ReadFile(path string) (Table, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Table{}, fmt.Errorf("read %s: %w", path, err)
	}
	var table Table
	switch {
	case strings.HasSuffix(path, ".parquet"):
		table, err = ReadParquet(bytes.NewReader(text), int64(len(text)))
	case strings.HasSuffix(path, ".gz"):
		var zipped *gzip.Reader
		if zipped, err = gzip.NewReader(bytes.NewReader(text)); err == nil {
			table, err = ReadCSV(zipped)
		}
	default:
		table, err = ReadCSV(bytes.NewReader(text))
	}
	if err != nil {
		return Table{}, fmt.Errorf("read %s: %w", path, err)
	}
	return table, nil
}

// ReadCSV reads CSV as a program that guesses the types does: an empty field is
// null, and a column whose values are all of one type has that.
func ReadCSV(from io.Reader) (Table, error) {
	records, err := csv.NewReader(from).ReadAll()
	if err != nil {
		return Table{}, err
	}
	if len(records) == 0 {
		return Table{}, errors.New("it has no header")
	}
	var table Table
	for _, name := range records[0] {
		table.Columns = append(table.Columns, Column{Name: name})
	}
	for _, record := range records[1:] {
		row := make([]Cell, len(record))
		for i, text := range record {
			row[i] = Cell{Text: text, Null: text == ""}
			if text != "" {
				table.Columns[i].Type = wider(table.Columns[i].Type, guess(text))
			}
		}
		table.Rows = append(table.Rows, row)
	}
	return table, nil
}

// guess is the narrowest type of a text.
func guess(text string) string {
	switch {
	case dateTime.MatchString(text):
		return "datetime"
	case numeric.MatchString(text) && strings.ContainsAny(text, ".eE"):
		return "decimal"
	case numeric.MatchString(text):
		return "integer"
	}
	return "text"
}

// wider is the type that holds both.
func wider(a, b string) string {
	switch {
	case a == "" || a == b:
		return b
	case a == "integer" && b == "decimal" || a == "decimal" && b == "integer":
		return "decimal"
	}
	return "text"
}

// ReadParquet reads a file with the types of its schema.
func ReadParquet(from io.ReaderAt, size int64) (Table, error) {
	file, err := parquet.OpenFile(from, size)
	if err != nil {
		return Table{}, err
	}
	var table Table
	fields := file.Schema().Fields()
	for _, field := range fields {
		column := Column{Name: field.Name(), Type: "text", Typed: true}
		logical := field.Type().LogicalType()
		text := field.Type().String()
		switch {
		case logical == nil:
			return Table{}, fmt.Errorf("column %s has no logical type", field.Name())
		case strings.HasPrefix(text, "DECIMAL"):
			column.Type = "decimal"
		case strings.HasPrefix(text, "TIMESTAMP"):
			column.Type = "datetime"
		case text != "STRING":
			return Table{}, fmt.Errorf("column %s is %s", field.Name(), text)
		}
		table.Columns = append(table.Columns, column)
	}
	for _, group := range file.RowGroups() {
		if err := table.group(group, fields); err != nil {
			return Table{}, err
		}
	}
	return table, nil
}

// group reads the rows of one row group.
func (t *Table) group(group parquet.RowGroup, fields []parquet.Field) (err error) {
	rows := group.Rows()
	defer func() { err = errors.Join(err, rows.Close()) }()
	buffer := make([]parquet.Row, 64)
	for {
		n, err := rows.ReadRows(buffer)
		for _, read := range buffer[:n] {
			row := make([]Cell, len(fields))
			for i := range row {
				row[i].Null = true
			}
			for _, value := range read {
				i := value.Column()
				row[i] = t.cell(fields[i], value)
			}
			t.Rows = append(t.Rows, row)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// cell is a value as text.
func (t *Table) cell(field parquet.Field, value parquet.Value) Cell {
	i := value.Column()
	switch {
	case value.IsNull():
		return Cell{Null: true}
	case t.Columns[i].Type == "datetime":
		return Cell{Text: time.UnixMilli(value.Int64()).UTC().Format("2006-01-02T15:04:05Z")}
	case t.Columns[i].Type == "decimal":
		n := new(big.Int).SetBytes(value.ByteArray())
		if bits := uint(8 * len(value.ByteArray())); n.Bit(int(bits)-1) == 1 {
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), bits))
		}
		scale := scaleOf(field)
		return Cell{Text: new(big.Rat).SetFrac(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)).FloatString(max(1, scale))}
	}
	return Cell{Text: string(value.ByteArray())}
}

// scaleOf is the scale of a DECIMAL(precision,scale).
func scaleOf(field parquet.Field) int {
	var a, b int
	if _, err := fmt.Sscanf(field.Type().String(), "DECIMAL(%d,%d)", &a, &b); err != nil {
		return 0
	}
	return b
}
