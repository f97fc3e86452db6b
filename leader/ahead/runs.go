package ahead

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Facts hold the finished runs: the centre's facts database.
type Facts interface {
	TimeQuery(ctx context.Context, table string, w schema.Window, where []influxsync.Condition, each func(influxsync.Point) error) error
}

// The kinds of runs, and some of their reasons: of one that another replaced, of a pod
// that did its work, and of one that was deleted before anybody saw its end.
const (
	kindPod    = "Pod"
	kindJob    = "Job"
	superseded = "superseded"
	completed  = "Completed"
	deleted    = "Deleted"
)

// run is a finished pod or Job; quantities in stored units.
type run struct {
	kind, cluster, namespace, name, uid, node, workload string // workload: "CronJob/nightly"
	start, end                                          time.Time
	exit                                                int64
	reason                                              string
	estimated                                           bool
	cpu, memory, cpuRequest, memoryRequest              int64
}

// failed says whether the run did not do what it was started for. A pod may have no
// exit code though it failed, as when its node was lost.
func (r run) failed() bool {
	return r.exit != 0 || r.kind == kindPod && !slices.Contains([]string{"", completed, deleted}, r.reason)
}

func (r run) took() time.Duration { return r.end.Sub(r.start) }

// life is the minutes in which it ran.
func (r run) life() schema.Window {
	return schema.Window{From: r.start.UTC().Truncate(schema.Minute), To: schema.WindowAt(r.end.Add(-1), schema.Minute).To}
}

// mostRuns bounds how many runs one question may read.
const mostRuns = 100_000

// runs are the finished runs of a kind that ended in the window and that keep keeps,
// the oldest first.
func (d *Desk) runs(ctx context.Context, kind string, w schema.Window, keep func(run) bool) ([]run, error) {
	var all []run
	err := d.facts.TimeQuery(ctx, schema.Run.Name, w, []influxsync.Condition{{Tag: schema.Kind, Value: kind}}, func(p influxsync.Point) error {
		one := runOf(p)
		if one.reason == superseded || one.start.Unix() <= 0 || !one.end.After(one.start) || !keep(one) {
			return nil
		}
		if len(all) == mostRuns {
			return fmt.Errorf("more than %d runs ended from %s to %s: ask for a shorter time", mostRuns, w.From.Format(time.RFC3339), w.To.Format(time.RFC3339))
		}
		all = append(all, one)
		return nil
	})
	slices.SortFunc(all, func(a, b run) int {
		return cmp.Or(a.end.Compare(b.end), strings.Compare(a.cluster+"\x00"+a.namespace+"\x00"+a.name, b.cluster+"\x00"+b.namespace+"\x00"+b.name))
	})
	return all, err
}

func runOf(p influxsync.Point) run {
	reason, _ := p.Field("reason")
	quality, _ := p.Field(schema.Quality)
	one := run{kind: p.Tag(schema.Kind), cluster: p.Tag(schema.Cluster), namespace: p.Tag(schema.Namespace), name: p.Tag("name"), uid: p.Tag("uid"), node: p.Tag(schema.Node),
		start: time.Unix(0, p.Int("start")).UTC(), end: time.Unix(0, p.Int("end")).UTC(), exit: p.Int("exit_code"), reason: reason.Str(), estimated: quality.Str() != schema.Measured,
		cpu: p.Int(schema.CPU), memory: p.Int(schema.Memory), cpuRequest: p.Int(schema.CPURequest), memoryRequest: p.Int(schema.MemoryRequest)}
	if name := p.Tag(schema.Workload); name != "" {
		one.workload = p.Tag(schema.WorkloadKind) + "/" + name
	}
	return one
}

// Spread is quantiles of what was seen, null where nothing was.
type Spread struct {
	P10 *float64 `json:"p10"`
	P50 *float64 `json:"p50"`
	P90 *float64 `json:"p90"`
}

// spread are the empirical quantiles, each a value that was seen.
func spread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	at := func(q float64) *float64 {
		v := sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
		return &v
	}
	return Spread{P10: at(0.1), P50: at(0.5), P90: at(0.9)}
}
