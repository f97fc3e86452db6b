package meters

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

func newTestReaders(t *testing.T) (readers, *clock.Manual) {
	t.Helper()
	clk := clock.NewManual(noon)
	r := newReaders(&http.Client{}, clk, slog.New(slog.DiscardHandler))
	t.Cleanup(r.close)
	return r, clk
}

// secret writes a file of credentials.
func secret(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestEndpoints: each preset asks its device where the device answers.
func TestEndpoints(t *testing.T) {
	files := map[string]string{
		"/status": "shelly-gen1-plug.json", "/rpc/Switch.GetStatus?id=1": "shelly-gen2-switch.json", "/rpc/PM1.GetStatus?id=1": "shelly-pm1.json",
		"/rpc/Shelly.GetStatus": "shelly-3em-em1.json", "/cm?cmnd=Status%208": "tasmota-status8.json", "/api/v1/data": "homewizard-p1.json",
		"/api/states/sensor.box_energy": "home-assistant-energy.json", "/api/v1/query?query=sum%28joules%29": "prometheus-vector.json",
	}
	asked := make(map[string]bool)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		file, ok := files[r.URL.RequestURI()]
		if !ok {
			http.NotFound(w, r)
			return
		}
		asked[r.URL.RequestURI()] = true
		_, _ = w.Write(payload(t, file))
	}))
	t.Cleanup(s.Close)
	r, _ := newTestReaders(t)
	for driver, m := range map[string]fleet.Meter{
		fleet.DriverShellyGen1: {URL: s.URL}, fleet.DriverShellyGen2: {URL: s.URL + "/", Channel: 1}, fleet.DriverShellyPM1: {URL: s.URL, Channel: 1},
		fleet.DriverShelly3EM: {URL: s.URL, Channel: 1}, fleet.DriverTasmota: {URL: s.URL}, fleet.DriverHomeWizard: {URL: s.URL},
		fleet.DriverHomeAssistant: {URL: s.URL + "/api/states/sensor.box_energy"},
		fleet.DriverPrometheus:    {URL: s.URL, Fields: fleet.MeterFields{Counter: fleet.FieldRef{Path: "sum(joules)", Unit: "J"}}},
	} {
		m.Driver = driver
		samples, err := r.read(t.Context(), m, time.Time{})
		if err != nil || len(samples) != 1 || !samples[0].hasCounter || !samples[0].received.Equal(noon) {
			t.Errorf("%s: %+v, %v", driver, samples, err)
		}
	}
	if len(asked) != len(files) {
		t.Errorf("asked %v", asked)
	}
}

// TestDigestAuthentication: a device that asks for digest gets it, and a wrong
// password is told.
func TestDigestAuthentication(t *testing.T) {
	sum := func(text string) string { h := sha256.Sum256([]byte(text)); return hex.EncodeToString(h[:]) }
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := r.Header.Get("Authorization")
		fields := challengeFields(strings.TrimPrefix(header, "Digest "))
		want := sum(strings.Join([]string{sum("admin:shellyplus:geheim"), "60dc59c6", fields["nc"], fields["cnonce"], "auth", sum("GET:" + r.URL.RequestURI())}, ":"))
		if !strings.HasPrefix(header, "Digest ") || fields["response"] != want || fields["username"] != "admin" {
			w.Header().Set("WWW-Authenticate", `Digest qop="auth", realm="shellyplus", nonce="60dc59c6", algorithm=SHA-256`)
			http.Error(w, "who?", http.StatusUnauthorized)
			return
		}
		_, _ = w.Write(payload(t, "shelly-gen2-switch.json"))
	}))
	t.Cleanup(s.Close)
	r, _ := newTestReaders(t)
	m := fleet.Meter{Driver: fleet.DriverShellyGen2, URL: s.URL, UserFile: secret(t, "admin"), PasswordFile: secret(t, "geheim")}
	if _, err := r.read(t.Context(), m, time.Time{}); err != nil {
		t.Error(err)
	}
	m.PasswordFile = secret(t, "wrong")
	if _, err := r.read(t.Context(), m, time.Time{}); err == nil || !strings.Contains(err.Error(), "401") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("wrong password: %v", err)
	}
}

// TestInfluxDB: the newest row first, then all that came since; several series are
// an error.
func TestInfluxDB(t *testing.T) {
	engine := influxtest.Open(t, t.TempDir())
	server, err := engine.Client()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Create(t.Context(), "monitoring"); err != nil {
		t.Fatal(err)
	}
	db := server.Database("monitoring")
	put := func(minute int, phase string, kWh float64) {
		point := influxsync.NewPoint("pdu", map[string]string{"rack": "r1", "phase": phase}, map[string]influxsync.Value{
			"energy": influxsync.Float(kWh), "watts": influxsync.Int(400)}, noon.Add(time.Duration(minute)*time.Minute))
		if err := db.Write(t.Context(), []influxsync.Point{point}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		put(i, "1", 1000.5+float64(i))
	}
	r := influxReader{newClients(&http.Client{Transport: engine.Transport()}), clock.NewManual(noon)}
	m := fleet.Meter{Name: "pdu", Driver: fleet.DriverInfluxDB, URL: "http://monitoring.example:8086", Database: "monitoring", Measurement: "pdu", Tags: map[string]string{"rack": "r1"},
		Fields: fleet.MeterFields{Counter: fleet.FieldRef{Path: "energy", Unit: "kWh"}, Power: fleet.FieldRef{Path: "watts", Unit: "W"}}}
	samples, err := r.read(t.Context(), m, time.Time{})
	if err != nil || len(samples) != 1 || show(samples[0]) != "3616200000000 400000 0 2026-11-23T12:04:00Z" {
		t.Fatalf("newest: %+v, %v", samples, err)
	}
	if samples, err = r.read(t.Context(), m, noon.Add(time.Minute)); err != nil || len(samples) != 3 || !samples[0].time.Equal(noon.Add(2*time.Minute)) {
		t.Errorf("since: %+v, %v", samples, err)
	}
	if samples, err = r.read(t.Context(), m, noon.Add(time.Hour)); err != nil || len(samples) != 0 {
		t.Errorf("nothing new: %+v, %v", samples, err)
	}
	put(0, "2", 5)
	if _, err := r.read(t.Context(), m, noon.Add(-time.Hour)); err == nil || !strings.Contains(err.Error(), "several series") {
		t.Errorf("two series: %v", err)
	}
	m.Fields.Counter.Path = "none"
	m.Tags["phase"] = "1"
	if _, err := r.read(t.Context(), m, noon); err == nil || !strings.Contains(err.Error(), `no field "none"`) {
		t.Errorf("no field: %v", err)
	}
}

// fakeBroker speaks as much MQTT 3.1.1 as a subscriber needs.
type fakeBroker struct {
	t        *testing.T
	listener net.Listener
	mu       sync.Mutex
	clients  []net.Conn
	topics   chan string // that were subscribed to
	password string
}

func newFakeBroker(t *testing.T, password string) *fakeBroker {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &fakeBroker{t: t, listener: listener, topics: make(chan string, 16), password: password}
	t.Cleanup(b.close)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go b.serve(connection)
		}
	}()
	return b
}

func (b *fakeBroker) close() {
	_ = b.listener.Close()
	b.drop()
}

func (b *fakeBroker) serve(connection net.Conn) {
	defer func() { _ = connection.Close() }()
	for {
		packet, err := packets.ReadPacket(connection)
		if err != nil {
			return
		}
		switch p := packet.(type) {
		case *packets.ConnectPacket:
			answer := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
			if string(p.Password) != b.password {
				answer.ReturnCode = packets.ErrRefusedBadUsernameOrPassword
			}
			_ = answer.Write(connection)
		case *packets.SubscribePacket:
			answer := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
			answer.MessageID, answer.ReturnCodes = p.MessageID, []byte{1}
			b.mu.Lock()
			b.clients = append(b.clients, connection)
			b.mu.Unlock()
			_ = answer.Write(connection)
			b.topics <- p.Topics[0]
		case *packets.PingreqPacket:
			_ = packets.NewControlPacket(packets.Pingresp).Write(connection)
		}
	}
}

func (b *fakeBroker) publish(topic string, body []byte) {
	b.t.Helper()
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Payload = topic, body
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := p.Write(b.clients[len(b.clients)-1]); err != nil {
		b.t.Fatal(err)
	}
}

// drop ends all connections.
func (b *fakeBroker) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.clients {
		_ = c.Close()
	}
	b.clients = nil
}

func (b *fakeBroker) subscribed(ctx context.Context) string {
	select {
	case topic := <-b.topics:
		return topic
	case <-ctx.Done():
		b.t.Fatal("nothing was subscribed to")
		return ""
	}
}

// await reads until there is something: messages come from another goroutine.
func await(t *testing.T, r readers, m fleet.Meter) []sample {
	t.Helper()
	for t.Context().Err() == nil {
		samples, err := r.read(t.Context(), m, time.Time{})
		if err == nil && len(samples) > 0 {
			return samples
		}
	}
	t.Fatal("no message came")
	return nil
}

// TestMQTT: a broker with a password; a full status, then a partial one that is laid
// over it; after the connection broke the topic is subscribed to again.
func TestMQTT(t *testing.T) {
	b := newFakeBroker(t, "geheim")
	r, _ := newTestReaders(t)
	m := fleet.Meter{Name: "plug", Box: "b", Driver: fleet.DriverMQTT, URL: "mqtt://" + b.listener.Addr().String(), Topic: "plug/events/rpc", Preset: fleet.DriverShellyGen2,
		UserFile: secret(t, "box"), PasswordFile: secret(t, "geheim")}
	if samples, err := r.read(t.Context(), m, time.Time{}); len(samples) > 0 {
		t.Fatalf("before any message: %v, %v", samples, err)
	}
	if topic := b.subscribed(t.Context()); topic != m.Topic {
		t.Errorf("subscribed to %s", topic)
	}
	b.publish(m.Topic, payload(t, "shelly-gen2-notify-full.json"))
	if got := show(await(t, r, m)[0]); got != "162043642800 412600 3600 2025-11-23T12:00:00.25Z" {
		t.Errorf("full: %s", got)
	}
	b.publish(m.Topic, payload(t, "shelly-gen2-notify-partial.json"))
	if got := show(await(t, r, m)[0]); got != "162068396400 412600 3600 2025-11-23T12:01:00.5Z" {
		t.Errorf("partial: %s", got)
	}
	b.drop()
	b.subscribed(t.Context())
	b.publish(m.Topic, payload(t, "shelly-gen2-notify-full.json"))
	await(t, r, m)
	r.keep(nil)
	if len(r.mqtt.brokers)+len(r.mqtt.meters) != 0 {
		t.Error("connections of meters that are gone are kept")
	}
}

// TestMQTTMessages: what becomes of messages, without a broker.
func TestMQTTMessages(t *testing.T) {
	clk := clock.NewManual(noon)
	topic := func(preset string) *mqttMeter {
		return &mqttMeter{meter: fleet.Meter{Driver: fleet.DriverMQTT, Preset: preset, Topic: "shellies/em"}, clock: clk, since: noon}
	}
	gen1 := topic(fleet.DriverShellyGen1)
	for _, message := range [][2]string{{"emeter/0/power", "412.55"}, {"relay/0", "on"}, {"emeter/0/total", "5120.7"}} {
		gen1.receive("shellies/em/"+message[0], []byte(message[1]), false)
	}
	samples, err := gen1.take(time.Time{})
	if err != nil || len(samples) != 1 || show(samples[0]) != "18434520000 412550 0 -" {
		t.Errorf("one value a topic: %+v, %v", samples, err)
	}
	partial := topic(fleet.DriverShellyGen2)
	partial.receive("x", payload(t, "shelly-gen2-notify-partial.json"), false)
	if _, err := partial.take(time.Time{}); err == nil {
		t.Error("a partial status alone is no error")
	}
	partial.receive("x", payload(t, "shelly-gen2-notify-full.json"), true) // kept by the broker: of any age
	if samples, err := partial.take(time.Time{}); len(samples) != 0 {
		t.Errorf("a message that the broker had kept counts: %v, %v", samples, err)
	}
	partial.receive("x", []byte(`{"method":"NotifyEvent","params":{"ts":1763899300,"events":[]}}`), false)
	partial.receive("x", []byte(`<html>`), false)
	if samples, err := partial.take(time.Time{}); len(samples) != 0 || err == nil || !strings.Contains(err.Error(), "no JSON") {
		t.Errorf("events and junk: %v, %v", samples, err)
	}
	quiet := topic(fleet.DriverTasmota)
	clk.Advance(time.Hour)
	if _, err := quiet.take(time.Time{}); err == nil || !strings.Contains(err.Error(), "no message for 1h0m0s") {
		t.Errorf("silence: %v", err)
	}
	for i := range maxWaiting + 5 {
		quiet.receive("x", fmt.Appendf(nil, `{"ENERGY":{"Total":%d}}`, i), false)
	}
	if samples, _ := quiet.take(time.Time{}); len(samples) != maxWaiting || samples[0].counter != 5*3_600_000_000 {
		t.Errorf("%d messages wait", len(samples))
	}
}
