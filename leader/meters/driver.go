package meters

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// Steps of the Shelly counters: whole Watt-minutes, and Wh with three decimals.
const (
	stepGen1 = 60_000
	stepGen2 = 3_600
)

// sample is what one answer of a device says.
type sample struct {
	counter, power       int64 // mJ, mW
	hasCounter, hasPower bool
	time                 time.Time // the device's own; zero where it gives none
}

// endpoint is the URL that a meter is read from.
func endpoint(m fleet.Meter) string {
	root := strings.TrimRight(m.URL, "/")
	switch m.Driver {
	case fleet.DriverShellyGen1:
		return root + "/status"
	case fleet.DriverShellyGen2:
		return root + "/rpc/Switch.GetStatus?id=" + strconv.Itoa(m.Channel)
	}
	return m.URL
}

// step is the resolution of a meter's counter in mJ; 0 where it is not known.
func step(m fleet.Meter) int64 {
	switch {
	case m.StepJoules > 0:
		return m.StepMillijoules()
	case m.Driver == fleet.DriverShellyGen1:
		return stepGen1
	case m.Driver == fleet.DriverShellyGen2:
		return stepGen2
	}
	return 0
}

// decode reads a device's answer.
func decode(m fleet.Meter, body []byte) (sample, error) {
	document, err := parse(body)
	if err != nil {
		return sample{}, err
	}
	switch m.Driver {
	case fleet.DriverShellyGen1:
		return decodeGen1(document, m.Channel)
	case fleet.DriverShellyGen2:
		return decodeFields(document, fleet.MeterFields{
			Counter: fleet.FieldRef{Path: "aenergy.total", Unit: "Wh"},
			Power:   fleet.FieldRef{Path: "apower", Unit: "W"}})
	case fleet.DriverHTTPJSON:
		return decodeFields(document, m.Fields)
	}
	return sample{}, fmt.Errorf("unknown driver %q", m.Driver)
}

// decodeGen1 reads a plug's meters[n] (Watt-minutes) or an energy meter's
// emeters[n] (Wh). Their clock has whole seconds and a server of its own, so
// the moment of the answer is nearer to the truth.
func decodeGen1(document any, channel int) (sample, error) {
	base, unit := "meters."+strconv.Itoa(channel), "Wmin"
	if _, err := at(document, base); err != nil {
		if _, other := at(document, "e"+base); other != nil {
			return sample{}, err
		}
		base, unit = "e"+base, "Wh"
	}
	if valid, err := at(document, base+".is_valid"); err == nil && valid != true {
		return sample{}, errors.New("the device says that its reading is not valid")
	}
	return decodeFields(document, fleet.MeterFields{
		Counter: fleet.FieldRef{Path: base + ".total", Unit: unit},
		Power:   fleet.FieldRef{Path: base + ".power", Unit: "W"}})
}

// decodeFields reads what the field map names. All of it must be there.
func decodeFields(document any, fields fleet.MeterFields) (s sample, err error) {
	if fields.Counter.Path != "" {
		if s.counter, err = number(document, fields.Counter, counterFactors); err != nil {
			return sample{}, err
		}
		s.hasCounter = true
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
		if s.time, err = moment(document, fields.Time); err != nil {
			return sample{}, err
		}
	}
	return s, nil
}

func number(document any, ref fleet.FieldRef, factors map[string]int64) (int64, error) {
	factor, ok := factors[ref.Unit]
	if !ok {
		return 0, fmt.Errorf("%s: unknown unit %q", ref.Path, ref.Unit)
	}
	text, err := textAt(document, ref.Path)
	if err != nil {
		return 0, err
	}
	value, err := scaled(text, factor)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", ref.Path, err)
	}
	return value, nil
}

func moment(document any, ref fleet.FieldRef) (time.Time, error) {
	text, err := textAt(document, ref.Path)
	if err != nil {
		return time.Time{}, err
	}
	if ref.Unit == "rfc3339" {
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil || t.Year() < 1970 || t.Year() > 2200 {
			return time.Time{}, fmt.Errorf("%s: %q is no time", ref.Path, text)
		}
		return t.UTC(), nil
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
