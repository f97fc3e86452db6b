package fleet

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMeterIsChecked: what each driver needs, and what it must not have.
func TestMeterIsChecked(t *testing.T) {
	world := []Object{NewObject("b", Box{Site: "hall"}), NewObject("b2", Box{Site: "hall"}), NewObject("c", Cluster{URL: "http://c.example"}),
		NewObject("c.n", Node{Cluster: "c", Node: "n", Box: "b"})}
	fields := MeterFields{Counter: FieldRef{Path: "0x0048", Unit: "kWh"}}
	good := map[string]Meter{
		"gen 1":          {Box: "b", Driver: DriverShellyGen1, URL: "http://m.example"},
		"3EM":            {Boxes: []string{"b", "b2"}, Driver: DriverShelly3EM, URL: "http://m.example"},
		"tasmota":        {Site: "hall", Driver: DriverTasmota, URL: "http://m.example", TimeZone: "Europe/Amsterdam"},
		"home assistant": {Box: "b", Driver: DriverHomeAssistant, URL: "https://ha.example/api/states/sensor.x", TokenFile: "/t"},
		"mqtt":           {Box: "b", Driver: DriverMQTT, URL: "mqtts://broker.example:8883", Topic: "a/b", Preset: DriverTasmota, UserFile: "/u", PasswordFile: "/p"},
		"mqtt, fields":   {Box: "b", Driver: DriverMQTT, URL: "mqtt://broker.example", Topic: "a/b", Fields: MeterFields{Power: FieldRef{Path: "value", Unit: "W"}}},
		"prometheus":     {Box: "b", Driver: DriverPrometheus, URL: "http://p.example", Fields: MeterFields{Counter: FieldRef{Path: "sum(x)", Unit: "J"}}},
		"modbus":         {Box: "b", Driver: DriverModbus, URL: "tcp://gw.example:502", Preset: PresetSDM630, Channel: 3},
		"modbus, fields": {Box: "b", Driver: DriverModbus, URL: "tcp://gw.example", Fields: fields},
		"influxdb":       {Box: "b", Driver: DriverInfluxDB, URL: "http://i.example", Database: "d", Measurement: "m", Tags: map[string]string{"rack": "1"}, Fields: MeterFields{Counter: FieldRef{Path: "e", Unit: "MWh"}}},
		"rapl":           {Box: "b", Node: "c.n", Role: RoleRAPL, Driver: DriverPrometheus, URL: "http://p.example", Fields: MeterFields{Counter: FieldRef{Path: "sum(node_rapl_package_joules_total)", Unit: "J"}}},
		"push":           {Box: "b", Node: "c.n", Driver: DriverPush, RolloverKWh: 100000, Lag: Duration(time.Hour), Clock: ClockReceipt},
	}
	for name, m := range good {
		if err := Validate(append(slices.Clone(world), NewObject("m", m)), nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := map[string]Meter{
		"spec.box: is empty":           {Driver: DriverPush},
		"exclude each other":           {Box: "b", Site: "hall", Driver: DriverPush},
		"needs the box":                {Site: "hall", Node: "c.n", Driver: DriverPush},
		"stands twice":                 {Boxes: []string{"b", "b"}, Driver: DriverPush},
		`Box "none" does not exist`:    {Boxes: []string{"b", "none"}, Driver: DriverPush},
		"spec.driver":                  {Box: "b", Driver: "abacus", URL: "http://m.example"},
		"spec.url: is not used":        {Box: "b", Driver: DriverPush, URL: "http://m.example"},
		"mqtt://host":                  {Box: "b", Driver: DriverMQTT, URL: "http://m.example", Topic: "t", Preset: DriverTasmota},
		"spec.topic: is empty":         {Box: "b", Driver: DriverMQTT, URL: "mqtt://m.example", Preset: DriverTasmota},
		"spec.topic: is for":           {Box: "b", Driver: DriverTasmota, URL: "http://m.example", Topic: "t"},
		"no register":                  {Box: "b", Driver: DriverModbus, URL: "tcp://m.example", Fields: MeterFields{Counter: FieldRef{Path: "energy", Unit: "kWh"}}},
		"no Modbus unit":               {Box: "b", Driver: DriverModbus, URL: "tcp://m.example", Preset: PresetSDM120, Channel: 300},
		"spec.database: is empty":      {Box: "b", Driver: DriverInfluxDB, URL: "http://m.example", Measurement: "m", Fields: fields},
		"name neither":                 {Box: "b", Driver: DriverPrometheus, URL: "http://m.example"},
		"fields: are for the drivers":  {Box: "b", Driver: DriverModbus, URL: "tcp://m.example", Preset: PresetSDM630, Fields: fields},
		"a local time needs its zone":  {Box: "b", Driver: DriverHTTPJSON, URL: "http://m.example", Fields: MeterFields{Counter: fields.Counter, Time: FieldRef{Path: "t", Unit: "local"}}},
		"belong together":              {Box: "b", Driver: DriverShellyGen2, URL: "http://m.example", UserFile: "/u"},
		"spec.rolloverKWh":             {Box: "b", Driver: DriverPush, RolloverKWh: -1},
		"mend the meter's clock":       {Box: "b", Driver: DriverPush, Lag: Duration(30 * 24 * time.Hour)},
		"spec.role":                    {Box: "b", Driver: DriverPush, Role: "guess"},
		"name the node":                {Box: "b", Driver: DriverPush, Role: RoleRAPL},
		"needs an energy counter":      {Box: "b", Node: "c.n", Role: RoleRAPL, Driver: DriverPrometheus, URL: "http://p.example", Fields: MeterFields{Power: FieldRef{Path: "x", Unit: "W"}}},
		"is an electricity meter":      {Box: "b", Node: "c.n", Role: RoleRAPL, Driver: DriverTasmota, URL: "http://m.example"},
		"spec.clock":                   {Box: "b", Driver: DriverPush, Clock: "sun"},
		"spec.fields.counter.format":   {Box: "b", Driver: DriverHTTPJSON, URL: "http://m.example", Fields: MeterFields{Counter: FieldRef{Path: "e", Unit: "kWh", Format: "float16"}}},
		`"Europe/Nowhere" is no IANA`:  {Box: "b", Driver: DriverTasmota, URL: "http://m.example", TimeZone: "Europe/Nowhere"},
		"without a user in it":         {Box: "b", Driver: DriverMQTT, URL: "mqtt://u:geheim@m.example", Topic: "t", Preset: DriverTasmota},
		"spec.channel: -1 is not betw": {Box: "b", Driver: DriverShellyGen1, URL: "http://m.example", Channel: -1},
	}
	for want, m := range bad {
		err := Validate(append(slices.Clone(world), NewObject("m", m)), nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestNothingIsCountedTwice: a node has one meter, and a box with a meter of its own
// stands within one meter of several boxes at most, which it then does without.
func TestNothingIsCountedTwice(t *testing.T) {
	push := func(m Meter) Meter { m.Driver = DriverPush; return m }
	world := []Object{NewObject("b", Box{Site: "hall"}), NewObject("b2", Box{Site: "hall"}), NewObject("far", Box{Site: "far"}), NewObject("c", Cluster{URL: "http://c.example"}),
		NewObject("c.n", Node{Cluster: "c", Node: "n", Box: "b"}), NewObject("own", push(Meter{Box: "b"})), NewObject("part", push(Meter{Box: "b", Node: "c.n"})),
		NewObject("b3", Box{}), NewObject("b4", Box{}), NewObject("own3", push(Meter{Box: "b3"})),
		NewObject("phase-1", push(Meter{Boxes: []string{"b3", "b4"}}))}
	world = append(world, NewObject("b5", Box{}), NewObject("phase-2", push(Meter{Boxes: []string{"b4", "b5"}})))
	for want, m := range map[string]Meter{
		"": push(Meter{Box: "b"}), " ": push(Meter{Site: "far"}), "  ": push(Meter{Boxes: []string{"b2", "far"}}),
		"   ":                       push(Meter{Site: "hall"}),
		"together: from":            push(Meter{Boxes: []string{"b3", "b4"}}),
		"Meter/phase-1 and":         push(Meter{Box: "b4"}),
		`counts node "c.n" already`: push(Meter{Box: "b", Node: "c.n"}),
	} {
		err := Validate([]Object{NewObject("new", m)}, world)
		if (err == nil) != (strings.TrimSpace(want) == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	f := New(time.Time{}, append(world, NewObject("all", push(Meter{Site: "hall"}))))
	if got := strings.Join(f.MeteredWith("b2"), " "); got != "b b2" {
		t.Errorf("metered with b2: %s", got)
	}
	if got := f.MetersOfBox("b"); len(got) != 2 || got[0].Name != "own" || got[1].Name != "part" {
		t.Errorf("meters of b, which has its own: %v", got)
	}
	if got := f.MetersOfBox("b2"); len(got) != 1 || got[0].Name != "all" || got[0].Place() != "site/hall" {
		t.Errorf("meters of b2: %v", got)
	}
}

// TestProcessorMeter: what a node's processors count is no meter of its box, stands
// beside the node's own meter, and is there once.
func TestProcessorMeter(t *testing.T) {
	world := []Object{NewObject("b", Box{}), NewObject("c", Cluster{URL: "http://c.example"}), NewObject("c.n", Node{Cluster: "c", Node: "n", Box: "b"}),
		NewObject("plug", Meter{Box: "b", Driver: DriverPush}), NewObject("own", Meter{Box: "b", Node: "c.n", Driver: DriverPush}),
		NewObject("rapl", Meter{Box: "b", Node: "c.n", Role: RoleRAPL, Driver: DriverPush})}
	if err := Validate(world, nil); err != nil {
		t.Fatal(err)
	}
	f := New(time.Unix(0, 0), world)
	var names []string
	for _, m := range f.MetersOfBox("b") {
		names = append(names, m.Name)
	}
	if slices.Sort(names); !slices.Equal(names, []string{"own", "plug"}) {
		t.Errorf("meters of the box: %v", names)
	}
	node, _ := f.Node("c", "n")
	if m, ok := f.ProcessorMeter(node); !ok || m.Name != "rapl" {
		t.Errorf("the node's counter is %q, %v", m.Name, ok)
	}
	err := Validate(append(world, NewObject("rapl2", Meter{Box: "b", Node: "c.n", Role: RoleRAPL, Driver: DriverPush})), nil)
	if err == nil || !strings.Contains(err.Error(), "counts node") {
		t.Errorf("twice: %v", err)
	}
}
