package fleet

import (
	"math"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Drivers of electricity meters. The JSON ones are also the presets of DriverMQTT.
const (
	DriverShellyGen1    = "shelly-gen1"    // GET /status
	DriverShellyGen2    = "shelly-gen2"    // GET /rpc/Switch.GetStatus?id=0
	DriverShellyPM1     = "shelly-pm1"     // GET /rpc/PM1.GetStatus?id=0
	DriverShelly3EM     = "shelly-3em"     // GET /rpc/Shelly.GetStatus: EM and EMData, or EM1 and EM1Data
	DriverTasmota       = "tasmota"        // GET /cm?cmnd=Status 8
	DriverHomeWizard    = "homewizard"     // GET /api/v1/data
	DriverHomeAssistant = "home-assistant" // GET url, an entity's state
	DriverHTTPJSON      = "http-json"      // GET url, fields say what stands where
	DriverMQTT          = "mqtt"           // topic of a broker; preset or fields
	DriverPrometheus    = "prometheus"     // fields' paths are queries
	DriverModbus        = "modbus"         // Modbus TCP; preset or fields, whose paths are registers
	DriverInfluxDB      = "influxdb"       // measurement of a database; fields' paths are its fields
	DriverPush          = "push"           // somebody sends readings to the leader's API
)

// Presets of DriverModbus.
const (
	PresetSDM630 = "sdm630"
	PresetSDM120 = "sdm120"
)

// HTTPDrivers are read by one GET of a JSON document each.
var HTTPDrivers = []string{DriverShellyGen1, DriverShellyGen2, DriverShellyPM1, DriverShelly3EM, DriverTasmota,
	DriverHomeWizard, DriverHomeAssistant, DriverHTTPJSON}

// Drivers are all of them.
var Drivers = append(slices.Clone(HTTPDrivers), DriverMQTT, DriverPrometheus, DriverModbus, DriverInfluxDB, DriverPush)

// mqttPresets are the documents that devices publish.
var mqttPresets = []string{"", DriverShellyGen1, DriverShellyGen2, DriverShellyPM1, DriverShelly3EM, DriverTasmota, DriverHomeWizard, DriverHomeAssistant}

// Clocks of a meter.
const (
	ClockOwn     = "own"     // the meter's time where it gives one (default)
	ClockReceipt = "receipt" // when its reading came; its own time is not looked at
)

// Roles of a meter.
const (
	RoleWall = "" // an electricity meter
	// RoleRAPL is what a node's processors and their memory count of their own energy,
	// as an exporter on it tells (node_exporter, Kepler): a part of what the node
	// draws, by which its power is modelled. It is never a part of the split's sum.
	RoleRAPL = "rapl"
)

// Meter is one electricity meter. What it counts is of a box, of several boxes
// or of all boxes of a site (then shared over them by their models), or of one
// node of a box. The meters of a box are added up; those of its nodes are parts
// of them.
type Meter struct {
	Name  string   `json:"-"`
	Box   string   `json:"box,omitempty"`
	Boxes []string `json:"boxes,omitempty"` // it counts what these draw together
	Site  string   `json:"site,omitempty"`  // it counts what all boxes of the site draw together
	Node  string   `json:"node,omitempty"`  // name of a Node in the box: it counts that node alone

	Role   string `json:"role,omitempty"` // RoleWall or RoleRAPL
	Driver string `json:"driver"`
	// URL is http or https; of a Shelly its root; mqtt:// or mqtts:// of a broker;
	// tcp://host:502 of a Modbus gateway.
	URL     string `json:"url,omitempty"`
	Channel int    `json:"channel,omitempty"` // which of the device's meters or switches; of Modbus the unit; of Tasmota the phase, 0 is all
	Preset  string `json:"preset,omitempty"`  // mqtt: whose messages they are; modbus: whose registers
	Topic   string `json:"topic,omitempty"`   // mqtt
	// Database and Measurement are those of an InfluxDB, Tags choose a series.
	Database    string            `json:"database,omitempty"`
	Measurement string            `json:"measurement,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Fields      MeterFields       `json:"fields,omitzero"`

	// AccuracyClass is how far its gain may be off, in %: 1 of class 1; 0 is 2.
	AccuracyClass float64 `json:"accuracyClass,omitempty"`

	StepJoules  float64  `json:"stepJoules,omitempty"`  // resolution of its counter; 0 = the driver's, else learned
	RolloverKWh float64  `json:"rolloverKWh,omitempty"` // the counter begins again at 0 here: 100000 for one that shows up to 99999.9
	Interval    Duration `json:"interval,omitzero"`     // 0 = the meter loop's
	TimeZone    string   `json:"timeZone,omitempty"`    // IANA, of times without a zone; "" = such times are not looked at
	Clock       string   `json:"clock,omitempty"`       // ClockOwn or ClockReceipt
	Lag         Duration `json:"lag,omitzero"`          // how long its times are behind usage; 0 = estimated

	CAFile       string `json:"caFile,omitempty"`       // PEM; "" = the system's roots
	TokenFile    string `json:"tokenFile,omitempty"`    // bearer token
	UserFile     string `json:"userFile,omitempty"`     // with PasswordFile: HTTP basic or digest, or the broker's
	PasswordFile string `json:"passwordFile,omitempty"` // with UserFile
}

// StepMillijoules is StepJoules in mJ.
func (m Meter) StepMillijoules() int64 { return milli(m.StepJoules) }

// RolloverMillijoules is the modulus of the counter in mJ; 0 is none.
func (m Meter) RolloverMillijoules() int64 { return int64(math.Round(m.RolloverKWh * 3.6e9)) }

// ClassError is AccuracyClass in millionths; 0 is not known.
func (m Meter) ClassError() int64 { return int64(math.Round(m.AccuracyClass * 10_000)) }

// Place is where its readings are kept: its box, or for one that counts several
// boxes a name that no box has.
func (m Meter) Place() string {
	switch {
	case m.Site != "":
		return "site/" + m.Site
	case len(m.Boxes) > 0:
		return "boxes/" + m.Name
	}
	return m.Box
}

// Format is what its JSON, message or registers look like: the driver, or for
// MQTT and Modbus the preset.
func (m Meter) Format() string {
	if m.Driver == DriverMQTT || m.Driver == DriverModbus {
		if m.Preset == "" {
			return DriverHTTPJSON
		}
		return m.Preset
	}
	return m.Driver
}

// MeterFields say where the values stand in what a meter answers.
type MeterFields struct {
	Counter FieldRef `json:"counter,omitzero"` // Wh, kWh, MWh, J or Wmin
	Power   FieldRef `json:"power,omitzero"`   // W, kW or mW
	Time    FieldRef `json:"time,omitzero"`    // unix, unixMilli, rfc3339 or local
}

// FieldRef is a value's path in a JSON document, "a.b.0.c", and its unit.
type FieldRef struct {
	Path string `json:"path"`
	Unit string `json:"unit"`
	// Format is FormatFloat32 where the device holds the value in 32 bits, so that
	// its resolution falls as it grows.
	Format string `json:"format,omitempty"`
}

// FormatFloat32 is a value that a device holds as an IEEE 754 number of 32 bits.
const FormatFloat32 = "float32"

// Units of FieldRef.
var (
	CounterUnits = []string{"Wh", "kWh", "MWh", "J", "Wmin"}
	PowerUnits   = []string{"W", "kW", "mW"}
	TimeUnits    = []string{"unix", "unixMilli", "rfc3339", "local"}
)

func (m Meter) check(report reporter) {
	m.checkPlace(report)
	m.checkRole(report)
	m.checkAddress(report)
	checkOneOf(report, "driver", m.Driver, Drivers...)
	if m.Channel < 0 || m.Channel > 1000 {
		report("channel", "%d is not between 0 and 1000", m.Channel)
	}
	if !(m.AccuracyClass >= 0 && m.AccuracyClass <= 20) {
		report("accuracyClass", "%v is not between 0 and 20 %%", m.AccuracyClass)
	}
	if m.StepJoules < 0 || math.IsNaN(m.StepJoules) || m.StepJoules > 3.6e9 {
		report("stepJoules", "%v is not between 0 and 3.6e9", m.StepJoules)
	}
	if m.RolloverKWh < 0 || math.IsNaN(m.RolloverKWh) || m.RolloverKWh > 1e9 {
		report("rolloverKWh", "%v is not between 0 and 1e9", m.RolloverKWh)
	}
	if interval := time.Duration(m.Interval); interval < 0 || interval > 0 && interval < minMeterInterval {
		report("interval", "%s is shorter than %s", interval, minMeterInterval)
	}
	if lag := time.Duration(m.Lag); lag > maxMeterLag || lag < -maxMeterLag {
		report("lag", "%s is more than %s: mend the meter's clock, or set clock: %s", lag, maxMeterLag, ClockReceipt)
	}
	if _, err := time.LoadLocation(m.TimeZone); err != nil || m.TimeZone == "Local" {
		report("timeZone", "%q is no IANA time zone", m.TimeZone)
	}
	checkOneOf(report, "clock", m.Clock, "", ClockOwn, ClockReceipt)
	if (m.UserFile == "") != (m.PasswordFile == "") {
		report("userFile", "and passwordFile belong together: give both or none")
	}
	m.checkFields(report)
}

// maxMeterLag is how far the lag of a meter is looked for.
const maxMeterLag = 3 * time.Hour

// checkPlace checks what it counts.
func (m Meter) checkPlace(report reporter) {
	places := 0
	for _, given := range []bool{m.Box != "", len(m.Boxes) > 0, m.Site != ""} {
		if given {
			places++
		}
	}
	switch {
	case places == 0:
		report("box", "is empty: name a box, several boxes, or a site")
	case places > 1:
		report("box", "boxes and site exclude each other: what does the meter count?")
	}
	if m.Node != "" && m.Box == "" {
		report("node", "needs the box that the node is in")
	}
	for i, box := range m.Boxes {
		if box == "" || slices.Contains(m.Boxes[:i], box) {
			report("boxes", "%q is empty or stands twice", box)
		}
	}
}

// checkRole checks what it is a counter of.
func (m Meter) checkRole(report reporter) {
	checkOneOf(report, "role", m.Role, RoleWall, RoleRAPL)
	if m.Role != RoleRAPL {
		return
	}
	if m.Node == "" {
		report("node", "is empty: role %s is what the processors of one node count; name the node", RoleRAPL)
	}
	switch m.Driver {
	case DriverPush:
	case DriverPrometheus, DriverHTTPJSON, DriverInfluxDB:
		if m.Fields.Counter.Path == "" {
			report("fields.counter", "is empty: role %s needs an energy counter, such as the query sum(kepler_node_cpu_joules_total{node_name=\"n1\",zone=~\"package|dram\"}) with the unit J", RoleRAPL)
		}
	default:
		report("driver", "%s is an electricity meter: role %s is for %s, %s, %s or %s", m.Driver, RoleRAPL, DriverPrometheus, DriverHTTPJSON, DriverInfluxDB, DriverPush)
	}
}

// checkAddress checks where it is.
func (m Meter) checkAddress(report reporter) {
	only := func(field, value string, drivers ...string) {
		if value != "" && !slices.Contains(drivers, m.Driver) {
			report(field, "is for the driver %s", strings.Join(drivers, " or "))
		}
	}
	only("topic", m.Topic, DriverMQTT)
	only("preset", m.Preset, DriverMQTT, DriverModbus)
	only("database", m.Database, DriverInfluxDB)
	only("measurement", m.Measurement, DriverInfluxDB)
	switch m.Driver {
	case DriverPush:
		if m.URL != "" {
			report("url", "is not used: readings are sent to the leader's /api/v1/meters/NAME/readings; leave it out")
		}
	case DriverMQTT:
		checkScheme(report, m.URL, "mqtt", "mqtts")
		checkSet(report, "topic", m.Topic)
		checkOneOf(report, "preset", m.Preset, mqttPresets...)
	case DriverModbus:
		checkScheme(report, m.URL, "tcp")
		checkOneOf(report, "preset", m.Preset, "", PresetSDM630, PresetSDM120)
		if m.Channel > 247 {
			report("channel", "%d is no Modbus unit: use 1 to 247", m.Channel)
		}
	case DriverInfluxDB:
		checkURL(report, m.URL)
		checkSet(report, "database", m.Database)
		checkSet(report, "measurement", m.Measurement)
	default:
		checkURL(report, m.URL)
	}
	for _, file := range []struct{ field, path string }{{"caFile", m.CAFile}, {"tokenFile", m.TokenFile}, {"userFile", m.UserFile}, {"passwordFile", m.PasswordFile}} {
		if file.path != "" && filepath.Clean(file.path) == "." {
			report(file.field, "%q is no file", file.path)
		}
	}
}

func checkScheme(report reporter, text string, schemes ...string) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme) || u.User != nil {
		report("url", "%q is no URL such as %s://host:port, without a user in it", redactedURL(u), schemes[0])
	}
}

func redactedURL(u *url.URL) string {
	if u == nil {
		return ""
	}
	return u.Redacted()
}

// checkFields checks the field map of the drivers that take one.
func (m Meter) checkFields(report reporter) {
	takes := m.Driver == DriverHTTPJSON || m.Driver == DriverPrometheus || m.Driver == DriverInfluxDB ||
		(m.Driver == DriverMQTT || m.Driver == DriverModbus) && m.Preset == ""
	f := m.Fields
	if !takes {
		if f != (MeterFields{}) {
			report("fields", "are for the drivers %s, %s, %s, and for %s and %s without a preset",
				DriverHTTPJSON, DriverPrometheus, DriverInfluxDB, DriverMQTT, DriverModbus)
		}
		return
	}
	if f.Counter.Path == "" && f.Power.Path == "" {
		report("fields", "name neither a counter nor a power")
	}
	if f.Time.Path != "" && m.Driver != DriverHTTPJSON && m.Driver != DriverMQTT {
		report("fields.time", "is for JSON: here the time comes with the value")
	}
	if f.Time.Unit == "local" && m.TimeZone == "" {
		report("timeZone", "is empty: a local time needs its zone")
	}
	for _, one := range []struct {
		name  string
		ref   FieldRef
		units []string
	}{{"counter", f.Counter, CounterUnits}, {"power", f.Power, PowerUnits}, {"time", f.Time, TimeUnits}} {
		if one.ref == (FieldRef{}) {
			continue
		}
		checkSet(report, "fields."+one.name+".path", one.ref.Path)
		checkOneOf(report, "fields."+one.name+".unit", one.ref.Unit, one.units...)
		checkOneOf(report, "fields."+one.name+".format", one.ref.Format, "", FormatFloat32)
		if _, err := strconv.ParseUint(one.ref.Path, 0, 16); m.Driver == DriverModbus && one.ref.Path != "" && err != nil {
			report("fields."+one.name+".path", "%q is no register such as 0x0048", one.ref.Path)
		}
	}
}

func (m Meter) references() []reference {
	refs := []reference{{"box", KindBox, m.Box}, {"node", KindNode, m.Node}}
	for _, box := range m.Boxes {
		refs = append(refs, reference{"boxes", KindBox, box})
	}
	return refs
}

// MetersOfBox are the electricity meters by which a box's energy is known: its own,
// or where it has none those that count it with others; and those of its nodes.
func (f *Fleet) MetersOfBox(box string) []Meter {
	own := f.hasMeter(box)
	return f.meters.where(func(m Meter) bool {
		return m.Role == RoleWall && slices.Contains(f.BoxesOfMeter(m), box) && !(own && m.several())
	})
}

// ProcessorMeter is the meter of RoleRAPL of a node, if it has one.
func (f *Fleet) ProcessorMeter(node Node) (Meter, bool) {
	i := slices.IndexFunc(f.meters.list, func(m Meter) bool { return m.Role == RoleRAPL && m.Node == node.Name && m.Box == node.Box })
	if i < 0 {
		return Meter{}, false
	}
	return f.meters.list[i], true
}

// hasMeter says whether a meter counts the box alone.
func (f *Fleet) hasMeter(box string) bool {
	return slices.ContainsFunc(f.meters.list, func(m Meter) bool { return m.Box == box && m.Node == "" })
}

// BoxesOfMeter are the names of the boxes that a meter counts, in order.
func (f *Fleet) BoxesOfMeter(m Meter) []string {
	switch {
	case m.Site != "":
		var names []string
		for _, b := range f.boxes.list {
			if b.Site == m.Site {
				names = append(names, b.Name)
			}
		}
		return names
	case len(m.Boxes) > 0:
		names := slices.Clone(m.Boxes)
		slices.Sort(names)
		return names
	}
	return []string{m.Box}
}

// NodeOfMeter is the node that a meter counts alone; false for a meter of boxes.
func (f *Fleet) NodeOfMeter(m Meter) (Node, bool) {
	if m.Node == "" {
		return Node{}, false
	}
	return f.nodes.get(m.Node)
}

// MeterMaxMilliwatts is the most that a meter may see by the hardware of what it
// counts, in mW; false where that is not known.
func (f *Fleet) MeterMaxMilliwatts(m Meter) (int64, bool) {
	if node, ok := f.NodeOfMeter(m); ok {
		hw, known := f.Hardware(node.Hardware)
		return milli(hw.MaxWatts), known && hw.MaxWatts > 0
	}
	var total int64
	for _, box := range f.BoxesOfMeter(m) {
		most, ok := f.MaxMilliwatts(box)
		if !ok {
			return 0, false
		}
		total += most
	}
	return total, total > 0
}

// MeteredWith are the names of the boxes that share a meter with one of the boxes,
// and those themselves, in order.
func (f *Fleet) MeteredWith(boxes ...string) []string {
	names := slices.Clone(boxes)
	for _, m := range f.meters.list {
		if counted := f.BoxesOfMeter(m); len(counted) > 1 && slices.ContainsFunc(boxes, func(b string) bool { return slices.Contains(counted, b) }) {
			names = append(names, counted...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// meters refuses what would count twice: two meters of a node, and a box with a meter
// of its own within two of several boxes (phases, say): of one, what the box's meter
// counted is taken off; of which part of two, nobody knows.
func (v *validator) meters(objects, known []Object) {
	all := make([]Object, 0, 8)
	for _, o := range known {
		if _, ok := o.Spec.(Meter); ok {
			all = append(all, o)
		}
	}
	for _, o := range objects {
		m, ok := o.Spec.(Meter)
		if !ok {
			continue
		}
		for _, other := range all {
			rival, _ := other.Spec.(Meter)
			if other.Name() == o.Name() || !other.Overlaps(o.ValidFrom, o.ValidTo) {
				continue
			}
			if m.Node != "" && rival.Node == m.Node && rival.Role == m.Role {
				v.report(o, "spec.node", "%s counts node %q already", other, m.Node)
			}
		}
		if m.Node == "" {
			v.within(o, m, all, known)
		}
	}
}

// within refuses a box with a meter of its own within two meters of several boxes.
func (v *validator) within(o Object, m Meter, all, known []Object) {
	boxes := []string{m.Box}
	if m.several() {
		boxes = boxes[:0]
		for _, other := range all {
			narrow, _ := other.Spec.(Meter)
			if narrow.Box != "" && narrow.Node == "" && other.Overlaps(o.ValidFrom, o.ValidTo) && covers(m, narrow.Box, known, o) {
				boxes = append(boxes, narrow.Box)
			}
		}
	}
	for _, box := range boxes {
		var wide []string
		for _, other := range all {
			spec, _ := other.Spec.(Meter)
			if spec.several() && other.Name() != o.Name() && other.Overlaps(o.ValidFrom, o.ValidTo) && covers(spec, box, known, o) {
				wide = append(wide, other.String())
			}
		}
		if m.several() {
			wide = append(wide, o.String())
		}
		slices.Sort(wide)
		if wide = slices.Compact(wide); len(wide) > 1 {
			v.report(o, "spec.box", "box %q has a meter of its own and is counted by %s together: from which of them is its own to be taken off? Describe one meter of all boxes, or none", box, strings.Join(wide, " and "))
		}
	}
}

// several says whether the meter counts several boxes together.
func (m Meter) several() bool { return m.Site != "" || len(m.Boxes) > 0 }

// covers says whether a meter of several boxes counts the box at a time when o holds.
func covers(m Meter, box string, known []Object, o Object) bool {
	if m.Site == "" {
		return slices.Contains(m.Boxes, box)
	}
	return slices.ContainsFunc(known, func(b Object) bool {
		spec, ok := b.Spec.(Box)
		return ok && b.Name() == box && spec.Site == m.Site && b.Overlaps(o.ValidFrom, o.ValidTo)
	})
}
