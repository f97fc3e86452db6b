package ahead

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors/forecast"
)

// JobQuestion names a Job that runs.
type JobQuestion struct {
	Name        string
	Namespace   string // "" is any
	Cluster     string // "" is any
	Completions int    // how many pods must succeed; 0 is as earlier runs of its workload
}

// JobForecast is when a Job that runs will be done, and what it will have cost.
type JobForecast struct {
	Cluster     string    `json:"cluster"`
	Namespace   string    `json:"namespace"`
	Name        string    `json:"name"`
	Workload    string    `json:"workload"`
	Settled     time.Time `json:"settled"` // the forecast goes on from here
	Start       time.Time `json:"start"`   // of its first pod
	Completions int       `json:"completions"`
	// CompletionsBasis is given, or runs where earlier runs of the workload say how many.
	CompletionsBasis string `json:"completionsBasis"`
	Succeeded        int    `json:"succeeded"`
	Failed           int    `json:"failed"`
	Running          int    `json:"running"`
	// Turnaround is the time of each pod that succeeded, in seconds: of this Job and, with
	// fewer than nine, of earlier runs of its workload; Pods is how many.
	Turnaround  Spread      `json:"turnaroundSeconds"`
	Pods        int         `json:"pods"`
	Stated      float64     `json:"statedCoverage"` // what p10 to p90 claim
	End         Moments     `json:"end"`
	Costs       []EndedCost `json:"costs"` // by currency
	Assumptions []string    `json:"assumptions"`
}

// Moments are quantiles of when something happens: p10 is early. They are null where
// that is not known.
type Moments struct {
	P10 *time.Time `json:"p10"`
	P50 *time.Time `json:"p50"`
	P90 *time.Time `json:"p90"`
}

// EndedCost is the cost of the whole run in a currency.
type EndedCost struct {
	Currency string  `json:"currency"`
	SoFar    string  `json:"soFar"`
	P10      *string `json:"p10"`
	P50      string  `json:"p50"`
	P90      *string `json:"p90"`
}

// Errors of forecasts of Jobs.
var (
	ErrNotRunning  = fmt.Errorf("no pod of a Job of that name runs")
	ErrCompletions = fmt.Errorf("how many of its pods must succeed is not known: no earlier run of its workload has ended well")
)

// life looked at of a Job that runs: from when its pods may be is not known before.
var lookBacks = []time.Duration{2 * time.Hour, 24 * time.Hour, 14 * 24 * time.Hour}

// podOfJob is a pod of a Job that runs.
type podOfJob struct {
	run
	ended bool
}

// ForecastJob says when a Job will be done, by how many of its pods have succeeded and
// how long they took, and what it will have cost then. Errors: ErrNothing, ErrNotRunning,
// ErrCompletions, *usage.InputError, and those of the engine.
func (d *Desk) ForecastJob(ctx context.Context, q JobQuestion) (JobForecast, error) {
	if q.Name == "" || strings.ContainsAny(q.Name, "*/,") || q.Completions < 0 {
		return JobForecast{}, usage.Wrong("name", q.Name, "name a Job that runs, such as nightly-28912345; completions is how many of its pods must succeed")
	}
	end, err := d.settled(ctx)
	if err != nil {
		return JobForecast{}, err
	}
	pods, w, err := d.podsOf(ctx, q, end)
	if err != nil {
		return JobForecast{}, err
	}
	f := JobForecast{Name: q.Name, Settled: end, Stated: forecast.Stated, Costs: []EndedCost{}, Assumptions: []string{}}
	p := forecast.Progress{}
	for _, one := range pods {
		if f.Cluster != "" && (one.cluster != f.Cluster || one.namespace != f.Namespace) {
			return f, usage.Wrong("name", q.Name, fmt.Sprintf("it runs as %s/%s and as %s/%s: name the cluster and the namespace", f.Cluster, f.Namespace, one.cluster, one.namespace))
		}
		f.Cluster, f.Namespace, f.Workload = one.cluster, one.namespace, one.workload
		if f.Start.IsZero() || one.start.Before(f.Start) {
			f.Start = one.start
		}
		f.count(one, &p)
	}
	if f.Running == 0 {
		return f, ErrNotRunning
	}
	done, err := d.earlier(ctx, &f, q, &p, end)
	if err != nil {
		return f, err
	}
	f.Turnaround, f.Pods = spread(done), len(done)
	p.Missing = max(f.Running, f.Completions-f.Succeeded)
	p.Slots, p.Gap = slots(pods, end, f.Turnaround.P50)
	finish, ok := p.Finish()
	if !ok {
		f.Assumptions = append(f.Assumptions, "no pod of it, and of no earlier run, has succeeded yet: nothing tells how long one takes")
		return f, nil
	}
	f.Assumptions = append(f.Assumptions, fmt.Sprintf("%d pods go on running at a time, each %.0f s after the one before it", p.Slots, p.Gap))
	f.End = momentsOf(finish, end)
	return d.costOfJob(ctx, f, finish, pods, w)
}

// count takes a pod of the Job into its progress.
func (f *JobForecast) count(one podOfJob, p *forecast.Progress) {
	seconds := one.end.Sub(one.start).Seconds()
	switch {
	case !one.ended:
		f.Running++
		p.Running = append(p.Running, seconds)
	case one.failed():
		f.Failed++
	default:
		f.Succeeded++
	}
	p.Attempts = append(p.Attempts, forecast.Attempt{Seconds: seconds, OK: one.ended && !one.failed(), Open: !one.ended})
}

// slots is how many pods of a Job ran at a time at most within the last time that one
// takes, and the median of the seconds that lie between the end of one and the start of
// the next: a Job that is looked at between two pods has not fewer slots.
func slots(pods []podOfJob, end time.Time, turnaround *float64) (side int, gap float64) {
	since := end
	if turnaround != nil {
		since = end.Add(-time.Duration(*turnaround * float64(time.Second)))
	}
	var starts, ends []time.Time
	for _, one := range pods {
		starts = append(starts, one.start)
		if one.ended {
			ends = append(ends, one.end)
		}
	}
	slices.SortFunc(starts, time.Time.Compare)
	slices.SortFunc(ends, time.Time.Compare)
	over := 0
	for i, start := range starts { // the most are alive when one of them starts
		at := schema.Later(start, since)
		for over < len(ends) && !ends[over].After(at) {
			over++
		}
		if i+1 == len(starts) || starts[i+1].After(at) {
			side = max(side, i+1-over)
		}
	}
	var gaps []float64
	for i := range ends {
		if side+i < len(starts) {
			gaps = append(gaps, max(0, starts[side+i].Sub(ends[i]).Seconds()))
		}
	}
	if middle := spread(gaps).P50; middle != nil && turnaround != nil {
		gap = min(*middle, *turnaround)
	}
	return side, gap
}

func momentsOf(f forecast.Finish, end time.Time) Moments {
	at := func(seconds float64) *time.Time {
		t := end.Add(time.Duration(seconds * float64(time.Second))).Truncate(time.Second)
		return &t
	}
	m := Moments{P50: at(f.Seconds.P50)}
	if f.Interval {
		m.P10, m.P90 = at(f.Seconds.P10), at(f.Seconds.P90)
	}
	return m
}

// podsOf are the pods of a Job that runs, ended ones and running ones, and the window in
// which they have lived so far.
func (d *Desk) podsOf(ctx context.Context, q JobQuestion, end time.Time) ([]podOfJob, schema.Window, error) {
	keys := []usage.Key{usage.Cluster, usage.Namespace, usage.Workload, usage.Pod}
	filter := []usage.Condition{{Key: usage.Pod, Values: []string{q.Name + "-*"}}}
	for key, value := range map[usage.Key]string{usage.Cluster: q.Cluster, usage.Namespace: q.Namespace} {
		if value != "" {
			filter = append(filter, usage.Condition{Key: key, Values: []string{value}})
		}
	}
	seen := func(w schema.Window) (map[string]query.Charges, error) {
		all, err := d.engine.Charges(ctx, query.ChargeRequest{Window: w, Aggregate: keys, Filter: filter})
		if err != nil {
			return nil, fmt.Errorf("pods of Job %s: %w", q.Name, err)
		}
		of := make(map[string]query.Charges)
		for _, c := range all {
			if one := podIn(c); one.isJobPod(q.Name) {
				of[podKey(one)] = c
			}
		}
		return of, nil
	}
	runs, err := seen(schema.Window{From: end.Add(-5 * time.Minute), To: end})
	if err != nil {
		return nil, schema.Window{}, err
	}
	if len(runs) == 0 {
		return nil, schema.Window{}, ErrNotRunning
	}
	var all map[string]query.Charges
	w := schema.Window{To: end}
	for _, back := range lookBacks {
		w.From = end.Add(-back)
		if all, err = seen(w); err != nil {
			return nil, w, err
		}
		before, err := seen(schema.Window{From: w.From, To: w.From.Add(5 * time.Minute)})
		if err != nil {
			return nil, w, err
		}
		if len(before) == 0 {
			break
		}
	}
	ended, err := d.runs(ctx, kindPod, w, func(r run) bool { return all[podKey(r)].Row.Key != nil })
	if err != nil {
		return nil, w, err
	}
	var pods []podOfJob
	for _, r := range ended {
		pods = append(pods, podOfJob{r, true})
		delete(runs, podKey(r))
	}
	for id := range runs {
		one := podIn(all[id])
		one.end, one.start = end, end.Add(-time.Duration(usage.Seconds(all[id].Row.Sums[usage.Uptime]).Float()*float64(time.Second)))
		pods = append(pods, podOfJob{run: one})
	}
	slices.SortFunc(pods, func(a, b podOfJob) int { return strings.Compare(podKey(a.run), podKey(b.run)) })
	if len(pods) > 0 {
		w.From = slices.MinFunc(pods, func(a, b podOfJob) int { return a.start.Compare(b.start) }).start.Truncate(schema.Minute)
	}
	return pods, w, nil
}

// podIn is the pod that charges are of.
func podIn(c query.Charges) run {
	key := c.Row.Key
	return run{kind: kindPod, cluster: key[string(usage.Cluster)], namespace: key[string(usage.Namespace)], name: key[string(usage.Pod)], workload: key[string(usage.Workload)]}
}

// earlier takes what earlier runs of the workload tell: how many pods must succeed where
// nobody says, and how long they take where too few of this Job have. done are the
// seconds of what succeeded.
func (d *Desk) earlier(ctx context.Context, f *JobForecast, q JobQuestion, p *forecast.Progress, end time.Time) (done []float64, err error) {
	for _, a := range p.Attempts {
		if a.OK {
			done = append(done, a.Seconds)
		}
	}
	f.Completions, f.CompletionsBasis = q.Completions, "given"
	if q.Completions > 0 && len(done) >= fewAttempts {
		return done, nil
	}
	w := schema.Window{From: end.AddDate(0, 0, -estimateDays), To: end}
	mine := func(r run) bool {
		return r.cluster == f.Cluster && r.namespace == f.Namespace && r.workload == f.Workload && !r.isJobPod(q.Name) && r.name != q.Name
	}
	jobs, err := d.runs(ctx, kindJob, w, func(r run) bool { return mine(r) && !r.failed() })
	if err != nil {
		return nil, err
	}
	jobs = jobs[max(0, len(jobs)-mostEstimate):]
	pods, err := d.runs(ctx, kindPod, w, mine)
	if err != nil {
		return nil, err
	}
	var counts []float64
	for _, job := range jobs {
		n := 0.0
		for _, pod := range pods {
			if !pod.failed() && pod.isJobPod(job.name) && !pod.start.Before(job.start) && !pod.start.After(job.end) {
				n++
			}
		}
		counts = append(counts, n)
	}
	if middle := spread(counts).P50; q.Completions == 0 {
		if middle == nil || *middle < 1 {
			return nil, ErrCompletions
		}
		f.Completions, f.CompletionsBasis = int(*middle), ByRuns
		f.Assumptions = append(f.Assumptions, fmt.Sprintf("%s must succeed, as in the median of %s", plural.Of(f.Completions, "pod", "pods"), plural.Of(len(jobs), "earlier run", "earlier runs")))
	}
	if len(done) >= fewAttempts {
		return done, nil
	}
	pods = pods[max(0, len(pods)-mostAttempts):]
	for _, pod := range pods {
		seconds := pod.end.Sub(pod.start).Seconds()
		p.Attempts = append(p.Attempts, forecast.Attempt{Seconds: seconds, OK: !pod.failed()})
		if !pod.failed() {
			done = append(done, seconds)
		}
	}
	if len(pods) > 0 {
		f.Assumptions = append(f.Assumptions, fmt.Sprintf("pods take as long as %d pods of earlier runs did", len(pods)))
	}
	return done, nil
}

// With fewer pods that succeeded earlier runs count too, as many as mostAttempts.
const (
	fewAttempts  = 9
	mostAttempts = 200
)

// costOfJob adds what the Job has cost and what its pods will: by the second what they
// cost so far, at the prices to come.
func (d *Desk) costOfJob(ctx context.Context, f JobForecast, finish forecast.Finish, pods []podOfJob, w schema.Window) (JobForecast, error) {
	seconds := 0.0
	for _, one := range pods {
		seconds += one.end.Sub(one.start).Seconds()
	}
	request := query.ChargeRequest{Window: w, Filter: run{kind: kindJob, cluster: f.Cluster, namespace: f.Namespace, name: f.Name, workload: f.Workload}.conditions()}
	spent, err := d.engine.Charges(ctx, request)
	if err != nil {
		return f, fmt.Errorf("cost of Job %s: %w", f.Name, err)
	}
	request.Moved = true
	coming, assumed, err := d.engine.ChargesAhead(ctx, request, schema.Window{From: w.To, To: w.To.Add(w.Length())})
	if err != nil {
		return f, fmt.Errorf("cost of Job %s ahead: %w", f.Name, err)
	}
	f.Assumptions = append(f.Assumptions, append([]string{"a pod goes on to use by the second what its pods used so far; tiers, fees, minimum charges and discounts of a bill are not in the cost"}, assumed...)...)
	ahead, sofar := sumCosts(coming), sumCosts(spent)
	for _, money := range usage.Moneys(ahead) {
		rate := new(big.Rat).Quo(ahead[money.Currency], new(big.Rat).SetFloat64(max(1, seconds)))
		already := sofar[money.Currency]
		if already == nil {
			already = new(big.Rat)
		}
		total := func(more float64) string {
			cost := new(big.Rat).Mul(rate, new(big.Rat).SetFloat64(more))
			return usage.Decimal(cost.Add(cost, already), money.Currency)
		}
		cost := EndedCost{Currency: money.Currency, SoFar: usage.Decimal(already, money.Currency), P50: total(finish.PodSeconds.P50)}
		if finish.Interval {
			low, high := total(finish.PodSeconds.P10), total(finish.PodSeconds.P90)
			cost.P10, cost.P90 = &low, &high
		}
		f.Costs = append(f.Costs, cost)
	}
	return f, nil
}

// sumCosts are the exact costs of some charges by currency.
func sumCosts(all []query.Charges) map[string]*big.Rat {
	sum := make(map[string]*big.Rat)
	for _, c := range all {
		sum = plusCosts(sum, costsOf(c))
	}
	return sum
}

// plusCosts are two sums of costs together.
func plusCosts(a, b map[string]*big.Rat) map[string]*big.Rat {
	sum := make(map[string]*big.Rat)
	for _, costs := range []map[string]*big.Rat{a, b} {
		for currency, cost := range costs {
			if sum[currency] == nil {
				sum[currency] = new(big.Rat)
			}
			sum[currency].Add(sum[currency], cost)
		}
	}
	return sum
}
