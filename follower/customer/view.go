package customer

import (
	"cmp"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/follower/answers"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
)

// view is what the page shows, in words and figures for people.
type view struct {
	Cluster, Who, Window string
	By                   grouping
	Failure              *Problem

	now       time.Time
	AsOf      answers.AsOf
	Troubles  []Trouble
	Nodes     []nodeLine
	Covers    answers.Covers
	From, To  string
	Notes     []string
	Tiles     []tile
	Lines     []line
	More      int // lines that are not shown
	Runs      []runLine
	RunsTotal int
}

// nodeLine is a node, in the class of what is wrong with it.
type nodeLine struct{ Name, Last, Class, State, Text string }

type tile struct{ Name, Value, Unit, Sub string }

// line is one line of the usage table.
type line struct {
	First, Second, Title string
	Special              bool
	CPU, Memory          string
	Received, Sent       string
	Energy, Cost         string
	Coverage             string
	Share                string // of the largest, in percent, for the bar
	Provisional          bool
}

type runLine struct{ Kind, Namespace, Name, Ended, Took, CPU, Memory, Result string }

// linesShown bounds the page; the API has all of them.
const linesShown = 300

// health takes over how the follower is. Who sees only some namespaces is told
// of no node by name.
func (v *view) health(h Health, all bool) {
	v.now = h.Now
	hidden := 0
	for _, t := range h.Problems {
		if t.Whole && !all {
			hidden++
			continue
		}
		v.Troubles = append(v.Troubles, t)
	}
	if hidden > 0 {
		v.Troubles = append(v.Troubles, Trouble{Text: "The metering of this cluster has a problem.",
			Hint: "It may name nodes and other people's pods: who sees the whole cluster is told which. What is late is metered later."})
	}
	if !all {
		return
	}
	for _, n := range h.Nodes {
		l := nodeLine{n.Name, v.ago(n.Last), "good", "read", strings.Join(n.Problems, "; ")}
		switch {
		case n.Error != "":
			l.Class, l.State, l.Text = "bad", "not read", n.Error
		case l.Text != "":
			l.Class, l.State = "warn", "in part"
		}
		v.Nodes = append(v.Nodes, l)
	}
}

func (v *view) ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return usage.HumanSpan(v.now.Sub(t)) + " ago"
}

// asOf is one part's newest time.
type asOf struct{ Name, Time, Ago string }

func (v *view) asOf() []asOf {
	list := []asOf{}
	for _, of := range []struct {
		name, none string
		at         *time.Time
	}{{"Usage settled to", "no minute has settled yet", v.AsOf.Settled}, {"Energy pushed to", "none was pushed yet", v.AsOf.Energy},
		{"Cost pushed to", "no prices were pushed yet", v.AsOf.Cost}} {
		if of.at == nil {
			list = append(list, asOf{of.name, of.none, ""})
			continue
		}
		list = append(list, asOf{of.name, humanUTC(*of.at), v.ago(*of.at)})
	}
	return list
}

func humanUTC(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") + " UTC" }

// usage takes over the answer: tiles of the whole, lines in the order of cost,
// or of CPU where there is none.
func (v *view) usage(answer answers.UsageAnswer) {
	v.Covers, v.Notes = answer.Covers, answer.Notes
	v.From, v.To = humanUTC(answer.From), humanUTC(answer.To)
	total := sum(answer.Rows)
	v.tiles(answer, total)
	weigh := func(r usage.Row) float64 { return r.CPUCoreSeconds.Float() }
	if len(total.money) == 1 {
		weigh = func(r usage.Row) float64 { return amount(r.Cost) }
	}
	rows := slices.Clone(answer.Rows)
	slices.SortStableFunc(rows, func(a, b usage.Row) int {
		left, right := isSpecial(a), isSpecial(b)
		switch {
		case left != right && left:
			return 1
		case left != right:
			return -1
		}
		return cmp.Compare(weigh(b), weigh(a))
	})
	most := 0.0
	for _, r := range rows {
		most = max(most, weigh(r))
	}
	for i, r := range rows {
		if i == linesShown {
			v.More = len(rows) - i
			break
		}
		v.Lines = append(v.Lines, v.line(r, weigh(r), most))
	}
}

func isSpecial(r usage.Row) bool { return strings.HasPrefix(r.Key[string(usage.Namespace)], "__") }

func amount(cost *string) float64 {
	if cost == nil {
		return 0
	}
	value, err := strconv.ParseFloat(*cost, 64)
	if err != nil {
		return 0
	}
	return value
}

func (v *view) line(r usage.Row, weight, most float64) line {
	l := line{First: r.Key[string(usage.Namespace)], Provisional: r.Provisional,
		CPU: usage.Number(coreHours(r)), Memory: usage.Number(gibHours(r)),
		Received: usage.HumanBytes(r.NetworkReceiveBytes.Float()), Sent: usage.HumanBytes(r.NetworkTransmitBytes.Float()),
		Energy: energyText(r.EnergyJoules), Cost: moneyText(r.Money()), Coverage: usage.Percent(r.Coverage)}
	if r.PodSeconds.Float() == 0 && r.CPUCoreSeconds.Float() == 0 {
		l.Coverage = "–" // energy or cost alone
	}
	if name, meaning := schema.NamespaceWords(l.First); name != "" {
		l.First, l.Title, l.Special = name, meaning, true
	} else if len(v.By.keys) > 1 {
		l.Second = r.Key[string(v.By.keys[1])]
		if l.Second == "" {
			l.Second = "no controller"
		}
	}
	if most > 0 {
		l.Share = strconv.FormatFloat(max(0, 100*weight/most), 'f', 1, 64)
	}
	return l
}

func coreHours(r usage.Row) float64 { return r.CPUCoreSeconds.Float() / 3600 }
func gibHours(r usage.Row) float64  { return r.MemoryByteSeconds.Float() / (1 << 30) / 3600 }

func energyText(joules usage.Exact) string {
	if !joules.Known() {
		return "–"
	}
	return usage.HumanEnergy(joules.Float())
}

func moneyText(money []usage.Money) string {
	var texts []string
	for _, m := range money {
		texts = append(texts, usage.HumanMoney(m.Cost, m.Currency))
	}
	if texts == nil {
		return "–"
	}
	return strings.Join(texts, " + ")
}

// totals are the sums of all rows.
type totals struct {
	usage.Row
	money   []usage.Money
	covered float64 // coverage, weighed with the time alive
}

func sum(rows []usage.Row) totals {
	t := totals{Row: usage.Row{EnergyJoules: usage.Unknown, EnergyMeasuredJoules: usage.Unknown}}
	costs := make(map[string]*big.Rat)
	for _, r := range rows {
		t.CPUCoreSeconds = t.CPUCoreSeconds.Plus(r.CPUCoreSeconds)
		t.MemoryByteSeconds = t.MemoryByteSeconds.Plus(r.MemoryByteSeconds)
		t.NetworkReceiveBytes = t.NetworkReceiveBytes.Plus(r.NetworkReceiveBytes)
		t.NetworkTransmitBytes = t.NetworkTransmitBytes.Plus(r.NetworkTransmitBytes)
		t.EnergyJoules = t.EnergyJoules.Plus(r.EnergyJoules)
		t.EnergyMeasuredJoules = t.EnergyMeasuredJoules.Plus(r.EnergyMeasuredJoules)
		t.PodSeconds = t.PodSeconds.Plus(r.PodSeconds)
		t.covered += r.Coverage * r.PodSeconds.Float()
		for _, m := range r.Money() {
			if costs[m.Currency] == nil {
				costs[m.Currency] = new(big.Rat)
			}
			if value, ok := new(big.Rat).SetString(m.Cost); ok {
				costs[m.Currency].Add(costs[m.Currency], value)
			}
		}
	}
	t.SetCost(costs)
	t.money = t.Money()
	return t
}

func (v *view) tiles(answer answers.UsageAnswer, t totals) {
	hours := answer.To.Sub(answer.From).Hours()
	energy := tile{Name: "Energy", Value: energyText(t.EnergyJoules), Sub: "none was pushed for this window"}
	if joules := t.EnergyJoules.Float(); t.EnergyJoules.Known() {
		energy.Sub = "by the model"
		if joules > 0 {
			energy.Sub = usage.Percent(min(1, max(0, t.EnergyMeasuredJoules.Float()/joules))) + " measured by meters"
		}
	}
	cost := tile{Name: "Cost", Value: moneyText(t.money), Sub: "no prices were pushed"}
	switch {
	case len(t.money) > 0:
		cost.Sub = "showback; not a bill"
	case v.AsOf.Cost != nil:
		cost.Sub = "none was pushed for these rows"
	}
	coverage := tile{Name: "Coverage", Value: "–", Sub: "of the pods' time has readings"}
	if alive := t.PodSeconds.Float(); alive > 0 {
		coverage.Value = usage.Percent(t.covered / alive)
	}
	v.Tiles = []tile{
		{"CPU", usage.Number(coreHours(t.Row)), "core-h", "mean " + usage.Number(coreHours(t.Row)/hours) + " cores"},
		{"Memory", usage.Number(gibHours(t.Row)), "GiB-h", "mean " + usage.Number(gibHours(t.Row)/hours) + " GiB"},
		{Name: "Network", Value: usage.HumanBytes(t.NetworkReceiveBytes.Plus(t.NetworkTransmitBytes).Float()), Sub: "received and sent"},
		energy, cost, coverage,
	}
}

// carbon adds a tile where the grid's intensity of some of the energy is known: the
// location-based figure, and what its intensity is from.
func (v *view) carbon(page answers.CarbonPage) {
	for _, r := range page.Rows {
		if r.LocationGrams.Known() && len(page.Sources) > 0 {
			v.Tiles = append(v.Tiles, tile{Name: "CO2e", Value: usage.HumanGrams(r.LocationGrams.Float()), Sub: "location-based; " + strings.Join(page.Sources, ", ")})
		}
	}
}

func (v *view) runs(page answers.Page[answers.Run]) {
	for _, r := range page.Rows {
		result := r.Reason
		if r.ExitCode != 0 {
			result = strings.TrimSpace(fmt.Sprintf("exit %d %s", r.ExitCode, r.Reason))
		}
		v.Runs = append(v.Runs, runLine{r.Kind, r.Namespace, r.Name, humanUTC(r.End), usage.HumanSpan(r.End.Sub(r.Start)),
			usage.Number(r.CPUCoreSeconds.Float()), usage.Number(r.MemoryByteSeconds.Float() / (1 << 30) / 3600), result})
	}
	v.RunsTotal = page.Total
}

// choice is a link of the page's navigation.
type choice struct {
	Label, Query string
	Chosen       bool
}

func (v *view) query(window, by string) string {
	return "?" + url.Values{"window": {window}, "by": {by}}.Encode()
}

// windowLabels are the windows in words.
var windowLabels = map[string]string{"today": "Today", "1h": "1 h", "24h": "24 h", "yesterday": "Yesterday", "month": "Month", "lastmonth": "Last month"}

// fields are what the template reads.
func (v *view) fields() map[string]any {
	var windows, by []choice
	for _, w := range pageWindows {
		windows = append(windows, choice{windowLabels[w], v.query(w, v.By.Name), w == v.Window})
	}
	for _, g := range groupings {
		by = append(by, choice{g.Label, v.query(v.Window, g.Name), g.Name == v.By.Name})
	}
	second := ""
	if len(v.By.keys) > 1 {
		second = strings.ToUpper(string(v.By.keys[1][:1])) + string(v.By.keys[1][1:])
	}
	names := make([]string, len(v.By.keys))
	for i, k := range v.By.keys {
		names[i] = string(k)
	}
	ask := url.Values{"window": {v.Window}, "aggregate": {strings.Join(names, ",")}, "limit": {"100000"}}
	return map[string]any{"V": v, "Windows": windows, "By": by, "Second": second, "AsOf": v.asOf(),
		"JSON": "api/v1/usage?" + ask.Encode(), "CSV": "api/v1/usage?format=csv&" + ask.Encode(),
		"Refresh": slices.Contains([]string{"today", "1h"}, v.Window)}
}
