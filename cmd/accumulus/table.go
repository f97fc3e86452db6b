package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// column is a column of a table.
type column struct {
	title string
	right bool
}

func left(titles ...string) []column {
	columns := make([]column, len(titles))
	for i, title := range titles {
		columns[i] = column{title: title}
	}
	return columns
}

func right(titles ...string) []column {
	columns := left(titles...)
	for i := range columns {
		columns[i].right = true
	}
	return columns
}

// table is text in columns, as kubectl prints it: no lines, two spaces between.
type table struct {
	columns []column
	rows    [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// write prints the table; empty cells are shown as "-".
func (t *table) write(w io.Writer) error {
	widths := make([]int, len(t.columns))
	titles := make([]string, len(t.columns))
	for i, c := range t.columns {
		titles[i] = c.title
		widths[i] = utf8.RuneCountInString(c.title)
	}
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(shown(cell)))
		}
	}
	for _, row := range append([][]string{titles}, t.rows...) {
		var line strings.Builder
		for i, cell := range row {
			cell = shown(cell)
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i > 0 {
				line.WriteString("  ")
			}
			if t.columns[i].right {
				line.WriteString(pad + cell)
			} else {
				line.WriteString(cell + pad)
			}
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(line.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// writeOr prints the table, or of no rows what that means and what to do.
func (t *table) writeOr(w io.Writer, nothing string) error {
	if len(t.rows) > 0 {
		return t.write(w)
	}
	_, err := fmt.Fprintln(w, nothing)
	return err
}

func shown(cell string) string {
	if cell == "" {
		return "-"
	}
	return cell
}

// writeCSV prints the columns' titles and the rows.
func (t *table) writeCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	titles := make([]string, len(t.columns))
	for i, c := range t.columns {
		titles[i] = c.title
	}
	if err := out.Write(titles); err != nil {
		return err
	}
	return out.WriteAll(t.rows)
}
