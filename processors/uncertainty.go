package processors

import "math"

// Standard errors that nobody told, in millionths.
const (
	// ClassError is how far a meter may be off by its gain if its class is not
	// known: 2 %, as plugs and Modbus meters of class B promise at the most.
	ClassError = 20_000
	// unknownError is that of a model that does not say its own: as of a typical
	// server's shape scaled by a guess.
	unknownError = 500_000
	// overheadError is that of a box's declared overhead.
	overheadError = 200_000
)

// errors are what the rows of a minute may be off by.
type splitErrors struct {
	gain  int64        // of the meters
	nodes []nodeErrors // of the box's nodes in turn, and last of its own row
}

// nodeErrors are relative, in millionths.
type nodeErrors struct {
	model int64 // of the model's energy
	share int64 // of the node's share of what a meter counted
	// Where its idle is too high by its error, its dynamic part is too low by the
	// same energy: relative to that part, at most all of it.
	dynamic int64
}

// newSplitErrors are the errors of a split by the models' errors and the meters'
// classes: of what a meter counted, a node's share is off by its own model and by
// those of the others.
//
// In a box that several customers share, that share says nothing of the others'
// nodes: it is off by the node's own model; so it is where the meter counts other
// boxes too. A node with a meter of its own is off by that alone.
func newSplitErrors(s *minuteSplit, gain int64, shared bool, fixed map[int]int64) splitErrors {
	energies := make([]int64, len(s.nodes)+1)
	model := make([]int64, len(s.nodes)+1)
	var sum int64
	for i, n := range s.nodes {
		energies[i], model[i] = n.idleEnergy+n.dynamic, n.uncertainty
		sum += energies[i]
	}
	energies[len(s.nodes)], model[len(s.nodes)] = s.overhead, overheadError
	sum += s.overhead
	e := splitErrors{gain: gain, nodes: make([]nodeErrors, len(energies))}
	var squares float64
	shares := make([]int64, len(energies))
	for i := range energies {
		if sum > 0 {
			shares[i] = MulDiv(energies[i], million, sum)
		}
		squares += square(shares[i] * model[i] / million)
	}
	for i := range energies {
		own := shares[i] * model[i] / million
		rest := (million - shares[i]) * model[i] / million
		e.nodes[i] = nodeErrors{model: model[i], share: root(squares - square(own) + square(rest))}
		if shared {
			e.nodes[i].share = model[i]
		}
		if _, own := fixed[i]; own {
			e.nodes[i].share = 0
		}
		if i < len(s.nodes) && s.nodes[i].dynamic > 0 {
			e.nodes[i].dynamic = min(MulDiv(model[i], s.nodes[i].idleEnergy, s.nodes[i].dynamic), million)
		}
	}
	return e
}

// of is a row's standard error, mJ: the root of the sum of the squares of the
// meter's, of the node's share, and of what lies between its idle and its dynamic
// part; of what no meter counted, the model's. Errors of rows have a common cause:
// added up they are the most that a sum is off by, not the root of their squares.
func (e splitErrors) of(node int, p part, measured int64) int64 {
	total := p.total()
	if total <= 0 {
		return 0
	}
	n := e.nodes[node]
	modelled := MulDiv(max(total-measured, 0), n.model, million)
	if measured <= 0 {
		return modelled
	}
	idle := n.model * (p.idle + p.overhead) / million
	between := MulDiv(abs(idle-n.dynamic*p.active/million), million, total)
	return modelled + MulDiv(measured, min(root(square(e.gain)+square(n.share)+square(between)), million), million)
}

const million = 1_000_000

func square(v int64) float64 { return float64(v) * float64(v) }

// root of a sum of squares of integers below 2^26: both are exact, and so is where
// the root is cut, on each machine.
func root(squares float64) int64 { return int64(math.Sqrt(max(squares, 0))) }

func abs(v int64) int64 {
	if v < 0 {
		return -v
	}
	return v
}

// gain is the largest error of the meters' gain.
func gainOf(meters []Meter) int64 {
	var gain int64
	for _, m := range meters {
		class := m.ClassError
		if class <= 0 {
			class = ClassError
		}
		gain = max(gain, class)
	}
	return gain
}
