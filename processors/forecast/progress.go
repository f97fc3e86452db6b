package forecast

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// Attempt is a pod of a job: how long it ran, and what became of it.
type Attempt struct {
	Seconds float64
	OK      bool // it did its part
	Open    bool // it still runs, Seconds long so far
}

// Progress is how far a job of many pods is.
type Progress struct {
	// Attempts are pods of the job, and of earlier runs of it. One that is open says
	// that such a pod takes longer than that.
	Attempts []Attempt
	Running  []float64 // seconds that each running pod has run
	Missing  int       // parts that are not done, those that run now among them
	Slots    int       // pods at a time
	Gap      float64   // seconds from a pod's end to the start of the next in its slot
}

// Finish is when a job is done, counted from now, and how many seconds its pods run
// until then, all together.
type Finish struct {
	Seconds, PodSeconds Quantiles
	// Interval says whether P10 and P90 are known: they are from nine ended attempts on.
	Interval bool
}

// Quantiles are of what is expected.
type Quantiles struct{ P10, P50, P90 float64 }

// The draws of a job's course: fewer where it has many parts.
const (
	mostDraws  = 200
	leastDraws = 50
	drawsWork  = 1_000_000
)

// Finish draws the job's course many times from what its pods took. Attempts that still
// run count as what they are, longer than so far: else the first to end, which are the
// short ones, would speak for all. How long a pod takes is their Kaplan-Meier estimate
// where many have ended, and beyond the longest, or where few have, a log-normal
// distribution by maximum likelihood of censored data. Each draw weighs the attempts
// anew, by exponential weights (Rubin 1981, the Bayesian bootstrap; Lo 1993 for censored
// data), so that what few attempts do not tell is in the interval. The draws are the
// same for the same question. ok is false where nothing has done its part yet.
func (p Progress) Finish() (f Finish, ok bool) {
	ended := 0
	for _, a := range p.Attempts {
		if !a.Open {
			ended++
		}
	}
	if ended == 0 || !slices.ContainsFunc(p.Attempts, func(a Attempt) bool { return a.OK }) {
		return Finish{}, false
	}
	sorted := slices.Clone(p.Attempts)
	slices.SortStableFunc(sorted, func(a, b Attempt) int { // at one time what ended comes before what goes on
		if c := cmp.Compare(a.Seconds, b.Seconds); c != 0 || a.Open == b.Open {
			return c
		}
		if b.Open {
			return -1
		}
		return 1
	})
	r := rand.New(rand.NewPCG(uint64(len(sorted)), uint64(p.Missing))) //nolint:gosec // a repeatable draw
	draws := min(mostDraws, max(leastDraws, drawsWork/max(1, p.Missing)))
	var ends, sums []float64
	for range draws {
		end, sum := p.draw(survivalOf(sorted, r), r)
		ends, sums = append(ends, end), append(sums, sum)
	}
	return Finish{Seconds: quantilesOf(ends), PodSeconds: quantilesOf(sums), Interval: ended >= leastErrors}, true
}

func quantilesOf(values []float64) Quantiles {
	slices.Sort(values)
	at := func(q float64) float64 { return values[max(0, int(math.Ceil(q*float64(len(values))))-1)] }
	return Quantiles{at(0.1), at(0.5), at(0.9)}
}

// manyEnded attempts speak for themselves, where they are half of all; fewer have no
// tail to speak of.
const manyEnded = 20

// survival is how long a pod takes: a step at the time of each ended attempt, and a
// log-normal distribution for what they do not tell.
type survival struct {
	times      []float64
	left       []float64 // share that takes longer than times[i]
	ok         []bool
	works      float64 // share of what ended that did its part
	mu, sigma  float64 // of the logarithm
	parametric bool    // all of it is log-normal
}

// survivalOf weighs the attempts, which are sorted, anew.
func survivalOf(sorted []Attempt, r *rand.Rand) survival {
	weights, risk := make([]float64, len(sorted)), 0.0
	for i := range weights {
		weights[i] = r.ExpFloat64()
		risk += weights[i]
	}
	s, left, ended := survival{}, 1.0, 0.0
	for i, a := range sorted {
		if !a.Open {
			left *= max(0, 1-weights[i]/risk)
			s.times, s.left, s.ok = append(s.times, a.Seconds), append(s.left, left), append(s.ok, a.OK)
			ended += weights[i]
			if a.OK {
				s.works += weights[i]
			}
		}
		risk -= weights[i]
	}
	s.works, s.parametric = s.works/ended, len(s.times) < manyEnded || 2*len(s.times) < len(sorted)
	s.fit(sorted, weights)
	return s
}

// mostSteps of expectation and maximisation are taken: with many that still run it is
// slow.
const mostSteps = 100

// fit is the log-normal distribution of the weighed attempts, by expectation and
// maximisation: an attempt that still runs stands for what it is expected to take.
func (s *survival) fit(sorted []Attempt, weights []float64) {
	logs, all := make([]float64, len(sorted)), 0.0
	for i, a := range sorted {
		logs[i] = math.Log(max(1, a.Seconds))
		all += weights[i]
		s.mu += weights[i] * logs[i]
	}
	s.mu, s.sigma = s.mu/all, 0.5
	for range mostSteps {
		sum, squares := 0.0, 0.0
		for i, a := range sorted {
			first, second := logs[i], logs[i]*logs[i]
			if a.Open { // the moments of a normal variable above logs[i]
				z := (logs[i] - s.mu) / s.sigma
				mills := millsOf(z)
				first = s.mu + s.sigma*mills
				second = s.mu*s.mu + 2*s.mu*s.sigma*mills + s.sigma*s.sigma*(1+z*mills)
			}
			sum, squares = sum+weights[i]*first, squares+weights[i]*second
		}
		before := s.mu
		s.mu = sum / all
		s.sigma = math.Sqrt(max(1e-6, squares/all-s.mu*s.mu))
		if math.Abs(s.mu-before) < 1e-3 {
			return
		}
	}
}

// millsOf is the density of the normal distribution at z over what lies above z; for
// large z its asymptote.
func millsOf(z float64) float64 {
	if z > 8 {
		return z + 1/z
	}
	return math.Exp(-z*z/2) / math.Sqrt(math.Pi/2) / math.Erfc(z/math.Sqrt2)
}

// beyond is a log-normal draw above some seconds.
func (s survival) beyond(seconds float64, r *rand.Rand) float64 {
	above := 1.0
	if seconds > 0 {
		above = math.Erfc((math.Log(seconds)-s.mu)/s.sigma/math.Sqrt2) / 2
	}
	if above < 1e-12 { // far out: a little longer
		return seconds * (1 + 0.1*r.ExpFloat64())
	}
	return max(seconds, math.Exp(s.mu+s.sigma*math.Sqrt2*math.Erfcinv(2*above*(1-r.Float64()))))
}

// leftAt is the share that takes longer than some seconds.
func (s survival) leftAt(seconds float64) float64 {
	i, _ := slices.BinarySearchFunc(s.times, seconds, func(t, v float64) int {
		if t <= v {
			return -1
		}
		return 1
	})
	if i == 0 {
		return 1
	}
	return s.left[i-1]
}

// draw is how long a pod that has run age seconds takes in all, and whether it does its
// part.
func (s survival) draw(age float64, r *rand.Rand) (seconds float64, ok bool) {
	last := s.times[len(s.times)-1]
	if s.parametric || age >= last {
		return s.beyond(age, r), r.Float64() < s.works
	}
	u := s.leftAt(age) * (1 - r.Float64()) // of those that are left
	i, _ := slices.BinarySearchFunc(s.left, u, func(left, v float64) int {
		if left >= v {
			return -1
		}
		return 1
	})
	if i == len(s.times) || s.times[i] <= age {
		return s.beyond(max(age, last), r), r.Float64() < s.works
	}
	return s.times[i], s.ok[i]
}

// mostRetries bounds how often one part is tried in a draw, as a Job's backoffLimit
// does.
const mostRetries = 20

// draw is one course of the job.
func (p Progress) draw(s survival, r *rand.Rand) (end, sum float64) {
	type pod struct {
		at float64
		ok bool
	}
	var running []pod // a heap would be shorter in time; slots are few
	start := func(now, age float64) {
		seconds, ok := s.draw(age, r)
		gap := p.Gap
		if age > 0 {
			gap = 0 // it has started
		}
		running = append(running, pod{now + gap + seconds - age, ok})
		sum += seconds - age
	}
	for _, age := range p.Running {
		start(0, age)
	}
	missing, now, tries := p.Missing, 0.0, 0
	slots := max(1, p.Slots, len(p.Running))
	for missing > 0 {
		for len(running) < min(slots, missing) {
			start(now, 0)
		}
		next := 0
		for i, one := range running {
			if one.at < running[next].at {
				next = i
			}
		}
		now = running[next].at
		if tries++; running[next].ok || tries > mostRetries*p.Missing {
			missing--
		}
		running[next] = running[len(running)-1]
		running = running[:len(running)-1]
	}
	return now, sum
}
