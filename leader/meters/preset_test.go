package meters

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// payload is a device's answer as its documentation shows it.
func payload(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "payloads", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestGoldenPayloads: what each preset makes of its devices' answers: "counter mJ,
// power mW, step mJ, time", "-" for what is not there, or an error.
func TestGoldenPayloads(t *testing.T) {
	mqtt := func(preset string, channel int) fleet.Meter {
		return fleet.Meter{Driver: fleet.DriverMQTT, Preset: preset, Channel: channel}
	}
	amsterdam := fleet.Meter{Driver: fleet.DriverTasmota, TimeZone: "Europe/Amsterdam"}
	tests := []struct {
		file  string
		meter fleet.Meter
		want  string
	}{
		{"shelly-gen1-plug.json", fleet.Meter{Driver: fleet.DriverShellyGen1}, "74074020000 182310 60000 -"},
		{"shelly-gen1-em.json", fleet.Meter{Driver: fleet.DriverShellyGen1, Channel: 1}, "1844444160000 412550 0 -"},
		{"shelly-gen1-em.json", fleet.Meter{Driver: fleet.DriverShellyGen1, Channel: 2}, `no "meters"`},
		{"shelly-gen2-switch.json", fleet.Meter{Driver: fleet.DriverShellyGen2}, "162043642800 412600 3600 -"},
		{"shelly-gen2-notify-full.json", mqtt(fleet.DriverShellyGen2, 0), "162043642800 412600 3600 2025-11-23T12:00:00.25Z"},
		{"shelly-gen2-notify-partial.json", mqtt(fleet.DriverShellyGen2, 0), `no "apower"`},
		{"shelly-pm1.json", fleet.Meter{Driver: fleet.DriverShellyPM1}, "23516640000 213300 3600 -"},
		{"shelly-3em-status.json", fleet.Meter{Driver: fleet.DriverShelly3EM}, "24000012000 2618600 36000 -"},
		{"shelly-3em-emdata.json", mqtt(fleet.DriverShelly3EM, 0), "24000012000 - 36000 -"},
		{"shelly-3em-em.json", mqtt(fleet.DriverShelly3EM, 0), "- 2618600 0 -"},
		{"shelly-3em-em1.json", fleet.Meter{Driver: fleet.DriverShelly3EM, Channel: 1}, "800100000 118100 36000 -"},
		{"shelly-3em-em1.json", fleet.Meter{Driver: fleet.DriverShelly3EM, Channel: 3}, "no emdata:3"},
		{"tasmota-status8.json", fleet.Meter{Driver: fleet.DriverTasmota}, "444441600000 182000 0 -"},
		{"tasmota-status8.json", amsterdam, "444441600000 182000 0 2025-11-23T12:00:00Z"},
		{"tasmota-phases.json", mqtt(fleet.DriverTasmota, 0), "445950000000 600000 0 -"},
		{"tasmota-phases.json", mqtt(fleet.DriverTasmota, 2), "72900000000 200000 0 -"},
		{"tasmota-phases.json", mqtt(fleet.DriverTasmota, 4), "not a phase 4"},
		{"homewizard-p1.json", fleet.Meter{Driver: fleet.DriverHomeWizard}, "49605616800000 543000 0 -"},
		{"homewizard-tariffs.json", fleet.Meter{Driver: fleet.DriverHomeWizard}, "49605616800000 -543000 0 -"},
		{"homewizard-socket.json", fleet.Meter{Driver: fleet.DriverHomeWizard}, "109839600000 182300 0 -"},
		{"home-assistant-energy.json", fleet.Meter{Driver: fleet.DriverHomeAssistant}, "4444441200000 - 0 2025-11-23T12:00:00.5Z"},
		{"home-assistant-power.json", fleet.Meter{Driver: fleet.DriverHomeAssistant}, "- 412500 0 -"},
		{"home-assistant-mwh.json", fleet.Meter{Driver: fleet.DriverHomeAssistant}, "5400000000000 - 0 -"},
		{"home-assistant-unavailable.json", fleet.Meter{Driver: fleet.DriverHomeAssistant}, `"unavailable"`},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%s/%s/%d", test.file, test.meter.Format(), test.meter.Channel), func(t *testing.T) {
			s, err := decode(test.meter, payload(t, test.file), noon)
			if err != nil {
				if !strings.Contains(err.Error(), test.want) {
					t.Errorf("error %v, want %q", err, test.want)
				}
				return
			}
			if got := show(s); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func show(s sample) string {
	counter, power, at := "-", "-", "-"
	if s.hasCounter {
		counter = fmt.Sprint(s.counter)
	}
	if s.hasPower {
		power = fmt.Sprint(s.power)
	}
	if !s.time.IsZero() {
		at = s.time.Format(time.RFC3339Nano)
	}
	return fmt.Sprintf("%s %s %d %s", counter, power, s.step, at)
}

func TestPrometheusAnswers(t *testing.T) {
	for file, want := range map[string]string{
		"prometheus-vector.json": "1.23456789012e+08 2025-11-23T12:00:00.125Z", "prometheus-empty.json": "gives nothing", "prometheus-two.json": "2 series",
		"prometheus-nan.json": "NaN", "prometheus-error.json": "parse error",
	} {
		text, when, err := decodeQuery(payload(t, file))
		got := text + " " + when.Format(time.RFC3339Nano)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
}

// A local time that the clock shows twice is the one that is nearer; what it skips
// is moved on.
func TestLocalTimeAtTheChangeOfClocks(t *testing.T) {
	autumn := time.Date(2025, 10, 26, 0, 30, 0, 0, time.UTC)
	tests := []struct {
		text string
		near time.Time
		want string
	}{
		{"2025-10-26T02:30:00", autumn, "2025-10-26T00:30:00Z"},
		{"2025-10-26T02:30:00", autumn.Add(time.Hour), "2025-10-26T01:30:00Z"},
		{"2025-10-26T03:30:00", autumn.Add(2 * time.Hour), "2025-10-26T02:30:00Z"},
		{"2025-06-01T12:00:00", autumn, "2025-06-01T10:00:00Z"},
	}
	for _, test := range tests {
		got, err := localTime(test.text, "Europe/Amsterdam", test.near)
		if err != nil || got.Format(time.RFC3339) != test.want {
			t.Errorf("%s near %s: %s, %v; want %s", test.text, test.near, got, err, test.want)
		}
	}
	for _, text := range []string{"", "2025-10-26", "2025-10-26T02:30:00Z", "1025-10-26T02:30:00"} {
		if got, err := localTime(text, "Europe/Amsterdam", noon); err == nil {
			t.Errorf("%q is %s", text, got)
		}
	}
}

// answer is a Modbus gateway's for one float32.
func answer(transaction uint16, unit byte, value float32) []byte {
	frame := binary.BigEndian.AppendUint16(nil, transaction)
	frame = append(frame, 0, 0, 0, 7, unit, functionInput, 4)
	return binary.BigEndian.AppendUint32(frame, math.Float32bits(value))
}

// gateway answers each question with the next of its frames.
type gateway struct {
	asked  []byte
	frames []byte
}

func (g *gateway) Write(p []byte) (int, error) { g.asked = append(g.asked, p...); return len(p), nil }
func (g *gateway) Read(p []byte) (int, error) {
	if len(g.frames) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, g.frames[:min(3, len(g.frames))]) // TCP cuts where it likes
	g.frames = g.frames[n:]
	return n, nil
}

func TestModbusAnswers(t *testing.T) {
	sdm := fleet.Meter{Driver: fleet.DriverModbus, Preset: fleet.PresetSDM630, Channel: 3}
	kwh := float32(70123.453)
	g := &gateway{frames: append(answer(1, 3, kwh), answer(2, 3, 412.5)...)}
	s, err := readRegisters(g, sdm)
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte{0, 1, 0, 0, 0, 6, 3, 4, 0, 0x48, 0, 2, 0, 2, 0, 0, 0, 6, 3, 4, 0, 0x34, 0, 2}; string(g.asked) != string(want) {
		t.Errorf("asked % x, want % x", g.asked, want)
	}
	// 70123.453125 kWh, the float32 nearest to it; the next is 2^-7 kWh away.
	if got, want := show(s), "252444431250000 412500 28125000 -"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for name, test := range map[string]struct {
		frame []byte
		want  string
	}{
		"exception":     {[]byte{0, 1, 0, 0, 0, 3, 3, 0x84, 2}, "no such register"},
		"odd exception": {[]byte{0, 1, 0, 0, 0, 3, 3, 0x84, 99}, "exception 99"},
		"another unit":  {answer(1, 4, 1), "another question"},
		"another ask":   {answer(7, 3, 1), "another question"},
		"no Modbus":     {[]byte("HTTP/1.1 400 Bad Request"), "not Modbus"},
		"cut":           {answer(1, 3, 1)[:9], "ends early"},
		"nothing":       {nil, "no answer"},
		"not a number":  {answer(1, 3, float32(math.NaN())), "no number"},
		"infinite":      {answer(1, 3, float32(math.Inf(1))), "no number"},
		"beyond":        {answer(1, 3, 3e38), "out of range"},
	} {
		if _, err := readRegisters(&gateway{frames: test.frame}, sdm); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func FuzzModbus(f *testing.F) {
	f.Add(answer(1, 1, 12.5))
	f.Add([]byte{0, 1, 0, 0, 0, 3, 1, 0x84, 2})
	f.Fuzz(func(t *testing.T, frame []byte) {
		s, err := readRegisters(&gateway{frames: frame}, fleet.Meter{Fields: fleet.MeterFields{Counter: fleet.FieldRef{Path: "0x0048", Unit: "kWh"}}})
		if err == nil && (!s.hasCounter || s.step < 1) {
			t.Errorf("% x is %+v", frame, s)
		}
	})
}

// FuzzPresets: whatever a device answers, a preset gives a value with its kind, or
// an error.
func FuzzPresets(f *testing.F) {
	files, err := filepath.Glob("testdata/payloads/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		f.Add(payload(f, filepath.Base(file)), 0)
	}
	f.Fuzz(func(t *testing.T, body []byte, channel int) {
		for _, format := range fleet.HTTPDrivers[:7] {
			m := fleet.Meter{Driver: format, Channel: channel, TimeZone: "Europe/Amsterdam"}
			s, err := decode(m, body, noon)
			if err == nil && !s.hasCounter && !s.hasPower {
				t.Errorf("%s: neither a counter nor a power", format)
			}
			if document, err := parse(body); err == nil {
				overlay(document, document)
			}
		}
		_, _, _ = decodeQuery(body)
	})
}

func FuzzParseReadings(f *testing.F) {
	f.Add("application/json", []byte(`{"readings":[{"time":"2026-11-23T12:00:00Z","counter":1234.5,"unit":"kWh","watts":"410"}]}`))
	f.Add("text/csv", []byte("time,energy_kwh,watts\n2026-11-23T12:00:00Z,1234.5,\n1763899200.5,1235,410\n"))
	f.Add("text/plain", []byte(`power,box=cb1,phase=1 watts=412.5,energy_wh=1234567i,name="a b, c" 1732320000000000000`))
	f.Fuzz(func(t *testing.T, mediaType string, body []byte) {
		sent, err := ParseReadings(mediaType, body, noon)
		if (err == nil) != (len(sent) > 0) {
			t.Errorf("%d readings, error %v", len(sent), err)
		}
		for _, one := range sent {
			_, _ = one.sample()
		}
	})
}
