package daypack

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/google/go-cmp/cmp"
)

func row(tags map[string]string, values map[string]int64) influxsync.Point {
	fields := make(map[string]influxsync.Value)
	for name, value := range values {
		fields[name] = influxsync.Int(value)
	}
	return influxsync.NewPoint("t", tags, fields, time.Unix(0, 0))
}

// summed are the sums by key, its values joined by "/".
func summed(t *testing.T, s *Sums) map[string][]int64 {
	t.Helper()
	all := make(map[string][]int64)
	err := s.Each(func(key []string, sums []int64) error {
		id := ""
		for _, value := range key {
			id += "/" + value
		}
		all[id] = slices.Clone(sums)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestSumsOfPacksAreThoseOfTheRows(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		group := [][]string{{}, {"a"}, {"b"}, {"b", "a"}}[random.IntN(4)]
		sums, want := NewSums(group, []string{"z", "x"}), make(map[string][]int64)
		for range random.IntN(4) {
			var rows []influxsync.Point
			seen := make(map[string]bool)
			for range random.IntN(20) {
				tags := map[string]string{"a": fmt.Sprint(random.IntN(3)), "b": fmt.Sprint(random.IntN(300))}
				if id := tags["a"] + "/" + tags["b"]; seen[id] {
					continue
				} else {
					seen[id] = true
				}
				values := map[string]int64{"x": random.Int64N(1<<uint(1+random.IntN(58))) - 1<<20, "y": random.Int64()}
				if random.IntN(3) > 0 {
					values["z"] = random.Int64N(256)
				}
				rows = append(rows, row(tags, values))
				id := ""
				for _, tag := range group {
					id += "/" + tags[tag]
				}
				if want[id] == nil {
					want[id] = make([]int64, 2)
				}
				want[id][0] += values["z"]
				want[id][1] += values["x"]
			}
			packed := Pack([]string{"a", "b"}, []string{"x", "y", "z"}, rows)
			random.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
			if again := Pack([]string{"a", "b"}, []string{"x", "y", "z"}, rows); !slices.Equal(packed, again) {
				t.Fatal("the same rows in another order are packed otherwise")
			}
			if err := sums.Add(packed); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, summed(t, sums)); diff != "" {
			t.Fatalf("sums by %v (-want +got):\n%s", group, diff)
		}
	}
}

func TestExtremes(t *testing.T) {
	rows := []influxsync.Point{row(map[string]string{"a": "1"}, map[string]int64{"x": math.MinInt64}), row(map[string]string{"a": "2"}, map[string]int64{"x": math.MaxInt64})}
	packed := Pack([]string{"a"}, []string{"x"}, rows)
	sums := NewSums([]string{"a"}, []string{"x"})
	if err := sums.Add(packed); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]int64{"/1": {math.MinInt64}, "/2": {math.MaxInt64}}, summed(t, sums)); diff != "" {
		t.Error(diff)
	}
	if err := sums.Add(packed); !errors.Is(err, usage.ErrOverflow) {
		t.Errorf("got %v, want ErrOverflow", err)
	}
	for name, s := range map[string]*Sums{"tag": NewSums([]string{"b"}, nil), "column": NewSums(nil, []string{"y"})} {
		if err := s.Add(packed); !errors.Is(err, ErrFormat) {
			t.Errorf("of a %s that is not there: got %v, want ErrFormat", name, err)
		}
	}
	for end := range packed {
		if err := NewSums([]string{"a"}, []string{"x"}).Add(packed[:end]); !errors.Is(err, ErrFormat) {
			t.Errorf("cut off at %d: got %v, want ErrFormat", end, err)
		}
	}
}

func FuzzAdd(f *testing.F) {
	f.Add(Pack([]string{"a", "b"}, []string{"x", "y"}, []influxsync.Point{row(map[string]string{"a": "1"}, map[string]int64{"x": 7, "y": -1})}))
	f.Add(Pack([]string{"a"}, []string{"x"}, nil))
	f.Fuzz(func(t *testing.T, packed []byte) {
		sums := NewSums([]string{"a"}, []string{"x"})
		for range 2 {
			if err := sums.Add(packed); err != nil {
				return
			}
		}
		_ = sums.Each(func([]string, []int64) error { return nil })
	})
}

func BenchmarkAdd(b *testing.B) {
	var rows []influxsync.Point
	var columns []string
	for column := range 25 {
		columns = append(columns, fmt.Sprint("column-", column))
	}
	for i := range 200 {
		values := make(map[string]int64)
		for j, column := range columns {
			values[column] = int64(i+1) * int64(j) * 12_345_678
		}
		rows = append(rows, row(map[string]string{"namespace": fmt.Sprint("ns-", i)}, values))
	}
	packed := Pack([]string{"namespace"}, columns, rows)
	sums := NewSums([]string{"namespace"}, columns[:20])
	b.ReportMetric(float64(len(packed)), "bytes")
	for b.Loop() {
		if err := sums.Add(packed); err != nil {
			b.Fatal(err)
		}
	}
}
