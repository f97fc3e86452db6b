package meters

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/processors"
)

// fault is a meter over three hours of a box that draws 100 W without a pause, read
// each 10 s: 1,000 J between two readings, 6,000 J a minute.
type fault struct {
	meter fleet.Meter
	unit  string // of the number that the device shows
	shows func(second int, joules int64) (text string, own time.Time, ok bool)
	// measured is the exact energy that the readings know of, J, and epochs how many
	// lives the counter has.
	measured int64
	coarse   int64 // of that, mJ: a coarse counter begins and ends up to a step before the truth
	hours    int   // how long it runs; 0 = three
	epochs   int
	refused  int
	quality  string // of the minutes that are measured
}

const (
	faultWatts = 100
	kWhJoules  = 3_600_000
)

// counting shows joules in steps, from an offset on.
func counting(step, offset int64) func(int, int64) (string, time.Time, bool) {
	return func(_ int, joules int64) (string, time.Time, bool) {
		return fmt.Sprint((offset + joules) / step * step), time.Time{}, true
	}
}

func faults(t *testing.T) map[string]fault {
	plain := fleet.Meter{Name: "m", Box: "b", Driver: fleet.DriverHTTPJSON, Fields: fleet.MeterFields{Counter: fleet.FieldRef{Path: "v", Unit: "J"}}}
	kWh, watts, timed := plain, plain, plain
	kWh.Fields.Counter = fleet.FieldRef{Path: "v", Unit: "kWh", Format: fleet.FormatFloat32}
	watts.Fields = fleet.MeterFields{Power: fleet.FieldRef{Path: "v", Unit: "W"}}
	timed.Fields.Time = fleet.FieldRef{Path: "t", Unit: "rfc3339"}
	local := timed
	local.Fields.Time.Unit, local.TimeZone = "local", "Europe/Amsterdam"
	rolls := plain
	rolls.RolloverKWh = 100
	amsterdam, err := time.LoadLocation("Europe/Amsterdam")
	if err != nil {
		t.Fatal(err)
	}
	const whole, days = 3 * 3600 * faultWatts, 72 * 3600 * faultWatts
	return map[string]fault{
		"steps of 1 J":    {meter: plain, shows: counting(1, 5_000), measured: whole, epochs: 1},
		"steps of 1 Wh":   {meter: plain, shows: counting(3_600, 7_200_123), coarse: 3_600_000, measured: whole, epochs: 1},
		"steps of 10 Wh":  {meter: plain, shows: counting(36_000, 36_000_000), coarse: 36_000_000, measured: days, hours: 72, epochs: 1},
		"steps of 100 Wh": {meter: plain, shows: counting(360_000, 360_000_000), coarse: 360_000_000, measured: days, hours: 72, epochs: 1},
		"float32 of kWh at 70,000": {meter: kWh, epochs: 1, coarse: 28_125_000, measured: days, hours: 72, shows: func(_ int, joules int64) (string, time.Time, bool) {
			return fmt.Sprint(float32(70_000 + float64(joules)/kWhJoules)), time.Time{}, true
		}},
		// The last reading before the reset and the first after it are 1,000 J apart,
		// which nobody counted.
		"reset": {meter: plain, measured: whole - 1_000, epochs: 2, refused: 0, shows: func(s int, joules int64) (string, time.Time, bool) {
			if s >= 5400 {
				return fmt.Sprint(joules - 540_000), time.Time{}, true
			}
			return fmt.Sprint(9_000_000 + joules), time.Time{}, true
		}},
		"rollover": {meter: rolls, measured: whole, epochs: 1, shows: func(_ int, joules int64) (string, time.Time, bool) {
			return fmt.Sprint((99*kWhJoules + kWhJoules*9/10 + joules) % (100 * kWhJoules)), time.Time{}, true
		}},
		"replaced meter, higher": {meter: plain, measured: whole - 1_000, epochs: 2, shows: func(s int, joules int64) (string, time.Time, bool) {
			if s >= 5400 {
				return fmt.Sprint(4_000_000_000_000 + joules), time.Time{}, true
			}
			return fmt.Sprint(joules), time.Time{}, true
		}},
		"gap of an hour": {meter: plain, measured: whole, epochs: 1, shows: func(s int, joules int64) (string, time.Time, bool) {
			return fmt.Sprint(joules), time.Time{}, s < 3600 || s >= 7200
		}},
		"watts": {meter: watts, measured: whole, epochs: 1, quality: schema.Mixed, shows: func(int, int64) (string, time.Time, bool) {
			return "100", time.Time{}, true
		}},
		// Nothing is known of the 3,610 s from the last reading before the gap on.
		"watts, gap of an hour": {meter: watts, measured: whole - 3_610*faultWatts, epochs: 2, quality: schema.Mixed, shows: func(s int, _ int64) (string, time.Time, bool) {
			return "100", time.Time{}, s < 3600 || s >= 7200
		}},
		"negative and absurd values": {meter: plain, measured: whole, epochs: 1, refused: 2 * 36, shows: func(s int, joules int64) (string, time.Time, bool) {
			switch s % 300 {
			case 20:
				return "-1", time.Time{}, true
			case 40:
				return fmt.Sprint(joules + 5_000_000_000), time.Time{}, true
			}
			return fmt.Sprint(joules), time.Time{}, true
		}},
		"a clock a month behind": {meter: timed, measured: whole, epochs: 1, shows: func(s int, joules int64) (string, time.Time, bool) {
			return fmt.Sprint(joules), noon.Add(time.Duration(s)*time.Second - 30*24*time.Hour), true
		}},
		"a clock a month ahead": {meter: timed, measured: whole, epochs: 1, shows: func(s int, joules int64) (string, time.Time, bool) {
			return fmt.Sprint(joules), noon.Add(time.Duration(s)*time.Second + 30*24*time.Hour), true
		}},
		"local time over the change of clocks": {meter: local, measured: whole, epochs: 1, shows: func(s int, joules int64) (string, time.Time, bool) {
			return fmt.Sprint(joules), changeOfClocks.Add(time.Duration(s) * time.Second).In(amsterdam), true
		}},
	}
}

// changeOfClocks is half an hour before the hour that clocks show twice begins.
var changeOfClocks = time.Date(2026, 10, 24, 23, 30, 0, 0, time.UTC)

// TestFaults: over the faults of meters, the readings know of exactly the energy
// that they can know of, and what is measured of it is no saw of zeros and steps:
// once the counter's step is learned, each minute between the first and the last
// interval of a life is within 1/MinSteps of what was drawn.
func TestFaults(t *testing.T) {
	for name, f := range faults(t) {
		t.Run(name, func(t *testing.T) {
			readings, refused := f.run(t)
			epochs := make(map[time.Time]bool)
			var known int64
			for i, r := range readings {
				epochs[r.Epoch] = true
				if i > 0 && r.Epoch.Equal(readings[i-1].Epoch) {
					known += r.CounterMillijoules - readings[i-1].CounterMillijoules
				}
			}
			last := int64(10 * faultWatts * 1000) // the readings end 10 s before the hours
			if miss := f.measured*1000 - last - known; miss < -f.coarse || miss > f.coarse {
				t.Errorf("the readings know of %d mJ, want %d ± %d", known, f.measured*1000-last, f.coarse)
			}
			if len(epochs) != f.epochs || refused != f.refused {
				t.Errorf("%d epochs and %d refused, want %d and %d", len(epochs), refused, f.epochs, f.refused)
			}
			f.minutes(t, readings)
		})
	}
}

func (f fault) seconds() int {
	if f.hours == 0 {
		return 3 * 3600
	}
	return f.hours * 3600
}

func (f fault) start() time.Time {
	if f.meter.TimeZone != "" {
		return changeOfClocks
	}
	return noon
}

// run reads and judges; a restart half-way forgets what is in memory.
func (f fault) run(t *testing.T) (readings []Reading, refused int) {
	t.Helper()
	var l life
	var rejected []Reading
	for s := 0; s < f.seconds(); s += 10 {
		text, own, ok := f.shows(s, int64(s)*faultWatts)
		if !ok {
			continue
		}
		now := f.start().Add(time.Duration(s) * time.Second)
		form := time.RFC3339
		if f.meter.TimeZone != "" {
			form = "2006-01-02T15:04:05"
		}
		found, err := decode(f.meter, fmt.Appendf(nil, `{"v":%s,"t":%q}`, text, own.Format(form)), now)
		if err != nil {
			t.Fatal(err)
		}
		found.received = now
		var rows []Reading
		l, rows = l.judge(found.reading(f.meter), rules{maxPower: 1_000_000, rollover: f.meter.RolloverMillijoules(), period: 10 * time.Second})
		for _, r := range rows {
			if r.Refused != "" {
				rejected = append(rejected, r)
				continue
			}
			for i := range rejected {
				if rejected[i].Time.Equal(r.Time) {
					rejected[i].Refused = "" // it counts after all
				}
			}
			readings = append(readings, r)
		}
		if s == 3000 {
			l = recall(readings[len(readings)-1], nil)
		}
	}
	for _, r := range rejected {
		if r.Refused != "" {
			refused++
		}
	}
	return readings, refused
}

// minutes shares the readings over the minutes of a node that draws what the model
// says, and looks for a saw.
func (f fault) minutes(t *testing.T, readings []Reading) {
	t.Helper()
	w := schema.Window{From: f.start().Add(-15 * time.Minute), To: f.start().Add(time.Duration(f.seconds())*time.Second + 15*time.Minute)}
	m := processors.Meter{Name: "m", FromFirst: true}
	for _, r := range readings {
		m.Readings = append(m.Readings, processors.Reading{Time: r.Time, CounterMillijoules: r.CounterMillijoules, StepMillijoules: r.StepMillijoules,
			Epoch: r.Epoch.UnixNano(), Integrated: r.Integrated()})
	}
	node := processors.Node{Cluster: "c", Name: "n", Hardware: processors.Hardware{IdleMilliwatts: faultWatts * 1000, MaxMilliwatts: 2 * faultWatts * 1000}}
	for at := w.From; at.Before(w.To); at = at.Add(schema.Minute) {
		node.Minutes = append(node.Minutes, processors.NodeMinute{Time: at, Capacity: 60_000_000, Uptime: 60_000})
	}
	result, err := processors.Power{}.Process(processors.PowerInput{Window: w, Nodes: []processors.Node{node}, Meters: []processors.Meter{m}})
	if err != nil {
		t.Fatal(err)
	}
	const minute = 60 * faultWatts * 1000 // mJ
	var growth, measured int64
	intervals := m.Intervals()
	for _, i := range intervals {
		growth += i.Growth()
	}
	if len(intervals) == 0 {
		t.Fatal("no interval has closed")
	}
	within, quality := 0, schema.Measured
	if f.quality != "" {
		quality = f.quality
	}
	for i, row := range result.Minutes {
		measured += row.Measured
		whole := row.MeasuredModel == minute
		if !whole {
			continue
		}
		within++
		if off := row.Measured - minute; off < -minute/processors.MinSteps*2 || off > minute/processors.MinSteps*2 {
			t.Errorf("minute %d: %d mJ, want %d: a saw", i, row.Measured, minute)
		}
		if row.Quality != quality {
			t.Errorf("minute %d is %s, want %s", i, row.Quality, quality)
		}
	}
	if measured != growth {
		t.Errorf("minutes hold %d mJ, the intervals %d", measured, growth)
	}
	if within < 20 {
		t.Errorf("only %d minutes are measured whole", within)
	}
}

// Control: without the step of the format, a float32 of kWh at 70,000 is a saw.
func TestFloat32WithoutItsStepIsASaw(t *testing.T) {
	f := faults(t)["float32 of kWh at 70,000"]
	readings, _ := f.run(t)
	zeros := 0
	for i := range readings {
		readings[i].StepMillijoules = 1
	}
	m := processors.Meter{Name: "m", FromFirst: true}
	for _, r := range readings {
		m.Readings = append(m.Readings, processors.Reading{Time: r.Time, CounterMillijoules: r.CounterMillijoules, StepMillijoules: 1})
	}
	short := 0
	for _, i := range m.Intervals() {
		if i.Growth()/int64(i.To.Sub(i.From)/time.Second) > 2*faultWatts*1000 {
			short++
		}
	}
	if zeros+short == 0 {
		t.Error("control: no interval shows more than twice the power")
	}
}

func TestStampReplacesAClockThatIsFarOff(t *testing.T) {
	for name, test := range map[string]struct {
		own     time.Duration
		ignored bool
		want    time.Duration
		note    string
	}{
		"near": {-10 * time.Second, false, -10 * time.Second, ""}, "two hours behind": {-2 * time.Hour, false, -2 * time.Hour, ""},
		"a month behind": {-720 * time.Hour, false, 0, "720h0m0s ago"}, "an hour ahead": {time.Hour, false, 0, "1h0m0s ahead"},
		"not looked at": {-time.Hour, true, 0, ""},
	} {
		r := stamp(Reading{Received: noon}, noon.Add(test.own), test.ignored)
		if !r.Time.Equal(noon.Add(test.want)) || !r.Received.Equal(noon) || !strings.Contains(r.Note, test.note) || (test.note == "") != (r.Note == "") {
			t.Errorf("%s: %s, note %q", name, r.Time, r.Note)
		}
	}
}
