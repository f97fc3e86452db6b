package host

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

// hierarchy reads what control groups used. Both forms read the kernel's files
// themselves, since a file that is missing must be an error or an absent
// quantity, never a zero.
type hierarchy interface {
	// root is the directory whose groups are metered.
	root() string
	// usage are a group's quantities; "" is the root's. Without the CPU counter
	// it is an error.
	usage(path string) (reading.Values, error)
	// version is 1 or 2.
	version() int
}

// detect finds the hierarchy that counts CPU below a mount point: version 2 if
// it is one itself, else version 1's cpuacct (a hybrid machine has both, and
// its unified tree counts nothing).
func detect(mount, proc string) (hierarchy, error) {
	above := stacked(proc)
	if exists(filepath.Join(mount, "cgroup.controllers")) {
		return unified{mount, above}, nil
	}
	if exists(filepath.Join(mount, "cpuacct", "cpuacct.usage")) {
		return newSplit(mount, above), nil
	}
	return nil, fmt.Errorf("no control groups that count CPU at %s: neither cgroup.controllers nor cpuacct/cpuacct.usage is there", mount)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// unified is cgroup v2.
type unified struct {
	mount string
	above map[string]bool // see stacked
}

func (u unified) root() string { return u.mount }
func (u unified) version() int { return 2 }

func (u unified) usage(path string) (reading.Values, error) {
	var values reading.Values
	directory := filepath.Join(u.mount, path)
	cpu, err := readKeys(filepath.Join(directory, "cpu.stat"))
	if err != nil {
		return values, err
	}
	used, ok := cpu["usage_usec"]
	if !ok {
		return values, fmt.Errorf("read %s: no usage_usec", filepath.Join(directory, "cpu.stat"))
	}
	values.Set(reading.CPU, used)
	if current, err := readNumber(filepath.Join(directory, "memory.current")); err == nil {
		if stat, err := readKeys(filepath.Join(directory, "memory.stat")); err == nil {
			values.Set(reading.Memory, max(0, current-stat["inactive_file"]))
		}
	}
	read, written, err := readIO(filepath.Join(directory, "io.stat"), u.above)
	if err == nil {
		values.Set(reading.DiskRead, read)
		values.Set(reading.DiskWrite, written)
	}
	return values, nil
}

// split is cgroup v1: the groups are cpuacct's; memory and disk are taken from
// their own hierarchies where those have the same group.
type split struct {
	mount string
	above map[string]bool // see stacked
	disk  bool            // the kernel counts disk bytes: at the root they are not 0
}

func newSplit(mount string, above map[string]bool) split {
	s := split{mount: mount, above: above}
	read, written, err := readThrottle(s.file("blkio", "", throttleFile), above)
	s.disk = err == nil && read+written > 0
	return s
}

const throttleFile = "blkio.throttle.io_service_bytes_recursive"

func (s split) root() string { return filepath.Join(s.mount, "cpuacct") }
func (s split) version() int { return 1 }

func (s split) file(controller, path, name string) string {
	return filepath.Join(s.mount, controller, path, name)
}

func (s split) usage(path string) (reading.Values, error) {
	var values reading.Values
	nanoseconds, err := readNumber(s.file("cpuacct", path, "cpuacct.usage"))
	if err != nil {
		return values, err
	}
	values.Set(reading.CPU, nanoseconds/1000)
	if current, err := readNumber(s.file("memory", path, "memory.usage_in_bytes")); err == nil {
		if stat, err := readKeys(s.file("memory", path, "memory.stat")); err == nil {
			values.Set(reading.Memory, max(0, current-stat["total_inactive_file"]))
		}
	}
	if s.disk {
		if read, written, err := readThrottle(s.file("blkio", path, throttleFile), s.above); err == nil {
			values.Set(reading.DiskRead, read)
			values.Set(reading.DiskWrite, written)
		}
	}
	return values, nil
}

// readNumber reads a file that holds one non-negative integer.
func readNumber(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	value, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if err == nil && value < 0 {
		err = errors.New("negative")
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	return value, nil
}

// readKeys reads lines "key value"; others are skipped.
func readKeys(path string) (map[string]int64, error) {
	keys := make(map[string]int64)
	err := eachFields(path, func(fields []string) {
		if len(fields) != 2 {
			return
		}
		if value, err := strconv.ParseInt(fields[1], 10, 64); err == nil && value >= 0 {
			keys[fields[0]] = value
		}
	})
	return keys, err
}

// readIO sums io.stat: "8:0 rbytes=1 wbytes=2 …" per device, without those that
// stand above another.
func readIO(path string, above map[string]bool) (read, written int64, err error) {
	err = eachFields(path, func(fields []string) {
		if above[major(fields[0])] {
			return
		}
		for _, field := range fields[1:] {
			key, text, _ := strings.Cut(field, "=")
			value, err := strconv.ParseInt(text, 10, 64)
			if err != nil || value < 0 {
				continue
			}
			switch key {
			case "rbytes":
				read += value
			case "wbytes":
				written += value
			}
		}
	})
	return read, written, err
}

// readThrottle sums v1's "8:0 Read 1".
func readThrottle(path string, above map[string]bool) (read, written int64, err error) {
	err = eachFields(path, func(fields []string) {
		if len(fields) != 3 || above[major(fields[0])] {
			return
		}
		value, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil || value < 0 {
			return
		}
		switch fields[1] {
		case "Read":
			read += value
		case "Write":
			written += value
		}
	})
	return read, written, err
}

// stacked are the major numbers of block devices that count what another one
// counts too, or nothing that is a disk, by the names that the kernel gave them
// at this boot.
func stacked(proc string) map[string]bool {
	above := make(map[string]bool)
	block := false
	_ = eachFields(filepath.Join(proc, "devices"), func(fields []string) {
		if len(fields) < 2 {
			return
		}
		if fields[1] == "devices:" {
			block = fields[0] == "Block"
			return
		}
		switch fields[1] {
		case "ramdisk", "loop", "md", "mdp", "device-mapper", "zram":
			above[fields[0]] = above[fields[0]] || block
		}
	}) // without the file every device is counted
	return above
}

func major(device string) string {
	number, _, _ := strings.Cut(device, ":")
	return number
}

// eachFields hands the words of each line that is not empty to each.
func eachFields(path string, each func(fields []string)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 0 {
			each(fields)
		}
	}
	if err := lines.Err(); err != nil {
		return &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return nil
}
