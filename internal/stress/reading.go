package stress

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Reading is what the kernel has counted for this container.
type Reading struct {
	Time            time.Time `json:"time"`
	CPUMicroseconds int64     `json:"cpuMicroseconds"`   // counter, core-µs
	MemoryBytes     int64     `json:"memoryBytes"`       // working set: charged less inactive file pages
	ReceiveBytes    int64     `json:"receiveBytes"`      // counter, all interfaces but lo
	TransmitBytes   int64     `json:"transmitBytes"`     // counter
	DiskBytes       int64     `json:"diskBytes"`         // blocks of the load's file
	Seconds         float64   `json:"seconds,omitempty"` // that a job's work took
}

// Kernel is where a container finds its counters.
type Kernel struct {
	Cgroup string // mount of the container's own control group
	Proc   string
}

// Own is the kernel as a container sees it.
func Own() Kernel { return Kernel{Cgroup: "/sys/fs/cgroup", Proc: "/proc"} }

// Read reads the counters; the time and the disk's blocks are not its part.
// Without control groups it is an error.
func (k Kernel) Read() (Reading, error) {
	var r Reading
	var err error
	if r.CPUMicroseconds, r.MemoryBytes, err = k.group(); err != nil {
		return Reading{}, err
	}
	if r.ReceiveBytes, r.TransmitBytes, err = k.network(); err != nil {
		return Reading{}, err
	}
	return r, nil
}

func (k Kernel) group() (cpu, memory int64, err error) {
	if _, err := os.Stat(filepath.Join(k.Cgroup, "cgroup.controllers")); err == nil {
		return k.unified()
	}
	nanoseconds, err := k.number("cpuacct/cpuacct.usage")
	if err != nil {
		return 0, 0, err
	}
	charged, err := k.number("memory/memory.usage_in_bytes")
	if err != nil {
		return 0, 0, err
	}
	inactive, err := k.key("memory/memory.stat", "total_inactive_file")
	return nanoseconds / 1000, max(0, charged-inactive), err
}

func (k Kernel) unified() (cpu, memory int64, err error) {
	if cpu, err = k.key("cpu.stat", "usage_usec"); err != nil {
		return 0, 0, err
	}
	charged, err := k.number("memory.current")
	if err != nil {
		return 0, 0, err
	}
	inactive, err := k.key("memory.stat", "inactive_file")
	return cpu, max(0, charged-inactive), err
}

func (k Kernel) number(name string) (int64, error) {
	text, err := os.ReadFile(filepath.Join(k.Cgroup, name))
	if err != nil {
		return 0, fmt.Errorf("read own control group: %w", err)
	}
	value, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	return value, nil
}

// key is the value of one line "key value".
func (k Kernel) key(name, key string) (int64, error) {
	f, err := os.Open(filepath.Join(k.Cgroup, name))
	if err != nil {
		return 0, fmt.Errorf("read own control group: %w", err)
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), key+" "); ok {
			value, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read %s: %w", name, err)
			}
			return value, nil
		}
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	return 0, fmt.Errorf("read %s: no line %s", name, key)
}

// Columns of /proc/net/dev after an interface's name.
const (
	receiveColumn  = 0
	transmitColumn = 8
)

func (k Kernel) network() (receive, transmit int64, err error) {
	text, err := os.ReadFile(filepath.Join(k.Proc, "net/dev"))
	if err != nil {
		return 0, 0, fmt.Errorf("read network counters: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		name, counts, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "lo" {
			continue
		}
		columns := strings.Fields(counts)
		if len(columns) <= transmitColumn {
			return 0, 0, fmt.Errorf("read network counters: line %q", strings.TrimSpace(line))
		}
		in, err1 := strconv.ParseInt(columns[receiveColumn], 10, 64)
		out, err2 := strconv.ParseInt(columns[transmitColumn], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return 0, 0, fmt.Errorf("read network counters: %w", err)
		}
		receive, transmit = receive+in, transmit+out
	}
	return receive, transmit, nil
}
