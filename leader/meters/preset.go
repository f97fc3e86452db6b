package meters

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// Steps of the Shelly counters: whole Watt-minutes, and Wh with three decimals.
// The 3EM's counters are Wh with two.
const (
	stepGen1 = 60_000
	stepGen2 = 3_600
	step3EM  = 36_000
)

// endpoint is the URL that a meter is read from.
func endpoint(m fleet.Meter) string {
	root := strings.TrimRight(m.URL, "/")
	switch m.Driver {
	case fleet.DriverShellyGen1:
		return root + "/status"
	case fleet.DriverShellyGen2:
		return root + "/rpc/Switch.GetStatus?id=" + strconv.Itoa(m.Channel)
	case fleet.DriverShellyPM1:
		return root + "/rpc/PM1.GetStatus?id=" + strconv.Itoa(m.Channel)
	case fleet.DriverShelly3EM:
		return root + "/rpc/Shelly.GetStatus"
	case fleet.DriverTasmota:
		return root + "/cm?cmnd=" + url.PathEscape("Status 8")
	case fleet.DriverHomeWizard:
		return root + "/api/v1/data"
	}
	return m.URL
}

// decode reads a device's answer. near is when it came: a local time that exists
// twice is the one that is nearer.
func decode(m fleet.Meter, body []byte, near time.Time) (sample, error) {
	document, err := parse(body)
	if err != nil {
		return sample{}, err
	}
	return decodeDocument(m, document, near)
}

func decodeDocument(m fleet.Meter, document any, near time.Time) (s sample, err error) {
	switch m.Format() {
	case fleet.DriverShellyGen1:
		s, err = decodeGen1(document, m.Channel)
	case fleet.DriverShellyGen2, fleet.DriverShellyPM1:
		s, err = decodeGen2(document, m.Channel)
	case fleet.DriverShelly3EM:
		s, err = decode3EM(document, m.Channel)
	case fleet.DriverTasmota:
		s, err = decodeTasmota(document, m, near)
	case fleet.DriverHomeWizard:
		s, err = decodeHomeWizard(document)
	case fleet.DriverHomeAssistant:
		s, err = decodeHomeAssistant(document)
	case fleet.DriverHTTPJSON:
		s, err = decodeFields(document, m.Fields, m.TimeZone, near)
	default:
		return sample{}, fmt.Errorf("unknown format %q", m.Format())
	}
	if err == nil && !s.hasCounter && !s.hasPower {
		err = errors.New("the answer has neither a counter nor a power")
	}
	return s, err
}

// decodeGen1 reads a plug's meters[n] (Watt-minutes) or an energy meter's
// emeters[n] (Wh), and what the same devices publish by MQTT: below relay/n power
// and energy (Watt-minutes), below emeter/n power and total (Wh). Their clock has
// whole seconds and a server of its own, so the moment of the answer is nearer to
// the truth.
func decodeGen1(document any, channel int) (sample, error) {
	n := strconv.Itoa(channel)
	for _, form := range []struct{ base, counter, unit string }{
		{"meters." + n, "total", "Wmin"}, {"emeters." + n, "total", "Wh"},
		{"relay." + n, "energy", "Wmin"}, {"emeter." + n, "total", "Wh"},
	} {
		if _, err := at(document, form.base); err != nil {
			continue
		}
		if valid, err := at(document, form.base+".is_valid"); err == nil && valid != true {
			return sample{}, errors.New("the device says that its reading is not valid")
		}
		s, err := decodeFields(document, fleet.MeterFields{
			Counter: fleet.FieldRef{Path: form.base + "." + form.counter, Unit: form.unit},
			Power:   fleet.FieldRef{Path: form.base + ".power", Unit: "W"}}, "", time.Time{})
		if s.step = stepGen1; form.unit == "Wh" {
			s.step = 0 // learned: models differ
		}
		return s, err
	}
	_, err := at(document, "meters."+n)
	return sample{}, err
}

// decodeGen2 reads the status of a switch or a PM1: alone, or within that of the
// device or a notification, which says when it was.
func decodeGen2(document any, channel int) (sample, error) {
	stamped := document
	if params, err := at(document, "params"); err == nil {
		document, stamped = params, params
	}
	for _, component := range []string{"switch:", "pm1:"} {
		if inner, err := at(document, component+strconv.Itoa(channel)); err == nil {
			document = inner
			break
		}
	}
	s, err := decodeFields(document, fleet.MeterFields{
		Counter: fleet.FieldRef{Path: "aenergy.total", Unit: "Wh"},
		Power:   fleet.FieldRef{Path: "apower", Unit: "W"}}, "", time.Time{})
	if err != nil {
		return sample{}, err
	}
	s.step = stepGen2
	return notified(s, stamped)
}

// notified adds the time of a notification.
func notified(s sample, params any) (sample, error) {
	if _, err := at(params, "ts"); err != nil {
		return s, nil
	}
	var err error
	s.time, err = moment(params, fleet.FieldRef{Path: "ts", Unit: "unix"}, "", time.Time{})
	return s, err
}

// decode3EM reads the sum of three phases (em, emdata) or one of them (em1,
// em1data), from the device's status, a notification, or the answers of
// EM.GetStatus and EMData.GetStatus laid over each other.
func decode3EM(document any, channel int) (sample, error) {
	stamped := document
	if params, err := at(document, "params"); err == nil {
		document, stamped = params, params
	}
	n := strconv.Itoa(channel)
	for _, form := range []struct{ data, counter, now, power string }{
		{"emdata:" + n + ".", "total_act", "em:" + n + ".", "total_act_power"},
		{"em1data:" + n + ".", "total_act_energy", "em1:" + n + ".", "act_power"},
		{"", "total_act", "", "total_act_power"},
		{"", "total_act_energy", "", "act_power"},
	} {
		var fields fleet.MeterFields
		if _, err := at(document, form.data+form.counter); err == nil {
			fields.Counter = fleet.FieldRef{Path: form.data + form.counter, Unit: "Wh"}
		}
		if _, err := at(document, form.now+form.power); err == nil {
			fields.Power = fleet.FieldRef{Path: form.now + form.power, Unit: "W"}
		}
		if fields == (fleet.MeterFields{}) {
			continue
		}
		s, err := decodeFields(document, fields, "", time.Time{})
		if err != nil {
			return sample{}, err
		}
		if s.hasCounter {
			s.step = step3EM
		}
		return notified(s, stamped)
	}
	return sample{}, fmt.Errorf("the answer has no emdata:%s, em1data:%s, em:%s or em1:%s", n, n, n, n)
}

// decodeTasmota reads ENERGY, alone or below StatusSNS. Total and Power are
// numbers, or one number for each phase.
func decodeTasmota(document any, m fleet.Meter, near time.Time) (s sample, err error) {
	if inner, err := at(document, "StatusSNS"); err == nil {
		document = inner
	}
	if s.counter, err = phases(document, "ENERGY.Total", m.Channel, counterFactors["kWh"]); err != nil {
		return sample{}, err
	}
	s.hasCounter = true
	if _, missing := at(document, "ENERGY.Power"); missing == nil {
		if s.power, err = phases(document, "ENERGY.Power", m.Channel, powerFactors["W"]); err != nil {
			return sample{}, err
		}
		s.hasPower = true
	}
	if m.TimeZone != "" {
		s.time, err = moment(document, fleet.FieldRef{Path: "Time", Unit: "local"}, m.TimeZone, near)
	}
	return s, err
}

// phases is a number, or the sum of an array's, or of those the one of a phase
// (from 1 on).
func phases(document any, path string, phase int, factor int64) (int64, error) {
	value, err := at(document, path)
	if err != nil {
		return 0, err
	}
	list, many := value.([]any)
	if !many {
		return quantity(document, path, factor)
	}
	if phase > len(list) || len(list) == 0 {
		return 0, fmt.Errorf("%s: has %d phases, not a phase %d", path, len(list), max(phase, 1))
	}
	var sum int64
	for i := range list {
		v, err := quantity(document, path+"."+strconv.Itoa(i), factor)
		if err != nil {
			return 0, err
		}
		if phase == i+1 {
			return v, nil
		}
		next := sum + v
		if (v > 0) != (next > sum) && v != 0 {
			return 0, fmt.Errorf("%s: the sum is out of range", path)
		}
		sum = next
	}
	return sum, nil
}

// decodeHomeWizard reads a socket's or a P1 meter's data: one total, or one for
// each tariff.
func decodeHomeWizard(document any) (s sample, err error) {
	total := []string{"total_power_import_kwh"}
	if _, missing := at(document, total[0]); missing != nil {
		total = []string{"total_power_import_t1_kwh"}
		if _, missing := at(document, "total_power_import_t2_kwh"); missing == nil {
			total = append(total, "total_power_import_t2_kwh")
		}
	}
	for _, path := range total {
		v, err := quantity(document, path, counterFactors["kWh"])
		if err != nil {
			return sample{}, err
		}
		if s.counter += v; v > 0 && s.counter < 0 {
			return sample{}, errors.New("the counters are out of range")
		}
	}
	s.hasCounter = true
	if _, missing := at(document, "active_power_w"); missing == nil {
		if s.power, err = quantity(document, "active_power_w", powerFactors["W"]); err != nil {
			return sample{}, err
		}
		s.hasPower = true
	}
	return s, nil
}

// decodeHomeAssistant reads an entity's state: a text, in the unit that stands
// beside it.
func decodeHomeAssistant(document any) (s sample, err error) {
	state, err := textAt(document, "state")
	if err != nil {
		return sample{}, err
	}
	if state == "unavailable" || state == "unknown" || state == "" {
		return sample{}, fmt.Errorf("the entity is %q: is its device on, and connected?", state)
	}
	unit, err := textAt(document, "attributes.unit_of_measurement")
	if err != nil {
		return sample{}, err
	}
	if factor, ok := counterFactors[unit]; ok {
		s.counter, err = quantity(document, "state", factor)
		s.hasCounter = true
	} else if factor, ok := powerFactors[unit]; ok {
		s.power, err = quantity(document, "state", factor)
		s.hasPower = true
	} else {
		return sample{}, fmt.Errorf("unit %q is neither an energy nor a power: choose another entity", unit)
	}
	if err != nil {
		return sample{}, err
	}
	if _, missing := at(document, "last_reported"); missing == nil {
		s.time, err = moment(document, fleet.FieldRef{Path: "last_reported", Unit: "rfc3339"}, "", time.Time{})
	}
	return s, err
}
