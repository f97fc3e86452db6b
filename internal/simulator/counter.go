package simulator

import (
	"math"
	"time"
)

// meterJoules is what flowed through a meter since its box's zero.
func (s *Simulator) meterJoules(b *Box, m Meter, t time.Time) float64 {
	if m.Node == "" {
		sum := s.joules(b, t)
		for _, other := range m.Beside {
			sum += s.joules(s.box(other), t)
		}
		return sum * m.share()
	}
	if !t.After(b.Since) {
		return 0
	}
	return s.nodeJoules(m.Cluster, s.node(m.Cluster, m.Node), b.Since, t) * m.share()
}

// meterCounter is what the meter's counter shows, floored to its step or to what
// 32 bits of kWh hold.
func (s *Simulator) meterCounter(b *Box, m Meter, t time.Time) int64 {
	counter := s.rawCounter(b, m, t)
	if m.Kind == SDM120 {
		return int64(math.Floor(float64(kilowattHours(counter)) * 3.6e9))
	}
	return counter - counter%m.step()
}

// rawCounter is what the meter has counted with its gain since its last reset, mJ.
func (s *Simulator) rawCounter(b *Box, m Meter, t time.Time) int64 {
	sum := s.meterJoules(b, m, t)
	for _, reset := range m.Resets {
		if !reset.After(t) {
			sum = s.meterJoules(b, m, t) - s.meterJoules(b, m, reset)
		}
	}
	return int64(math.Floor(sum * m.gain() * 1000))
}

// kilowattHours is the greatest float32 of kWh that is not above the counter.
func kilowattHours(counter int64) float32 {
	exact := float64(counter) / 3.6e9
	held := float32(exact)
	if float64(held) > exact {
		held = math.Nextafter32(held, 0)
	}
	return held
}

// MeterStep is the resolution of a meter's counter at t, mJ.
func (s *Simulator) MeterStep(box, meter string, t time.Time) int64 {
	b, m := s.find(box, meter)
	if m.Kind != SDM120 {
		return m.step()
	}
	held := kilowattHours(s.rawCounter(b, m, t))
	return max(1, int64(math.Round(float64(math.Nextafter32(held, math.MaxFloat32)-held)*3.6e9)))
}

// MeterMillijoules is what the meter shows at t, in mJ; see meterCounter.
func (s *Simulator) MeterMillijoules(box, meter string, t time.Time) int64 {
	b, m := s.find(box, meter)
	return s.meterCounter(b, m, t)
}

func (s *Simulator) find(box, meter string) (*Box, Meter) {
	b := s.box(box)
	for _, m := range b.Meters {
		if m.Name == meter {
			return b, m
		}
	}
	panic("simulator: box " + box + " has no meter " + meter)
}

func (m Meter) share() float64 {
	if m.Share == 0 {
		return 1
	}
	return m.Share
}

func (m Meter) gain() float64 {
	if m.Gain == 0 {
		return 1
	}
	return m.Gain
}

// step is the counter's step in mJ: a first-generation Shelly counts
// Watt-minutes, a second-generation one mWh, the others show Wh.
func (m Meter) step() int64 {
	switch {
	case m.StepMillijoules > 0:
		return m.StepMillijoules
	case m.Kind == Tasmota || m.Kind == HomeWizard:
		return 3_600_000
	case m.Generation == 1:
		return 60_000
	default:
		return 3_600
	}
}
