package meters

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// sample is what one answer of a device says.
type sample struct {
	counter, power       int64 // mJ, mW
	hasCounter, hasPower bool
	step                 int64     // resolution of the counter in mJ, where the format tells it; 0 = not known
	time                 time.Time // the device's own; zero where it gives none
	received             time.Time // when it came
}

// reader asks meters of one kind. It returns what is new since the time of the
// last reading that counted (zero before the first), the oldest first. Nothing
// new is no error.
type reader interface {
	read(ctx context.Context, m fleet.Meter, after time.Time) ([]sample, error)
}

// readers are the readers by driver.
type readers struct {
	byDriver map[string]reader
	mqtt     *mqttReader
}

func newReaders(client *http.Client, clk clock.Clock, log *slog.Logger) readers {
	shared := newClients(client)
	mqtt := newMQTTReader(clk, log)
	r := readers{mqtt: mqtt, byDriver: map[string]reader{
		fleet.DriverMQTT:       mqtt,
		fleet.DriverPrometheus: prometheusReader{shared, clk},
		fleet.DriverModbus:     modbusReader{clk},
		fleet.DriverInfluxDB:   influxReader{shared, clk},
	}}
	for _, driver := range fleet.HTTPDrivers {
		r.byDriver[driver] = httpReader{shared, clk}
	}
	return r
}

// polled says whether a meter is asked; the others send.
func polled(m fleet.Meter) bool { return m.Driver != fleet.DriverPush }

func (r readers) read(ctx context.Context, m fleet.Meter, after time.Time) ([]sample, error) {
	reader, ok := r.byDriver[m.Driver]
	if !ok {
		return nil, fmt.Errorf("meter %s: unknown driver %q", m.Name, m.Driver)
	}
	samples, err := reader.read(ctx, m, after)
	for i := range samples {
		if samples[i].hasCounter && m.StepJoules > 0 {
			samples[i].step = m.StepMillijoules()
		}
	}
	return samples, err
}

// keep ends the connections of meters that are gone.
func (r readers) keep(meters []fleet.Meter) { r.mqtt.keep(meters) }

// close ends all connections.
func (r readers) close() { r.mqtt.keep(nil) }

// httpReader reads devices whose state is one JSON document.
type httpReader struct {
	clients clients
	clock   clock.Clock
}

func (h httpReader) read(ctx context.Context, m fleet.Meter, _ time.Time) ([]sample, error) {
	client, err := h.clients.of(m)
	if err != nil {
		return nil, err
	}
	asked := h.clock.Now()
	address := endpoint(m)
	body, err := fetch(ctx, client, m, address)
	if err != nil {
		return nil, err
	}
	received := asked.Add(h.clock.Now().Sub(asked) / 2)
	s, err := decode(m, body, received)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", address, err)
	}
	s.received = received
	return []sample{s}, nil
}

// usualPeriod is how often a meter that sends by itself is taken to do so where
// nothing is said: Tasmota's default.
const usualPeriod = 5 * time.Minute

// period is the time between two readings of a meter.
func period(m fleet.Meter, loop time.Duration) time.Duration {
	own := time.Duration(m.Interval)
	if slices.Contains([]string{fleet.DriverMQTT, fleet.DriverPush, fleet.DriverInfluxDB}, m.Driver) && own == 0 {
		own = usualPeriod
	}
	return max(own, loop)
}
