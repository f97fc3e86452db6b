package heat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/decimal"
	"github.com/accumulus-metering/accumulus/internal/sheet"
	"github.com/accumulus-metering/accumulus/processors"
)

// reading is one reading with where it stood and which values it named.
type reading struct {
	processors.HeatReading
	where string
	named map[string]bool
}

// names are a reading's fields beside its time.
var names = []string{"supply", "return", "store", "flow"}

// parse reads readings in JSON (an object, a list, or {"readings": list}) or in
// CSV with a header.
func parse(mediaType string, body []byte) ([]reading, error) {
	kind, _, err := mime.ParseMediaType(mediaType)
	if err != nil && mediaType != "" {
		return nil, fmt.Errorf("media type %q: %w", mediaType, err)
	}
	switch kind {
	case "text/csv":
		return parseCSV(body)
	case "", "application/json", "application/x-www-form-urlencoded": // the last is what curl says by itself
		return parseJSON(body)
	}
	return nil, fmt.Errorf("media type %q is neither application/json nor text/csv", kind)
}

func parseJSON(body []byte) ([]reading, error) {
	body = bytes.TrimSpace(body)
	var rows []map[string]any
	switch {
	case bytes.HasPrefix(body, []byte("[")):
		if err := decode(body, &rows); err != nil {
			return nil, err
		}
	default:
		var one map[string]any
		if err := decode(body, &one); err != nil {
			return nil, err
		}
		list, wrapped := one["readings"]
		if !wrapped {
			rows = []map[string]any{one}
			break
		}
		if len(one) != 1 {
			return nil, errors.New("beside readings there is something else")
		}
		items, ok := list.([]any)
		if !ok {
			return nil, errors.New("readings is no list")
		}
		for i, item := range items {
			row, ok := item.(map[string]any)
			if !ok {
				return nil, fmt.Errorf("reading %d is no object", i+1)
			}
			rows = append(rows, row)
		}
	}
	var all []reading
	var wrong []error
	for i, row := range rows {
		one, err := ofObject(row)
		one.where = fmt.Sprintf("reading %d", i+1)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", one.where, err))
		}
		if len(wrong) == maxWrong {
			break
		}
		all = append(all, one)
	}
	return all, errors.Join(wrong...)
}

// decode reads one JSON value with its numbers as text.
func decode(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("no JSON of readings: %w", err)
	}
	if d.More() {
		return errors.New("more than one JSON value: send a list")
	}
	return nil
}

func ofObject(row map[string]any) (reading, error) {
	one := reading{named: make(map[string]bool)}
	for name, value := range row {
		if name != "time" && !slices.Contains(names, name) {
			return one, fmt.Errorf("field %q is none of time, %s", name, strings.Join(names, ", "))
		}
		text := ""
		switch v := value.(type) {
		case nil:
		case json.Number:
			text = v.String()
		case string:
			text = v
		default:
			return one, fmt.Errorf("%s is neither a number nor null", name)
		}
		if err := one.set(name, text); err != nil {
			return one, err
		}
	}
	if one.Time.IsZero() {
		return one, errors.New("no time")
	}
	return one, nil
}

// set fills in a field; "" is a value that the sensor did not tell.
func (r *reading) set(name, text string) error {
	if name == "time" {
		at, err := moment(text)
		r.Time = at
		return err
	}
	value, err := micro(text)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	r.named[name] = true
	switch name {
	case "supply":
		r.Supply = value
	case "return":
		r.Return = value
	case "store":
		r.Store = value
	case "flow":
		r.Flow = value
	}
	return nil
}

// micro is a decimal number in 1e-6, exactly, half up beyond. NaN and what some
// devices say in place of a number are values that were not told.
func micro(text string) (processors.Value, error) {
	text = strings.TrimSpace(text)
	switch strings.ToLower(text) {
	case "", "nan", "null", "unavailable", "unknown":
		return processors.Value{}, nil
	}
	value, err := decimal.Parse(text)
	if err != nil {
		return processors.Value{}, fmt.Errorf("%.40q is no number", text)
	}
	if value.NumDigits()+int64(value.Exponent) > 12 {
		return processors.Value{}, fmt.Errorf("%.40s is too large", text)
	}
	n, err := decimal.Round(value, 6)
	return processors.Value{Micro: n, Known: err == nil}, err
}

// moment reads RFC 3339 with its offset, or Unix seconds, milli-, micro- or
// nanoseconds by their size.
func moment(text string) (time.Time, error) {
	text = strings.TrimSpace(text)
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t.UTC(), nil
	}
	value, err := decimal.Parse(text)
	if err != nil || value.Negative {
		return time.Time{}, fmt.Errorf("time: %.40q is neither RFC 3339 with its offset (2026-11-23T10:00:00Z) nor Unix time", text)
	}
	digits := value.NumDigits() + int64(value.Exponent)
	places := int32(9)
	switch {
	case digits > 17:
		places = 0
	case digits > 14:
		places = 3
	case digits > 11:
		places = 6
	}
	n, err := decimal.Round(value, places)
	if err != nil {
		return time.Time{}, fmt.Errorf("time: %.40q is no Unix time", text)
	}
	return time.Unix(0, n).UTC(), nil
}

func parseCSV(body []byte) ([]reading, error) {
	r, header, err := sheet.Open(body, '#')
	if err != nil {
		return nil, fmt.Errorf("no header: want time, and of %s what there is", strings.Join(names, ", "))
	}
	for _, name := range header {
		if name != "time" && !slices.Contains(names, name) {
			return nil, fmt.Errorf("column %q is none of time, %s", name, strings.Join(names, ", "))
		}
	}
	if !slices.Contains(header, "time") {
		return nil, errors.New("no column time")
	}
	var all []reading
	var wrong []error
	for len(wrong) < maxWrong {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			wrong = append(wrong, err)
			break
		}
		line, _ := r.FieldPos(0)
		one := reading{named: make(map[string]bool), where: fmt.Sprintf("line %d", line)}
		for i, name := range header {
			if err := one.set(name, row[i]); err != nil {
				wrong = append(wrong, fmt.Errorf("%s: %w", one.where, err))
			}
		}
		all = append(all, one)
	}
	return all, errors.Join(wrong...)
}
