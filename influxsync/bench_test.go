package influxsync_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/bench"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// podRows is a minute of 2,000 pods with every tag and field of the table.
func podRows(window schema.Window) []influxsync.Point {
	rows := make([]influxsync.Point, 2000)
	for i := range rows {
		tags := map[string]string{schema.Cluster: "edge", schema.Node: fmt.Sprint("node-", i%40), schema.Namespace: fmt.Sprint("team-", i%25),
			schema.Pod: fmt.Sprintf("service-%d-6d4cf56db6-%05x", i%300, i), schema.PodUID: fmt.Sprintf("%08x-79c5-4c2e-9d3f-0123456789ab", i),
			schema.Box: "box-1", schema.CPUType: "epyc-7302", schema.RAMType: "ddr4", schema.DiskType: "nvme",
			schema.WorkloadKind: "Deployment", schema.Workload: fmt.Sprint("service-", i%300), schema.NetworkClass: "unclassified"}
		fields := make(map[string]influxsync.Value)
		for f, name := range schema.PodMinute.Integers() {
			fields[name] = influxsync.Int(int64(i)*int64(f)*977 + window.From.Unix()%1000)
		}
		rows[i] = influxsync.NewPoint("pod", tags, fields, window.From)
	}
	return rows
}

func settleMinutes(b *testing.B, db *influxsync.Database, j *influxsync.Journal, from, to int) {
	b.Helper()
	for i := from; i < to; i++ {
		rows := podRows(minute(i))
		e := influxsync.Entry{Window: minute(i), Rows: int64(len(rows))}
		for _, row := range rows {
			e.Digest.Add(row)
		}
		if err := db.Write(b.Context(), rows); err != nil {
			b.Fatal(err)
		}
		if _, err := j.Append(b.Context(), e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	db := create(b, embeddedServer(b), "minute")
	i := 0
	cpu := bench.Start(b)
	for b.Loop() {
		if err := db.Write(b.Context(), podRows(minute(i))); err != nil {
			b.Fatal(err)
		}
		i++
	}
	cpu.Per(i*2000, "row")
}

// BenchmarkRead reads as the copying does, a cursor for each series and field, or
// flat: the shorter the window, the more that saves.
func BenchmarkRead(b *testing.B) {
	db := create(b, embeddedServer(b), "minute")
	for i := range 60 {
		if err := db.Write(b.Context(), podRows(minute(i))); err != nil {
			b.Fatal(err)
		}
	}
	for _, minutes := range []int{1, 5, 15, 30, 60} {
		for _, way := range []string{"grouped", "flat"} {
			b.Run(fmt.Sprint(minutes, "min/", way), func(b *testing.B) {
				n := 0
				cpu := bench.Start(b)
				for b.Loop() {
					w := schema.Window{From: start, To: start.Add(time.Duration(minutes) * time.Minute)}
					rows, err := influxsync.CountRows(b.Context(), db, schema.PodMinute, w, way == "flat")
					if err != nil {
						b.Fatal(err)
					}
					n += rows
				}
				cpu.Per(n, "row")
			})
		}
	}
}

// BenchmarkCopy is the baseline of BenchmarkSync: the same rows read from the
// one database and written to the other, with no journal, no digest, and no
// second look at what arrived.
func BenchmarkCopy(b *testing.B) {
	const minutes = 30
	s := embeddedServer(b)
	source, sink := create(b, s, "source"), create(b, s, "sink")
	for i := range minutes {
		if err := source.Write(b.Context(), podRows(minute(i))); err != nil {
			b.Fatal(err)
		}
	}
	rows := 0
	cpu := bench.Start(b)
	for b.Loop() {
		var batch []influxsync.Point
		flush := func() {
			if err := sink.Write(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
			rows += len(batch)
			batch = batch[:0]
		}
		w := schema.Window{From: start, To: start.Add(minutes * time.Minute)}
		err := source.TimeQuery(b.Context(), "pod", w, nil, func(p influxsync.Point) error {
			p.Tags, p.Fields = slices.Clone(p.Tags), slices.Clone(p.Fields)
			if batch = append(batch, p); len(batch) == 5000 {
				flush()
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		flush()
	}
	cpu.Per(rows, "row")
}

// BenchmarkSync copies one minute at a time, as a tick does, and then hours.
func BenchmarkSync(b *testing.B) {
	for _, minutes := range []int{1, 30} {
		b.Run(fmt.Sprint(minutes, "min"), func(b *testing.B) {
			s := embeddedServer(b)
			source, sink := create(b, s, "source"), create(b, s, "sink")
			j, err := influxsync.OpenJournal(b.Context(), source, "edge", schema.PodMinute, clock.NewManual(start))
			if err != nil {
				b.Fatal(err)
			}
			settleMinutes(b, source, j, 0, 30)
			var mark influxsync.Mark
			rows := 0
			cpu := bench.Start(b)
			for b.Loop() {
				result, err := influxsync.Sync(b.Context(), influxsync.SyncRequest{Source: source, Sink: sink, Table: schema.PodMinute,
					Cluster: "edge", Mark: mark, Limit: minutes})
				if err != nil {
					b.Fatal(err)
				}
				if mark = result.Mark; !result.More {
					mark = influxsync.Mark{}
				}
				rows += result.Rows
			}
			cpu.Per(rows, "row")
		})
	}
}

// BenchmarkOpenJournal reads 30 days of minutes.
func BenchmarkOpenJournal(b *testing.B) {
	db, clk := create(b, embeddedServer(b), "minute"), clock.NewManual(start)
	j := openJournal(b, db, clk)
	for day := range 30 {
		entries := make([]influxsync.Entry, 1440)
		for i := range entries {
			entries[i] = influxsync.Entry{Window: minute(day*1440 + i), Rows: 2000, Reason: "settled"}
		}
		if _, err := j.Append(b.Context(), entries...); err != nil {
			b.Fatal(err)
		}
	}
	opened := 0
	cpu := bench.Start(b)
	for b.Loop() {
		j = openJournal(b, db, clk)
		opened++
	}
	cpu.Per(opened*30*1440, "window")
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	kept := openJournal(b, db, clk)
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-min(before.HeapAlloc, after.HeapAlloc))/(30*1440), "B/window")
	runtime.KeepAlive(kept)
	runtime.KeepAlive(j)
}
