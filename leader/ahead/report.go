package ahead

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
)

// ReportQuestion names finished runs: a pod, a Job or its CronJob by name, or all pods
// with a label.
type ReportQuestion struct {
	Name      string // a pod's, a Job's or a CronJob's, also with its kind (Job/nightly-101); or
	Group     string // LABEL=VALUE
	Namespace string // "" is any
	Cluster   string // "" is any
	Window    string // in which the runs ended; "" is 7d
}

// Report is what finished runs used and cost.
type Report struct {
	Name     string    `json:"name"`
	From     time.Time `json:"from"` // of the first run
	To       time.Time `json:"to"`   // of the last run
	Seconds  float64   `json:"seconds"`
	Runs     []RunCost `json:"runs"`
	Total    RunSums   `json:"total"`
	Failed   RunSums   `json:"failed"` // of the runs that failed: what retries cost
	Failures int       `json:"failures"`
	// Turnaround is the time of each run that did not fail, in seconds.
	Turnaround Spread   `json:"turnaroundSeconds"`
	Notes      []string `json:"notes"`
	open       bool     // something of it is provisional
}

// RunCost is one finished pod.
type RunCost struct {
	Cluster   string    `json:"cluster"`
	Namespace string    `json:"namespace"`
	Pod       string    `json:"pod"`
	Workload  string    `json:"workload"`
	Node      string    `json:"node"`
	Start     time.Time `json:"start"`
	End       time.Time `json:"end"`
	ExitCode  int64     `json:"exitCode"`
	Reason    string    `json:"reason,omitempty"`
	Seconds   float64   `json:"seconds"`
	Quality   string    `json:"quality"` // of the quantities: measured or estimated
	RunSums
	failed bool
}

// RunSums is what runs used. Energy, CO2e and cost are null where the run's minutes are
// no longer kept.
type RunSums struct {
	CPUCoreSeconds           usage.Exact `json:"cpuCoreSeconds"`
	MemoryByteSeconds        usage.Exact `json:"memoryByteSeconds"`
	CPURequestCoreSeconds    usage.Exact `json:"cpuRequestCoreSeconds"`
	MemoryRequestByteSeconds usage.Exact `json:"memoryRequestByteSeconds"`
	// CPUEfficiency and MemoryEfficiency are used over requested, null without a request.
	CPUEfficiency    *float64      `json:"cpuEfficiency"`
	MemoryEfficiency *float64      `json:"memoryEfficiency"`
	EnergyJoules     usage.Exact   `json:"energyJoules"`
	CO2eGrams        usage.Exact   `json:"co2eGrams"`
	Cost             []usage.Money `json:"cost"`
	costs            map[string]*big.Rat
}

const nameHint = "name a finished pod, Job or CronJob, or a group as group=LABEL=VALUE; `accumulus usage -a namespace,workload,pod` lists pods"

// mostReported bounds the runs of one report.
const mostReported = 500

// Report is the report of finished runs. Errors: ErrNothing, ErrNoRun,
// *usage.InputError, and those of the engine.
func (d *Desk) Report(ctx context.Context, q ReportQuestion) (Report, error) {
	if (q.Name == "") == (q.Group == "") {
		return Report{}, usage.Wrong("name", q.Name, nameHint)
	}
	end, err := d.settled(ctx)
	if err != nil {
		return Report{}, err
	}
	if q.Window == "" {
		q.Window = "7d"
	}
	w, err := usage.ParseWindow(q.Window, end)
	if err != nil {
		return Report{}, err
	}
	keep, err := d.keeper(ctx, q, w)
	if err != nil {
		return Report{}, err
	}
	found, err := d.runs(ctx, kindPod, w, keep)
	if err != nil {
		return Report{}, err
	}
	if found, err = d.own(ctx, found, run.ofPod, mostReported); err != nil {
		return Report{}, err
	}
	switch {
	case len(found) == 0:
		return Report{}, ErrNoRun
	case len(found) > mostReported:
		return Report{}, usage.Wrong("window", q.Window, fmt.Sprintf("more than %d runs ended in it, which is what a report has at most: ask for a shorter time", mostReported))
	}
	return d.reportOf(ctx, q.Name+q.Group, found)
}

// reportOf is the report of runs, of one at least.
func (d *Desk) reportOf(ctx context.Context, name string, found []run) (Report, error) {
	r := Report{Name: name, Runs: []RunCost{}, Notes: []string{}}
	for _, one := range found {
		if err := r.add(ctx, d, one); err != nil {
			return r, err
		}
	}
	return r.finish(), nil
}

// own are the runs that the caller may be told, one more than most at most: those of
// which all that they used, by a filter, is in his scope. A run whose minutes are not
// kept any more cannot be shown to be his, and is not told to tenants.
func (d *Desk) own(ctx context.Context, found []run, used func(run) []usage.Condition, most int) ([]run, error) {
	if !query.Scoped(ctx) {
		return found, nil
	}
	var own []run
	for _, one := range found {
		whole, err := d.engine.Whole(ctx, one.life(), used(one))
		if err != nil {
			return nil, fmt.Errorf("run %s/%s: %w", one.namespace, one.name, err)
		}
		if whole {
			own = append(own, one)
		}
		if len(own) > most {
			break
		}
	}
	return own, nil
}

// ofPod keeps what the run's pod used.
func (r run) ofPod() []usage.Condition {
	return []usage.Condition{{Key: usage.Cluster, Values: []string{r.cluster}}, {Key: usage.Namespace, Values: []string{r.namespace}}, {Key: usage.Pod, Values: []string{r.name}}}
}

// ErrNoRun is a name of which nothing has finished.
var ErrNoRun = fmt.Errorf("no run of that name ended in that time")

// keeper says which runs a question is of.
func (d *Desk) keeper(ctx context.Context, q ReportQuestion, w schema.Window) (func(run) bool, error) {
	place := func(r run) bool {
		return (q.Namespace == "" || r.namespace == q.Namespace) && (q.Cluster == "" || r.cluster == q.Cluster) && query.MayHold(ctx, r.cluster, r.namespace)
	}
	if q.Name != "" {
		return func(r run) bool { return place(r) && r.named(q.Name) }, nil
	}
	label, value, ok := strings.Cut(q.Group, "=")
	if !ok || label == "" || value == "" {
		return nil, usage.Wrong("group", q.Group, "write it as LABEL=VALUE, for example group=batch=nightly")
	}
	key, err := usage.ParseKey("label:" + label)
	if err != nil {
		return nil, err
	}
	keys := []usage.Key{usage.Cluster, usage.Namespace, usage.Pod}
	all, err := d.engine.Charges(ctx, query.ChargeRequest{Window: w, Aggregate: keys, Filter: []usage.Condition{{Key: key, Values: []string{value}}}})
	if err != nil {
		return nil, fmt.Errorf("pods of the group: %w", err)
	}
	pods := make(map[string]bool, len(all))
	for _, c := range all {
		pods[keyOf(c.Row, keys)] = true
	}
	return func(r run) bool {
		return place(r) && pods["\x00"+r.cluster+"\x00"+r.namespace+"\x00"+r.name]
	}, nil
}

// named says whether the run is the pod of a name, or one of the Job or CronJob of it.
// A kind before the name, as in Job/nightly-101, leaves out what is of another kind.
func (r run) named(name string) bool {
	if kind, only, ok := strings.Cut(name, "/"); ok {
		switch kind {
		case kindPod:
			return r.name == only
		case kindJob:
			return r.workload == name || r.isJobPod(only)
		}
		return r.workload == name
	}
	_, workload, _ := strings.Cut(r.workload, "/")
	return r.name == name || workload == name || r.isJobPod(name)
}

// isJobPod says whether the run is a pod of the named Job: the Job's name and five
// characters that Kubernetes adds, or an index before them.
func (r run) isJobPod(job string) bool {
	rest, ok := strings.CutPrefix(r.name, job+"-")
	if !ok || r.workload == "CronJob/"+job { // those of a CronJob have numbers, too
		return false
	}
	if at := strings.LastIndex(rest, "-"); at >= 0 {
		if strings.Trim(rest[:at], "0123456789") != "" {
			return false
		}
		rest = rest[at+1:]
	}
	kind, _, _ := strings.Cut(r.workload, "/")
	return len(rest) == 5 && (kind == "Job" || kind == "CronJob")
}

// add reads what one run cost.
func (r *Report) add(ctx context.Context, d *Desk, one run) error {
	cost := RunCost{Cluster: one.cluster, Namespace: one.namespace, Pod: one.name, Workload: one.workload, Node: one.node, Start: one.start, End: one.end,
		ExitCode: one.exit, Reason: one.reason, failed: one.failed(), Seconds: one.end.Sub(one.start).Seconds(), Quality: schema.Measured, RunSums: sumsOf(one)}
	if one.estimated {
		cost.Quality = schema.Estimated
	}
	all, err := d.engine.Charges(ctx, query.ChargeRequest{Window: one.life(), Figures: true, Filter: one.ofPod()})
	if err != nil {
		return fmt.Errorf("cost of pod %s/%s: %w", one.namespace, one.name, err)
	}
	for _, c := range all {
		energy, err := c.Row.Sums.Energy()
		if err != nil {
			return err
		}
		cost.EnergyJoules, cost.costs = usage.Joules(energy), costsOf(c)
		r.open = r.open || c.Row.Provisional
		if c.CarbonKnown {
			cost.CO2eGrams = usage.Grams(c.CarbonMicrograms)
		}
	}
	cost.Cost = moneyOf(cost.costs)
	r.Runs = append(r.Runs, cost)
	return nil
}

func sumsOf(one run) RunSums {
	s := RunSums{CPUCoreSeconds: usage.CoreSeconds(one.cpu), MemoryByteSeconds: usage.ByteSeconds(one.memory), CPURequestCoreSeconds: usage.CoreSeconds(one.cpuRequest),
		MemoryRequestByteSeconds: usage.ByteSeconds(one.memoryRequest), EnergyJoules: usage.Unknown, CO2eGrams: usage.Unknown}
	return s.efficient()
}

// efficient fills used over requested.
func (s RunSums) efficient() RunSums {
	share := func(used, requested usage.Exact) *float64 {
		if requested.Float() <= 0 {
			return nil
		}
		v := used.Float() / requested.Float()
		return &v
	}
	s.CPUEfficiency, s.MemoryEfficiency = share(s.CPUCoreSeconds, s.CPURequestCoreSeconds), share(s.MemoryByteSeconds, s.MemoryRequestByteSeconds)
	return s
}

func moneyOf(costs map[string]*big.Rat) []usage.Money {
	if money := usage.Moneys(costs); money != nil {
		return money
	}
	return []usage.Money{}
}

// plus adds another run's sums. What is unknown of one is left out of the sum.
func (s RunSums) plus(o RunSums) RunSums {
	s.CPUCoreSeconds, s.MemoryByteSeconds = s.CPUCoreSeconds.Plus(o.CPUCoreSeconds), s.MemoryByteSeconds.Plus(o.MemoryByteSeconds)
	s.CPURequestCoreSeconds, s.MemoryRequestByteSeconds = s.CPURequestCoreSeconds.Plus(o.CPURequestCoreSeconds), s.MemoryRequestByteSeconds.Plus(o.MemoryRequestByteSeconds)
	s.EnergyJoules, s.CO2eGrams = s.EnergyJoules.Plus(o.EnergyJoules), s.CO2eGrams.Plus(o.CO2eGrams)
	sum := plusCosts(s.costs, o.costs)
	s.costs, s.Cost = sum, moneyOf(sum)
	return s.efficient()
}

// noSums are those of no run.
func noSums() RunSums {
	return RunSums{EnergyJoules: usage.Unknown, CO2eGrams: usage.Unknown, Cost: []usage.Money{}}
}

// finish adds the runs up.
func (r Report) finish() Report {
	r.Total, r.Failed, r.From, r.To = noSums(), noSums(), r.Runs[0].Start, r.Runs[0].End
	var times []float64
	gone := 0
	for _, one := range r.Runs {
		r.Total = r.Total.plus(one.RunSums)
		if one.failed {
			r.Failures++
			r.Failed = r.Failed.plus(one.RunSums)
		} else {
			times = append(times, one.Seconds)
		}
		if !one.EnergyJoules.Known() {
			gone++
		}
		r.From, r.To = schema.Earlier(r.From, one.Start), schema.Later(r.To, one.End)
	}
	r.Seconds, r.Turnaround = r.To.Sub(r.From).Seconds(), spread(times)
	if gone > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("the minutes of %d runs are not kept any more: their energy, CO2e and cost are not in the sums", gone))
	}
	if r.open {
		r.Notes = append(r.Notes, "some energy and cost is provisional: readings of meters are still to come")
	}
	if slices.ContainsFunc(r.Runs, func(one RunCost) bool { return one.Quality == schema.Estimated }) {
		r.Notes = append(r.Notes, "some quantities are estimated: readings are missing")
	}
	return r
}
