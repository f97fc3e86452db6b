package processors

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/cockroachdb/apd/v3"
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
		price, err := ParsePrice(p.price)
		if err != nil {
			t.Fatal(err)
		}
		list.Prices = append(list.Prices, Price{p.resource, price})
	}
	const gib, hour = kibPerGiB * 3600, millisecondsPerHour
	lines, unpriced, err := Rate(Quantities{VolumeClaimed: 100 * gib, VolumeClaimed.Of("fast"): 100 * gib, VolumeClaimed.Of("slow"): 200 * gib,
		VolumeUsed.Of("slow"): gib, Extended("nvidia.com/gpu"): 4 * hour, Extended("amd.com/gpu"): hour, Extended("ephemeral-storage"): 3 * gib, CPUUsed: 0}, list)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	var total apd.Decimal
	for _, line := range lines {
		got = append(got, string(line.Resource)+" "+line.Quantity.Text('f')+" "+line.Unit+" "+line.Cost.Text('f'))
		if _, err := apd.BaseContext.WithPrecision(34).Add(&total, &total, &line.Cost); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"volume_claimed 100 GiB-hour 1.00", "volume_claimed:fast 100 GiB-hour 5.00", "volume_claimed:slow 200 GiB-hour 2.00",
		"extended:ephemeral-storage 3 GiB-hour 3.00", "extended:nvidia.com/gpu 4 hour 10.00"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines:\n%s", diff)
	}
	if total.Text('f') != "21.00" {
		t.Errorf("the lines are %s, want 21.00", total.Text('f'))
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
