package simulator

import (
	"fmt"
	"math"
	"time"
)

// Wave is a rate (cores, bytes per second) or a level (bytes) as a function of
// the time since its owner started:
//
//	base + amplitude · sin(2π(x − phase)/period) + burst while (x mod burstPeriod) < burstLength
//
// Without amplitude and burst it is constant.
type Wave struct {
	Base      float64
	Amplitude float64 // at most Base: the wave is never negative
	Period    time.Duration
	Phase     time.Duration

	Burst       float64
	BurstPeriod time.Duration
	BurstLength time.Duration // at most BurstPeriod
}

// Constant is a wave that does not move.
func Constant(base float64) Wave { return Wave{Base: base} }

func (w Wave) check() error {
	switch {
	case w.Base < 0 || w.Burst < 0 || w.Amplitude < 0 || w.Amplitude > w.Base:
		return fmt.Errorf("base %g, amplitude %g, burst %g: negative somewhere", w.Base, w.Amplitude, w.Burst)
	case w.Amplitude > 0 && w.Period <= 0:
		return fmt.Errorf("amplitude %g without a period", w.Amplitude)
	case w.Burst > 0 && (w.BurstLength <= 0 || w.BurstLength > w.BurstPeriod):
		return fmt.Errorf("burst of %s every %s", w.BurstLength, w.BurstPeriod)
	}
	return nil
}

// At is the wave's value x after its owner's start.
func (w Wave) At(x time.Duration) float64 {
	value := w.Base
	if w.Amplitude > 0 {
		value += w.Amplitude * math.Sin(w.angle(x))
	}
	if w.Burst > 0 && x%w.BurstPeriod < w.BurstLength {
		value += w.Burst
	}
	return value
}

// Grown is the wave's integral over the first x of its owner's life, in its
// unit times seconds. x is not negative.
func (w Wave) Grown(x time.Duration) float64 {
	sum := w.Base * x.Seconds()
	if w.Amplitude > 0 {
		sum += w.Amplitude * w.Period.Seconds() / (2 * math.Pi) * (math.Cos(w.angle(0)) - math.Cos(w.angle(x)))
	}
	if w.Burst > 0 {
		on := time.Duration(x/w.BurstPeriod)*w.BurstLength + min(x%w.BurstPeriod, w.BurstLength)
		sum += w.Burst * on.Seconds()
	}
	return sum
}

// MaxChange is the most by which two values at most gap apart can differ.
func (w Wave) MaxChange(gap time.Duration) float64 {
	change := w.Burst
	if w.Amplitude > 0 {
		half := math.Pi * gap.Seconds() / w.Period.Seconds()
		change += 2 * w.Amplitude * math.Sin(min(half, math.Pi/2))
	}
	return change
}

// angle is taken modulo the period in integers: a float of a year's angle
// would be coarse.
func (w Wave) angle(x time.Duration) float64 {
	return 2 * math.Pi * ((x - w.Phase) % w.Period).Seconds() / w.Period.Seconds()
}
