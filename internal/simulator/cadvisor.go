package simulator

import (
	"bytes"
	"strconv"
	"time"
)

// family is one metric of a kubelet's /metrics/cadvisor.
type family struct {
	name, help, kind string
	line             func(*text, *sample)
}

var families = []family{
	{"container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", "counter", func(w *text, one *sample) {
		w.sample(one, `cpu="total",`, "", float64(one.cpu)/1e9, one.time)
	}},
	{"container_fs_usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", "gauge", func(w *text, one *sample) {
		switch {
		case one.kind == rootCgroup: // the same disk once more below an overlay, and a tmpfs, as on a real node
			w.sample(one, `device="/dev/shm",`, "", 0, one.time)
			w.sample(one, `device="/dev/vda",`, "", float64(one.filesystem), one.time)
			w.sample(one, `device="/run",`, "", 548864, one.time)
			w.sample(one, `device="overlay_0-50",`, "", float64(one.filesystem), one.time)
		case one.container != nil && one.container.Filesystem != (Wave{}):
			w.sample(one, `device="/dev/vda",`, "", float64(one.filesystem), one.time)
		}
	}},
	{"container_last_seen", "Last time a container was seen by the exporter", "gauge", func(w *text, one *sample) {
		w.sample(one, "", "", float64(w.now.Unix()), w.now)
	}},
	{"container_memory_working_set_bytes", "Current working set in bytes.", "gauge", func(w *text, one *sample) {
		w.sample(one, "", "", float64(one.memory), one.time)
	}},
	{"container_network_receive_bytes_total", "Cumulative count of bytes received", "counter", func(w *text, one *sample) {
		w.network(one, float64(one.receive))
	}},
	{"container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", "counter", func(w *text, one *sample) {
		w.network(one, float64(one.transmit))
	}},
	{"container_spec_cpu_quota", "CPU quota of the container.", "gauge", func(w *text, one *sample) {
		if one.container != nil && one.container.LimitMillicores > 0 {
			w.sample(one, "", "", float64(one.container.LimitMillicores*100), time.Time{})
		}
	}},
	{"container_spec_memory_limit_bytes", "Memory limit for the container.", "gauge", func(w *text, one *sample) {
		if one.container != nil {
			w.sample(one, "", "", float64(one.container.LimitMemoryBytes), time.Time{})
		}
	}},
	{"container_start_time_seconds", "Start time of the container since unix epoch in seconds.", "gauge", func(w *text, one *sample) {
		w.sample(one, "", "", float64(one.epoch.Add(w.offset).Unix()), time.Time{})
	}},
}

// text writes a body on a node's own clock.
type text struct {
	bytes.Buffer
	name   string
	now    time.Time
	offset time.Duration
}

// cadvisor is the samples in the Prometheus text format, on a clock that is
// off by offset.
func cadvisor(n *Node, bootID string, samples []sample, now time.Time, offset time.Duration) []byte {
	w := &text{now: now, offset: offset}
	for _, f := range families {
		w.name = f.name
		w.WriteString("# HELP " + f.name + " " + f.help + "\n# TYPE " + f.name + " " + f.kind + "\n")
		for at := range samples {
			f.line(w, &samples[at])
		}
	}
	machine := `{boot_id="` + bootID + `",machine_id="",system_uuid=""} `
	w.WriteString("# HELP machine_cpu_cores Number of logical CPU cores.\n# TYPE machine_cpu_cores gauge\n")
	w.WriteString("machine_cpu_cores" + machine + strconv.Itoa(n.Cores) + "\n")
	w.WriteString("# HELP machine_memory_bytes Amount of memory installed on the machine.\n# TYPE machine_memory_bytes gauge\n")
	w.WriteString("machine_memory_bytes" + machine + format(float64(n.MemoryBytes)) + "\n")
	return w.Bytes()
}

// sample writes one line; before and between are labels in their place of the
// alphabet. A zero time writes no timestamp.
func (w *text) sample(one *sample, before, between string, value float64, at time.Time) {
	container, pod, namespace := "", "", ""
	if one.container != nil {
		container = one.container.Name
	}
	if one.instance.pod != nil {
		pod, namespace = one.instance.Name, one.instance.Namespace
	}
	w.WriteString(w.name + `{container="` + container + `",` + before + `id="` + one.id + `",image="` + one.image + `",` + between +
		`name="` + one.hash + `",namespace="` + namespace + `",pod="` + pod + `"} ` + format(value))
	if !at.IsZero() {
		w.WriteString(" " + strconv.FormatInt(at.Add(w.offset).UnixMilli(), 10))
	}
	w.WriteByte('\n')
}

func (w *text) network(one *sample, value float64) {
	if one.kind == rootCgroup || one.kind == sandboxCgroup {
		w.sample(one, "", `interface="eth0",`, value, one.time)
	}
}

func format(value float64) string { return strconv.FormatFloat(value, 'g', -1, 64) }
