package ahead

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
	"golang.org/x/sync/errgroup"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// Estimate is what a run of a job is expected to take and to cost.
type Estimate struct {
	Workload  string `json:"workload"`
	Namespace string `json:"namespace"`
	// Basis is runs where earlier runs of the workload are known, requests where its
	// requests and the duration that was given count, unknown where neither is there.
	Basis    string            `json:"basis"`
	Runs     int               `json:"runs"`
	Seconds  Spread            `json:"seconds"`
	Hardware []HardwareFigures `json:"hardware"` // by type; the cheapest by P50 first
	Starts   []Start           `json:"starts"`   // of the coming day by the hour, on the first of the hardware
	Cheapest *time.Time        `json:"cheapest"` // start; null where all cost the same or nothing is known
	Greenest *time.Time        `json:"greenest"`
	Notes    []string          `json:"notes"`
}

// HardwareFigures are those of one hardware type.
type HardwareFigures struct {
	Hardware string `json:"hardware"` // "" is not known
	// Basis is runs where earlier runs of the workload ran on it, rated where none did
	// and the median run counts at its prices and power, requests without earlier runs.
	Basis string `json:"basis"`
	Runs  int    `json:"runs"`
	// RelativeTime is the median time over that on the type with the most runs: null
	// where no run says how fast it is.
	RelativeTime *float64 `json:"relativeTime"`
	Seconds      Spread   `json:"seconds"`
	Joules       Spread   `json:"energyJoules"`
	Grams        Spread   `json:"co2eGrams"`
	Cost         Spread   `json:"cost"`
	Currency     string   `json:"currency"`
	// Cheapest and Greenest are the best starts of the coming day on it, null where all
	// are the same or nothing is known.
	Cheapest *Start `json:"cheapestStart"`
	Greenest *Start `json:"greenestStart"`
	starts   []Start
}

// Start is an hour in which the run may begin.
type Start struct {
	At    time.Time `json:"at"`
	Cost  *float64  `json:"cost"`      // of the median run at the prices that hold then
	Grams *float64  `json:"co2eGrams"` // at the grid's intensity of that hour of the last day
}

// The bases of estimates and of their figures.
const (
	ByRuns     = "runs"
	ByRating   = "rated"
	ByRequests = "requests"
	ByNothing  = "unknown"
)

// ErrManifest is a text that is no manifest of a Job, Pod or CronJob.
var ErrManifest = errors.New("no manifest of a Job, CronJob or Pod")

// job is what a manifest says.
type job struct {
	kind, name, namespace string
	pods                  int64
	cores                 float64 // requested by a pod
	memory                float64 // bytes
	// deadline is how long the manifest lets it take, 0 is for ever.
	deadline time.Duration
}

// mostDeadline bounds what a deadline says of a job's time.
const mostDeadline = 366 * 24 * time.Hour

// parseJob reads a manifest, YAML or JSON. Errors: ErrManifest.
func parseJob(text []byte) (job, error) {
	var head meta.TypeMeta
	if err := yaml.Unmarshal(text, &head); err != nil {
		return job{}, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	var about meta.ObjectMeta
	var pod core.PodSpec
	pods := int64(1)
	var deadline *int64
	ofJob := func(spec batch.JobSpec) {
		pod, deadline = spec.Template.Spec, spec.ActiveDeadlineSeconds
		if spec.Completions != nil {
			pods = int64(*spec.Completions)
		} else if spec.Parallelism != nil {
			pods = max(1, int64(*spec.Parallelism))
		}
	}
	var err error
	switch head.Kind {
	case "Job":
		var j batch.Job
		err = yaml.UnmarshalStrict(text, &j)
		about = j.ObjectMeta
		ofJob(j.Spec)
	case "CronJob":
		var c batch.CronJob
		err = yaml.UnmarshalStrict(text, &c)
		about = c.ObjectMeta
		ofJob(c.Spec.JobTemplate.Spec)
	case "Pod":
		var p core.Pod
		err = yaml.UnmarshalStrict(text, &p)
		about, pod = p.ObjectMeta, p.Spec
	default:
		return job{}, fmt.Errorf("%w: its kind is %q", ErrManifest, head.Kind)
	}
	if err != nil {
		return job{}, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	j := job{kind: head.Kind, name: about.Name, namespace: about.Namespace, pods: pods}
	if j.name == "" {
		return j, fmt.Errorf("%w: metadata.name is empty", ErrManifest)
	}
	if deadline == nil {
		deadline = pod.ActiveDeadlineSeconds
	}
	if deadline != nil && *deadline > 0 {
		j.deadline = time.Duration(min(*deadline, int64(mostDeadline/time.Second))) * time.Second
	}
	if pods < 0 {
		return j, fmt.Errorf("%w: spec.completions is %d, below 0", ErrManifest, pods)
	}
	for _, c := range pod.Containers {
		if c.Resources.Requests.Cpu().Sign() < 0 || c.Resources.Requests.Memory().Sign() < 0 {
			return j, fmt.Errorf("%w: container %s requests less than nothing", ErrManifest, c.Name)
		}
		j.cores += c.Resources.Requests.Cpu().AsApproximateFloat64()
		j.memory += c.Resources.Requests.Memory().AsApproximateFloat64()
	}
	return j, nil
}

// history of estimates: runs that ended in it count, the latest of them.
const (
	estimateDays = 30
	mostEstimate = 30
)

// executed is an earlier run with what it cost.
type executed struct {
	run
	hardware              string
	joules, grams, cost   float64
	currency              string
	hasCarbon, hasFigures bool
}

// Estimate is what a run of the manifest's job is expected to take and cost. duration,
// where it is above 0, counts where no earlier run is known. Errors: ErrManifest,
// ErrNothing, and those of the engine.
func (d *Desk) Estimate(ctx context.Context, manifest []byte, cluster string, duration time.Duration) (Estimate, error) {
	j, err := parseJob(manifest)
	if err != nil {
		return Estimate{}, err
	}
	if err := d.known(ctx, cluster); err != nil {
		return Estimate{}, err
	}
	end, err := d.settled(ctx)
	if err != nil {
		return Estimate{}, err
	}
	e := Estimate{Workload: j.kind + "/" + j.name, Namespace: j.namespace, Basis: ByRuns, Hardware: []HardwareFigures{}, Starts: []Start{}, Notes: []string{}}
	kind := kindJob
	if j.kind == kindPod {
		kind = kindPod
	}
	found, err := d.runs(ctx, kind, schema.Window{From: end.AddDate(0, 0, -estimateDays), To: end}, func(r run) bool {
		return !r.failed() && (j.namespace == "" || r.namespace == j.namespace) && (cluster == "" || r.cluster == cluster) &&
			(r.workload == e.Workload || r.name == j.name)
	})
	if err != nil {
		return e, err
	}
	found = found[max(0, len(found)-mostEstimate):]
	if e.Runs = len(found); e.Runs == 0 {
		return d.byRequests(ctx, e, j, cluster, duration, end)
	}
	all, seconds, day := make([]executed, len(found)), make([]float64, len(found)), lastDay{}
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(atATime)
	group.Go(func() (err error) {
		day.power, day.present, err = d.present(within, cluster, end, true)
		return err
	})
	group.Go(func() (err error) {
		day.intensity, err = d.intensities(within, median(found).cluster, end)
		return err
	})
	for i, one := range found {
		group.Go(func() (err error) {
			all[i], err = d.execution(within, one)
			seconds[i] = one.took().Seconds()
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return e, err
	}
	e.Seconds = spread(seconds)
	e.Hardware = byHardware(all)
	return d.elsewhere(ctx, e, all, day, end)
}

// atATime bounds the readings of one estimate that run beside each other.
const atATime = 3

// lastDay is what an estimate by runs knows of the last day.
type lastDay struct {
	power     powers
	present   []query.Charges
	intensity map[int]float64 // grams per joule by the hour, in the cluster of the median run
}

// conditions keep the pods of a run.
func (r run) conditions() []usage.Condition {
	all := []usage.Condition{{Key: usage.Cluster, Values: []string{r.cluster}}, {Key: usage.Namespace, Values: []string{r.namespace}}}
	if r.workload != "" {
		all = append(all, usage.Condition{Key: usage.Workload, Values: []string{r.workload}})
	}
	if r.kind == kindPod {
		return append(all, usage.Condition{Key: usage.Pod, Values: []string{r.name}})
	}
	return append(all, usage.Condition{Key: usage.Pod, Values: []string{r.name + "-*"}})
}

// execution is a run with its energy and cost; its hardware is "" where it was on
// several.
func (d *Desk) execution(ctx context.Context, one run) (executed, error) {
	x := executed{run: one}
	all, err := d.engine.Charges(ctx, query.ChargeRequest{Window: one.life(), Aggregate: []usage.Key{usage.Hardware}, Filter: one.conditions(), Figures: true})
	if err != nil {
		return x, fmt.Errorf("cost of %s/%s: %w", one.namespace, one.name, err)
	}
	x.hasCarbon, x.hasFigures = len(all) > 0, len(all) > 0
	for _, c := range all {
		energy, err := c.Row.Sums.Energy()
		if err != nil {
			return x, err
		}
		x.joules += usage.Joules(energy).Float()
		x.grams += usage.Grams(c.CarbonMicrograms).Float()
		x.hasCarbon = x.hasCarbon && c.CarbonKnown
		if len(all) == 1 {
			x.hardware = c.Row.Key[string(usage.Hardware)]
		}
		x.cost, x.currency = onlyCost(c, x.cost, x.currency)
	}
	return x, nil
}

// onlyCost adds the cost of charges in the one currency that counts.
func onlyCost(c query.Charges, cost float64, currency string) (float64, string) {
	for _, money := range usage.Moneys(costsOf(c)) {
		if currency == "" || currency == money.Currency {
			v, _ := costsOf(c)[money.Currency].Float64()
			cost, currency = cost+v, money.Currency
		}
	}
	return cost, currency
}

// byHardware are the figures by hardware type, the cheapest first.
func byHardware(all []executed) []HardwareFigures {
	of := make(map[string][]executed)
	for _, x := range all {
		of[x.hardware] = append(of[x.hardware], x)
	}
	list := []HardwareFigures{}
	for hardware, some := range of {
		var seconds, joules, grams, cost []float64
		f := HardwareFigures{Hardware: hardware, Basis: ByRuns, Runs: len(some)}
		for _, x := range some {
			seconds = append(seconds, x.end.Sub(x.start).Seconds())
			if x.hasFigures {
				joules = append(joules, x.joules)
			}
			if x.hasCarbon {
				grams = append(grams, x.grams)
			}
			if x.currency != "" {
				cost, f.Currency = append(cost, x.cost), x.currency
			}
		}
		f.Seconds, f.Joules, f.Grams, f.Cost = spread(seconds), spread(joules), spread(grams), spread(cost)
		list = append(list, f)
	}
	cheapestFirst(list)
	most := list[0]
	for _, f := range list {
		if f.Runs > most.Runs {
			most = f
		}
	}
	for i, f := range list {
		if f.Hardware != "" && most.Hardware != "" {
			relative := *f.Seconds.P50 / *most.Seconds.P50
			list[i].RelativeTime = &relative
		}
	}
	return list
}

// cheapestFirst sorts by P50 of the cost, what has none last.
func cheapestFirst(list []HardwareFigures) {
	slices.SortFunc(list, func(a, b HardwareFigures) int {
		x, y := a.Cost.P50, b.Cost.P50
		switch {
		case x != nil && y != nil && *x != *y:
			return cmp.Compare(*x, *y)
		case x == nil && y != nil:
			return 1
		case x != nil && y == nil:
			return -1
		}
		return strings.Compare(a.Hardware, b.Hardware)
	})
}

// intensities are grams per joule by the hour of the day, of the last settled day.
func (d *Desk) intensities(ctx context.Context, cluster string, end time.Time) (map[int]float64, error) {
	to := end.Truncate(time.Hour)
	all, err := d.engine.Charges(ctx, query.ChargeRequest{Window: schema.Window{From: to.Add(-24 * time.Hour), To: to}, Step: time.Hour, Figures: true, Brief: true, Filter: inCluster(cluster)})
	if err != nil {
		return nil, fmt.Errorf("intensity of %s: %w", cluster, err)
	}
	of := make(map[int]float64)
	for _, c := range all {
		if energy, err := c.Row.Sums.Energy(); err == nil && energy > 0 && c.CarbonKnown {
			of[c.Row.From.Hour()] = usage.Grams(c.CarbonMicrograms).Float() / usage.Joules(energy).Float()
		}
	}
	return of, nil
}

// emitted is what energy that is spread evenly stands for.
func emitted(intensity map[int]float64, at time.Time, length time.Duration, joules float64) (float64, bool) {
	grams := 0.0
	for from := at; from.Before(at.Add(length)); {
		to := schema.Earlier(from.Truncate(time.Hour).Add(time.Hour), at.Add(length))
		of, known := intensity[from.UTC().Hour()]
		if !known {
			return 0, false
		}
		grams += of * joules * to.Sub(from).Seconds() / length.Seconds()
		from = to
	}
	return grams, true
}

// least is the first start with the least figure, nil where all have the same.
func least(starts []Start, of func(Start) *float64) *Start {
	var best *Start
	differ := false
	for i, s := range starts {
		v := of(s)
		if v == nil {
			return nil
		}
		if best == nil {
			best = &starts[i]
			continue
		}
		// Less than a billionth is how floats were added.
		if math.Abs(*v-*of(*best)) <= 1e-9*math.Abs(*of(*best)) {
			continue
		}
		if differ = true; *v < *of(*best) {
			best = &starts[i]
		}
	}
	if !differ {
		return nil
	}
	return best
}
