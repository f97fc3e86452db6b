package validate

import (
	"errors"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Quantity is what a case compares.
type Quantity string

// The quantities.
const (
	CPU     Quantity = "cpu"     // core-seconds
	Memory  Quantity = "memory"  // bytes, mean of a minute
	Disk    Quantity = "disk"    // bytes, growth between two plateaus
	Network Quantity = "network" // bytes received
)

// Step is a set of loads that stand for some whole minutes.
type Step struct {
	Cores, RAM, Disk int // cores, MB, MB
	Fetches          int // pages, at the step's begin
}

// Plan is what a run does.
type Plan struct {
	Steps    []Step
	Minutes  int           // whole minutes that are compared in each step
	Interval time.Duration // between two reads of the cluster's follower
}

// Times that values are old when a follower reads them: a container runtime
// measures the space of a writable layer each ten seconds, a kubelet's cAdvisor
// looks at memory and CPU each ten to fifteen. A follower asks for the former in
// every fourth read, and once a minute at least.
const (
	layerAge  = 20 * time.Second
	sampleAge = 15 * time.Second
	layerRead = 4
)

// before is from a load to the first minute in which it stands in all that the
// follower reads.
func (p Plan) before() time.Duration { return min(layerRead*p.Interval, schema.Minute) + layerAge }

// after is from the last minute's end to the next load: the follower's next
// reading is one of the old load, since gauges are integrated between readings.
func (p Plan) after() time.Duration { return p.Interval + sampleAge }

// DefaultPlan has one and two cores, 10 to 100 MB of memory, 20 to 120 MB of
// disk, and a page that is fetched 100 to 400 times.
func DefaultPlan() Plan {
	return Plan{Minutes: 1, Interval: 15 * time.Second, Steps: []Step{
		{},
		{Cores: 1, RAM: 10, Disk: 20, Fetches: 100},
		{Cores: 2, RAM: 20, Disk: 40, Fetches: 200},
		{Cores: 0, RAM: 50, Disk: 80, Fetches: 400},
		{Cores: 0, RAM: 100, Disk: 120},
		{},
	}}
}

// Limits of what may differ.
const (
	// Within is for CPU, memory and network, of what the container says.
	Within = 0.02
	// Block is the unit in which file systems give space.
	Block = 4096
	// floored is what a gauge of a window may lack, B·s: it is kept in whole KiB·s.
	floored = 1024
	// edgeBytes is what is allowed of the network in any case: TCP/IP, Ethernet
	// and HTTP headers are in the kernel's counters on both sides, so that they
	// need no allowance; the first and last packets of a connection may fall on
	// either side of an edge.
	edgeBytes = 16 << 10
)

// Validate lists all that is wrong.
func (p Plan) Validate() error {
	var wrong []error
	if p.Minutes < 1 || p.Minutes > 60 {
		wrong = append(wrong, fmt.Errorf("minutes: %d is not between 1 and 60", p.Minutes))
	}
	if p.Interval < time.Second || p.Interval > schema.Minute {
		wrong = append(wrong, fmt.Errorf("interval: %s is not between 1s and 1m", p.Interval))
	}
	if len(p.Steps) == 0 {
		wrong = append(wrong, errors.New("steps: there are none"))
	}
	for i, s := range p.Steps {
		if s.Cores < 0 || s.RAM < 0 || s.Disk < 0 || s.Fetches < 0 {
			wrong = append(wrong, fmt.Errorf("step %d: a load is negative", i+1))
		}
	}
	return errors.Join(wrong...)
}

// Length is how long the plan's steps take at most.
func (p Plan) Length() time.Duration {
	idle := p.before() + p.after() + schema.Minute
	return time.Duration(len(p.Steps)) * (time.Duration(p.Minutes)*schema.Minute + idle.Truncate(schema.Minute))
}
