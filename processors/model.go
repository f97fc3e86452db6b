package processors

// Hardware is what a model knows of a kind of node.
type Hardware struct {
	IdleMilliwatts int64 // at the wall, no work
	MaxMilliwatts  int64 // at the wall, all cores busy
	// Curve is the fitted model, tabulated (package models): CheckCurve says what
	// it must be. None: the straight line.
	Curve []CurvePoint
	// Uncertainty is the standard error of the model of this hardware, in
	// millionths of the power that it says; 0 is unknown.
	Uncertainty int64
	// Processor is the model by what the processors count of their own energy;
	// nil: none. It holds in the minutes that the counter covers.
	Processor *ProcessorModel
}

// ProcessorModel is a node's power by the energy that its processors and their
// memory count (RAPL): a base, and so much at the wall for what they counted.
type ProcessorModel struct {
	BaseMicrowatts int64 `json:"baseMicrowatts"`
	Slope          int64 `json:"slope"`       // millionths: of a joule that they counted, at the wall
	Uncertainty    int64 `json:"uncertainty"` // as Hardware's
}

// Utilisation is busy core time over capacity, in millionths: 0 … Full.
type Utilisation int64

// Full is the utilisation of a node with all cores busy.
const Full Utilisation = 1_000_000

// Model predicts a node's power. It counts in integers, so that each machine
// computes the same.
type Model interface {
	// Name tells models and their versions apart; it is part of the fingerprint.
	Name() string
	// PowerAt is the power in microwatts of a node at the utilisation; at 0 it is
	// the node's idle power.
	PowerAt(Hardware, Utilisation) int64
}

// Linear is the straight line from idle to max. Over 651 servers measured in
// laboratories (SPECpower_ssj2008) it is 9.6 % off on average, 26 % at the 95th
// percentile: see docs/accuracy.md.
type Linear struct{}

// Name is "linear/1".
func (Linear) Name() string { return "linear/1" }

// PowerAt is idle + (max - idle) · utilisation; a max below idle counts as idle.
func (Linear) PowerAt(h Hardware, u Utilisation) int64 {
	span := max(h.MaxMilliwatts-h.IdleMilliwatts, 0)
	// mW · 1e-6 = nW, cut to µW.
	return h.IdleMilliwatts*1000 + MulDiv(span, int64(u), int64(Full)/1000)
}

// utilisation of a node's minute; 0 where nothing is known of its capacity.
func utilisation(cpu, capacity int64) Utilisation {
	switch {
	case cpu <= 0 || capacity <= 0:
		return 0
	case cpu >= capacity:
		return Full
	}
	return Utilisation(MulDiv(cpu, int64(Full), capacity))
}
