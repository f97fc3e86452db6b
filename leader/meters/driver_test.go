package meters

import (
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/google/go-cmp/cmp"
)

// The answers are those of devices: a Shelly Plug S, an EM, a Plus Plug S.
const (
	plugS = `{"wifi_sta":{"connected":true},"unixtime":1700000000,"meters":[{"power":41.57,"overpower":0.00,"is_valid":true,
		"timestamp":1700003600,"counters":[41.1,40.9,41.3],"total":1234567}],"temperature":31.4}`
	em = `{"emeters":[{"power":-3.5,"is_valid":true,"total":10.1,"total_returned":3.0},
		{"power":121.05,"reactive":0.5,"voltage":231.1,"is_valid":true,"total":5120.7,"total_returned":0.0}]}`
	plusPlugS = `{"id":0,"source":"init","output":true,"apower":182.3,"voltage":230.1,"current":0.82,
		"aenergy":{"total":45012.123,"by_minute":[3038.112,3040.002,3036.4],"minute_ts":1700000000},"temperature":{"tC":38.1}}`
	custom = `{"data":[{"name":"x"},{"energy":"12.3456789","watts":0.25,"ts":1763899200.5,"iso":"2026-11-23T13:00:00+01:00"}]}`
)

func TestDecode(t *testing.T) {
	gen1 := fleet.Meter{Driver: fleet.DriverShellyGen1}
	gen1em := fleet.Meter{Driver: fleet.DriverShellyGen1, Channel: 1}
	gen2 := fleet.Meter{Driver: fleet.DriverShellyGen2}
	fields := func(counter, power, at fleet.FieldRef) fleet.Meter {
		return fleet.Meter{Driver: fleet.DriverHTTPJSON, Fields: fleet.MeterFields{Counter: counter, Power: power, Time: at}}
	}
	both := func(counter, power int64) sample {
		return sample{counter: counter, power: power, hasCounter: true, hasPower: true}
	}
	known := func(s sample, step int64) sample { s.step = step; return s }
	stamped := both(44_444_444_040, 250_000)
	stamped.time = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		meter fleet.Meter
		body  string
		want  sample
		err   string
	}{
		"gen 1 counts Watt-minutes":    {meter: gen1, body: plugS, want: known(both(1234567*60_000, 41_570), stepGen1)},
		"gen 1 energy meter counts Wh": {meter: gen1em, body: em, want: both(18_434_520_000, 121_050)},
		"gen 2":                        {meter: gen2, body: plusPlugS, want: known(both(162_043_642_800, 182_300), stepGen2)},
		"fields": {meter: fields(fleet.FieldRef{Path: "data.1.energy", Unit: "kWh"}, fleet.FieldRef{Path: "data.1.watts", Unit: "kW"},
			fleet.FieldRef{Path: "data.1.iso", Unit: "rfc3339"}), body: custom, want: stamped},
		"unix time": {meter: fields(fleet.FieldRef{}, fleet.FieldRef{Path: "data.1.watts", Unit: "W"},
			fleet.FieldRef{Path: "data.1.ts", Unit: "unix"}), body: custom,
			want: sample{power: 250, hasPower: true, time: time.Unix(1763899200, 5e8).UTC()}},
		"not valid":       {meter: gen1, body: strings.Replace(plugS, `"is_valid":true`, `"is_valid":false`, 1), err: "not valid"},
		"no such channel": {meter: fleet.Meter{Driver: fleet.DriverShellyGen1, Channel: 4}, body: plugS, err: `no element "4"`},
		"no counter":      {meter: gen2, body: `{"apower":1}`, err: `no "aenergy"`},
		"null":            {meter: gen2, body: `{"apower":1,"aenergy":{"total":null}}`, err: "not a number"},
		"text":            {meter: gen2, body: `{"apower":1,"aenergy":{"total":"unavailable"}}`, err: "no number"},
		"huge exponent":   {meter: gen2, body: `{"apower":1,"aenergy":{"total":1e99999999}}`, err: "no number"},
		"beyond 64 bits":  {meter: gen2, body: `{"apower":1,"aenergy":{"total":1e15}}`, err: "out of range"},
		"not a number":    {meter: gen2, body: `{"apower":"NaN","aenergy":{"total":1}}`, err: "no number"},
		"html":            {meter: gen2, body: `<html>`, err: "no JSON"},
		"two documents":   {meter: gen2, body: plusPlugS + "{}", err: "after its JSON"},
		"empty":           {meter: gen2, body: ``, err: "no JSON"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := decode(test.meter, []byte(test.body), noon)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(sample{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	for _, body := range []string{plugS, em, plusPlugS, custom, `[]`, `{"meters":{}}`, `{"aenergy":[1]}`, `{"meters":[{"total":1e400}]}`} {
		f.Add([]byte(body), 0, "data.1.energy")
	}
	f.Fuzz(func(t *testing.T, body []byte, channel int, path string) {
		for _, m := range []fleet.Meter{
			{Driver: fleet.DriverShellyGen1, Channel: channel}, {Driver: fleet.DriverShellyGen2},
			{Driver: fleet.DriverHTTPJSON, Fields: fleet.MeterFields{Counter: fleet.FieldRef{Path: path, Unit: "Wh"},
				Time: fleet.FieldRef{Path: path, Unit: "unixMilli"}}},
		} {
			s, err := decode(m, body, noon)
			if err != nil {
				continue
			}
			if !s.hasCounter {
				t.Errorf("%s: no counter and no error", m.Driver)
			}
			r := Reading{Time: noon, Received: noon, CounterMillijoules: s.counter, HasCounter: true, PowerMilliwatts: s.power, HasPower: s.hasPower}
			l, rows := life{}.judge(r, rules{maxPower: anyBox})
			if l.known == (rows[0].Refused != "") {
				t.Errorf("judged %+v as %+v", r, rows)
			}
		}
	})
}
