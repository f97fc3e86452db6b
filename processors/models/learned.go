package models

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// Window is a box in a window of its meter.
type Window struct {
	Time  time.Time // the window's end
	Watts float64   // the mean that the meter showed
	Nodes []Load    // all nodes that were on
}

// Load is a node in it.
type Load struct {
	Type        string  // of hardware
	Utilisation float64 // 0 … 1
}

// Knots are where a learned curve may bend.
var Knots = []float64{0, .1, .25, .5, .75, 1}

// Curve is a power by utilisation: Cubic and Tabulated are.
type Curve interface{ At(u float64) float64 }

// Learner learns the curves of a box's hardware types from its meter alone: by
// least squares with nothing negative, a base for the box, a base for each of
// its boards, and the rise from knot to knot for each type.
type Learner struct {
	// Priors are the curves that are known of types: what the windows do not say
	// stays as they say, the more so the better the evidence for them. A type without one starts from a typical shape,
	// scaled to the box.
	Priors map[string]Curve
	// Typical is where the typical shape comes from; its zero is Shipped.
	Typical       Prior
	OverheadWatts float64       // of the box beside its boards, as far as known
	HalfLife      time.Duration // after which a window counts half; 0 is 14 days
}

// What the learner goes by.
const (
	// MinWindows: fewer teach nothing.
	MinWindows = 30
	// unseenShare of the windows, the last, decide whether what was learned from
	// the others is better.
	unseenShare = 0.2
	// ridge ties the unknowns, as multiples of their prior, to the prior: it is
	// the variance of what a window says of one of them, held against the
	// square of the prior's own standard error.
	ridge = 4e-6
	// typicalError is the standard error of a typical shape scaled to the box, and
	// of a prior that does not say what its own is.
	typicalError = 0.2
	// MaxCondition of the types' loads: above it (two types: a correlation of
	// 0.98) they cannot be told apart, and share the shape of their rise.
	MaxCondition = 10
)

// Learned is what a box's meter taught, or why it taught nothing.
type Learned struct {
	Accepted  bool                 `json:"accepted"`
	Why       string               `json:"why"`
	BaseWatts float64              `json:"baseWatts"` // of the box beside its boards
	Types     map[string]Tabulated `json:"types"`     // the curves, also where they were not accepted: to be shown, not used
	Condition float64              `json:"condition"` // of the types' loads before any were tied; 1 is best
	Error     Evidence             `json:"error"`     // of the box, on the unseen windows
	Before    Evidence             `json:"before"`    // of the priors on the same
}

// Learn fits the windows, and accepts the fit if it predicts the last unseen of
// them better than the priors do. It fails on fewer than MinWindows and on what
// contradicts itself; then nothing is learned and the priors stay.
func (l Learner) Learn(windows []Window) (Learned, error) {
	windows = slices.Clone(windows)
	slices.SortStableFunc(windows, func(a, b Window) int { return a.Time.Compare(b.Time) })
	if err := checkWindows(windows); err != nil {
		return Learned{}, err
	}
	seen := len(windows) - max(int(float64(len(windows))*unseenShare), 1)
	trial, err := l.fit(windows[:seen])
	if err != nil {
		return Learned{}, err
	}
	fitted, err := l.fit(windows)
	if err != nil {
		return Learned{}, err
	}
	learned := Learned{BaseWatts: fitted.base(), Condition: fitted.condition,
		Error:  evidence(windows[seen:], trial.predict),
		Before: evidence(windows[seen:], trial.prior)}
	learned.Accepted = learned.Error.MAPE < learned.Before.MAPE
	learned.Why = fmt.Sprintf("on the last %d windows, unseen, the learned curves are %.2f %% off and the former ones %.2f %%",
		len(windows)-seen, learned.Error.MAPE, learned.Before.MAPE)
	learned.Types = fitted.tables(learned.Error)
	return learned, nil
}

func checkWindows(windows []Window) error {
	if len(windows) < MinWindows {
		return fmt.Errorf("%d windows, fewer than %d: %w", len(windows), MinWindows, ErrPoints)
	}
	for _, w := range windows {
		if !(w.Watts > 0) || !finite(w.Watts) {
			return fmt.Errorf("window at %s: %v W: %w", w.Time.Format(time.RFC3339), w.Watts, ErrPoints)
		}
		if len(w.Nodes) == 0 {
			return fmt.Errorf("window at %s: no node was on: %w", w.Time.Format(time.RFC3339), ErrPoints)
		}
		for _, n := range w.Nodes {
			if !(n.Utilisation >= 0 && n.Utilisation <= 1) {
				return fmt.Errorf("window at %s: utilisation %v of a node of type %q: %w", w.Time.Format(time.RFC3339), n.Utilisation, n.Type, ErrPoints)
			}
		}
	}
	return nil
}

// evidence is the errors of a prediction of the box's power.
func evidence(windows []Window, predict func(Window) float64) Evidence {
	errors := make([]float64, 0, len(windows))
	for _, w := range windows {
		errors = append(errors, math.Abs(predict(w)-w.Watts)/w.Watts*100)
	}
	slices.Sort(errors)
	sum := 0.0
	for _, e := range errors {
		sum += e
	}
	return Evidence{MAPE: sum / float64(len(errors)), P95: errors[len(errors)*95/100], Windows: len(windows),
		Source: fmt.Sprintf("the box's meter, %d unseen windows", len(windows))}
}

// typeFit is one hardware type in a fit.
type typeFit struct {
	name  string
	curve Curve     // what is known of it
	prior []float64 // W: its base and its rise over each piece between knots
	loose bool      // no prior was given: a typical shape
	tight float64   // how tight the prior holds
	group int       // types of one group share their multiples
}

// boxFit is a fit of one box: each type's base and rises are multiples of its
// prior's, by group.
type boxFit struct {
	overhead  float64 // W: what the box's base is a multiple of
	known     float64 // W: the box's base as it was given
	types     []typeFit
	groups    int
	condition float64
	multiple  []float64 // [0] of the box's base; then by group the base and the rises
}

// pieces is a board's unknowns: its base, and a rise for each piece.
func pieces() int { return len(Knots) }

// fit fits the windows: twice where a type had only a typical shape, since after
// the first time its size is known, and with it its likely idle.
func (l Learner) fit(windows []Window) (*boxFit, error) {
	f := l.start(windows)
	f.tie(windows)
	if err := l.solve(f, windows); err != nil || !f.resize(l.typical()) {
		return f, err
	}
	return f, l.solve(f, windows)
}

// solve finds the multiples.
func (l Learner) solve(f *boxFit, windows []Window) error {
	n := 1 + f.groups*pieces()
	mean := meanWatts(windows)
	e := newNormal(n)
	newest, halfLife := windows[len(windows)-1].Time, cmp.Or(l.HalfLife, 14*24*time.Hour)
	row := make([]float64, n)
	for _, w := range windows {
		f.fill(row, w)
		for i := range row {
			row[i] /= mean
		}
		e.add(row, w.Watts/mean, math.Exp2(-float64(newest.Sub(w.Time))/float64(halfLife)))
	}
	f.pull(e, l.OverheadWatts > 0)
	multiple, err := nnls(e.a, e.b)
	if err != nil {
		return fmt.Errorf("learn from %d windows: %w", len(windows), err)
	}
	f.multiple = multiple
	return nil
}

// resize makes the priors of types of which only a typical shape was known as
// large as the rise that was learned; false if there are none.
func (f *boxFit) resize(typical Prior) bool {
	ratio, resized := typical.Ratio(0), false
	for i := range f.types {
		t := &f.types[i]
		if !t.loose {
			continue
		}
		resized = true
		learned := f.at(Load{t.name, 1}, f.multiple) - f.at(Load{t.name, 0}, f.multiple)
		full := max(learned/(1-ratio), 1)
		t.setPrior(scaled{typical.Shape(ratio, 0), ratio * full, full})
	}
	return resized
}

// tightness of a prior by the evidence for it.
func tightness(prior Curve) float64 {
	sigma := typicalError
	if m, ok := prior.(Model); ok && m.Evidence().Uncertainty() > 0 {
		sigma = max(float64(m.Evidence().Uncertainty())/1e6, 0.005)
	}
	return ridge / (sigma * sigma)
}

// setPrior takes the base and the rises of a curve.
func (t *typeFit) setPrior(curve Curve) {
	span := curve.At(1) - curve.At(0)
	t.prior = []float64{max(curve.At(0), 0.02*curve.At(1), 1e-3)}
	for k := 1; k < len(Knots); k++ {
		// A piece without a rise could not learn one.
		t.prior = append(t.prior, max(curve.At(Knots[k])-curve.At(Knots[k-1]), 0.2*span*(Knots[k]-Knots[k-1]), 1e-3))
	}
}

// typical is where typical shapes come from.
func (l Learner) typical() Prior {
	if len(l.Typical.Shapes) == 0 {
		return Shipped()
	}
	return l.Typical
}

// pull ties the multiples to 1, the prior itself; that of a base of the box of
// which nothing is known to 0.
func (f *boxFit) pull(e *normal, overhead bool) {
	towards := 0.0
	if overhead {
		towards = 1
	}
	e.pull(0, towards, ridge/(typicalError*typicalError))
	tight := make([]float64, f.groups)
	for _, t := range f.types {
		if tight[t.group] == 0 || t.tight < tight[t.group] {
			tight[t.group] = t.tight
		}
	}
	for g, weight := range tight {
		for k := range pieces() {
			e.pull(1+g*pieces()+k, 1, weight)
		}
	}
}

func meanWatts(windows []Window) float64 {
	sum := 0.0
	for _, w := range windows {
		sum += w.Watts
	}
	return sum / float64(len(windows))
}

// start is the types with their priors.
func (l Learner) start(windows []Window) *boxFit {
	names := map[string]bool{}
	for _, w := range windows {
		for _, n := range w.Nodes {
			names[n.Type] = true
		}
	}
	f := &boxFit{overhead: l.OverheadWatts, known: max(l.OverheadWatts, 0)}
	if f.overhead <= 0 {
		f.overhead = meanWatts(windows) / 100
	}
	generic := l.generic(windows)
	for i, name := range slices.Sorted(maps.Keys(names)) {
		t := typeFit{name: name, group: i}
		curve, known := l.Priors[name]
		if !known {
			curve, t.loose = generic, true
		}
		t.curve, t.tight = curve, tightness(curve)
		t.setPrior(curve)
		f.types = append(f.types, t)
	}
	f.groups = len(f.types)
	return f
}

// generic is a typical node, so large that the box of such nodes (and of those
// that are known) draws what the meter showed.
func (l Learner) generic(windows []Window) Curve {
	prior := l.typical()
	ratio := prior.Ratio(0)
	shape := prior.Shape(ratio, 0)
	var watts, units float64
	for _, w := range windows {
		watts += w.Watts - l.OverheadWatts
		for _, n := range w.Nodes {
			if curve, known := l.Priors[n.Type]; known {
				watts -= curve.At(n.Utilisation)
			} else {
				units += ratio + (1-ratio)*shape.At(n.Utilisation)
			}
		}
	}
	full := 1.0
	if units > 0 {
		full = max(watts/units, 1)
	}
	return scaled{shape, ratio * full, full}
}

// scaled is a shape between idle and full power.
type scaled struct {
	shape      Cubic
	idle, full float64
}

func (s scaled) At(u float64) float64 { return s.idle + (s.full-s.idle)*s.shape.At(u) }

// rise is how much of the piece below knot k a utilisation has gone.
func rise(k int, u float64) float64 {
	return min(max((u-Knots[k-1])/(Knots[k]-Knots[k-1]), 0), 1)
}

// fill is the window's row: what each unknown adds to the box's power, W.
func (f *boxFit) fill(row []float64, w Window) {
	clear(row)
	row[0] = f.overhead
	for _, n := range w.Nodes {
		t := f.types[f.find(n.Type)]
		at := 1 + t.group*pieces()
		row[at] += t.prior[0]
		for k := 1; k < pieces(); k++ {
			row[at+k] += t.prior[k] * rise(k, n.Utilisation)
		}
	}
}

func (f *boxFit) find(name string) int {
	i, _ := slices.BinarySearchFunc(f.types, name, func(t typeFit, name string) int { return cmp.Compare(t.name, name) })
	return i
}

// predict is the box's power by what was learned.
func (f *boxFit) predict(w Window) float64 {
	watts := f.base()
	for _, n := range w.Nodes {
		watts += f.at(n, f.multiple)
	}
	return watts
}

// prior is the box's power before anything was learned.
func (f *boxFit) prior(w Window) float64 {
	watts := f.known
	for _, n := range w.Nodes {
		if i := f.find(n.Type); i < len(f.types) && f.types[i].name == n.Type {
			watts += f.types[i].curve.At(n.Utilisation)
		}
	}
	return watts
}

// at is a node's power; without multiples as the prior has it. A type that the
// fit has not seen draws nothing.
func (f *boxFit) at(n Load, multiple []float64) float64 {
	i := f.find(n.Type)
	if i == len(f.types) || f.types[i].name != n.Type {
		return 0
	}
	t := f.types[i]
	watts := 0.0
	for k, w := range t.prior {
		if multiple != nil {
			w *= multiple[1+t.group*pieces()+k]
		}
		if k > 0 {
			w *= rise(k, n.Utilisation)
		}
		watts += w
	}
	return watts
}

func (f *boxFit) base() float64 { return f.overhead * f.multiple[0] }

// evidenceOf is what the box's evidence says of one of its types. With one type,
// that is it. With several, the meter shows only the sum of their idles: then the
// error is at least what it was in boxes of six different published servers, by
// what was known before (docs/accuracy.md).
func (f *boxFit) evidenceOf(t typeFit, box Evidence) Evidence {
	if len(f.types) < 2 {
		return box
	}
	least := Evidence{MAPE: 24, P95: 68}
	if !t.loose {
		least = Evidence{MAPE: 2.3, P95: 6.7}
		if m, ok := t.curve.(Model); ok {
			known := m.Evidence()
			least = Evidence{MAPE: max(1.6, .35*known.MAPE), P95: max(4.2, .35*known.P95)}
		}
	}
	box.MAPE, box.P95 = max(box.MAPE, least.MAPE), max(box.P95, least.P95)
	return box
}

// tables is each type's curve.
func (f *boxFit) tables(e Evidence) map[string]Tabulated {
	tables := map[string]Tabulated{}
	for _, t := range f.types {
		at := func(u float64) float64 { return f.at(Load{t.name, u}, f.multiple) }
		table := Tabulated{Of: KindLearned, Points: tabulateAt(at, Knots), Error: f.evidenceOf(t, e)}
		for _, o := range f.types {
			if o.group == t.group && o.name != t.name {
				table.Tied = append(table.Tied, o.name)
			}
		}
		tables[t.name] = table
	}
	return tables
}
