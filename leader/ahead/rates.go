package ahead

import (
	"context"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
)

// Rates are what is used and spent now.
type Rates struct {
	Settled   time.Time   `json:"settled"` // the hour and the day end here
	Aggregate []usage.Key `json:"aggregate"`
	Rows      []RateRow   `json:"rows"`
}

// RateRow is a key's rate over the last settled hour and over the last day.
type RateRow struct {
	Key  map[string]string `json:"key"`
	Hour Rate              `json:"hour"`
	Day  Rate              `json:"day"` // the mean over the day, the time without data included
}

// Rate is what is used at a time.
type Rate struct {
	CPUCores               float64       `json:"cpuCores"`
	CPURequestCores        float64       `json:"cpuRequestCores"`
	MemoryBytes            float64       `json:"memoryBytes"`
	MemoryRequestBytes     float64       `json:"memoryRequestBytes"`
	NetworkReceivePerHour  float64       `json:"networkReceiveBytesPerHour"`
	NetworkTransmitPerHour float64       `json:"networkTransmitBytesPerHour"`
	VolumeClaimedBytes     float64       `json:"volumeClaimedBytes"`
	Watts                  float64       `json:"watts"`
	GramsPerHour           *float64      `json:"co2eGramsPerHour"` // null where not all of the energy has an intensity
	CostPerHour            []usage.Money `json:"costPerHour"`      // none without a price
}

// Rates are the rates of the last settled hour and day. Errors: ErrNothing,
// *usage.InputError, and those of the engine.
func (d *Desk) Rates(ctx context.Context, q Question) (Rates, error) {
	end, err := d.settled(ctx)
	if err != nil {
		return Rates{}, err
	}
	answer := Rates{Settled: end, Aggregate: keysOf(q.Aggregate), Rows: []RateRow{}}
	at := make(map[string]int)
	for _, length := range []time.Duration{24 * time.Hour, time.Hour} {
		all, err := d.engine.Charges(ctx, query.ChargeRequest{Window: schema.Window{From: end.Add(-length), To: end}, Aggregate: q.Aggregate, Filter: q.Filter, Figures: true})
		if err != nil {
			return answer, fmt.Errorf("rates of the last %s: %w", length, err)
		}
		for _, c := range all {
			id := keyOf(c.Row, q.Aggregate)
			i, known := at[id]
			if !known {
				i = len(answer.Rows)
				at[id] = i
				answer.Rows = append(answer.Rows, RateRow{Key: c.Row.Key, Hour: Rate{CostPerHour: []usage.Money{}}, Day: Rate{CostPerHour: []usage.Money{}}})
			}
			rate, err := rateOf(c, length)
			if err != nil {
				return answer, err
			}
			if length == time.Hour {
				answer.Rows[i].Hour = rate
			} else {
				answer.Rows[i].Day = rate
			}
		}
	}
	sortRows(answer.Rows, q.Aggregate, func(r RateRow) map[string]string { return r.Key })
	return answer, nil
}

// rateOf is what charges are by the second and the hour.
func rateOf(c query.Charges, length time.Duration) (Rate, error) {
	energy, err := c.Row.Sums.Energy()
	if err != nil {
		return Rate{}, err
	}
	s, seconds, hours := c.Row.Sums, length.Seconds(), length.Hours()
	rate := Rate{
		CPUCores: usage.CoreSeconds(s[usage.CPU]).Float() / seconds, CPURequestCores: usage.CoreSeconds(s[usage.CPURequest]).Float() / seconds,
		MemoryBytes: usage.ByteSeconds(s[usage.Memory]).Float() / seconds, MemoryRequestBytes: usage.ByteSeconds(s[usage.MemoryRequest]).Float() / seconds,
		NetworkReceivePerHour: float64(s[usage.NetworkReceive]) / hours, NetworkTransmitPerHour: float64(s[usage.NetworkTransmit]) / hours,
		VolumeClaimedBytes: usage.ByteSeconds(s[usage.VolumeClaimed]).Float() / seconds, Watts: usage.Joules(energy).Float() / seconds,
	}
	if c.CarbonKnown {
		grams := usage.Grams(c.CarbonMicrograms).Float() / hours
		rate.GramsPerHour = &grams
	}
	costs := costsOf(c)
	for currency, cost := range costs {
		costs[currency] = new(big.Rat).Quo(cost, big.NewRat(int64(length), int64(time.Hour)))
	}
	if rate.CostPerHour = usage.Moneys(costs); rate.CostPerHour == nil {
		rate.CostPerHour = []usage.Money{}
	}
	return rate, nil
}

// keysOf is the keys, never null in JSON.
func keysOf(keys []usage.Key) []usage.Key {
	if keys == nil {
		return []usage.Key{}
	}
	return keys
}

// parsed is a query that has been parsed before.
func parsed(text string) url.Values {
	values, _ := url.ParseQuery(text) // usage.ParseRequest has read it
	return values
}
