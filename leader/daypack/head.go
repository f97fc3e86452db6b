package daypack

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// read takes a new head: it finds the columns, and the key of each row.
func (s *Sums) read(head []byte) error {
	r := reader{left: head}
	tags, columns, rows := r.count(), r.count(), r.count()
	group := make([]int, len(s.group)) // of each tag of the group its number in the pack
	for i := range group {
		group[i] = -1
	}
	for i := range tags {
		if at := slices.Index(s.group, string(r.text())); at >= 0 {
			group[at] = i
		}
	}
	last := heading{rows: rows, column: make([]int, len(s.columns)), widths: make([]int, 0, min(columns, len(head)))}
	for i := range last.column {
		last.column[i] = -1
	}
	for i := 0; i < columns && !r.failed; i++ {
		if at := slices.Index(s.columns, string(r.text())); at >= 0 {
			last.column[at] = i
		}
		last.widths = append(last.widths, r.width())
	}
	if i := slices.Index(group, -1); i >= 0 {
		return fmt.Errorf("it has no tag %s: %w", s.group[i], ErrFormat)
	}
	if i := slices.Index(last.column, -1); i >= 0 {
		return fmt.Errorf("it has no column %s: %w", s.columns[i], ErrFormat)
	}
	s.last, s.at = last, s.at[:0]
	values := make([][]byte, tags)
	for i := 0; i < rows && !r.failed; i++ {
		for tag := range values {
			values[tag] = r.text()
		}
		s.at = append(s.at, int32(s.key(values, group)))
	}
	if r.failed || len(r.left) > 0 {
		return fmt.Errorf("its head is not whole: %w", ErrFormat)
	}
	return nil
}

// key is the number of a row's key, a new one where it was not met before.
func (s *Sums) key(values [][]byte, group []int) int {
	var id []byte
	for _, tag := range group {
		id = append(binary.AppendUvarint(id, uint64(len(values[tag]))), values[tag]...)
	}
	if i, known := s.index[string(id)]; known {
		return i
	}
	i := len(s.keys)
	s.index[string(id)] = i
	key := make([]string, len(group))
	for j, tag := range group {
		key[j] = string(values[tag])
	}
	s.keys = append(s.keys, key)
	for column := range s.sums {
		s.sums[column] = append(s.sums[column], 0)
	}
	return i
}

// reader reads a head; what is cut off fails.
type reader struct {
	left   []byte
	failed bool
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.left)
	if size <= 0 {
		r.left, r.failed = nil, true
		return 0
	}
	r.left = r.left[size:]
	return n
}

// count is a number of things, each of which takes a byte at least.
func (r *reader) count() int {
	n := r.number()
	if n > uint64(len(r.left)) {
		r.left, r.failed = nil, true
		return 0
	}
	return int(n)
}

func (r *reader) text() []byte {
	n := r.count()
	text := r.left[:n]
	r.left = r.left[n:]
	return text
}

func (r *reader) width() int {
	if len(r.left) == 0 || r.left[0] > 8 {
		r.left, r.failed = nil, true
		return 0
	}
	width := int(r.left[0])
	r.left = r.left[1:]
	return width
}
