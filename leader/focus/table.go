package focus

import (
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"io"
)

// Compression says how data files are written.
type Compression string

// The kinds of data files.
const (
	Gzip    Compression = "gzip" // CSV
	None    Compression = "none" // CSV
	Parquet Compression = "parquet"
)

// ParseCompression reads one; "" is gzip.
func ParseCompression(text string) (Compression, error) {
	switch c := Compression(text); c {
	case "":
		return Gzip, nil
	case Gzip, None, Parquet:
		return c, nil
	}
	return "", fmt.Errorf("compression %q: use gzip, none or parquet", text)
}

// Extension is the end of a data file's name.
func (c Compression) Extension() string {
	return map[Compression]string{Gzip: ".csv.gz", None: ".csv", Parquet: ".parquet"}[c]
}

// tableWriter writes rows of cells. Close ends the file, not the writer below.
type tableWriter interface {
	write(cells []cell) error
	close() error
}

// newTable begins a data file.
func newTable(to io.Writer, c Compression, name string, all []column) (tableWriter, error) {
	switch c {
	case Parquet:
		return newParquet(to, name, all), nil
	case Gzip:
		zipped := gzip.NewWriter(to) // without name and time: the same rows are the same bytes
		table, err := newCSV(zipped, all)
		return zippedTable{table, zipped}, err
	}
	return newCSV(to, all)
}

type zippedTable struct {
	*csvTable
	zipped *gzip.Writer
}

func (t zippedTable) close() error {
	if err := t.csvTable.close(); err != nil {
		return err
	}
	return t.zipped.Close()
}

// csvTable is CSV as RFC 4180 has it, with line feeds; null is an empty field.
type csvTable struct {
	out     *csv.Writer
	columns []column
	record  []string
}

func newCSV(to io.Writer, all []column) (*csvTable, error) {
	t := &csvTable{out: csv.NewWriter(to), columns: all, record: make([]string, len(all))}
	for i, c := range all {
		t.record[i] = c.Name
	}
	return t, t.out.Write(t.record)
}

func (t *csvTable) write(cells []cell) error {
	for i, c := range cells {
		t.record[i] = c.csv(t.columns[i].Type)
	}
	return t.out.Write(t.record)
}

func (t *csvTable) close() error {
	t.out.Flush()
	return t.out.Error()
}
