package chaos

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// chance is true in n of 1000 cases.
func chance(r *rand.Rand, n int) bool { return r.IntN(1000) < n }

// makeSteps lays the tables' agendas into each other, and between them pulls and
// losses.
func (p *plan) makeSteps(r *rand.Rand) {
	agendas := make([][]step, len(p.tables))
	total := 0
	for i := range p.tables {
		agendas[i] = p.agenda(r, i)
		total += len(agendas[i])
	}
	losses := p.losses(r, total)
	next := func(i int) step {
		s := agendas[i][0]
		agendas[i] = agendas[i][1:]
		s.pause = time.Duration(r.Int64N(int64(40 * time.Second)))
		return s
	}
	for done := 0; ; done++ {
		for _, kind := range losses[done] {
			p.steps = append(p.steps, step{kind: kind, pause: time.Second})
		}
		var left []int
		for i, agenda := range agendas {
			if len(agenda) > 0 {
				left = append(left, i)
			}
		}
		if len(left) == 0 {
			return
		}
		p.steps = append(p.steps, next(pick(r, left)))
		if !chance(r, 90) {
			continue
		}
		pulled := step{kind: pulling, pause: time.Second, weather: someWeather(r)}
		if i := pick(r, left); chance(r, 300) && len(agendas[i]) > 0 {
			nth := 1 + r.IntN(4)
			for range min(1+r.IntN(2), len(agendas[i])) {
				pulled.during = append(pulled.during, during{nth, next(i)})
			}
		}
		p.steps = append(p.steps, pulled)
	}
}

// someWeather is mostly bad.
func someWeather(r *rand.Rand) weather {
	w := weather{limit: pick(r, []int{1, 3, 6, 10, 15, 25, 40, 240, 240}), span: time.Duration(1+r.IntN(40)) * schema.Minute}
	rates := []int{0, 20, 60, 60, 120, 120, 250}
	w.source, w.sink = pick(r, rates), pick(r, rates)
	switch {
	case chance(r, 20):
		w.source = 1000 // down
	case chance(r, 20):
		w.sink = 1000
	}
	return w
}

// losses are of processes and volumes, by the number of steps before them.
func (p *plan) losses(r *rand.Rand, total int) map[int][]kind {
	losses := make(map[int][]kind)
	add := func(at int, k kind) { losses[at] = append(losses[at], k) }
	if chance(r, 400) {
		add(r.IntN(total), restartLeader)
	}
	if chance(r, 300) {
		add(r.IntN(total), restartFollower)
	}
	if chance(r, 350) {
		add(total/4+r.IntN(total/2), emptyVolume)
	}
	if chance(r, 400) {
		saved := r.IntN(total * 3 / 4)
		add(saved, backUp)
		add(saved+1+r.IntN(total-saved-1), restore)
	}
	return losses
}

// agenda is what the follower does with a table, in its order.
func (p *plan) agenda(r *rand.Rand, table int) []step {
	a := &agenda{plan: p, r: r, table: table, never: make(map[int]bool)}
	var groups [][]int
	for from := 0; from < p.windows; {
		to := min(p.windows, from+2+r.IntN(7))
		var group []int
		for i := from; i < to; i++ {
			group = append(group, i)
		}
		groups = append(groups, group)
		from = to
	}
	for i := 1; i < len(groups); i++ {
		if chance(r, 250) {
			groups[i-1], groups[i] = groups[i], groups[i-1]
		}
	}
	for _, group := range groups {
		a.first(group)
		if chance(r, 350) {
			a.comeLate()
		}
		if chance(r, 350) {
			a.revise()
		}
	}
	a.comeLate()
	return a.steps
}

// agenda is of one table.
type agenda struct {
	*plan
	r       *rand.Rand
	table   int
	steps   []step
	late    []influxsync.Point
	written []int        // windows
	never   map[int]bool // windows that never settle
}

// write adds the rows in some order, in some requests.
func (a *agenda) write(rows []influxsync.Point) {
	rows = shuffled(a.r, rows)
	for len(rows) > 0 {
		n := len(rows)
		if n > 1 && chance(a.r, 500) {
			n = 1 + a.r.IntN(n)
		}
		a.steps = append(a.steps, step{kind: write, table: a.table, rows: rows[:n:n]})
		rows = rows[n:]
	}
}

func (a *agenda) settle(windows []int) {
	windows = slices.DeleteFunc(slices.Clone(windows), func(w int) bool { return a.never[w] })
	if chance(a.r, 300) {
		windows = shuffled(a.r, windows)
	}
	if len(windows) > 0 {
		a.steps = append(a.steps, step{kind: settle, table: a.table, windows: windows})
	}
}

// first writes windows and settles them. Some rows come late, some windows never
// settle.
func (a *agenda) first(group []int) {
	var rows []influxsync.Point
	for _, w := range group {
		a.never[w] = chance(a.r, 25)
		for _, row := range a.rows(a.r, a.table, w) {
			if chance(a.r, 80) {
				a.late = append(a.late, row)
			} else {
				rows = append(rows, row)
			}
		}
	}
	a.write(rows)
	a.settle(group)
	a.written = append(a.written, group...)
}

// comeLate writes the late rows and settles their windows again.
func (a *agenda) comeLate() {
	if len(a.late) == 0 {
		return
	}
	var windows []int
	for _, row := range a.late {
		windows = append(windows, a.index(row.Time))
	}
	a.write(a.late)
	a.late = nil
	slices.Sort(windows)
	a.settle(slices.Compact(windows))
}

// revise writes some rows of some windows anew and settles those.
func (a *agenda) revise() {
	windows := shuffled(a.r, a.written)[:min(len(a.written), 1+a.r.IntN(4))]
	var rows []influxsync.Point
	for _, w := range windows {
		all := shuffled(a.r, a.rows(a.r, a.table, w))
		if len(all) > 0 {
			rows = append(rows, all[:1+a.r.IntN(len(all))]...)
		}
	}
	a.write(rows)
	a.settle(windows)
}
