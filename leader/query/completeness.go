package query

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// maxCompleteness bounds the parts of an answer about completeness.
const maxCompleteness = 400 * 24 * time.Hour

// atOnce is how much of a long window is compared at once: memory for a month.
const atOnce = 31 * 24 * time.Hour

// Totals are sums over the tables of minutes, in node-windows; Refused and
// Unexplained are in rows.
type Totals struct {
	Expected int   `json:"expected"`
	Received int   `json:"received"`
	Audited  int   `json:"audited"`
	Rated    int   `json:"rated"`
	Refused  int64 `json:"refused"` // of all tables
	Missing  int   `json:"missing"` // Expected - Received
	// Unexplained are rows of all tables that only the centre has, and that no
	// change of the follower's store can have left there.
	Unexplained int64 `json:"unexplained"`
}

func (t *Totals) add(part registry.Completeness) {
	t.Refused, t.Unexplained = t.Refused+part.Refused, t.Unexplained+part.Unexplained
	if part.ExpectedBy == "" { // a table of events
		return
	}
	t.Expected, t.Received = t.Expected+part.Expected, t.Received+part.Received
	t.Audited, t.Rated = t.Audited+part.Audited, t.Rated+part.Rated
	t.Missing = t.Expected - t.Received
}

// Complete says whether nothing is missing, no row was refused, and none may
// count twice.
func (t Totals) Complete() bool { return t.Missing == 0 && t.Refused == 0 && t.Unexplained == 0 }

// Ratio is received by expected with four decimals, rounded down: "1.0000" is
// complete and nothing else is. It is "" where nothing is expected.
func (t Totals) Ratio() string {
	switch {
	case t.Expected == 0 && t.Refused == 0 && t.Unexplained == 0:
		return ""
	case t.Complete():
		return "1.0000"
	}
	parts := 9999
	if t.Expected > 0 {
		parts = min(parts, t.Received*10000/t.Expected)
	}
	return strconv.FormatFloat(float64(parts)/10000, 'f', 4, 64)
}

// Completeness is what arrived of a cluster.
type Completeness struct {
	Cluster  string     `json:"cluster"`
	From     time.Time  `json:"from"`
	To       time.Time  `json:"to"`
	Settled  *time.Time `json:"settled"`
	Totals   `json:"totals"`
	Complete bool                    `json:"complete"` // nothing is missing, no row was refused, none may count twice
	Eras     []registry.Era          `json:"eras,omitempty"`
	Quarters []registry.Completeness `json:"quarters"` // by table and quarter, or folded day
}

// Gap is one of a cluster's, of one or of several tables.
type Gap struct {
	Cluster string   `json:"cluster"`
	Tables  []string `json:"tables"`
	registry.Gap
}

// String is the gap in a line, without its cluster.
func (g Gap) String() string {
	of := "all nodes"
	if g.Node != "" {
		of = "node " + g.Node
	}
	text := fmt.Sprintf("%s to %s, %s, %s: %s", usage.HumanTime(g.From), usage.HumanTime(g.To), strings.Join(g.Tables, " "), of, g.Reason)
	if g.Message != "" {
		text += " (" + g.Message + ")"
	}
	return text
}

// Gaps are those of a cluster's parts, in the order of time. What a quarter's end
// cut is put together, and so are tables that lack the same.
func Gaps(cluster string, parts []registry.Completeness) []Gap {
	var all []Gap
	for _, part := range parts {
		for _, gap := range part.Missing {
			all = append(all, Gap{cluster, []string{part.Table}, gap})
		}
	}
	return joinGaps(all)
}

// joinGaps puts gaps together that touch, and then those of several tables.
func joinGaps(all []Gap) []Gap {
	slices.SortStableFunc(all, func(a, b Gap) int {
		return cmp.Or(slices.Compare(a.Tables, b.Tables), strings.Compare(a.Node, b.Node), strings.Compare(string(a.Reason), string(b.Reason)),
			strings.Compare(a.Message, b.Message), a.From.Compare(b.From))
	})
	var joined []Gap
	for _, gap := range all {
		if last := len(joined) - 1; last >= 0 && slices.Equal(joined[last].Tables, gap.Tables) && joined[last].To.Equal(gap.From) && alike(joined[last], gap) {
			joined[last].To, joined[last].Windows = gap.To, joined[last].Windows+gap.Windows
			continue
		}
		joined = append(joined, gap)
	}
	slices.SortStableFunc(joined, func(a, b Gap) int {
		return cmp.Or(a.From.Compare(b.From), a.To.Compare(b.To), strings.Compare(a.Node, b.Node), strings.Compare(string(a.Reason), string(b.Reason)),
			strings.Compare(a.Message, b.Message))
	})
	gaps := []Gap{}
	for _, gap := range joined {
		if last := len(gaps) - 1; last >= 0 && gaps[last].From.Equal(gap.From) && gaps[last].To.Equal(gap.To) && alike(gaps[last], gap) {
			gaps[last].Tables = append(slices.Clone(gaps[last].Tables), gap.Tables...)
			gaps[last].Windows += gap.Windows
			continue
		}
		gaps = append(gaps, gap)
	}
	return gaps
}

// alike says whether two gaps lack the same for the same reason.
func alike(a, b Gap) bool {
	return a.Node == b.Node && a.Reason == b.Reason && a.Message == b.Message
}

// Completeness is what arrived of a cluster, against what must exist. Errors:
// *InputError, ErrScope and what the registry says.
func (e *Engine) Completeness(ctx context.Context, cluster, window string) (Completeness, error) {
	if Scoped(ctx) {
		return Completeness{}, fmt.Errorf("completeness of a cluster: %w", ErrScope)
	}
	settled, err := e.settledMinute(ctx, cluster)
	if err != nil {
		return Completeness{}, err
	}
	end := settled
	if end.IsZero() {
		end = e.clock.Now()
	}
	if window == "" {
		window = "24h"
	}
	w, err := usage.ParseWindow(window, end)
	if err != nil {
		return Completeness{}, err
	}
	w = e.past(w)
	if w.Length() > maxCompleteness {
		return Completeness{}, usage.Wrong("window", window, "ask for 400 days at most: the answer has a part for each table and quarter")
	}
	quarters, err := e.registry.Completeness(ctx, cluster, w)
	if err != nil {
		return Completeness{}, fmt.Errorf("completeness of %s: %w", cluster, err)
	}
	eras, err := e.registry.Eras(ctx, cluster)
	if err != nil {
		return Completeness{}, err
	}
	eras = slices.DeleteFunc(eras, func(era registry.Era) bool { // of what is pushed
		return !slices.ContainsFunc(schema.Pulled, func(t schema.Table) bool { return t.Name == era.Table })
	})
	answer := Completeness{Cluster: cluster, From: w.From, To: w.To, Eras: eras, Quarters: quarters}
	if answer.Quarters == nil {
		answer.Quarters = []registry.Completeness{}
	}
	for _, quarter := range quarters {
		answer.Totals.add(quarter)
	}
	answer.Complete = answer.Totals.Complete()
	if !settled.IsZero() {
		answer.Settled = &settled
	}
	return answer, nil
}

// past is the window without what lies ahead, which is not missing.
func (e *Engine) past(w schema.Window) schema.Window {
	if now := e.clock.Now().UTC().Truncate(schema.Minute); w.To.After(now) && w.From.Before(now) {
		w.To = now
	}
	return w
}

// ClusterCompleteness is a cluster's in a window, in short.
type ClusterCompleteness struct {
	Cluster string `json:"cluster"`
	Totals
	Complete bool   `json:"complete"`
	Ratio    string `json:"completeness"` // received by expected; "1.0000" is complete
}

// String is it in a line.
func (c ClusterCompleteness) String() string {
	text := fmt.Sprintf("%s: %d of %d node-windows are here", c.Cluster, c.Received, c.Expected)
	if c.Refused > 0 {
		text += ", " + plural.Of(c.Refused, "row was refused", "rows were refused")
	}
	if c.Unexplained > 0 {
		text += ", " + plural.Of(c.Unexplained, "row may count twice", "rows may count twice")
	}
	return text
}

// completenessOf is that of each cluster of which something is expected in the
// window, and the gaps of all.
func (e *Engine) completenessOf(ctx context.Context, clusters []string, w schema.Window) ([]ClusterCompleteness, []Gap, error) {
	w = e.past(w)
	found, missing := make([]ClusterCompleteness, len(clusters)), make([][]Gap, len(clusters))
	err := parallel(ctx, len(clusters), func(ctx context.Context, i int) (err error) {
		found[i], missing[i], err = e.completenessIn(ctx, clusters[i], w)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	all, gaps := []ClusterCompleteness{}, []Gap{}
	for i, c := range found {
		if c.Ratio != "" {
			all, gaps = append(all, c), append(gaps, missing[i]...)
		}
	}
	return all, gaps, nil
}

// completenessIn is that of one cluster, whether or not anything is expected of it.
func (e *Engine) completenessIn(ctx context.Context, cluster string, w schema.Window) (ClusterCompleteness, []Gap, error) {
	c := ClusterCompleteness{Cluster: cluster}
	var missing []Gap
	for from := w.From; from.Before(w.To); from = from.Add(atOnce) {
		parts, err := e.registry.Completeness(ctx, cluster, schema.Window{From: from, To: schema.Earlier(from.Add(atOnce), w.To)})
		if err != nil {
			return c, nil, fmt.Errorf("completeness of %s: %w", cluster, err)
		}
		for _, p := range parts {
			c.Totals.add(p)
		}
		missing = joinGaps(append(missing, Gaps(cluster, parts)...))
	}
	c.Complete, c.Ratio = c.Totals.Complete(), c.Totals.Ratio()
	return c, missing, nil
}

// clustersIn are the clusters that were in the fleet at some moment of the
// window, or of which anything was received, by name.
func (e *Engine) clustersIn(ctx context.Context, w schema.Window) ([]string, error) {
	described, err := e.registry.History(ctx, fleet.KindCluster, w)
	if err != nil {
		return nil, fmt.Errorf("read history of clusters: %w", err)
	}
	names, err := e.registry.Known(ctx)
	if err != nil {
		return nil, err
	}
	for _, o := range described {
		names = append(names, o.Name())
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
