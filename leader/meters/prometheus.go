package meters

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/decimal"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// prometheusReader asks a Prometheus, or what speaks its API, instant queries:
// the paths of the fields.
type prometheusReader struct {
	clients clients
	clock   clock.Clock
}

func (p prometheusReader) read(ctx context.Context, m fleet.Meter, _ time.Time) ([]sample, error) {
	client, err := p.clients.of(m)
	if err != nil {
		return nil, err
	}
	var s sample
	for _, one := range []struct {
		ref     fleet.FieldRef
		factors map[string]int64
		value   *int64
		has     *bool
	}{{m.Fields.Counter, counterFactors, &s.counter, &s.hasCounter}, {m.Fields.Power, powerFactors, &s.power, &s.hasPower}} {
		if one.ref.Path == "" {
			continue
		}
		asked := p.clock.Now()
		address := strings.TrimRight(m.URL, "/") + "/api/v1/query?query=" + url.QueryEscape(one.ref.Path)
		body, err := fetch(ctx, client, m, address)
		if err != nil {
			return nil, err
		}
		text, when, err := decodeQuery(body)
		if err != nil {
			return nil, fmt.Errorf("query %s: %w", one.ref.Path, err)
		}
		factor, ok := one.factors[one.ref.Unit]
		if !ok {
			return nil, fmt.Errorf("query %s: unknown unit %q", one.ref.Path, one.ref.Unit)
		}
		if *one.value, err = decimal.Floor(text, factor); err != nil {
			return nil, fmt.Errorf("query %s: %w", one.ref.Path, err)
		}
		if *one.has = true; one.ref.Format == fleet.FormatFloat32 && one.value == &s.counter {
			s.step = float32Step(text, factor)
		}
		if s.time.IsZero() {
			s.time, s.received = when, asked.Add(p.clock.Now().Sub(asked)/2)
		}
	}
	return []sample{s}, nil
}

// decodeQuery is the one value that an instant query gives, and its time.
func decodeQuery(body []byte) (string, time.Time, error) {
	document, err := parse(body)
	if err != nil {
		return "", time.Time{}, err
	}
	if status, err := textAt(document, "status"); err != nil || status != "success" {
		text, _ := textAt(document, "error")
		return "", time.Time{}, fmt.Errorf("the server says %q: %s", status, text)
	}
	base := "data.result"
	kind, err := textAt(document, "data.resultType")
	if err != nil {
		return "", time.Time{}, err
	}
	switch result, _ := at(document, base); kind {
	case "vector":
		list, _ := result.([]any)
		switch len(list) {
		case 0:
			return "", time.Time{}, errors.New("it gives nothing: does the series exist, and is it scraped?")
		case 1:
			base += ".0.value"
		default:
			return "", time.Time{}, fmt.Errorf("it gives %d series: make one of them, as with sum()", len(list))
		}
	case "scalar":
	default:
		return "", time.Time{}, fmt.Errorf("it gives a %s: ask for an instant vector", kind)
	}
	when, err := moment(document, fleet.FieldRef{Path: base + ".0", Unit: "unix"}, "", time.Time{})
	if err != nil {
		return "", time.Time{}, err
	}
	text, err := textAt(document, base+".1")
	if err != nil {
		return "", time.Time{}, err
	}
	if _, err := strconv.ParseFloat(text, 64); err != nil {
		return "", time.Time{}, fmt.Errorf("%q is no number", text)
	}
	return text, when, nil
}
