package main

import (
	"fmt"
	"math/rand"
	"slices"
	"strconv"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// cluster is the tag of every row.
const cluster = "c1"

// began is the first window of every data set. A day is one shard.
var began = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

// dataset is what one database of the source holds.
type dataset struct {
	name    string
	minutes int
	tables  []*table
}

// table is one row per series and minute: a random walk per field.
type table struct {
	schema.Table
	minutes int
	tags    [][]influxsync.Tag // per series, in the order of the engine's answer
	keys    []string           // per series, as line protocol has them
	values  []float64          // [series][minute][field]
}

// narrow are tables of two fields for each pod and one of ten for each node, as
// a monitoring agent writes them.
func narrow(name string, pods, minutes int) dataset {
	tables := []schema.Table{
		{Name: "pod_cpu", Fields: []schema.Field{{Name: "request", Type: schema.Float}, {Name: "usage", Type: schema.Float}}},
		{Name: "pod_mem", Fields: []schema.Field{{Name: "request"}, {Name: "used"}}},
		{Name: "pod_net", Fields: []schema.Field{{Name: "rx"}, {Name: "tx"}}},
		{Name: "pod_fs", Fields: []schema.Field{{Name: "limit"}, {Name: "used"}}},
		{Name: "node", Fields: []schema.Field{{Name: "cpu", Type: schema.Float}, {Name: "disk"}, {Name: "fan"},
			{Name: "gpu", Type: schema.Float}, {Name: "load", Type: schema.Float}, {Name: "mem"},
			{Name: "power", Type: schema.Float}, {Name: "rx"}, {Name: "temp", Type: schema.Float}, {Name: "tx"}}},
	}
	set := dataset{name: name, minutes: minutes}
	for _, t := range tables {
		t.Grain = schema.Minute
		r := rand.New(rand.NewSource(42))
		var series []map[string]string
		if t.Name == "node" {
			t.Tags = []string{schema.Cluster, schema.Node, "rack"}
			for i := range nodes(pods) {
				series = append(series, map[string]string{schema.Cluster: cluster, schema.Node: nodeName(i), "rack": fmt.Sprintf("r%02d", i/10)})
			}
		} else {
			t.Tags = []string{schema.Cluster, schema.Namespace, schema.Node, schema.Pod, schema.Workload}
			for i := range pods {
				workload := fmt.Sprintf("svc-%02d-%08x", i%40, r.Uint32())
				series = append(series, map[string]string{schema.Cluster: cluster, schema.Namespace: fmt.Sprintf("team-%02d", i%40),
					schema.Node: nodeName(i % nodes(pods)), schema.Pod: fmt.Sprintf("%s-%05x", workload, r.Intn(1<<20)), schema.Workload: workload})
			}
		}
		set.tables = append(set.tables, newTable(t, series, minutes, r))
	}
	return set
}

// wide is the project's own table of pods, with every tag and field.
func wide(name string, pods, minutes int) dataset {
	t := schema.PodMinute
	t.Fields = slices.Clone(t.Fields)
	slices.SortFunc(t.Fields, func(a, b schema.Field) int { return compare(a.Name, b.Name) })
	r := rand.New(rand.NewSource(43))
	var series []map[string]string
	for i := range pods {
		workload := fmt.Sprintf("service-%03d", i%300)
		series = append(series, map[string]string{schema.Cluster: cluster, schema.Node: nodeName(i % nodes(pods)),
			schema.Namespace: fmt.Sprintf("team-%02d", i%25), schema.Pod: fmt.Sprintf("%s-%08x-%05x", workload, r.Uint32(), r.Intn(1<<20)),
			schema.PodUID: fmt.Sprintf("%08x-79c5-4c2e-9d3f-0123456789ab", i), schema.Box: fmt.Sprintf("box-%02d", i%10),
			schema.CPUType: "epyc-7302", schema.RAMType: "ddr4", schema.DiskType: "nvme", schema.WorkloadKind: "Deployment",
			schema.Workload: workload, schema.NetworkClass: schema.Unclassified})
	}
	return dataset{name: name, minutes: minutes, tables: []*table{newTable(t, series, minutes, r)}}
}

func nodes(pods int) int { return max(1, pods/20) }

func nodeName(i int) string { return fmt.Sprintf("node-%03d.example.internal", i) }

func newTable(description schema.Table, series []map[string]string, minutes int, r *rand.Rand) *table {
	t := &table{Table: description, minutes: minutes}
	for _, tags := range series {
		t.tags = append(t.tags, influxsync.NewPoint(t.Name, tags, nil, began).Tags)
	}
	slices.SortFunc(t.tags, func(a, b []influxsync.Tag) int {
		return slices.CompareFunc(a, b, func(a, b influxsync.Tag) int { return compare(a.Value, b.Value) })
	})
	for _, tags := range t.tags {
		key := t.Name
		for _, tag := range tags {
			key += "," + tag.Key + "=" + tag.Value
		}
		t.keys = append(t.keys, key)
	}
	fields := len(t.Fields)
	t.values = make([]float64, len(series)*minutes*fields)
	for s := range series {
		for f := range fields {
			v := r.Float64() * 4
			for m := range minutes {
				v += (r.Float64() - 0.5) * 0.1
				t.values[(s*minutes+m)*fields+f] = v
			}
		}
	}
	return t
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func minuteAt(m int) time.Time { return began.Add(time.Duration(m) * time.Minute) }

// window is the minutes [from, to).
func window(from, to int) schema.Window { return schema.Window{From: minuteAt(from), To: minuteAt(to)} }

// integer and float are the stored value of a field of one row.
func (t *table) integer(series, minute, field int) int64 {
	return int64(t.values[(series*t.minutes+minute)*len(t.Fields)+field] * 1e9)
}

func (t *table) float(series, minute, field int) float64 {
	return float64(int64(t.values[(series*t.minutes+minute)*len(t.Fields)+field]*1e6)) / 1e6
}

func (t *table) appendLine(line []byte, series, minute int) []byte {
	line = append(line, t.keys[series]...)
	separator := byte(' ')
	for f, field := range t.Fields {
		line = append(append(append(line, separator), field.Name...), '=')
		separator = ','
		if field.Type == schema.Integer {
			line = append(strconv.AppendInt(line, t.integer(series, minute, f), 10), 'i')
		} else {
			line = strconv.AppendFloat(line, t.float(series, minute, f), 'g', -1, 64)
		}
	}
	line = strconv.AppendInt(append(line, ' '), minuteAt(minute).UnixNano(), 10)
	return append(line, '\n')
}

// point puts the row into p, whose fields are used again.
func (t *table) point(p *influxsync.Point, series, minute int) {
	p.Table, p.Tags, p.Time, p.Fields = t.Name, t.tags[series], minuteAt(minute), p.Fields[:0]
	for f, field := range t.Fields {
		value := influxsync.Float(t.float(series, minute, f))
		if field.Type == schema.Integer {
			value = influxsync.Int(t.integer(series, minute, f))
		}
		p.Fields = append(p.Fields, influxsync.FieldValue{Name: field.Name, Value: value})
	}
}

// entry is what a journal says of a minute.
func (t *table) entry(minute int) influxsync.Entry {
	e := influxsync.Entry{Window: window(minute, minute+1), Rows: int64(len(t.keys)), Coverage: 1000, Reason: "settled"}
	var p influxsync.Point
	for s := range t.keys {
		t.point(&p, s, minute)
		e.Digest.Add(p)
	}
	return e
}

// rows are those of the minutes [from, to) in all tables.
func (d dataset) rows(from, to int) int {
	n := 0
	for _, t := range d.tables {
		n += len(t.keys) * (to - from)
	}
	return n
}
