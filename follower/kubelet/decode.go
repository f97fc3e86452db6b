package kubelet

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/accumulus-metering/accumulus/follower/life"
	"github.com/accumulus-metering/accumulus/follower/nic"
	"github.com/accumulus-metering/accumulus/follower/reading"
)

// maxLine bounds one line of a body; cAdvisor's own lines are below 2 KiB.
const maxLine = 64 << 10

// Reasons for which a sample is refused, as the label of the metric.
const (
	refusedSyntax    = "syntax"     // no line of the text format
	refusedTimestamp = "timestamp"  // a counter or gauge without its own time
	refusedValue     = "value"      // NaN, negative, or beyond int64
	refusedOverlap   = "superseded" // an older container that still moves beside its successor
)

var refusals = []string{refusedSyntax, refusedTimestamp, refusedValue, refusedOverlap}

// metric is what a line's name asks for.
type metric struct {
	quantity reading.Quantity
	shift    int  // power of ten from the metric's unit to ours
	start    bool // the start time, which is no quantity
	half     bool // user's or system's half of the CPU counter: only whether it is zero
}

// metrics are the names that are read; every other line is skipped at once.
var metrics = map[string]metric{
	"container_cpu_usage_seconds_total":      {quantity: reading.CPU, shift: 6},
	"container_cpu_user_seconds_total":       {quantity: reading.CPU, shift: 6, half: true},
	"container_cpu_system_seconds_total":     {quantity: reading.CPU, shift: 6, half: true},
	"container_network_receive_bytes_total":  {quantity: reading.NetworkReceive},
	"container_network_transmit_bytes_total": {quantity: reading.NetworkTransmit},
	"container_fs_reads_bytes_total":         {quantity: reading.DiskRead},
	"container_fs_writes_bytes_total":        {quantity: reading.DiskWrite},
	"container_memory_working_set_bytes":     {quantity: reading.Memory},
	"container_fs_usage_bytes":               {quantity: reading.Filesystem},
	"container_start_time_seconds":           {start: true, shift: 9},
}

// moment is what one cgroup showed at one time. cAdvisor takes all of a
// cgroup's numbers at once, so there is one moment per cgroup and body.
type moment struct {
	timestamp int64 // ms
	values    [reading.Quantities]decimal
	has       [reading.Quantities]bool
	total     bool // cpu="total" was there: the cores' own lines are not added
	zeros     int  // halves of the CPU counter that are zero
}

// cgroup is one control group of a node, remembered between bodies.
type cgroup struct {
	cgroupPath
	id                        string
	namespace, pod, container string
	start                     time.Time // as this body said; zero when it did not
	moments                   []moment  // of this body
	interfaces                []string  // of this body, where it has its own network
	life                      life.Life
	seen                      int   // number of the last body that named it
	given                     int64 // ms, time of its last reading
}

// labels are those of one line that matter.
type labels struct {
	id, container, namespace, pod []byte
	cpu, device, wire             []byte
}

// decoder reads the bodies of one node, one after another. It remembers the
// node's cgroups, so that a known one costs no allocation and keeps its epoch.
type decoder struct {
	node     string
	boot     string
	cgroups  map[string]*cgroup
	restored map[reading.Series]reading.Reading
	body     int // number of this body
	newest   int64
	refused  map[string]int
	buffer   *bufio.Reader

	alias     Aliaser // nil = none
	further   further
	memoryOff bool // in the last body
}

func newDecoder(node string) *decoder {
	return &decoder{node: node, cgroups: make(map[string]*cgroup), restored: make(map[reading.Series]reading.Reading),
		refused: make(map[string]int), buffer: bufio.NewReaderSize(nil, maxLine)}
}

// decode reads one body in the Prometheus text format. A broken line is refused
// and counted; only a failing reader or a body without any sample is an error.
func (d *decoder) decode(body io.Reader, find func(uid string) (Pod, bool)) ([]reading.Reading, time.Time, error) {
	d.body++
	d.newest = 0
	clear(d.refused)
	d.buffer.Reset(body)
	for {
		line, err := d.buffer.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			d.refused[refusedSyntax]++
			err = d.skipLine()
		} else if length := len(line); length > 0 {
			d.line(bytes.TrimRight(line, "\r\n"))
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("read body: %w", err)
		}
	}
	readings := d.readings(find)
	d.forget()
	if len(readings) == 0 {
		return nil, time.Time{}, errors.New("read body: no sample of a cgroup in it")
	}
	return readings, time.UnixMilli(d.newest).UTC(), nil
}

func (d *decoder) skipLine() error {
	for {
		if _, err := d.buffer.ReadSlice('\n'); !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

func (d *decoder) line(line []byte) {
	if len(line) == 0 || line[0] == '#' {
		return
	}
	end := 0
	for end < len(line) && line[end] != '{' && line[end] != ' ' && line[end] != '\t' {
		end++
	}
	wanted, ok := metrics[string(line[:end])]
	if !ok {
		return
	}
	s, ok := parseSample(line)
	var l labels
	if !ok || !eachLabel(s.labels, l.set) {
		d.refused[refusedSyntax]++
		return
	}
	group := d.group(&l)
	if group.kind == "" {
		return
	}
	d.take(group, wanted, s, &l)
}

func (l *labels) set(name, value []byte) {
	switch string(name) {
	case "id":
		l.id = value
	case "container":
		l.container = value
	case "namespace":
		l.namespace = value
	case "pod":
		l.pod = value
	case "cpu":
		l.cpu = value
	case "device":
		l.device = value
	case "interface":
		l.wire = value
	}
}

// group is the cgroup that a line speaks of, reset at its first line in a body.
func (d *decoder) group(l *labels) *cgroup {
	group, ok := d.cgroups[string(l.id)]
	if !ok {
		id := string(l.id)
		group = &cgroup{cgroupPath: parseCgroup(id), id: id}
		d.cgroups[id] = group
	}
	if group.seen != d.body {
		group.seen = d.body
		group.start = time.Time{}
		group.moments = group.moments[:0]
		group.interfaces = group.interfaces[:0]
	}
	keep(&group.namespace, l.namespace)
	keep(&group.pod, l.pod)
	keep(&group.container, l.container)
	return group
}

// keep sets text to value, without an allocation when it is so already.
func keep(text *string, value []byte) {
	if len(value) > 0 && *text != string(value) {
		*text = string(value)
	}
}

func (d *decoder) take(group *cgroup, wanted metric, s sample, l *labels) {
	value, ok := parseDecimal(s.value, wanted.shift)
	if !ok {
		d.refused[refusedValue]++
		return
	}
	if wanted.start {
		if value.whole > 0 {
			group.start = time.Unix(0, value.whole).UTC()
		}
		return
	}
	if !s.timed || s.timestamp <= 0 {
		d.refused[refusedTimestamp]++
		return
	}
	if !group.counts(wanted.quantity, l) {
		return
	}
	at := group.moment(s.timestamp)
	if wanted.half {
		if value.whole == 0 {
			at.zeros++
		}
		return
	}
	if !at.put(wanted.quantity, value, l.cpu) {
		d.refused[refusedValue]++
		return
	}
	d.newest = max(d.newest, s.timestamp)
}

// counts says whether a line is a part of what its cgroup is metered by.
//
// Network: at the root those interfaces that nic.Counts; at a pod's sandbox
// all but lo. Disk: the block devices, not the mappings above them, which count
// the same bytes again. Filesystem: at the root the space used on block
// devices, so no tmpfs and no overlay; at a container its own.
func (g *cgroup) counts(quantity reading.Quantity, l *labels) bool {
	switch quantity {
	case reading.NetworkReceive, reading.NetworkTransmit:
		if g.kind == reading.Node {
			g.saw(quantity, l.wire)
			return nic.Counts(string(l.wire))
		}
		if (g.kind == reading.Pod || g.sandbox()) && string(l.wire) != "lo" {
			g.saw(quantity, l.wire)
			return true
		}
		return false
	case reading.DiskRead, reading.DiskWrite:
		return !isMapping(l.device)
	case reading.Filesystem:
		if g.kind == reading.Node {
			return bytes.HasPrefix(l.device, []byte("/dev/")) && !bytes.HasPrefix(l.device, []byte("/dev/shm")) &&
				!bytes.HasPrefix(l.device, []byte("/dev/loop"))
		}
		return g.kind == reading.Container && !g.sandbox()
	}
	return true
}

// sandbox says whether the cgroup holds a pod's pause container: it has no
// container name, and it is the one that has the pod's network.
func (g *cgroup) sandbox() bool {
	return g.kind == reading.Container && (g.container == "" || g.container == "POD")
}

func (g *cgroup) saw(quantity reading.Quantity, name []byte) {
	if quantity == reading.NetworkReceive {
		g.interfaces = append(g.interfaces, string(name))
	}
}

// isMapping says whether a block device stands above another one.
func isMapping(device []byte) bool {
	for _, prefix := range []string{"/dev/dm-", "/dev/mapper/", "/dev/md", "/dev/loop", "/dev/ram", "/dev/zram"} {
		if bytes.HasPrefix(device, []byte(prefix)) {
			return true
		}
	}
	return false
}

// unused gives a moment the CPU counter that cAdvisor leaves out while it is
// zero: what the group's first pod uses is growth from there.
func (m *moment) unused() {
	if m.zeros == 2 {
		m.has[reading.CPU] = true
	}
}

// moment is the cgroup's moment of that time, made when it is new.
func (g *cgroup) moment(timestamp int64) *moment {
	for i := range g.moments {
		if g.moments[i].timestamp == timestamp {
			return &g.moments[i]
		}
	}
	g.moments = append(g.moments, moment{timestamp: timestamp})
	return &g.moments[len(g.moments)-1]
}

// put adds a value to the moment; false when the sum does not fit. The cores'
// lines of the CPU counter are summed unless cpu="total" is there.
func (m *moment) put(quantity reading.Quantity, value decimal, cpu []byte) bool {
	total := len(cpu) == 0 || string(cpu) == "total"
	switch {
	case quantity == reading.CPU && total, quantity == reading.Memory:
		m.total = m.total || quantity == reading.CPU
	case quantity == reading.CPU && m.total:
		return true
	default:
		sum, ok := m.values[quantity].add(value)
		if !ok {
			return false
		}
		value = sum
	}
	m.values[quantity], m.has[quantity] = value, true
	return true
}
