package prices

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/cockroachdb/apd/v3"
)

// ErrSlots is a text that is no list of price slots.
var ErrSlots = errors.New("no price slots")

// maxDigits bounds a price, as that of a list.
const maxDigits = 18

// Slot is a price from From to To, whole quarters of an hour.
type Slot struct {
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Price string    `json:"price"` // a decimal
}

// ParseSlots reads slots from JSON, {"slots":[{"from":…,"to":…,"price":"0.21"}]}, or
// from CSV with the columns from, to, price. Errors: ErrSlots that names the slot.
func ParseSlots(mediaType string, body []byte) ([]registry.PriceSlot, error) {
	var slots []Slot
	var err error
	if strings.HasPrefix(mediaType, "text/csv") || mediaType == "" && !bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
		slots, err = slotsOfCSV(body)
	} else {
		slots, err = slotsOfJSON(body)
	}
	if err != nil {
		return nil, err
	}
	if len(slots) == 0 {
		return nil, fmt.Errorf("%w: there is none in it", ErrSlots)
	}
	parsed := make([]registry.PriceSlot, len(slots))
	for i, slot := range slots {
		value, err := parsePrice(slot.Price)
		if err != nil {
			return nil, fmt.Errorf("%w: slot %d: %w", ErrSlots, i+1, err)
		}
		if err := checkSlot(slot.From, slot.To); err != nil {
			return nil, fmt.Errorf("%w: slot %d: %w", ErrSlots, i+1, err)
		}
		parsed[i] = registry.PriceSlot{From: slot.From.UTC(), To: slot.To.UTC(), Value: value}
	}
	return parsed, contradicting(parsed)
}

// contradicting is an error of slots that give one moment two prices.
func contradicting(slots []registry.PriceSlot) error {
	sorted := slices.Clone(slots)
	slices.SortStableFunc(sorted, func(x, y registry.PriceSlot) int { return cmp.Or(x.From.Compare(y.From), x.To.Compare(y.To)) })
	for i := range sorted[:len(sorted)-1] {
		one, next := sorted[i], sorted[i+1]
		same := one.From.Equal(next.From) && one.To.Equal(next.To) && one.Value.Cmp(next.Value) == 0
		if next.From.Before(one.To) && !same {
			return fmt.Errorf("%w: [%s, %s) at %s and [%s, %s) at %s overlap", ErrSlots, one.From.Format(time.RFC3339), one.To.Format(time.RFC3339), one.Value,
				next.From.Format(time.RFC3339), next.To.Format(time.RFC3339), next.Value)
		}
	}
	return nil
}

// longestSlot bounds a slot, and with it what a short text can make the leader
// store.
const longestSlot = 32 * 24 * time.Hour

const quarter = 15 * time.Minute

func checkSlot(from, to time.Time) error {
	switch {
	case from.Year() < 1970 || to.Year() > 2200:
		return fmt.Errorf("[%s, %s) is not between the years 1970 and 2200", from.Format(time.RFC3339), to.Format(time.RFC3339))
	case !from.Before(to):
		return fmt.Errorf("[%s, %s) is empty: to is excluded", from.Format(time.RFC3339), to.Format(time.RFC3339))
	case !from.Equal(from.Truncate(quarter)) || !to.Equal(to.Truncate(quarter)):
		return fmt.Errorf("[%s, %s) is not whole quarters of an hour", from.Format(time.RFC3339), to.Format(time.RFC3339))
	case to.Sub(from) > longestSlot:
		return fmt.Errorf("[%s, %s) is longer than %d days", from.Format(time.RFC3339), to.Format(time.RFC3339), longestSlot/(24*time.Hour))
	}
	return nil
}

// parsePrice reads a price, which may be below 0.
func parsePrice(text string) (*apd.Decimal, error) {
	value, err := fleet.Decimal(strings.TrimSpace(text)).Value()
	if err != nil {
		return nil, fmt.Errorf("price %w", err)
	}
	if value.Exponent < -maxDigits || value.NumDigits()+int64(value.Exponent) > maxDigits {
		return nil, fmt.Errorf("price %.40s has more than %d digits before or after the point", text, maxDigits)
	}
	return value, nil
}

func slotsOfJSON(body []byte) ([]Slot, error) {
	var text struct {
		Slots []struct {
			From, To time.Time
			Price    json.Number
		}
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&text); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSlots, err)
	}
	var slots []Slot
	for _, slot := range text.Slots {
		slots = append(slots, Slot{slot.From, slot.To, slot.Price.String()})
	}
	return slots, nil
}

func slotsOfCSV(body []byte) ([]Slot, error) {
	r := csv.NewReader(bytes.NewReader(body))
	r.TrimLeadingSpace = true
	head, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%w: read the header: %w", ErrSlots, err)
	}
	at := make(map[string]int)
	for i, name := range head {
		at[strings.ToLower(strings.TrimSpace(strings.TrimPrefix(name, "\ufeff")))] = i
	}
	for _, name := range []string{"from", "to", "price"} {
		if _, ok := at[name]; !ok {
			return nil, fmt.Errorf("%w: the header has no column %q: want from,to,price", ErrSlots, name)
		}
	}
	var slots []Slot
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return slots, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSlots, err)
		}
		slot := Slot{Price: row[at["price"]]}
		for name, to := range map[string]*time.Time{"from": &slot.From, "to": &slot.To} {
			if *to, err = time.Parse(time.RFC3339, strings.TrimSpace(row[at[name]])); err != nil {
				return nil, fmt.Errorf("%w: slot %d: %s: %q is no time such as 2026-11-03T10:15:00Z", ErrSlots, len(slots)+1, name, row[at[name]])
			}
		}
		slots = append(slots, slot)
	}
}
