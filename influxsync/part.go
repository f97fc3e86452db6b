package influxsync

import (
	"cmp"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// tally is what is compared of a window.
type tally struct {
	rows   int64
	digest Digest
}

func (t *tally) add(hash uint64) {
	t.rows++
	t.digest += Digest(hash)
}

func (t tally) less(o tally) tally { return tally{t.rows - o.rows, t.digest - o.digest} }

// copied is a window with what was seen of it.
type copied struct {
	entry    Entry
	streamed tally // all rows of the source
	accepted tally // those of this cluster, which were sent
	refused  tally // those that the sink does not take
	returned tally // what the sink says it holds
	extra    int64 // rows of the sink that the source does not have
	// unexplained: no era is known that may have left them there.
	unexplained bool
	values      []uint64 // bits: which of the part's values had rows
}

func (w *copied) count(bit int) {
	for len(w.values) <= bit/64 {
		w.values = append(w.values, 0)
	}
	w.values[bit/64] |= 1 << (bit % 64)
}

// newest keeps the last entry of each window, by the windows' time.
func newest(entries []Entry) []*copied {
	bySpan := make(map[span]*copied)
	for _, e := range entries {
		bySpan[spanOf(e.Window)] = &copied{entry: e}
	}
	windows := make([]*copied, 0, len(bySpan))
	for _, w := range bySpan {
		windows = append(windows, w)
	}
	sortWindows(windows)
	return windows
}

func sortWindows(windows []*copied) {
	slices.SortFunc(windows, func(a, b *copied) int {
		return cmp.Or(a.entry.Window.From.Compare(b.entry.Window.From), a.entry.Window.To.Compare(b.entry.Window.To))
	})
}

// part is a run of windows without a gap between them, which one query reads.
type part struct {
	window  schema.Window
	windows []*copied // by time
	longest time.Duration
	grain   int64 // of its windows, where all are as long and none overlaps; else 0
	found   []*copied

	numbers map[string]int // of the values that are counted by, from 0
	rows    int
	foreign []Point
	strays  int // foreign rows, the kept ones included
	refused []Refused
	// unsendable are rows that no line can hold, of the one who reads.
	unsendable []unsendable
	stale      map[string]bool // keys of refused rows, of which the sink may hold an older version
}

// unsendable is a row that no line can hold.
type unsendable struct {
	row Point
	Refused
}

// parts cuts the windows where there is a gap, after limit, and at the end of a
// UTC day: the engine writes the shards of one request in parallel. Windows that
// overlap are in one part.
func parts(windows []*copied, limit time.Duration) []*part {
	var parts []*part
	for _, w := range windows {
		window := w.entry.Window
		last := len(parts) - 1
		if last < 0 || !window.From.Before(parts[last].window.To) && (!window.From.Equal(parts[last].window.To) ||
			window.To.Sub(parts[last].window.From) > limit || !window.From.Truncate(shard).Equal(parts[last].window.From.Truncate(shard))) {
			parts = append(parts, &part{window: window, grain: int64(window.Length()), numbers: make(map[string]int), stale: make(map[string]bool)})
			last++
		}
		p := parts[last]
		if p.grain != int64(window.Length()) || len(p.windows) > 0 && !window.From.Equal(p.window.To) {
			p.grain = 0
		}
		p.windows = append(p.windows, w)
		p.longest = max(p.longest, window.Length())
		if window.To.After(p.window.To) {
			p.window.To = window.To
		}
	}
	return parts
}

// of are the windows of the part that hold a time in Unix ns: one, unless
// windows of different lengths overlap. They are good until the next call.
func (p *part) of(at int64) []*copied {
	if p.grain > 0 {
		i := (at - p.window.From.UnixNano()) / p.grain
		if at < p.window.From.UnixNano() || i < 0 || i >= int64(len(p.windows)) { // the difference may wrap
			return nil
		}
		return p.windows[i : i+1]
	}
	t := time.Unix(0, at)
	i, _ := slices.BinarySearchFunc(p.windows, t, func(w *copied, t time.Time) int {
		if w.entry.Window.From.After(t) {
			return 1
		}
		return -1
	})
	p.found = p.found[:0]
	for i--; i >= 0 && t.Sub(p.windows[i].entry.Window.From) < p.longest; i-- {
		if p.windows[i].entry.Window.Contains(t) {
			p.found = append(p.found, p.windows[i])
		}
	}
	return p.found
}

// number is that of a value that is counted by; -1 without one.
func (p *part) number(value []byte) int {
	if len(value) == 0 {
		return -1
	}
	n, ok := p.numbers[string(value)]
	if !ok {
		n = len(p.numbers)
		p.numbers[string(value)] = n
	}
	return n
}

// confirmed is the window as it is told of; counted says that there is a tag to count
// by.
func (p *part) confirmed(w *copied, counted bool) Confirmed {
	c := Confirmed{Entry: w.entry, Refused: w.refused.rows, Extra: w.extra, Unexplained: w.unexplained}
	if counted {
		c.Values = []string{} // none of its rows may count
	}
	for value, n := range p.numbers {
		if n/64 < len(w.values) && w.values[n/64]&(1<<(n%64)) != 0 {
			c.Values = append(c.Values, value)
		}
	}
	slices.Sort(c.Values)
	return c
}
