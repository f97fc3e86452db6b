package books

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

// The rule of outliers: of a resource in a namespace, a day is one that differs from
// the median of the days by more than outlierFactor times their scaled median
// absolute deviation (1.4826 · MAD estimates the standard deviation of a normal
// distribution: Rousseeuw and Croux 1993), and by more than outlierShare of the
// median, among at least outlierDays days.
const (
	outlierFactor = 5.0
	outlierScale  = 1.4826
	outlierShare  = 0.2
	outlierDays   = 7
	outlierLook   = 28 * 24 * time.Hour // before the period's end
	maxOutliers   = 200
)

// Variance is how a sum differs from that of the month before.
type Variance struct {
	Name     string `json:"name"`
	Before   string `json:"before"` // cost
	Now      string `json:"now"`
	Change   string `json:"change"`
	Percent  string `json:"percent"` // of before; "" where that is 0
	Currency string `json:"currency"`
}

// Outlier is a day that is not as the others.
type Outlier struct {
	Day       string `json:"day"` // local date
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace"`
	Resource  string `json:"resource"`
	Quantity  string `json:"quantity"`
	Median    string `json:"median"`
	Unit      string `json:"unit"`
	// Deviations is by how many scaled median absolute deviations it differs; "∞"
	// where all other days are the same.
	Deviations string `json:"deviations"`
}

// Review is what somebody looks at before a period is approved.
type Review struct {
	Draft
	Previous   string     `json:"previous,omitempty"` // the period compared with; "" is none
	Resources  []Variance `json:"resources"`
	Namespaces []Variance `json:"namespaces"` // CLUSTER/NAMESPACE
	Outliers   []Outlier  `json:"outliers"`
	Rule       string     `json:"outlierRule"`
	// NotJudged are the namespaces that have been there for too few days to say which of
	// them is not as the others: CLUSTER/NAMESPACE since DATE.
	NotJudged []string `json:"notJudged,omitempty"`
}

// outlierRule is the rule in words.
var outlierRule = fmt.Sprintf("a day of the last %d that differs from the median of at least %d days by more than %g times their scaled median absolute deviation (%g · MAD) and by more than %g %% of the median; of each namespace from its first day on",
	int(outlierLook/(24*time.Hour)), outlierDays, outlierFactor, outlierScale, outlierShare*100)

// Look is a review of a period's draft. It changes nothing.
func (b *Books) Look(ctx context.Context, customer, period string) (Review, error) {
	c, _, d, err := b.in(ctx, customer, period, StateDraft, StateReview, StateApproved, StateClosed)
	if err != nil {
		return Review{}, err
	}
	return b.look(ctx, c, d)
}

func (b *Books) look(ctx context.Context, c Calendar, d Draft) (Review, error) {
	d.Preview = b.preview(c)
	r := Review{Draft: d, Resources: []Variance{}, Namespaces: []Variance{}, Outliers: []Outlier{}, Rule: outlierRule}
	if d.State != StateClosed {
		now, err := b.compute(ctx, c)
		if err != nil {
			return r, err
		}
		r.Outdated = now.Fingerprint != d.Fingerprint
	}
	before, err := b.linesOf(ctx, c.Customer, neighbour(c.Period, -1))
	if err != nil {
		return r, err
	}
	if len(before) > 0 {
		r.Previous = neighbour(c.Period, -1)
	}
	byResource := func(l Line, add func(name, cost string) error) error { return add(l.Resource, l.Cost) }
	if r.Resources, err = variances(before, d.Lines, byResource); err != nil {
		return r, err
	}
	byNamespace := func(l Line, add func(name, cost string) error) error {
		for _, s := range l.Shares {
			if err := add(s.Cluster+"/"+s.Namespace, s.Cost); err != nil {
				return err
			}
		}
		return nil
	}
	if r.Namespaces, err = variances(before, d.Lines, byNamespace); err != nil {
		return r, err
	}
	r.Outliers, r.NotJudged, err = b.outliers(ctx, c)
	return r, err
}

// preview says of a period that goes on that what is shown is one; "" of others.
func (b *Books) preview(c Calendar) string {
	if !b.now().Before(c.To) {
		return ""
	}
	return fmt.Sprintf("the period runs until %s; not for approval", c.To.Format(time.RFC3339))
}

// Review moves a draft to review, by whom: of a period that has ended. Errors: ErrState.
func (b *Books) Review(ctx context.Context, customer, period, by string) (Review, error) {
	by, err := named(by)
	if err != nil {
		return Review{}, err
	}
	c, p, d, err := b.in(ctx, customer, period, StateDraft, StateReview)
	if err != nil {
		return Review{}, err
	}
	if err := b.hasEnded(c); err != nil {
		return Review{}, err
	}
	r, err := b.look(ctx, c, d)
	if err != nil {
		return r, err
	}
	if r.Outdated {
		return r, &Error{Kind: ErrState, Text: fmt.Sprintf("facts of period %s of %s have changed since it was drafted", period, customer),
			Hint: fmt.Sprintf("Draft it again: accumulus books draft --customer %s --period %s", customer, period)}
	}
	one := d.Period
	one.State, one.Reviewed = StateReview, b.done(ctx, by)
	r.Draft.Period = one
	return r, b.put(ctx, p, one, registry.BookAction{By: by, Action: "review", Detail: plural.Of(len(r.Outliers), "outlier", "outliers")})
}

// linesOf are the lines that a period has: closed, else drafted; none where it has
// neither. Corrections of other periods are left out.
func (b *Books) linesOf(ctx context.Context, customer, period string) ([]Line, error) {
	p, err := b.registry.BookPeriod(ctx, customer, period)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	one, err := periodOf(p)
	if err != nil {
		return nil, err
	}
	var lines []Line
	if one.State == StateClosed {
		lines, err = b.closedLines(ctx, customer, period)
	} else {
		var d Draft
		d, err = unpackDraft(p, one)
		lines = d.Lines
	}
	return slices.DeleteFunc(lines, func(l Line) bool { return l.ChargePeriod != period }), err
}

// closedLines are the lines of a closed period's statement.
func (b *Books) closedLines(ctx context.Context, customer, period string) ([]Line, error) {
	var lines []Line
	err := b.registry.BookLines(ctx, customer, period, func(link registry.BookLine) error {
		var line Line
		if err := json.Unmarshal([]byte(link.Text), &line); err != nil {
			return fmt.Errorf("line %s: %w", lineID(customer, link.Seq), err)
		}
		lines = append(lines, line)
		return nil
	})
	return lines, err
}

// variances compare sums by name, the largest change first.
func variances(before, now []Line, each func(l Line, add func(name, cost string) error) error) ([]Variance, error) {
	sums := make(map[string]*Variance)
	for i, lines := range [][]Line{before, now} {
		for _, l := range lines {
			err := each(l, func(name, cost string) error {
				v := sums[name]
				if v == nil {
					v = &Variance{Name: name, Before: "0", Now: "0", Currency: l.Currency}
					sums[name] = v
				}
				into := []*string{&v.Before, &v.Now}[i]
				var err error
				*into, err = plus(*into, cost)
				return err
			})
			if err != nil {
				return nil, err
			}
		}
	}
	all := make([]Variance, 0, len(sums))
	for _, v := range sums {
		var err error
		if v.Change, err = minus(v.Now, v.Before); err != nil {
			return nil, err
		}
		v.Percent = percent(v.Change, v.Before)
		all = append(all, *v)
	}
	size := func(v Variance) float64 { f, _ := strconv.ParseFloat(v.Change, 64); return math.Abs(f) }
	slices.SortFunc(all, func(a, b Variance) int { return cmp.Or(cmp.Compare(size(b), size(a)), strings.Compare(a.Name, b.Name)) })
	return all, nil
}

func percent(change, of string) string {
	c, ok := new(big.Rat).SetString(change)
	o, also := new(big.Rat).SetString(of)
	if !ok || !also || o.Sign() == 0 {
		return ""
	}
	return c.Mul(c.Quo(c, o.Abs(o)), big.NewRat(100, 1)).FloatString(1)
}

// series is a resource of a namespace, day by day.
type series struct{ cluster, namespace, resource string }

// outliers are the period's days that are not as the others, by the rule, and the
// namespaces that are too new for it.
func (b *Books) outliers(ctx context.Context, c Calendar) ([]Outlier, []string, error) {
	values := make(map[series]map[int64]int64)
	since := make(map[series]time.Time) // first day of a namespace; its resource is ""
	var days []schema.Window
	w := schema.Window{From: schema.Earlier(c.From, c.To.Add(-outlierLook)), To: c.To}
	err := b.registry.BookDays(ctx, c.Customer, w, false, func(d registry.BookDay) error {
		s, err := unpackSheet(d.Cells)
		if err != nil {
			return err
		}
		if !slices.Contains(days, d.Window) {
			days = append(days, d.Window)
		}
		for i := range s.Groups {
			g := &s.Groups[i]
			of := series{cluster: d.Cluster, namespace: g.Namespace}
			if first, known := since[of]; !known || d.Window.From.Before(first) {
				since[of] = d.Window.From
			}
			for resource, quantity := range g.Quantities {
				of.resource = string(resource)
				if values[of] == nil {
					values[of] = make(map[int64]int64)
				}
				values[of][d.Window.From.Unix()] += quantity // for people: a sum that wraps shows as one
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	slices.SortFunc(days, func(x, y schema.Window) int { return x.From.Compare(y.From) })
	from := func(of series) []schema.Window {
		of.resource = ""
		first := slices.IndexFunc(days, func(day schema.Window) bool { return !day.From.Before(since[of]) })
		return days[first:]
	}
	found := []Outlier{}
	sizes := make(map[Outlier]float64)
	for id, byDay := range values {
		for o, size := range outliersOf(c, id, byDay, from(id)) {
			sizes[o] = size
			found = append(found, o)
		}
	}
	var young []string
	for of, first := range since {
		if len(from(of)) < outlierDays {
			young = append(young, fmt.Sprintf("%s/%s since %s", of.cluster, of.namespace, c.date(schema.Window{From: first})))
		}
	}
	slices.Sort(young)
	slices.SortFunc(found, func(x, y Outlier) int {
		return cmp.Or(cmp.Compare(sizes[y], sizes[x]), strings.Compare(x.Day, y.Day), strings.Compare(x.Cluster, y.Cluster), strings.Compare(x.Namespace, y.Namespace), strings.Compare(x.Resource, y.Resource))
	})
	return found[:min(len(found), maxOutliers)], young, nil
}

// outliersOf are those of a resource of a namespace on the days since it is there, each
// with by how much it differs.
func outliersOf(c Calendar, id series, byDay map[int64]int64, days []schema.Window) map[Outlier]float64 {
	rates := make([]float64, len(days)) // per hour: days have 23 to 25
	for i, day := range days {
		rates[i] = float64(byDay[day.From.Unix()]) / day.Length().Hours()
	}
	found := make(map[Outlier]float64)
	median, deviations := outlying(rates)
	resource := processors.Resource(id.resource)
	for i, deviation := range deviations {
		if deviation == 0 || !c.Contains(days[i].From) || resource.Base() == 0 {
			continue
		}
		shown := func(perHour float64) string {
			return strconv.FormatFloat(perHour*days[i].Length().Hours()/float64(resource.Base()), 'f', 3, 64)
		}
		o := Outlier{Day: c.date(days[i]), Cluster: id.cluster, Namespace: id.namespace, Resource: id.resource, Quantity: shown(rates[i]),
			Median: shown(median), Unit: resource.Unit(), Deviations: "∞"}
		if !math.IsInf(deviation, 0) {
			o.Deviations = strconv.FormatFloat(deviation, 'f', 1, 64)
		}
		found[o] = math.Abs(deviation)
	}
	return found
}

// outlying is the median of values and, of each that is an outlier, by how many
// scaled median absolute deviations it differs; 0 of the others.
func outlying(values []float64) (median float64, deviations []float64) {
	deviations = make([]float64, len(values))
	if len(values) < outlierDays {
		return 0, deviations
	}
	median = middle(values)
	distances := make([]float64, len(values))
	for i, v := range values {
		distances[i] = math.Abs(v - median)
	}
	scale := outlierScale * middle(distances)
	for i, v := range values {
		if distances[i] > outlierFactor*scale && distances[i] > outlierShare*math.Abs(median) {
			deviations[i] = (v - median) / scale // infinite where all others are the same
		}
	}
	return median, deviations
}

func middle(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	if n%2 == 1 {
		return s[n/2]
	}
	return (s[n/2-1] + s[n/2]) / 2
}
