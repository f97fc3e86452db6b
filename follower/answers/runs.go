package answers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/follower/facts"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
)

// Run is one finished pod or Job with its exact totals. A Job's are the sums of
// its pods': who adds runs up takes one kind.
type Run struct {
	Kind      string `json:"kind"` // Pod or Job
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	Node      string `json:"node,omitempty"`
	Workload  string `json:"workload"` // "Job/nightly"

	Start    time.Time `json:"start"`
	End      time.Time `json:"end"`
	ExitCode int64     `json:"exitCode"`
	Reason   string    `json:"reason"`

	CPUCoreSeconds           usage.Exact `json:"cpuCoreSeconds"`
	MemoryByteSeconds        usage.Exact `json:"memoryByteSeconds"`
	NetworkReceiveBytes      usage.Exact `json:"networkReceiveBytes"`
	NetworkTransmitBytes     usage.Exact `json:"networkTransmitBytes"`
	CPURequestCoreSeconds    usage.Exact `json:"cpuRequestCoreSeconds"`
	MemoryRequestByteSeconds usage.Exact `json:"memoryRequestByteSeconds"`
	PodSeconds               usage.Exact `json:"podSeconds"`
	Quality                  string      `json:"quality"` // measured, or estimated where readings are missing
}

// RunKeys are what runs can be filtered by; pod is the name of a pod's run.
var RunKeys = []usage.Key{usage.Cluster, usage.Namespace, usage.Workload, usage.Pod, usage.Node}

// Runs are the pods and Jobs that ended in the window, the last one first, of
// one kind ("Pod", "Job") or of both for "". Errors: those of Usage.
func (e *Engine) Runs(ctx context.Context, request usage.Request, kind string, sight Sight) (Page[Run], error) {
	if err := checkRuns(request, kind); err != nil {
		return Page[Run]{}, err
	}
	seen, err := e.scope(ctx, sight, request, []schema.Table{schema.Run})
	if err != nil {
		return Page[Run]{}, err
	}
	w, settled, err := e.window(request)
	if err != nil {
		return Page[Run]{}, err
	}
	t := &tally{engine: e, request: request, window: w, settled: settled, scope: seen}
	if t.asOf, err = e.AsOf(ctx); err != nil {
		return Page[Run]{}, err
	}
	runs, err := t.runs(ctx, kind)
	if err != nil {
		return Page[Run]{}, err
	}
	page := Page[Run]{From: w.From, To: w.To, Settled: settled, Aggregate: []usage.Key{}, Total: len(runs), Marks: t.marks()}
	page.Rows, page.Next, err = usage.Cut(runs, request, e.config.PageRows)
	return page, err
}

func checkRuns(request usage.Request, kind string) error {
	if err := check(request); err != nil {
		return err
	}
	if kind != "" && kind != watch.KindPod && kind != watch.KindJob {
		return usage.Wrong("kind", kind, "use Pod or Job")
	}
	if len(request.Aggregate) > 0 || request.Step != 0 || request.Sort != "" {
		return usage.Wrong("aggregate", usage.KeyList(request.Aggregate), "runs are listed one by one, the last one first: leave out aggregate, step and sort")
	}
	for _, c := range request.Filter {
		if !slices.Contains(RunKeys, c.Key) {
			return usage.Wrong("filter", string(c.Key), "runs are filtered by "+usage.KeyList(RunKeys))
		}
	}
	return nil
}

func (t *tally) runs(ctx context.Context, kind string) ([]Run, error) {
	where := t.where()
	if kind != "" {
		where = append(where, influxsync.Condition{Tag: schema.Kind, Value: kind})
	}
	runs := []Run{}
	err := t.engine.store.Database(schema.FactsDB).TimeQuery(ctx, schema.Run.Name, t.window, where, func(p influxsync.Point) error {
		reason, _ := p.Field("reason")
		run := t.engine.run(p)
		if reason.Str() == facts.Superseded || !t.scope.sees(p.Tag(schema.Namespace)) || !t.keeps(run) {
			return nil
		}
		if len(runs) >= t.engine.config.MaxRows {
			return usage.Wrong("window", t.request.Window, fmt.Sprintf("more than %d runs ended in it: filter, or ask for a shorter window", t.engine.config.MaxRows))
		}
		runs = append(runs, run)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", schema.Run.Name, err)
	}
	slices.SortFunc(runs, func(a, b Run) int {
		return cmp.Or(b.End.Compare(a.End), strings.Compare(a.Kind+"\x00"+a.Namespace+"\x00"+a.Name+"\x00"+a.UID, b.Kind+"\x00"+b.Namespace+"\x00"+b.Name+"\x00"+b.UID))
	})
	return runs, nil
}

func (t *tally) keeps(run Run) bool {
	for _, c := range t.request.Filter {
		value := map[usage.Key]string{usage.Cluster: t.engine.config.Cluster, usage.Namespace: run.Namespace,
			usage.Workload: run.Workload, usage.Pod: run.Name, usage.Node: run.Node}[c.Key]
		if !c.Keeps(value) {
			return false
		}
	}
	return true
}

func (e *Engine) run(p influxsync.Point) Run {
	name := e.names.Resolve
	reason, _ := p.Field("reason")
	quality, _ := p.Field(schema.Quality)
	run := Run{Kind: p.Tag(schema.Kind), Namespace: name(p.Tag(schema.Namespace)), Name: name(p.Tag("name")), UID: p.Tag("uid"),
		Node: name(p.Tag(schema.Node)), Workload: workloadOf(p, name),
		Start: time.Unix(0, p.Int("start")).UTC(), End: time.Unix(0, p.Int("end")).UTC(), ExitCode: p.Int("exit_code"), Reason: reason.Str(),
		CPUCoreSeconds: usage.CoreSeconds(p.Int(schema.CPU)), MemoryByteSeconds: usage.ByteSeconds(p.Int(schema.Memory)),
		NetworkReceiveBytes: usage.Whole(p.Int(schema.NetworkReceive)), NetworkTransmitBytes: usage.Whole(p.Int(schema.NetworkTransmit)),
		CPURequestCoreSeconds: usage.CoreSeconds(p.Int(schema.CPURequest)), MemoryRequestByteSeconds: usage.ByteSeconds(p.Int(schema.MemoryRequest)),
		PodSeconds: usage.Seconds(p.Int(schema.Uptime)), Quality: quality.Str()}
	return run
}
