package meters

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/decimal"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// counterFactors and powerFactors bring a unit to mJ and to mW.
var (
	counterFactors = map[string]int64{"Wh": 3_600_000, "kWh": 3_600_000_000, "MWh": 3_600_000_000_000, "J": 1_000, "Wmin": 60_000}
	powerFactors   = map[string]int64{"W": 1_000, "kW": 1_000_000, "mW": 1}
)

// decodeFields reads what the field map names. All of it must be there.
func decodeFields(document any, fields fleet.MeterFields, zone string, near time.Time) (s sample, err error) {
	if fields.Counter.Path != "" {
		if s.counter, err = number(document, fields.Counter, counterFactors); err != nil {
			return sample{}, err
		}
		s.hasCounter = true
		if fields.Counter.Format == fleet.FormatFloat32 {
			text, _ := textAt(document, fields.Counter.Path) // it was read
			s.step = float32Step(text, counterFactors[fields.Counter.Unit])
		}
	}
	if fields.Power.Path != "" {
		if s.power, err = number(document, fields.Power, powerFactors); err != nil {
			return sample{}, err
		}
		s.hasPower = true
	}
	if !s.hasCounter && !s.hasPower {
		return sample{}, errors.New("the fields name neither a counter nor a power")
	}
	if fields.Time.Path != "" {
		if s.time, err = moment(document, fields.Time, zone, near); err != nil {
			return sample{}, err
		}
	}
	return s, nil
}

// float32Step is the distance from a number that a device holds in 32 bits to the
// next that it can hold, times factor; at least 1.
func float32Step(text string, factor int64) int64 {
	value, err := strconv.ParseFloat(text, 32)
	if err != nil {
		return 0
	}
	return spacing(float32(value), factor)
}

// spacing is a power of two, so that its product is exact in 64 bits.
func spacing(value float32, factor int64) int64 {
	next := float64(math.Nextafter32(float32(math.Abs(float64(value))), math.MaxFloat32))
	step := (next - math.Abs(float64(value))) * float64(factor)
	if !(step >= 1) {
		return 1
	}
	return int64(math.Min(math.Round(step), 1e18))
}

func number(document any, ref fleet.FieldRef, factors map[string]int64) (int64, error) {
	factor, ok := factors[ref.Unit]
	if !ok {
		return 0, fmt.Errorf("%s: unknown unit %q", ref.Path, ref.Unit)
	}
	return quantity(document, ref.Path, factor)
}

// quantity is the number at a path times factor.
func quantity(document any, path string, factor int64) (int64, error) {
	text, err := textAt(document, path)
	if err != nil {
		return 0, err
	}
	value, err := decimal.Floor(text, factor)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return value, nil
}

func moment(document any, ref fleet.FieldRef, zone string, near time.Time) (time.Time, error) {
	text, err := textAt(document, ref.Path)
	if err != nil {
		return time.Time{}, err
	}
	switch ref.Unit {
	case "rfc3339":
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil || t.Year() < 1970 || t.Year() > 2200 {
			return time.Time{}, fmt.Errorf("%s: %q is no time", ref.Path, text)
		}
		return t.UTC(), nil
	case "local":
		t, err := localTime(text, zone, near)
		if err != nil {
			return time.Time{}, fmt.Errorf("%s: %w", ref.Path, err)
		}
		return t, nil
	}
	factors := map[string]int64{"unix": int64(time.Second), "unixMilli": int64(time.Millisecond)}
	ns, err := number(document, ref, factors)
	if err != nil {
		return time.Time{}, err
	}
	if ns < 0 {
		return time.Time{}, fmt.Errorf("%s: %s is no time", ref.Path, text)
	}
	return time.Unix(0, ns).UTC(), nil
}

// localTime reads a time without a zone. In the hour that a clock shows twice it
// is the one that is nearer to when it came.
func localTime(text, zone string, near time.Time) (time.Time, error) {
	location, err := time.LoadLocation(zone)
	if err != nil {
		return time.Time{}, fmt.Errorf("time zone: %w", err)
	}
	const form = "2006-01-02T15:04:05"
	t, err := time.ParseInLocation(form, text, location)
	if err != nil || t.Year() < 1970 || t.Year() > 2200 {
		return time.Time{}, fmt.Errorf("%q is no time such as %s", text, form)
	}
	best := t
	for _, other := range []time.Time{t.Add(-time.Hour), t.Add(time.Hour)} {
		same := other.Format(form) == t.Format(form)
		if same && other.Sub(near).Abs() < best.Sub(near).Abs() {
			best = other
		}
	}
	return best.UTC(), nil
}

// parse reads one JSON document and keeps its numbers as text.
func parse(body []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var document any
	if err := d.Decode(&document); err != nil {
		return nil, fmt.Errorf("answer is no JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("answer has something after its JSON")
	}
	return document, nil
}

// at is the value at a path such as "a.b.0.c".
func at(document any, path string) (any, error) {
	value := document
	for part := range strings.SplitSeq(path, ".") {
		switch node := value.(type) {
		case map[string]any:
			child, ok := node[part]
			if !ok {
				return nil, fmt.Errorf("%s: the answer has no %q", path, part)
			}
			value = child
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(node) {
				return nil, fmt.Errorf("%s: the answer has no element %q", path, part)
			}
			value = node[i]
		default:
			return nil, fmt.Errorf("%s: nothing is below %q", path, part)
		}
	}
	return value, nil
}

// textAt is a number's text, or a text, which some devices put numbers in.
func textAt(document any, path string) (string, error) {
	value, err := at(document, path)
	if err != nil {
		return "", err
	}
	switch v := value.(type) {
	case json.Number:
		return v.String(), nil
	case string:
		return v, nil
	}
	return "", fmt.Errorf("%s: is %T, not a number", path, value)
}
