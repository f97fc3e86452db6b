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

	"github.com/accumulus-metering/accumulus/internal/decimal"
	"github.com/accumulus-metering/accumulus/internal/sheet"
)

// Sent is one reading that somebody sends: of a counter, of watts, or of both.
// Numbers are decimals in text, so that none of their digits is lost.
type Sent struct {
	Time    time.Time   `json:"time"`
	Counter json.Number `json:"counter,omitempty"`
	Unit    string      `json:"unit,omitempty"` // of the counter: Wh (default), kWh, MWh, J, Wmin
	Watts   json.Number `json:"watts,omitempty"`
	Step    int64       `json:"stepMillijoules,omitempty"` // resolution of the counter, where it is known
}

// maxSent bounds the readings of one request.
const maxSent = 50_000

// columns are the names of energy in line protocol and CSV, with their units.
var columns = map[string]string{"energy_wh": "Wh", "energy_kwh": "kWh", "energy_mwh": "MWh", "energy_joules": "J", "counter_wh": "Wh", "counter_kwh": "kWh"}

// wattColumns are those of power.
var wattColumns = map[string]bool{"watts": true, "power_w": true}

// ParseReadings reads what is sent: JSON ({"readings":[{"time","counter","unit",
// "watts"}]}), line protocol (fields energy_wh, energy_kwh, energy_joules, watts; time
// in ns) or CSV with a header (time, energy_kwh, watts, …). Which of them the media
// type says; text/plain is line protocol. now stands where a line has no time.
func ParseReadings(mediaType string, body []byte, now time.Time) ([]Sent, error) {
	var sent []Sent
	var err error
	switch mediaType {
	case "application/json", "":
		sent, err = parseJSON(body)
	case "text/csv":
		sent, err = parseCSV(body)
	case "text/plain", "application/vnd.influx.line-protocol":
		sent, err = parseLines(body, now)
	default:
		return nil, fmt.Errorf("content type %q: send application/json, text/csv, or text/plain for line protocol", mediaType)
	}
	switch {
	case err != nil:
		return nil, err
	case len(sent) == 0:
		return nil, errors.New("there is no reading in it")
	case len(sent) > maxSent:
		return nil, fmt.Errorf("%d readings at once: send at most %d", len(sent), maxSent)
	}
	return sent, nil
}

func parseJSON(body []byte) ([]Sent, error) {
	var request struct {
		Readings []Sent `json:"readings"`
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&request); err != nil {
		return nil, fmt.Errorf(`no JSON such as {"readings":[{"time":"2026-11-23T12:00:00Z","counter":1234.5,"unit":"kWh"}]}: %w`, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return request.Readings, nil
}

func parseCSV(body []byte) ([]Sent, error) {
	r, header, err := sheet.Open(body, 0)
	if err != nil {
		return nil, fmt.Errorf("no header such as time,energy_kwh,watts: %w", err)
	}
	var sent []Sent
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return sent, nil
		}
		if err != nil {
			return nil, err // it names the line
		}
		var one Sent
		for i, cell := range row {
			if err := one.set(header[i], strings.TrimSpace(cell)); err != nil {
				line, _ := r.FieldPos(i)
				return nil, fmt.Errorf("line %d: %w", line, err)
			}
		}
		if sent = append(sent, one); len(sent) > maxSent {
			return sent, nil
		}
	}
}

// set takes a value by the name of its column; "" is none.
func (s *Sent) set(name, value string) (err error) {
	unit, counter := columns[name]
	switch {
	case name == "time":
		s.Time, err = timeOf(value)
	case value == "":
	case counter:
		s.Counter, s.Unit = json.Number(value), unit
	case wattColumns[name]:
		s.Watts = json.Number(value)
	default:
		err = fmt.Errorf("column %q: use time, energy_wh, energy_kwh, energy_joules, watts", name)
	}
	return err
}

// timeOf reads RFC 3339, or seconds since 1970. A time without a zone is refused:
// in one hour of each autumn it would be two.
func timeOf(text string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t.UTC(), nil
	}
	ns, err := decimal.Floor(text, int64(time.Second))
	if err != nil || ns < 0 {
		return time.Time{}, fmt.Errorf("time %q: use RFC 3339 with its zone, as in 2026-11-23T12:00:00Z, or seconds since 1970", text)
	}
	return time.Unix(0, ns).UTC(), nil
}

func parseLines(body []byte, now time.Time) ([]Sent, error) {
	var sent []Sent
	n := 0
	for line := range strings.Lines(string(body)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		one, err := parseLine(line, now)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if sent = append(sent, one); len(sent) > maxSent {
			break
		}
	}
	return sent, nil
}

// parseLine reads "measurement,tags fields time". Of its fields those are taken
// that are known; there must be one.
func parseLine(line string, now time.Time) (Sent, error) {
	parts := cut(line, ' ')
	if len(parts) < 2 || len(parts) > 3 {
		return Sent{}, errors.New(`no line such as "power energy_wh=1234567i,watts=412.5 1732320000000000000"`)
	}
	s := Sent{Time: now.UTC()}
	if len(parts) == 3 {
		ns, err := strconv.ParseInt(parts[2], 10, 64)
		if err != nil || ns < 0 {
			return Sent{}, fmt.Errorf("time %q: use nanoseconds since 1970", parts[2])
		}
		s.Time = time.Unix(0, ns).UTC()
	}
	for _, field := range cut(parts[1], ',') {
		name, value, _ := strings.Cut(field, "=")
		if _, counter := columns[name]; !counter && !wattColumns[name] {
			continue
		}
		if err := s.set(name, strings.TrimRight(value, "iu")); err != nil {
			return Sent{}, err
		}
	}
	if s.Counter == "" && s.Watts == "" {
		return Sent{}, errors.New("no field is energy_wh, energy_kwh, energy_joules or watts")
	}
	return s, nil
}

// cut splits at a character that is neither quoted nor escaped.
func cut(text string, at byte) []string {
	var parts []string
	quoted, from := false, 0
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\':
			i++
		case text[i] == '"':
			quoted = !quoted
		case text[i] == at && !quoted:
			parts = append(parts, text[from:i])
			from = i + 1
		}
	}
	return append(parts, text[min(from, len(text)):])
}

// sample is what was sent, in our units.
func (s Sent) sample() (sample, error) {
	found := sample{time: s.Time}
	if s.Time.IsZero() || s.Time.Year() < 1970 || s.Time.Year() > 2200 {
		return found, errors.New("it has no time")
	}
	if s.Counter != "" {
		unit := s.Unit
		if unit == "" {
			unit = "Wh"
		}
		factor, ok := counterFactors[unit]
		if !ok {
			return found, fmt.Errorf("unit %q is none of Wh, kWh, MWh, J, Wmin", unit)
		}
		value, err := decimal.Floor(s.Counter.String(), factor)
		if err != nil {
			return found, fmt.Errorf("counter: %w", err)
		}
		found.counter, found.hasCounter, found.step = value, true, max(s.Step, 0)
	}
	if s.Watts != "" {
		value, err := decimal.Floor(s.Watts.String(), powerFactors["W"])
		if err != nil {
			return found, fmt.Errorf("watts: %w", err)
		}
		found.power, found.hasPower = value, true
	}
	if !found.hasCounter && !found.hasPower {
		return found, errors.New("it has neither a counter nor watts")
	}
	return found, nil
}
