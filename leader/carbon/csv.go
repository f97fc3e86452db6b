package carbon

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/decimal"
	"github.com/accumulus-metering/accumulus/internal/sheet"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// Columns of a CSV of intensities. The first three are needed. Without an end, a
// value holds until the next one of its zone, and the last as long as the one
// before it.
var columns = []string{"zone", "from", "grams_per_kwh", "to", "estimated", "source"}

// maxMilligrams is far above any grid; a larger figure is a slip of the unit.
const maxMilligrams = 5_000_000

// milligrams of a number of grams, exactly; what lies beyond three decimals is
// rounded half up.
func milligrams(text string) (int64, error) {
	value, err := decimal.Parse(strings.TrimSpace(text))
	if err != nil {
		return 0, fmt.Errorf("%.40q is no number of grams per kWh", text)
	}
	n, err := decimal.Round(value, 3)
	if err != nil || n < 0 || n > maxMilligrams {
		return 0, fmt.Errorf("%s g/kWh is not between 0 and %d", text, maxMilligrams/1000)
	}
	return n, nil
}

// ParseCSV reads intensities by zone. The error names each line that is wrong.
func ParseCSV(text []byte) (map[string][]registry.Intensity, error) {
	r, header, err := sheet.Open(text, '#')
	if err != nil {
		return nil, fmt.Errorf("no header: want %s", strings.Join(columns, ","))
	}
	at := make(map[string]int)
	for i, name := range header {
		if !slices.Contains(columns, name) {
			return nil, fmt.Errorf("column %q is none of %s", name, strings.Join(columns, ", "))
		}
		at[name] = i
	}
	for _, name := range columns[:3] {
		if _, ok := at[name]; !ok {
			return nil, fmt.Errorf("no column %s: want %s, and %s if there are", name, strings.Join(columns[:3], ", "), strings.Join(columns[3:], ", "))
		}
	}
	found := make(map[string][]registry.Intensity)
	var wrong []error
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			wrong = append(wrong, err)
			break
		}
		line, _ := r.FieldPos(0)
		field := func(name string) string {
			if i, ok := at[name]; ok {
				return strings.TrimSpace(row[i])
			}
			return ""
		}
		one, err := intensityOf(field)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("line %d: %w", line, err))
			if len(wrong) == maxWrong {
				break
			}
			continue
		}
		found[field("zone")] = append(found[field("zone")], one)
	}
	for zone, list := range found {
		if err := closeEnds(list); err != nil {
			wrong = append(wrong, fmt.Errorf("zone %s: %w", zone, err))
		}
	}
	return found, errors.Join(wrong...)
}

// maxWrong bounds the lines that an error names.
const maxWrong = 20

func intensityOf(field func(string) string) (registry.Intensity, error) {
	one := registry.Intensity{Origin: field("source")}
	var err error
	if field("zone") == "" {
		return one, errors.New("no zone")
	}
	if one.At, err = moment(field("from")); err != nil {
		return one, fmt.Errorf("from: %w", err)
	}
	if field("to") != "" {
		if one.Until, err = moment(field("to")); err != nil {
			return one, fmt.Errorf("to: %w", err)
		}
		if !one.At.Before(one.Until) {
			return one, fmt.Errorf("to %s is not after from %s", field("to"), field("from"))
		}
	}
	if one.Milligram, err = milligrams(field("grams_per_kwh")); err != nil {
		return one, err
	}
	switch strings.ToLower(field("estimated")) {
	case "", "false", "no", "0":
	case "true", "yes", "1":
		one.Estimated = true
	default:
		return one, fmt.Errorf("estimated: %q is neither true nor false", field("estimated"))
	}
	return one, nil
}

// moment reads RFC 3339, with its zone: a local time does not say which hour it
// is twice a year.
func moment(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%q is no RFC 3339 time with its offset, such as 2026-11-23T10:00:00Z", text)
	}
	if !t.Equal(t.Truncate(time.Minute)) {
		return t, fmt.Errorf("%q is no whole minute", text)
	}
	return t.UTC(), nil
}

// closeEnds gives values without an end the start of the next one of their zone.
func closeEnds(list []registry.Intensity) error {
	slices.SortStableFunc(list, func(a, b registry.Intensity) int { return a.At.Compare(b.At) })
	for i := range list {
		if i > 0 && list[i].At.Equal(list[i-1].At) {
			return fmt.Errorf("two values from %s", list[i].At.Format(time.RFC3339))
		}
		if !list[i].Until.IsZero() {
			continue
		}
		switch {
		case i+1 < len(list):
			list[i].Until = list[i+1].At
		case i > 0:
			list[i].Until = list[i].At.Add(list[i].At.Sub(list[i-1].At))
		default:
			return fmt.Errorf("the only value, from %s, needs a to", list[i].At.Format(time.RFC3339))
		}
	}
	return nil
}
