package registry

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// packVersion begins every packed day.
const packVersion = 1

// errPacked is a packed day that cannot be read.
var errPacked = errors.New("packed windows are damaged")

// packing writes windows column by column, each number as the difference to
// what it mostly is, so that little is left for zlib to store but the digests.
type packing struct{ out []byte }

func (p *packing) number(n int64) { p.out = binary.AppendVarint(p.out, n) }

func (p *packing) words(words []string) {
	p.number(int64(len(words)))
	for _, w := range words {
		p.out = append(binary.AppendUvarint(p.out, uint64(len(w))), w...)
	}
}

// dictionary gives each word that occurs a place, in the order of first occurrence.
type dictionary struct {
	words  []string
	places map[string]int
}

func (t *dictionary) place(word string) int {
	at, known := t.places[word]
	if !known {
		if t.places == nil {
			t.places = make(map[string]int)
		}
		at = len(t.words)
		t.places[word], t.words = at, append(t.words, word)
	}
	return at
}

// uncounted stands for a set of nodes that was not counted.
const uncounted = "?"

func setWord(s nodeSet) string {
	if s == nil {
		return uncounted
	}
	return "=" + string(s)
}

// column is one number of a window, less what the windows before it make likely.
type column struct {
	get func(e, before *ledgerRow) int64
	set func(e, before *ledgerRow, n int64)
}

// columns are all numbers of a window.
var columns = []column{
	{func(e, b *ledgerRow) int64 { return e.from - b.from }, func(e, b *ledgerRow, n int64) { e.from = b.from + n }},
	{func(e, b *ledgerRow) int64 { return e.to - e.from - (b.to - b.from) }, func(e, b *ledgerRow, n int64) { e.to = e.from + b.to - b.from + n }},
	{func(e, _ *ledgerRow) int64 { return e.revision }, func(e, _ *ledgerRow, n int64) { e.revision = n }},
	{func(e, b *ledgerRow) int64 { return e.rows - b.rows }, func(e, b *ledgerRow, n int64) { e.rows = b.rows + n }},
	{func(e, b *ledgerRow) int64 { return e.coverage - b.coverage }, func(e, b *ledgerRow, n int64) { e.coverage = b.coverage + n }},
	{func(e, b *ledgerRow) int64 { return e.entered - b.entered }, func(e, b *ledgerRow, n int64) { e.entered = b.entered + n }},
	{func(e, b *ledgerRow) int64 { return e.received - b.received }, func(e, b *ledgerRow, n int64) { e.received = b.received + n }},
	{func(e, b *ledgerRow) int64 { return e.audited - b.audited }, func(e, b *ledgerRow, n int64) { e.audited = b.audited + n }},
	{func(e, _ *ledgerRow) int64 { return e.refused }, func(e, _ *ledgerRow, n int64) { e.refused = n }},
	{func(e, _ *ledgerRow) int64 { return e.extra }, func(e, _ *ledgerRow, n int64) { e.extra = n }},
	{func(e, _ *ledgerRow) int64 { return e.overlaps }, func(e, _ *ledgerRow, n int64) { e.overlaps = n }},
	{func(e, b *ledgerRow) int64 { return e.era - b.era }, func(e, b *ledgerRow, n int64) { e.era = b.era + n }},
	{func(e, _ *ledgerRow) int64 { return e.unexplained }, func(e, _ *ledgerRow, n int64) { e.unexplained = n }},
}

// pack is windows in few bytes; unpack gives the same ones back.
func pack(windows []ledgerRow) ([]byte, error) {
	var p packing
	var stores, reasons, sets dictionary
	for _, e := range windows {
		stores.place(e.store)
		reasons.place(e.reason)
		sets.place(setWord(e.nodes))
	}
	p.number(int64(len(windows)))
	p.words(stores.words)
	p.words(reasons.words)
	p.words(sets.words)
	for _, e := range windows {
		p.number(int64(stores.place(e.store)))
		p.number(int64(reasons.place(e.reason)))
		p.number(int64(sets.place(setWord(e.nodes))))
	}
	for _, c := range columns {
		before := ledgerRow{}
		for i := range windows {
			p.number(c.get(&windows[i], &before))
			before = windows[i]
		}
	}
	for _, e := range windows {
		p.out = binary.LittleEndian.AppendUint64(p.out, uint64(e.digest))
	}
	var out bytes.Buffer
	out.WriteByte(packVersion)
	z := zlib.NewWriter(&out)
	if _, err := z.Write(p.out); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// unpacking reads what packing wrote; the first error stays.
type unpacking struct {
	in  []byte
	err error
}

func (u *unpacking) number() int64 {
	n, size := binary.Varint(u.in)
	if size <= 0 {
		u.fail()
		return 0
	}
	u.in = u.in[size:]
	return n
}

func (u *unpacking) fail() { u.err, u.in = errPacked, nil }

func (u *unpacking) take(n uint64) []byte {
	if n > uint64(len(u.in)) {
		u.fail()
		return nil
	}
	part := u.in[:n]
	u.in = u.in[n:]
	return part
}

func (u *unpacking) words() []string {
	n := u.number()
	if n < 0 || n > int64(len(u.in)) { // a word has a byte at least
		u.fail()
		return nil
	}
	words := make([]string, n)
	for i := range words {
		length, size := binary.Uvarint(u.in)
		if size <= 0 {
			u.fail()
			return nil
		}
		u.in = u.in[size:]
		words[i] = string(u.take(length))
	}
	return words
}

// word is one of the table.
func (u *unpacking) word(words []string) string {
	at := u.number()
	if at < 0 || at >= int64(len(words)) {
		u.fail()
		return ""
	}
	return words[at]
}

// unpack gives back what pack was given.
func unpack(packed []byte) ([]ledgerRow, error) {
	if len(packed) == 0 || packed[0] != packVersion {
		return nil, fmt.Errorf("%w: version", errPacked)
	}
	z, err := zlib.NewReader(bytes.NewReader(packed[1:]))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPacked, err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPacked, err)
	}
	u := unpacking{in: text}
	n := u.number()
	if n < 0 || n > int64(len(u.in)) {
		return nil, errPacked
	}
	windows := make([]ledgerRow, n)
	stores, reasons, sets := u.words(), u.words(), u.words()
	for i := range windows {
		e := &windows[i]
		e.store, e.reason = u.word(stores), u.word(reasons)
		if word := u.word(sets); word != "" && word != uncounted {
			e.nodes = nodeSet(word[1:])
		}
	}
	first := ledgerRow{}
	for _, c := range columns {
		before := &first
		for i := range windows {
			c.set(&windows[i], before, u.number())
			before = &windows[i]
		}
	}
	for i := range windows {
		if digest := u.take(8); digest != nil {
			windows[i].digest = int64(binary.LittleEndian.Uint64(digest))
		}
	}
	if u.err == nil && len(u.in) > 0 {
		u.fail()
	}
	return windows, u.err
}
