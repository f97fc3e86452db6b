package evaluation

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// ErrFile: the file is not what is asked for; the error says in which line and
// what to do.
var ErrFile = errors.New("cannot be evaluated")

// sheet is a CSV file whose first line names its columns.
type sheet struct {
	columns map[string]int
	rows    [][]string
	lines   []int // of the rows in the file
}

func readSheet(r io.Reader, needed []string) (*sheet, error) {
	reader := csv.NewReader(r)
	reader.FieldsPerRecord = -1
	head, err := reader.Read()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the file is empty: its first line names the columns: %w", ErrFile)
	}
	if err != nil {
		return nil, fmt.Errorf("read the first line: %w", err)
	}
	s := &sheet{columns: map[string]int{}}
	for i, name := range head {
		name = strings.TrimSpace(strings.TrimPrefix(name, "\ufeff"))
		if _, twice := s.columns[name]; twice {
			return nil, fmt.Errorf("column %q stands twice: %w", name, ErrFile)
		}
		s.columns[name] = i
	}
	var missing []string
	for _, name := range needed {
		if _, ok := s.columns[name]; !ok {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("no column %s: %w", strings.Join(missing, ", "), ErrFile)
	}
	for {
		row, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
		line, _ := reader.FieldPos(0)
		if len(row) != len(head) {
			return nil, fmt.Errorf("line %d has %d fields, the first line %d: %w", line, len(row), len(head), ErrFile)
		}
		s.rows, s.lines = append(s.rows, row), append(s.lines, line)
	}
	if len(s.rows) == 0 {
		return nil, fmt.Errorf("no rows below the columns' names: %w", ErrFile)
	}
	return s, nil
}

// text is a field, "" where there is no such column.
func (s *sheet) text(row int, name string) string {
	i, ok := s.columns[name]
	if !ok {
		return ""
	}
	return strings.TrimSpace(s.rows[row][i])
}

// number is a field that must be a finite number of at least least.
func (s *sheet) number(row int, name string, least float64) (float64, error) {
	text := s.text(row, name)
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("line %d: %s is %q, not a number: %w", s.lines[row], name, text, ErrFile)
	}
	if math.IsNaN(v) || math.IsInf(v, 0) || v < least {
		return 0, fmt.Errorf("line %d: %s is %s; it must be a finite number of at least %g: %w", s.lines[row], name, text, least, ErrFile)
	}
	return v, nil
}
