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
	Steps   []Step
	Minutes int // whole minutes that are compared in each step
}

// DefaultPlan has one and two cores, 10 to 100 MB of memory, 20 to 120 MB of
// disk, and a page that is fetched 100 to 400 times.
func DefaultPlan() Plan {
	return Plan{Minutes: 1, Steps: []Step{
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
	// pageFrames is what a page costs beside its body, at most: TCP/IP, Ethernet
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

// Length is how long the plan's steps take: a load settles until the next whole
// minute but one has begun.
func (p Plan) Length() time.Duration {
	return time.Duration(len(p.Steps)*(p.Minutes+1)) * schema.Minute
}
