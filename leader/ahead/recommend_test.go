package ahead

import (
	"context"
	"math/big"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors"
)

// byMinute is one pod by the minute: 0.1 cores and 100 MiB, in one minute of the day 0.9
// cores and 400 MiB; it requests 2 cores and 1 GiB. A requested core-hour costs 0.05 EUR.
type byMinute struct{ usedBy }

const mebi = 1 << 20

func (b *byMinute) Charges(_ context.Context, request query.ChargeRequest) ([]query.Charges, error) {
	var all []query.Charges
	for _, minute := range request.Window.Split(time.Minute) {
		row := query.Row{Key: map[string]string{"cluster": "edge-a", "namespace": "shop", "workload": "Deployment/web", "pod": "web-1"}, From: minute.From, To: minute.To}
		cores, memory := 0.1, int64(100)
		if minute.From.Equal(now.Add(-10 * time.Hour)) {
			cores, memory = 0.9, 400
		}
		row.Sums[usage.Uptime] = 60_000
		row.Sums[usage.CPU], row.Sums[usage.CPURequest] = int64(cores*60e6), 120_000_000
		row.Sums[usage.Memory], row.Sums[usage.MemoryRequest] = memory*1024*60, 1024*1024*60
		idle := row
		idle.Key = map[string]string{"workload": "Job/short"}
		all = append(all, query.Charges{Row: row, Lines: []query.Charge{{Resource: processors.CPURequested, Quantity: 1, List: &fleet.PriceList{Currency: "EUR"}, UnitPrice: big.NewRat(5*2, 100*60)}, {Resource: processors.MemoryRequested}}})
		if minute.From.Hour() == 3 {
			all = append(all, query.Charges{Row: idle})
		}
	}
	return all, nil
}

// TestRecommend: CPU by its P99, memory never below the most that was seen.
func TestRecommend(t *testing.T) {
	b := &byMinute{}
	d := NewDesk(b, b, finished{}, clock.NewManual(now))
	r, err := d.Recommend(t.Context(), Question{})
	if err != nil || len(r.Rows) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	row := r.Rows[0]
	if row.CPU.Requested != 2 || row.CPU.P99 != 0.1 || row.CPU.Max != 0.9 || row.CPU.Recommend != 0.115 {
		t.Errorf("CPU %+v", row.CPU)
	}
	if row.Memory.P99 != 100*mebi || row.Memory.Max != 400*mebi || row.Memory.Recommend != 460*mebi {
		t.Errorf("memory %+v", row.Memory)
	}
	// Two cores cost 0.10 an hour, 73 a month; all but 0.115 of 2 are saved.
	if len(row.Saving) != 1 || row.Saving[0].Cost != "68.8025" {
		t.Errorf("saving %v", row.Saving)
	}
}
