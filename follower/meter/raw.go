package meter

import (
	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// rawField names the column of each quantity in raw.
var rawField = [quantities]string{
	reading.CPU:             schema.CPU,
	reading.NetworkReceive:  schema.NetworkReceive,
	reading.NetworkTransmit: schema.NetworkTransmit,
	reading.DiskRead:        schema.DiskRead,
	reading.DiskWrite:       schema.DiskWrite,
	reading.Processor:       schema.ProcessorEnergy,
	reading.Memory:          schema.MemoryWorkingSet,
	reading.Filesystem:      schema.FilesystemUsed,
	reading.Ephemeral:       schema.EphemeralUsed,
}

// row is the sample as a row of raw.
func (x sample) row() influxsync.Point {
	fields := make([]influxsync.FieldValue, 0, 3+quantities)
	fields = append(fields,
		influxsync.FieldValue{Name: schema.ReadingEpoch, Value: influxsync.Int(x.epoch)},
		influxsync.FieldValue{Name: schema.ReadingReceived, Value: influxsync.Int(x.received)},
		influxsync.FieldValue{Name: schema.ReadingShift, Value: influxsync.Int(x.shift)})
	for q, name := range rawField {
		if v, ok := x.values.Get(reading.Quantity(q)); ok {
			fields = append(fields, influxsync.FieldValue{Name: name, Value: influxsync.Int(v)})
		}
	}
	p := influxsync.Point{Table: schema.Raw.Name, Fields: fields, Time: at(x.time), Tags: tagList(
		schema.Container, x.id.Container, schema.Kind, string(x.id.Kind), schema.Namespace, x.id.Namespace,
		schema.Node, x.id.Node, schema.Pod, x.id.Pod, schema.PodUID, x.id.PodUID)}
	p.Sort()
	return p
}

// tagList makes tags of keys and values in turn; empty ones do not exist.
func tagList(pairs ...string) []influxsync.Tag {
	tags := make([]influxsync.Tag, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			tags = append(tags, influxsync.Tag{Key: pairs[i], Value: pairs[i+1]})
		}
	}
	return tags
}

// sampleOf reads a row of raw.
func sampleOf(p influxsync.Point) sample {
	x := sample{time: p.Time.UnixNano(), epoch: p.Int(schema.ReadingEpoch),
		received: p.Int(schema.ReadingReceived), shift: p.Int(schema.ReadingShift),
		id: reading.Series{Kind: reading.Kind(p.Tag(schema.Kind)), Node: p.Tag(schema.Node),
			Namespace: p.Tag(schema.Namespace), Pod: p.Tag(schema.Pod), PodUID: p.Tag(schema.PodUID),
			Container: p.Tag(schema.Container)}}
	for q, name := range rawField {
		if v, ok := p.Field(name); ok {
			x.values.Set(reading.Quantity(q), v.Int())
		}
	}
	return x
}
