package meters

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/decimal"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// influxReader reads a meter from an InfluxDB 1.x that something else fills. All
// rows since the last reading are taken, so that nothing is lost by a pause.
type influxReader struct {
	clients clients
	clock   clock.Clock
}

// maxRows bounds the rows that one reading takes; the rest comes with the next.
const maxRows = 1000

func (r influxReader) read(ctx context.Context, m fleet.Meter, after time.Time) ([]sample, error) {
	client, err := r.clients.of(m)
	if err != nil {
		return nil, err
	}
	server, err := influxsync.New(influxsync.Config{URL: m.URL, Transport: authorized{client.Transport, m}})
	if err != nil {
		return nil, fmt.Errorf("meter %s: %w", m.Name, err)
	}
	query := influxsync.Query{From: m.Measurement, Group: []string{"*"}, Descending: after.IsZero(), Limit: maxRows}
	if after.IsZero() {
		query.Limit = 1
	} else {
		query.Window = schema.Window{From: after.Add(1)}
	}
	for tag, value := range m.Tags {
		query.Where = append(query.Where, influxsync.Condition{Tag: tag, Value: value})
	}
	var samples []sample
	var series []influxsync.Tag
	err = server.Database(m.Database).Query(ctx, query, func(p influxsync.Point) error {
		if len(samples) == 0 {
			series = p.Tags
		} else if !sameTags(series, p.Tags) {
			return fmt.Errorf("several series match, such as %v and %v: name their tags", series, p.Tags)
		}
		s, err := sampleOf(p, m.Fields)
		s.received = r.clock.Now()
		samples = append(samples, s)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read %s of %s: %w", m.Measurement, m.URL, err)
	}
	if len(samples) == 0 && after.IsZero() {
		return nil, fmt.Errorf("read %s of %s: there is no row", m.Measurement, m.URL)
	}
	return samples, nil
}

func sameTags(a, b []influxsync.Tag) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// sampleOf is what a row of somebody else's table says.
func sampleOf(p influxsync.Point, fields fleet.MeterFields) (s sample, err error) {
	s.time = p.Time
	if fields.Counter.Path != "" {
		var text string
		if s.counter, text, err = fieldOf(p, fields.Counter, counterFactors); err != nil {
			return s, err
		}
		if s.hasCounter = true; fields.Counter.Format == fleet.FormatFloat32 {
			s.step = float32Step(text, counterFactors[fields.Counter.Unit])
		}
	}
	if fields.Power.Path != "" {
		s.power, _, err = fieldOf(p, fields.Power, powerFactors)
		s.hasPower = true
	}
	return s, err
}

func fieldOf(p influxsync.Point, ref fleet.FieldRef, factors map[string]int64) (int64, string, error) {
	value, ok := p.Field(ref.Path)
	factor, known := factors[ref.Unit]
	if !ok || !known {
		return 0, "", fmt.Errorf("the row of %s has no field %q in a unit %q", p.Time.Format(time.RFC3339), ref.Path, ref.Unit)
	}
	text := value.Str()
	switch value.Type {
	case schema.Integer:
		text = strconv.FormatInt(value.Int(), 10)
	case schema.Float:
		text = strconv.FormatFloat(value.Float(), 'g', -1, 64)
	}
	number, err := decimal.Floor(text, factor)
	if err != nil {
		return 0, "", fmt.Errorf("field %s: %w", ref.Path, err)
	}
	return number, text, nil
}

// authorized adds a meter's credentials to each request.
type authorized struct {
	base  http.RoundTripper
	meter fleet.Meter
}

// RoundTrip sends the request with the credentials.
func (a authorized) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	if err := authorize(request, a.meter); err != nil {
		return nil, err
	}
	if a.meter.UserFile != "" {
		user, password, err := credentials(a.meter)
		if err != nil {
			return nil, err
		}
		request.SetBasicAuth(user, password)
	}
	base := a.base
	if base == nil {
		base = http.DefaultTransport
	}
	return base.RoundTrip(request)
}

// credentials are the user and the password of a meter, read each time, so that
// a changed one counts.
func credentials(m fleet.Meter) (user, password string, err error) {
	if m.UserFile == "" {
		return "", "", nil
	}
	var texts [2]string
	for i, path := range []string{m.UserFile, m.PasswordFile} {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", "", fmt.Errorf("user of meter: %w", err)
		}
		texts[i] = strings.TrimSpace(string(text))
	}
	return texts[0], texts[1], nil
}
