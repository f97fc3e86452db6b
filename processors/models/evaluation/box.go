package evaluation

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/accumulus-metering/accumulus/processors/models"
)

// What is composed. The loads and the watts are measured ones; that they are in
// one box is our own.
const (
	boxNodes     = 6
	boxesEach    = 300  // of same nodes, and of different ones
	teaching     = 100  // windows from which a box's curves are learned
	splitting    = 20   // windows that are split
	gainError    = 0.02 // of the box's meter: uniform within ±, one for each box
	readingNoise = 0.005
)

// box is six nodes behind one meter.
type box struct {
	curves []Curve
	types  []string // of hardware; of same nodes one
	prior  models.Prior
	teach  []boxWindow
	test   []boxWindow
}

// boxWindow is a window of it.
type boxWindow struct {
	levels []int   // of each node, in tenths
	meter  float64 // W, with the meter's errors
}

// Box composes boxes of six same and six different nodes of the curves, at
// random ones of their measured loads, and scores how the meter's energy is
// split over the nodes. The six nodes of a box are of one fold, so that no
// prior has seen one of them; with one fold that is the shipped prior, which may
// have.
func Box(curves []Curve, shipped models.Prior, seed uint64) ([]Result, error) {
	return compositions(curves, shipped, seed, boxesEach)
}

func compositions(curves []Curve, shipped models.Prior, seed uint64, each int) ([]Result, error) {
	single := curves[:0:0]
	for _, c := range curves {
		if c.Nodes == 1 {
			single = append(single, c)
		}
	}
	if len(single) < boxNodes {
		return nil, fmt.Errorf("a box is composed of %d servers with one node behind their meter; the file has %d: %w", boxNodes, len(single), ErrFile)
	}
	of, n := folds(single)
	priors, err := unseen(single, of, n)
	if err != nil {
		return nil, err
	}
	if priors == nil {
		priors = []models.Prior{shipped}
	}
	byFold := make([][]Curve, n)
	for i, c := range single {
		byFold[of[i]] = append(byFold[of[i]], c)
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	var all []Result
	for _, same := range []bool{true, false} {
		scores := newBoxScores(same)
		for i := range each {
			fold := i % n
			b := compose(rng, byFold[fold], priors[fold], same)
			if err := scores.split(b); err != nil {
				return nil, err
			}
		}
		all = append(all, results(scores.all...)...)
	}
	return all, nil
}

func compose(rng *rand.Rand, curves []Curve, prior models.Prior, same bool) *box {
	b := &box{prior: prior}
	order := rng.Perm(len(curves))
	for i := range boxNodes {
		pick, name := order[0], "a"
		if !same {
			pick, name = order[i%len(order)], string(rune('a'+i))
		}
		b.curves, b.types = append(b.curves, curves[pick]), append(b.types, name)
	}
	gain := 1 + gainError*(2*rng.Float64()-1)
	for i := range teaching + splitting {
		w := boxWindow{}
		for _, c := range b.curves {
			level := rng.IntN(tenths + 1)
			w.levels = append(w.levels, level)
			w.meter += c.Points[level].Watts
		}
		w.meter *= gain * (1 + readingNoise*rng.NormFloat64())
		if i < teaching {
			b.teach = append(b.teach, w)
		} else {
			b.test = append(b.test, w)
		}
	}
	return b
}

func (b *box) utilisation(w boxWindow, n int) float64 {
	return b.curves[n].Points[w.levels[n]].Utilisation
}

// splitter is each node's watts in a window.
type splitter func(w boxWindow) []float64

type boxScores struct {
	all []*score
}

func newBoxScores(same bool) *boxScores {
	prefix := BoxDifferent
	if same {
		prefix = BoxSame
	}
	s := &boxScores{}
	for _, m := range [][2]string{
		{Thesis, "idle of each node known; the rest by utilisation"},
		{Line, "idle and full load of each node known, a straight line; rescaled to the meter"},
		{KeplerRatio, "Kepler up to 0.9: idle in equal parts, the rest by CPU time"},
		{KeplerActive, "Kepler from 0.10: the meter times utilisation by CPU time; idle is not attributed"},
		{KeplerEqual, "the same, and what it does not attribute in equal parts"},
		{TwoUnseen, "idle and full load of each node and an unseen shape; rescaled to the meter"},
		{Four, "four points of each node; rescaled to the meter"},
		{LearnedAlone, fmt.Sprintf("nothing known but the meter and utilisations of %d windows", teaching)},
		{LearnedTwo, fmt.Sprintf("from %d windows, starting from %s", teaching, TwoUnseen)},
		{LearnedFour, fmt.Sprintf("from %d windows, starting from %s", teaching, Four)},
	} {
		s.all = append(s.all, newScore(prefix+m[0], m[1]))
	}
	return s
}

func (s *boxScores) split(b *box) error {
	two, four, err := b.curveNodes()
	if err != nil {
		return fmt.Errorf("fit the nodes of a box: %w", err)
	}
	alone, err := b.learn(nil)
	if err != nil {
		return err
	}
	fromTwo, err := b.learn(two)
	if err != nil {
		return err
	}
	fromFour, err := b.learn(four)
	if err != nil {
		return err
	}
	lines := make([]models.Curve, 0, boxNodes)
	for _, c := range b.curves {
		line, err := models.Line(c.idle(), c.full())
		if err != nil {
			return fmt.Errorf("line of a node: %w", err)
		}
		lines = append(lines, line)
	}
	splits := []splitter{b.thesis, b.rescaled(lines), b.keplerRatio, b.keplerActive, b.keplerEqual, b.rescaled(two), b.rescaled(four), b.rescaled(alone), b.rescaled(fromTwo), b.rescaled(fromFour)}
	for _, w := range b.test {
		for i, split := range splits {
			for n, watts := range split(w) {
				s.all[i].add(fmt.Sprint(w.levels[n]*10), watts, b.curves[n].Points[w.levels[n]].Watts)
			}
		}
	}
	return nil
}

// curveNodes is each node's curve of two points and of four.
func (b *box) curveNodes() (two, four []models.Curve, err error) {
	for _, c := range b.curves {
		t, err := models.Fit(c.at(0, tenths), b.prior, c.Year)
		if err != nil {
			return nil, nil, err
		}
		f, err := models.Fit(c.at(0, 1, 5, tenths), models.Prior{}, c.Year)
		if err != nil {
			return nil, nil, err
		}
		two, four = append(two, t), append(four, f)
	}
	return two, four, nil
}

// learn is each node's curve as the box's meter taught it, or the prior where
// the lesson was refused. Without priors nothing was known.
func (b *box) learn(priors []models.Curve) ([]models.Curve, error) {
	l := models.Learner{Typical: b.prior, Priors: map[string]models.Curve{}}
	for i, p := range priors {
		l.Priors[b.types[i]] = p
	}
	start := time.Unix(0, 0).UTC()
	windows := make([]models.Window, 0, len(b.teach))
	for i, w := range b.teach {
		window := models.Window{Time: start.Add(time.Duration(i) * 15 * time.Minute), Watts: w.meter}
		for n, name := range b.types {
			window.Nodes = append(window.Nodes, models.Load{Type: name, Utilisation: b.utilisation(w, n)})
		}
		windows = append(windows, window)
	}
	learned, err := l.Learn(windows)
	if err != nil {
		return nil, fmt.Errorf("learn from a box: %w", err)
	}
	curves := make([]models.Curve, 0, boxNodes)
	for i, name := range b.types {
		if !learned.Accepted && priors != nil {
			curves = append(curves, priors[i])
			continue
		}
		curves = append(curves, learned.Types[name])
	}
	return curves, nil
}

// rescaled is the split of the processor: idle as the curve has it, the rest of
// the meter by the dynamic parts; a meter below the idle sum by the prediction.
func (b *box) rescaled(curves []models.Curve) splitter {
	return func(w boxWindow) []float64 {
		watts, dynamic := make([]float64, boxNodes), make([]float64, boxNodes)
		var idles, dynamics float64
		for n, c := range curves {
			watts[n] = c.At(0)
			dynamic[n] = max(c.At(b.utilisation(w, n))-watts[n], 0)
			idles, dynamics = idles+watts[n], dynamics+dynamic[n]
		}
		for n := range watts {
			switch {
			case w.meter < idles || dynamics == 0:
				watts[n] = w.meter * (watts[n] + dynamic[n]) / (idles + dynamics)
			default:
				watts[n] += (w.meter - idles) * dynamic[n] / dynamics
			}
		}
		return watts
	}
}

// thesis: P_n = I_n + (P - ΣI)·u_n/Σu.
func (b *box) thesis(w boxWindow) []float64 {
	lines := make([]models.Curve, boxNodes)
	for n, c := range b.curves {
		lines[n] = unitLine(c.idle())
	}
	return b.rescaled(lines)(w)
}

// unitLine is a line with a known idle: only its idle and that it is one count.
type unitLine float64

func (l unitLine) At(u float64) float64 { return float64(l) + u }

// time is each node's CPU time per second: with unknown cores, the utilisation.
func (b *box) time(w boxWindow) (times []float64, sum, capacity float64) {
	known := true
	for _, c := range b.curves {
		known = known && c.Cores > 0
	}
	for n, c := range b.curves {
		cores := 1.0
		if known {
			cores = c.Cores
		}
		t := cores * b.utilisation(w, n)
		times, sum, capacity = append(times, t), sum+t, capacity+cores
	}
	return times, sum, capacity
}

// keplerRatio: the idle that the box was seen to draw in equal parts, the rest
// by CPU time.
func (b *box) keplerRatio(w boxWindow) []float64 {
	idles := 0.0
	for _, c := range b.curves {
		idles += c.idle()
	}
	times, sum, _ := b.time(w)
	watts := make([]float64, boxNodes)
	for n := range watts {
		watts[n] = min(idles, w.meter) / boxNodes
		if sum > 0 {
			watts[n] += max(w.meter-idles, 0) * times[n] / sum
		}
	}
	return watts
}

// keplerActive: P·u of the box by CPU time; the rest to nobody.
func (b *box) keplerActive(w boxWindow) []float64 {
	times, _, capacity := b.time(w)
	for n := range times {
		times[n] *= w.meter / capacity
	}
	return times
}

func (b *box) keplerEqual(w boxWindow) []float64 {
	watts := b.keplerActive(w)
	_, sum, capacity := b.time(w)
	for n := range watts {
		watts[n] += w.meter * (1 - sum/capacity) / boxNodes
	}
	return watts
}
