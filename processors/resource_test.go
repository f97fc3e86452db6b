package processors

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// A class of volumes has its own price, or that of all classes; extended
// resources have theirs by name alone. Σ lines is the total of what has a price.
func TestPricesByClassAndName(t *testing.T) {
	list := PriceList{Version: "1", Kind: Sale, Currency: "EUR"}
	for _, p := range []struct {
		resource Resource
		price    string
	}{{VolumeClaimed, "0.01"}, {VolumeClaimed.Of("fast"), "0.05"}, {Extended("nvidia.com/gpu"), "2.5"}, {Extended("ephemeral-storage"), "1"}} {
		list.Prices = append(list.Prices, Price{p.resource, decimal(p.price)})
	}
	if err := list.check(); err != nil {
		t.Fatal(err)
	}
	const gib, hour = kibPerGiB * 3600, millisecondsPerHour
	quantities := Quantities{VolumeClaimed: 100 * gib, VolumeClaimed.Of("fast"): 100 * gib, VolumeClaimed.Of("slow"): 200 * gib,
		VolumeUsed.Of("slow"): gib, Extended("nvidia.com/gpu"): 4 * hour, Extended("amd.com/gpu"): hour, Extended("ephemeral-storage"): 3 * gib, CPUUsed: 0}
	var got []string
	var unpriced []Resource
	total := new(big.Int)
	for _, r := range quantities.Resources() {
		price, priced := list.PriceOf(r)
		switch {
		case priced:
			cents := exactCost(quantities[r], price, r.Base(), 2).round()
			got = append(got, fmt.Sprint(r, " ", quantities[r]/r.Base(), " ", r.Unit(), " ", cents))
			total.Add(total, cents)
		case quantities[r] != 0:
			unpriced = append(unpriced, r)
		}
	}
	want := []string{"volume_claimed 100 GiB-hour 100", "volume_claimed:fast 100 GiB-hour 500", "volume_claimed:slow 200 GiB-hour 200",
		"extended:ephemeral-storage 3 GiB-hour 300", "extended:nvidia.com/gpu 4 hour 1000"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines:\n%s", diff)
	}
	if total.Int64() != 2100 {
		t.Errorf("the lines are %s cents, want 2100", total)
	}
	if diff := cmp.Diff([]Resource{VolumeUsed.Of("slow"), Extended("amd.com/gpu")}, unpriced); diff != "" {
		t.Errorf("without a price:\n%s", diff)
	}
	for _, wrong := range []Resource{"volume_claimed:", "extended:", "extended", "cpu_used:fast", "gpu"} {
		if unit := wrong.Unit(); unit != "" {
			t.Errorf("%s has the unit %s", wrong, unit)
		}
	}
}

// Windows beside one another add up to the whole request, whatever they cut.
func TestRequestedAddsUp(t *testing.T) {
	from := time.Date(2026, 11, 3, 10, 0, 0, 123_456_789, time.UTC)
	held := schema.Window{From: from, To: from.Add(7*time.Minute + 777*time.Microsecond)}
	for resource, want := range map[Resource]int64{Extended("nvidia.com/gpu"): 3 * 420_000, Extended("hugepages-2Mi"): 3 * 420_000_777 / 1024 / 1_000_000} {
		var sum int64
		for w := (schema.Window{From: from.Add(-time.Minute), To: from.Add(time.Nanosecond)}); w.From.Before(held.To); w = (schema.Window{From: w.To, To: w.To.Add(1_234_567_891)}) {
			part, err := resource.Requested(3, held, w)
			if err != nil || part < 0 {
				t.Fatal(part, err)
			}
			sum += part
		}
		whole, err := resource.Requested(3, held, schema.Window{From: from.Add(-time.Hour), To: from.Add(time.Hour)})
		if err != nil || sum != whole || whole < want || whole > want+3 {
			t.Errorf("%s: windows %d, whole %d, about %d; %v", resource, sum, whole, want, err)
		}
	}
	if _, err := Extended("x").Requested(math.MaxInt64, held, held); !errors.Is(err, ErrOverflow) {
		t.Errorf("got %v, want ErrOverflow", err)
	}
}
