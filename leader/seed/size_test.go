package seed

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// crowd applies n nodes of alpha that compress as badly as nodes can: each has
// a random name, stands in a box of its own, and was made at another moment.
// beta has as many.
func crowd(t testing.TB, r *registry.Registry, n int) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 1))
	objects := []fleet.Object{fleet.NewObject("beta", fleet.Cluster{URL: "http://127.0.0.1:2"})}
	for i := range 20 {
		objects = append(objects, fleet.NewObject(fmt.Sprint("hw", i), fleet.Hardware{CPUType: fmt.Sprintf("Xeon E-23%02d", i), RAMType: "ddr4", DiskType: "nvme"}))
	}
	for i := range n {
		box := fmt.Sprintf("box-%05d", i)
		objects = append(objects, fleet.NewObject(box, fleet.Box{}))
		for _, cluster := range []string{"alpha", "beta"} {
			name := fmt.Sprintf("pool-%d-%08x-%05x", i%20, random.Uint32(), random.Uint32()>>12)
			objects = append(objects, fleet.NewObject(cluster+"."+name, fleet.Node{Cluster: cluster, Node: name, Box: box, Hardware: fmt.Sprint("hw", i%20)}).
				Since(noon.Add(-time.Duration(random.Int64N(int64(5000*time.Hour))))))
		}
	}
	if _, err := r.Apply(t.Context(), objects, "test"); err != nil {
		t.Fatal(err)
	}
}

// TestTwentyThousandNodes of one cluster fit into its ConfigMap, twice the
// same.
func TestTwentyThousandNodes(t *testing.T) {
	const n = 20_000
	r, _ := open(t)
	crowd(t, r, n)
	key := ensureKey(t)
	var first Signed
	for range 2 {
		signed, err := key.Sign(of(t, r, "alpha"))
		if err != nil {
			t.Fatal(err)
		}
		if err := signed.fits(); err != nil {
			t.Error(err)
		}
		if first.Packed == nil {
			first = signed
			t.Logf("%d nodes: %d bytes packed, %.1f each", n, len(signed.Packed), float64(len(signed.Packed))/n)
		}
		if !bytes.Equal(first.Packed, signed.Packed) || !bytes.Equal(first.Signature, signed.Signature) {
			t.Error("the same fleet gives other bytes")
		}
	}
	if got := bytes.Count([]byte(of(t, r, "alpha").Text), []byte("INSERT INTO node")); got != n+2 {
		t.Errorf("%d rows, want %d", got, n+2)
	}
}

// BenchmarkSeed is the seed of a cluster of n nodes in a fleet of twice as
// many: what each change of the fleet costs for each cluster that it does not
// touch (select), and for one that it does (select, pack and sign).
func BenchmarkSeed(b *testing.B) {
	for _, n := range []int{5_000, 20_000} {
		r, _ := open(b)
		crowd(b, r, n)
		key := ensureKey(b)
		b.Run(fmt.Sprintf("select/nodes=%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := Of(b.Context(), r, "alpha"); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("sign/nodes=%d", n), func(b *testing.B) {
			size := 0
			for b.Loop() {
				s, err := Of(b.Context(), r, "alpha")
				if err != nil {
					b.Fatal(err)
				}
				signed, err := key.Sign(s)
				if err != nil {
					b.Fatal(err)
				}
				size = len(signed.Packed)
			}
			b.ReportMetric(float64(size), "B/ConfigMap")
		})
	}
}
