package host

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// zonePower is more than a zone of RAPL draws, W: what is read so late that its
// counter may have begun again twice meanwhile says nothing.
const zonePower = 1000

// rapl reads the energy that the processors and their memory counted of
// themselves: the kernel's powercap zones named package-N and dram. Zones within a
// package (core, uncore) are in it already, psys holds the packages, and
// intel-rapl-mmio shows a package a second time: those are not read.
//
// Each zone's counter begins again at its own maximum, so their growths are added
// to a total of our own. It begins at 0 and lives as long as the process.
type rapl struct {
	root  string
	log   *slog.Logger
	zones map[string]uint64 // µJ by directory, as they were read last
	at    time.Time         // when
	total uint64            // µJ
	why   string            // it could not be read the last time
}

// read is the total, mJ. Not ok: there are no zones, one of them cannot be read
// (the kernel lets only root), or what they counted since the last time is not
// known; then the total goes on from here.
func (r *rapl) read(now time.Time) (millijoules int64, ok bool) {
	zones, ranges, err := r.counters()
	if why := reason(err); why != r.why {
		if r.why = why; why != "" {
			r.log.Warn("the processors' energy counters cannot be read: their nodes' power goes by utilisation; only root may read them", "err", err)
		}
	}
	former, since := r.zones, now.Sub(r.at)
	r.zones, r.at = zones, now
	if err != nil || len(zones) == 0 {
		r.zones = nil
		return 0, false
	}
	if !sameKeys(former, zones) {
		return 0, false
	}
	var growth uint64
	for zone, count := range zones {
		size := ranges[zone]
		if since < 0 || since.Seconds()*zonePower*1e6 > float64(size) {
			return 0, false
		}
		if before := former[zone]; count >= before {
			growth += count - before
		} else { // it goes from its maximum to 0
			growth += count + (size - before)
		}
	}
	r.total += growth
	return int64(r.total / 1000), true
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func sameKeys(a, b map[string]uint64) bool {
	return maps.EqualFunc(a, b, func(uint64, uint64) bool { return true })
}

// counters are what each zone counted and where it begins again, µJ.
func (r *rapl) counters() (counts, ranges map[string]uint64, err error) {
	directories, err := filepath.Glob(filepath.Join(r.root, "intel-rapl:*"))
	if err != nil {
		return nil, nil, err
	}
	counts, ranges = make(map[string]uint64), make(map[string]uint64)
	for _, directory := range directories {
		text, err := os.ReadFile(filepath.Join(directory, "name"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if name := strings.TrimSpace(string(text)); !strings.HasPrefix(name, "package-") && name != "dram" {
			continue
		}
		count, err := readNumber(filepath.Join(directory, "energy_uj"))
		if err != nil {
			return nil, nil, err
		}
		size, err := readNumber(filepath.Join(directory, "max_energy_range_uj"))
		if err != nil {
			return nil, nil, err
		}
		if count > size {
			return nil, nil, fmt.Errorf("%s: it shows %d µJ, more than its largest value %d", directory, count, size)
		}
		counts[directory], ranges[directory] = uint64(count), uint64(size)
	}
	return counts, ranges, nil
}
