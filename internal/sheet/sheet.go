// Package sheet opens CSV files as spreadsheets and devices write them.
package sheet

import (
	"bytes"
	"encoding/csv"
	"strings"
)

// Open reads the header of a CSV file, with a byte order mark or without, and
// gives the rows that follow it. Names of columns are in small letters, without
// the spaces around them. Lines that begin with comment are passed over; 0 is
// none. Error: there is no header, or it is no CSV.
func Open(text []byte, comment rune) (rows *csv.Reader, header []string, err error) {
	rows = csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff"))))
	rows.TrimLeadingSpace, rows.Comment = true, comment
	header, err = rows.Read()
	for i, name := range header {
		header[i] = strings.ToLower(strings.TrimSpace(name))
	}
	return rows, header, err
}
