package meters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// link is the way from an agent to a leader's loop, which may be down.
type link struct {
	loop *Loop
	down error
	lost bool // the answer is lost, not the request
	sent int
}

func (l *link) PushReadings(ctx context.Context, meter string, sent []Sent) ([]Verdict, error) {
	if l.down != nil {
		return nil, l.down
	}
	l.sent += len(sent)
	verdicts, err := l.loop.Push(ctx, meter, sent)
	if l.lost {
		return nil, errors.New("connection reset")
	}
	return verdicts, err
}

// TestAgent: what a device counted arrives once and whole, though the leader is away,
// an answer is lost, the agent dies, and its file ends in half a line.
func TestAgent(t *testing.T) {
	p := newPlant(t)
	p.apply(fleet.NewObject("far", fleet.Meter{Box: "b1", Driver: fleet.DriverPush}))
	var counter int64
	device := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"apower":100,"aenergy":{"total":%d.%03d}}`, counter/1000, counter%1000)
	}))
	t.Cleanup(device.Close)
	way := &link{loop: p.loop(Config{})}
	path := filepath.Join(t.TempDir(), "buffer", "readings.jsonl")
	config := AgentConfig{Buffer: path, Meters: []fleet.Meter{{Name: "far", Box: "b1", Driver: fleet.DriverShellyGen2, URL: device.URL},
		{Name: "unknown", Box: "b1", Driver: fleet.DriverShellyGen2, URL: device.URL}}, Permanent: func(err error) bool { return strings.Contains(err.Error(), "not found") }}
	newAgent := func() *Agent {
		agent, err := NewAgent(config, way, &http.Client{}, p.clock, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return agent
	}
	agent := newAgent()
	tick := func(n int) {
		for range n {
			p.clock.Advance(10 * time.Second)
			counter += 277
			if err := errors.Join(agent.Read(t.Context(), p.clock.Now()), agent.Send(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
	}
	tick(3)
	way.down = errors.New("no route")
	tick(5)
	if _, err := NewAgent(config, way, &http.Client{}, p.clock, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("two agents have one buffer")
	}
	if err := agent.buffer.close(); err != nil { // it dies, writing
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(`{"meter":"far","ti`); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	agent = newAgent()
	tick(2)
	way.down, way.lost = nil, true
	tick(1)
	way.lost = false
	tick(1)
	t.Cleanup(func() { _ = agent.buffer.close() })
	readings := p.load("b1", noon, p.clock.Now().Add(time.Hour))
	if len(readings) != 12 {
		t.Fatalf("%d readings arrived, want 12", len(readings))
	}
	if got, want := readings[11].CounterMillijoules-readings[0].CounterMillijoules, int64(11*277*3600); got != want || readings[0].StepMillijoules != 3600 {
		t.Errorf("they grew by %d mJ, the device by %d (step %d)", got, want, readings[0].StepMillijoules)
	}
	if names := agent.buffer.meters(); len(names) != 1 || names[0] != "unknown" {
		t.Errorf("still waiting: %v", names)
	}
}

// The buffer is bounded: beyond it older readings are thinned out, the newest of
// each meter stay.
func TestBufferThins(t *testing.T) {
	b, err := openBuffer(filepath.Join(t.TempDir(), "readings.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.close() })
	many := make([]kept, maxKept+1)
	for i := range many {
		many[i] = kept{Meter: "m", Sent: sentAt(noon.Add(time.Duration(i)*time.Second), int64(i))}
	}
	if err := b.add(many); err != nil {
		t.Fatal(err)
	}
	if n := b.size(); n != maxKept-maxKept/4+1 {
		t.Errorf("%d readings are kept", n)
	}
	first, last := b.waiting[0], b.waiting[b.size()-1]
	if first.Counter != "0" || last.Counter.String() != fmt.Sprint(maxKept) {
		t.Errorf("kept from %s to %s", first.Counter, last.Counter)
	}
}

func TestAgentRefusesItsFile(t *testing.T) {
	for want, list := range map[string][]fleet.Meter{"no meter": nil, "driver push": {{Name: "m", Driver: fleet.DriverPush}}} {
		_, err := NewAgent(AgentConfig{Meters: list, Buffer: filepath.Join(t.TempDir(), "b")}, nil, nil, nil, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if got := joules(-1_234); got != "-1.234" {
		t.Errorf("joules: %s", got)
	}
	if got := joules(-34); got != "-0.034" {
		t.Errorf("joules: %s", got)
	}
}
