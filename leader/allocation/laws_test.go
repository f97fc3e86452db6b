package allocation

import (
	"context"
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors"
)

// world is random usage of two clusters at one price for the larger of requested and
// used.
type world struct{ charges, assets []query.Charges }

func (w world) EachCharge(_ context.Context, _ query.ChargeRequest, f func(*query.Charges) error) error {
	for i := range w.charges {
		if err := f(&w.charges[i]); err != nil {
			return err
		}
	}
	return nil
}

func (w world) Assets(context.Context, query.ChargeRequest) ([]query.Charges, error) {
	return w.assets, nil
}

func (world) Mounts(context.Context, schema.Window, func(string) bool) ([]query.Mount, error) {
	return nil, nil
}

func (world) Settled(context.Context) (time.Time, error) { return now, nil }
func (world) Sectors(_ context.Context, w schema.Window, _ time.Duration) ([]query.Sector, error) {
	return []query.Sector{{Window: w, Complete: true}}, nil
}

func charged(resource processors.Resource, quantity int64, price *big.Rat) query.Charge {
	return query.Charge{Resource: resource, Quantity: quantity, List: &fleet.PriceList{Currency: "EUR"}, UnitPrice: new(big.Rat).Mul(big.NewRat(1, resource.Base()), price)}
}

func randomWorld(random *rand.Rand, overcommit bool) world {
	var w world
	cpu, ram := big.NewRat(1+random.Int64N(1000), 997), big.NewRat(1+random.Int64N(1000), 7919)
	for _, cluster := range []string{"a", "b"} {
		for n := range 1 + random.IntN(3) {
			node := fmt.Sprint("n", n)
			var cores, memory int64
			for p := range random.IntN(4) {
				c := query.Charges{Row: usage.Row{Key: map[string]string{"cluster": cluster, "node": node, "namespace": fmt.Sprint("ns", p%2), "claim": ""}}}
				s := &c.Row.Sums
				s[usage.CPU], s[usage.CPURequest], s[usage.Memory], s[usage.MemoryRequest] = random.Int64N(1e9), random.Int64N(1e9), random.Int64N(1e9), random.Int64N(1e9)
				s[usage.CPUMax], s[usage.MemoryMax] = max(s[usage.CPU], s[usage.CPURequest]), max(s[usage.Memory], s[usage.MemoryRequest])
				s[usage.EnergyActive] = random.Int64N(1e9)
				cores, memory = cores+s[usage.CPUMax], memory+s[usage.MemoryMax]
				c.Lines = []query.Charge{charged(processors.CPUMax, s[usage.CPUMax], cpu), charged(processors.MemoryMax, s[usage.MemoryMax], ram)}
				w.charges = append(w.charges, c)
			}
			asset := query.Charges{Row: usage.Row{Key: map[string]string{"cluster": cluster, "node": node}}}
			asset.Row.Sums[usage.AllocatableCPU], asset.Row.Sums[usage.AllocatableMemory] = cores+random.Int64N(1e9), memory+random.Int64N(1e9)
			if overcommit {
				asset.Row.Sums[usage.AllocatableCPU] = cores / 2
			}
			asset.Lines = []query.Charge{charged(processors.CPUMax, asset.Row.Sums[usage.AllocatableCPU], cpu), charged(processors.MemoryMax, asset.Row.Sums[usage.AllocatableMemory], ram)}
			w.assets = append(w.assets, asset)
		}
	}
	return w
}

// TestLaws: over random usage, allocations and idle add up to what the nodes cost,
// to the last digit before rounding, shown or shared by whichever policy; idle is
// never below 0; and where more is requested than there is, the difference is told
// and makes it add up. Controls: idle of the whole cluster at once hides what is
// overcommitted on one node, and a clamped sum without the difference does not add up.
func TestLaws(t *testing.T) {
	hidden, lost := 0, 0
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		overcommit := seed%2 == 1
		w := randomWorld(random, overcommit)
		want := new(big.Rat)
		for _, asset := range w.assets {
			want.Add(want, asset.Lines[0].Cost()).Add(want, asset.Lines[1].Cost())
		}
		for _, byNode := range []bool{false, true} {
			for _, split := range []string{"", weighted, even} {
				sum, difference := addUp(w, byNode, split, t)
				if got := new(big.Rat).Add(sum, difference); got.Cmp(want) != 0 || !overcommit && difference.Sign() != 0 {
					t.Fatalf("seed %d, by node %t, shared %q: %s and a difference of %s, want %s", seed, byNode, split, sum.FloatString(9), difference.FloatString(9), want.FloatString(9))
				}
				if overcommit && sum.Cmp(want) != 0 {
					lost++ // what a clamp without the difference would have said
				}
			}
		}
		if overcommit && wholeClusterIdle(w).Sign() >= 0 {
			hidden++
		}
	}
	if lost == 0 || hidden == 0 {
		t.Errorf("the controls do not tell: %d clamped sums differ, %d clusters hide what is overcommitted", lost, hidden)
	}
}

func addUp(w world, byNode bool, split string, t *testing.T) (sum, difference *big.Rat) {
	var atoms []*atom
	for _, c := range w.charges {
		a := newAtom(&c, "EUR", new(values))
		a.name = a.key[string(usage.Namespace)]
		atoms = append(atoms, a)
	}
	atoms, idle, books := findIdle(atoms, w.assets, "EUR", byNode)
	for _, a := range idle {
		if a.values.get(costCPU).Sign() < 0 || a.values.get(cpuMax).Sign() < 0 || a.values.get(costRAM).Sign() < 0 {
			t.Errorf("idle below 0: %v", a.key)
		}
	}
	if split != "" {
		idle = shareIdle(atoms, idle, byNode, split)
	}
	sum, difference = new(big.Rat), new(big.Rat)
	for _, a := range append(atoms, idle...) {
		sum.Add(sum, a.values.total())
	}
	for _, b := range books {
		difference.Add(difference, b.difference())
	}
	return sum, difference
}

// wholeClusterIdle is memory's and CPU's idle as one sum over all nodes.
func wholeClusterIdle(w world) *big.Rat {
	left := new(big.Rat)
	for _, a := range w.assets {
		left.Add(left, big.NewRat(a.Row.Sums[usage.AllocatableCPU]+a.Row.Sums[usage.AllocatableMemory], 1))
	}
	for _, c := range w.charges {
		left.Sub(left, big.NewRat(c.Row.Sums[usage.CPUMax]+c.Row.Sums[usage.MemoryMax], 1))
	}
	return left
}

// TestClosed: a window of which all is here has an answer of the same bytes twice.
func TestClosed(t *testing.T) {
	w := randomWorld(rand.New(rand.NewPCG(7, 7)), false)
	e := New(w, w)
	answer, _ := ask(t, e, "window=yesterday&aggregate=namespace&includeIdle=true")
	again, _ := ask(t, e, "window=yesterday&aggregate=namespace&includeIdle=true")
	one, _ := answer.JSON()
	two, _ := again.JSON()
	if !answer.Closed || ETag(one) != ETag(two) || len(one) == 0 {
		t.Errorf("closed %t, tags %s and %s", answer.Closed, ETag(one), ETag(two))
	}
}
