package meters

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/roots"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// silence is after how long a meter that says nothing is told of.
const silence = 15 * time.Minute

// maxWaiting bounds the messages of a meter that wait to be read; the oldest go.
const maxWaiting = 1000

// mqttReader keeps a connection to each broker and hands out what came since it
// was asked last. A broker that is away is connected to again by itself.
type mqttReader struct {
	clock clock.Clock
	log   *slog.Logger

	mu      sync.Mutex
	brokers map[broker]mqtt.Client
	meters  map[string]*mqttMeter // by name
}

// broker is what tells connections apart.
type broker struct{ url, user, password, ca string }

func brokerOf(m fleet.Meter) broker { return broker{m.URL, m.UserFile, m.PasswordFile, m.CAFile} }

// mqttMeter is one meter's topic.
type mqttMeter struct {
	meter fleet.Meter
	clock clock.Clock

	mu       sync.Mutex
	document any // what is known of the device: notifications hold only what changed
	waiting  []sample
	heard    time.Time // zero: nothing yet
	since    time.Time
	err      error // of the last message
}

func newMQTTReader(clk clock.Clock, log *slog.Logger) *mqttReader {
	return &mqttReader{clock: clk, log: log, brokers: make(map[broker]mqtt.Client), meters: make(map[string]*mqttMeter)}
}

func (r *mqttReader) read(_ context.Context, m fleet.Meter, after time.Time) ([]sample, error) {
	topic, client, err := r.topic(m)
	if err != nil {
		return nil, err
	}
	samples, err := topic.take(after)
	if len(samples) == 0 && err == nil && !client.IsConnectionOpen() {
		return nil, fmt.Errorf("broker %s is not connected: it is tried again", m.URL)
	}
	return samples, err
}

// topic is the meter's topic, subscribed to.
func (r *mqttReader) topic(m fleet.Meter) (*mqttMeter, mqtt.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	client, ok := r.brokers[brokerOf(m)]
	if !ok {
		var err error
		if client, err = r.connect(m); err != nil {
			return nil, nil, err
		}
		r.brokers[brokerOf(m)] = client
	}
	topic, known := r.meters[m.Name]
	if known && reflect.DeepEqual(topic.meter, m) {
		return topic, client, nil
	}
	if known {
		r.drop(m.Name)
	}
	topic = &mqttMeter{meter: m, clock: r.clock, since: r.clock.Now()}
	r.meters[m.Name] = topic
	topic.subscribe(client)
	return topic, client, nil
}

// connect begins to connect; it does not wait for it.
func (r *mqttReader) connect(m fleet.Meter) (mqtt.Client, error) {
	options := mqtt.NewClientOptions().AddBroker(m.URL).SetCleanSession(true).SetAutoReconnect(true).
		SetConnectRetry(true).SetConnectRetryInterval(10 * time.Second).SetMaxReconnectInterval(time.Minute).
		SetConnectTimeout(10 * time.Second).SetKeepAlive(30 * time.Second)
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, fmt.Errorf("connect to broker: %w", err)
	}
	options.SetClientID("accumulus-" + hex.EncodeToString(id[:]))
	if m.UserFile != "" {
		if _, _, err := credentials(m); err != nil {
			return nil, err
		}
		options.SetCredentialsProvider(func() (string, string) {
			user, password, err := credentials(m)
			if err != nil {
				r.log.Warn("credentials of broker cannot be read", "broker", m.URL, "err", err)
			}
			return user, password
		})
	}
	if m.CAFile != "" {
		pool, err := roots.Read(m.CAFile)
		if err != nil {
			return nil, fmt.Errorf("CA of broker: %w", err)
		}
		options.SetTLSConfig(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool})
	}
	of := brokerOf(m)
	options.SetOnConnectHandler(func(client mqtt.Client) { r.connected(of, client) })
	options.SetConnectionLostHandler(func(_ mqtt.Client, err error) {
		r.log.Warn("broker lost", "broker", of.url, "err", err)
	})
	client := mqtt.NewClient(options)
	client.Connect() // it is tried until it works, or until keep ends it
	return client, nil
}

// connected subscribes all meters of the broker: it remembers nothing.
func (r *mqttReader) connected(of broker, client mqtt.Client) {
	r.log.Info("broker connected", "broker", of.url)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, topic := range r.meters {
		if brokerOf(topic.meter) == of {
			topic.subscribe(client)
		}
	}
}

// keep forgets meters that are gone, and brokers that none is left of.
func (r *mqttReader) keep(meters []fleet.Meter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	names, used := make(map[string]bool), make(map[broker]bool)
	for _, m := range meters {
		if m.Driver == fleet.DriverMQTT {
			names[m.Name], used[brokerOf(m)] = true, true
		}
	}
	for name := range r.meters {
		if !names[name] {
			r.drop(name)
		}
	}
	maps.DeleteFunc(r.brokers, func(of broker, client mqtt.Client) bool {
		if !used[of] {
			client.Disconnect(0)
		}
		return !used[of]
	})
}

// drop ends a subscription. r.mu is held.
func (r *mqttReader) drop(name string) {
	topic := r.meters[name]
	delete(r.meters, name)
	if client, ok := r.brokers[brokerOf(topic.meter)]; ok && client.IsConnectionOpen() {
		client.Unsubscribe(topic.filter())
	}
}

// filter is what is subscribed to. First-generation Shellys publish each value
// below the topic by itself.
func (t *mqttMeter) filter() string {
	if t.meter.Preset == fleet.DriverShellyGen1 {
		return strings.TrimRight(t.meter.Topic, "/") + "/#"
	}
	return t.meter.Topic
}

func (t *mqttMeter) subscribe(client mqtt.Client) {
	if client.IsConnectionOpen() {
		client.Subscribe(t.filter(), 1, func(_ mqtt.Client, message mqtt.Message) {
			t.receive(message.Topic(), message.Payload(), message.Retained())
		})
	}
}

// receive takes a message. One that the broker had kept may be of any age: it
// says what the device is like, but not when.
func (t *mqttMeter) receive(topic string, payload []byte, retained bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(payload) > maxAnswer {
		t.err = fmt.Errorf("topic %s: the message is longer than %d bytes", topic, maxAnswer)
		return
	}
	document, err := parse(payload)
	if t.meter.Preset == fleet.DriverShellyGen1 {
		if err != nil {
			return // "on", "overpower": not ours
		}
		document = nested(strings.TrimPrefix(topic, strings.TrimRight(t.meter.Topic, "/")+"/"), document)
	}
	if err != nil {
		t.err = fmt.Errorf("topic %s: %w", topic, err)
		return
	}
	if method, err := textAt(document, "method"); err == nil && method != "NotifyStatus" && method != "NotifyFullStatus" {
		return // a button, or the answer to somebody
	}
	t.document = overlay(t.document, document)
	if t.heard = t.clock.Now(); retained {
		return
	}
	s, err := decodeDocument(t.meter, t.document, t.heard)
	if t.err = err; err != nil {
		t.err = fmt.Errorf("topic %s: %w", topic, err)
		return
	}
	s.received = t.heard
	t.waiting = append(t.waiting, s)
	t.waiting = t.waiting[max(0, len(t.waiting)-maxWaiting):]
}

// take is what came since; an error if the last message could not be read, or
// there has been none for long.
func (t *mqttMeter) take(time.Time) ([]sample, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	samples := t.waiting
	t.waiting = nil
	if len(samples) > 0 {
		return samples, nil
	}
	last := t.heard
	if last.IsZero() {
		last = t.since
	}
	quiet := t.clock.Now().Sub(last)
	switch {
	case t.err != nil:
		return nil, t.err
	case quiet > max(silence, 3*time.Duration(t.meter.Interval)):
		return nil, fmt.Errorf("topic %s: no message for %s", t.meter.Topic, quiet.Round(time.Second))
	}
	return nil, nil
}

// nested is the document below a path with slashes.
func nested(path string, document any) any {
	parts := strings.Split(path, "/")
	for i := len(parts) - 1; i >= 0; i-- {
		document = map[string]any{parts[i]: document}
	}
	return document
}

// maxDepth bounds how deep documents are laid over each other.
const maxDepth = 32

// overlay is the new document over the old one: objects are merged, anything
// else is replaced.
func overlay(old, document any) any { return overlaid(old, document, maxDepth) }

func overlaid(old, document any, depth int) any {
	below, above := asObject(old), asObject(document)
	if below == nil || above == nil || depth == 0 {
		return document
	}
	merged := maps.Clone(below)
	for key, value := range above {
		merged[key] = overlaid(merged[key], value, depth-1)
	}
	return merged
}

func asObject(document any) map[string]any {
	object, _ := document.(map[string]any)
	return object
}
