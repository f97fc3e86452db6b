package sheet

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestOpen(t *testing.T) {
	rows, header, err := Open([]byte("\ufeff# of a plug\nTime , Energy_kWh\n# a comment\n1, 2\n"), '#')
	if got := strings.Join(header, "|"); err != nil || got != "time|energy_kwh" {
		t.Errorf("header %q, %v", got, err)
	}
	row, err := rows.Read()
	if got := strings.Join(row, "|"); err != nil || got != "1|2" {
		t.Errorf("row %q, %v", got, err)
	}
	if line, _ := rows.FieldPos(0); line != 4 {
		t.Errorf("it stands in line %d", line)
	}
	if _, header, err = Open([]byte("#time\n"), 0); err != nil || header[0] != "#time" {
		t.Errorf("without comments: %v, %v", header, err)
	}
	if _, _, err = Open(nil, '#'); !errors.Is(err, io.EOF) {
		t.Errorf("nothing: %v", err)
	}
	if _, _, err = Open([]byte(`a,"b`), '#'); err == nil {
		t.Error("an open quote is a header")
	}
}
