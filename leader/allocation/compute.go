package allocation

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
)

// Source has charges, what nodes would cost at full use, and who mounted which volume:
// *query.Engine.
type Source interface {
	Charges(ctx context.Context, request query.ChargeRequest) ([]query.Charges, error)
	Assets(ctx context.Context, request query.ChargeRequest) ([]query.Charges, error)
	Mounts(ctx context.Context, w schema.Window, keep func(cluster string) bool) ([]query.Mount, error)
}

// Ledger says what is here and settled: *query.Engine.
type Ledger interface {
	Settled(ctx context.Context) (time.Time, error)
	Sectors(ctx context.Context, w schema.Window, step time.Duration) ([]query.Sector, error)
}

// Engine answers. It is safe for concurrent use.
type Engine struct {
	source Source
	ledger Ledger

	mutex  sync.Mutex // of boards
	boards map[string]*board
}

// New makes an engine over leader/query.
func New(source Source, ledger Ledger) *Engine {
	return &Engine{source: source, ledger: ledger, boards: make(map[string]*board)}
}

// Parse reads a question; relative windows end at the last settled minute. Errors:
// *usage.InputError and what the stores say.
func (e *Engine) Parse(ctx context.Context, query string) (Request, error) {
	settled, err := e.ledger.Settled(ctx)
	if err != nil {
		return Request{}, err
	}
	return Parse(query, settled)
}

// Compute answers a question. Errors: *usage.InputError, query.ErrOverflow and what
// the stores say.
func (e *Engine) Compute(ctx context.Context, r Request) (Answer, error) {
	answer := Answer{Window: r.Window, Offset: r.offset}
	sectors, err := e.ledger.Sectors(ctx, r.Window, 0)
	if err != nil {
		return answer, err
	}
	answer.Closed = len(sectors) > 0
	for _, s := range sectors {
		answer.Closed = answer.Closed && s.Complete
	}
	cuts := steps(r.Window, r.Step)
	charges, err := e.read(ctx, r, cuts, e.source.Charges)
	if err != nil {
		return answer, err
	}
	assets := make([][]query.Charges, len(cuts))
	if r.idle() {
		if assets, err = e.read(ctx, r, cuts, e.source.Assets); err != nil {
			return answer, err
		}
		if query.Scoped(ctx) {
			answer.warnOnce("Idle is told, and shared, of clusters in which nobody but you has anything.")
		}
	}
	if answer.Currency, err = currencyOf(r, charges, assets, &answer.Warnings); err != nil {
		return answer, err
	}
	for i, cut := range cuts {
		answer.Sets = append(answer.Sets, r.set(cut, charges[i], assets[i], &answer))
	}
	answer.page(r)
	answer.warn(r)
	return answer, nil
}

// read asks for all steps at once where they are those of the clock, else for one
// after the other.
func (e *Engine) read(ctx context.Context, r Request, cuts []schema.Window, from func(context.Context, query.ChargeRequest) ([]query.Charges, error)) ([][]query.Charges, error) {
	all := make([][]query.Charges, len(cuts))
	question := query.ChargeRequest{Window: r.Window, Aggregate: r.keys(), Filter: r.conditions(), Figures: true, Labels: true}
	if clocked := len(cuts) > 1 && day%r.Step == 0 && r.Window.From.Truncate(r.Step).Equal(r.Window.From); clocked {
		question.Step = r.Step
		rows, err := from(ctx, question)
		for _, row := range rows {
			i := int(row.Row.From.Sub(r.Window.From) / r.Step)
			all[i] = append(all[i], row)
		}
		return all, err
	}
	for i, cut := range cuts {
		question.Window = cut
		rows, err := from(ctx, question)
		if err != nil {
			return nil, err
		}
		all[i] = rows
	}
	return all, nil
}

// currencyOf is the currency of the answer's costs: the one that the prices are in.
func currencyOf(r Request, charges, assets [][]query.Charges, warnings *[]string) (string, error) {
	found := make(map[string]bool)
	lists := make(map[string]bool) // that share in bills
	var last *fleet.PriceList
	for _, rows := range slices.Concat(charges, assets) {
		for _, row := range rows {
			for i := range row.Lines {
				if list := row.Lines[i].List; list != nil && list != last {
					found[list.Currency], last = true, list
					if len(list.Share) > 0 {
						lists[list.Name] = true
					}
				}
			}
		}
	}
	if !r.shares() {
		for _, name := range slices.Sorted(maps.Keys(lists)) {
			*warnings = append(*warnings, "Bills by price list "+name+" share idle nodes or namespaces that serve all others; here they stand where they arose, unless shareIdle, shareNamespaces, shareLabels or shareCost is given.")
		}
	}
	names := slices.Sorted(maps.Keys(found))
	switch {
	case r.Currency != "":
		if names = slices.DeleteFunc(names, func(n string) bool { return n == r.Currency }); len(names) > 0 {
			*warnings = append(*warnings, "Costs in "+strings.Join(names, ", ")+" are left out: the question is of "+r.Currency+".")
		}
		return r.Currency, nil
	case len(names) > 1:
		return "", usage.Wrong("currency", "", "the prices are in "+strings.Join(names, " and ")+", and OpenCost's answer has one currency: add currency="+names[0]+", or filter by cluster or customer")
	case len(names) == 1:
		return names[0], nil
	}
	return "", nil
}

// set is the allocations of one step.
func (r Request) set(w schema.Window, charges, assets []query.Charges, answer *Answer) Set {
	var atoms, idle []*atom
	for _, c := range charges {
		a := newAtom(c, answer.Currency)
		if a.values.empty() {
			continue // a node's time alone, without a price
		}
		a.name = r.nameOf(a)
		atoms = append(atoms, a)
	}
	atoms = splitPods(atoms, r.keys())
	atoms, idle, books := findIdle(atoms, assets, answer.Currency, r.idleByNode && r.idle())
	for _, s := range slices.SortedFunc(maps.Keys(books), func(a, b scope) int {
		return strings.Compare(a.cluster+"\x00"+a.node, b.cluster+"\x00"+b.node)
	}) {
		answer.Idle = append(answer.Idle, books[s].told(s, w))
		answer.checkBooks(books[s], s, w)
	}
	switch {
	case r.shareIdle != "":
		if idle = shareIdle(atoms, idle, r.idleByNode, r.shareIdle); len(idle) > 0 {
			answer.warnOnce("Some of what is idle could not be shared, for nothing ran there: it stands in " + Idle + ".")
		}
	case !r.includeIdle:
		idle = nil
	}
	hours := big.NewRat(int64(w.Length()/time.Minute), 60)
	atoms, shared := r.shareCosts(atoms, hours)
	if !shared {
		answer.warnOnce("There is nothing to put shared cost on: it stands where it arose.")
	}
	groups := make(map[string]*group)
	for _, a := range slices.Concat(atoms, idle) {
		if r.filter != nil && !r.filter.keeps(a) {
			continue
		}
		a.name = r.nameOf(a)
		if groups[a.name] == nil {
			groups[a.name] = newGroup(a)
		}
		groups[a.name].add(a, r.keys())
	}
	set := Set{Window: w}
	for _, name := range slices.SortedFunc(maps.Keys(groups), compareNames) {
		set.Allocations = append(set.Allocations, groups[name].told(r, w, answer.Currency))
		if len(groups[name].clusters) > 1 && name != Idle && name != Unallocated {
			answer.warnOnce(fmt.Sprintf("%q is of several clusters, added up because aggregate has no cluster: properties.clusters names them.", name))
		}
	}
	return set
}

// checkBooks warns of what does not add up.
func (a *Answer) checkBooks(r *reconciled, s scope, w schema.Window) {
	where := s.cluster
	if s.node != "" {
		where += ", node " + s.node
	}
	if r.overCPU.Sign() > 0 || r.overRAM.Sign() > 0 {
		a.Warnings = append(a.Warnings, fmt.Sprintf("In cluster %s from %s to %s, %s core-hours and %s byte-hours were requested or used beyond what is allocatable: nothing of that node is idle, and idle lists by how much.",
			where, stamp(w.From), stamp(w.To), number(&r.overCPU), number(&r.overRAM)))
	}
	if d := r.difference(); d.Sign() != 0 && number(d).String() != "0" {
		a.Warnings = append(a.Warnings, fmt.Sprintf("In cluster %s from %s to %s, allocated and idle cost of CPU and memory differ from the nodes' cost at full use by %s: the prices are not for the larger of requested and used, change by time or customer, or more was requested than there is.",
			where, stamp(w.From), stamp(w.To), number(d)))
	}
}

func (a *Answer) warnOnce(text string) {
	if !slices.Contains(a.Warnings, text) {
		a.Warnings = append(a.Warnings, text)
	}
}

// maxWarnings bounds what an answer says of itself.
const maxWarnings = 50

func (a *Answer) warn(r Request) {
	if r.resolution {
		a.warnOnce("resolution is not needed and was not used: usage is exact to the minute.")
	}
	if more := len(a.Warnings) - maxWarnings; more > 0 {
		a.Warnings = append(a.Warnings[:maxWarnings], fmt.Sprintf("%d more warnings are left out.", more))
	}
}

// compareNames orders by name; special names come last.
func compareNames(a, b string) int {
	if x, y := strings.Contains(a, "__"), strings.Contains(b, "__"); x != y {
		if x {
			return 1
		}
		return -1
	}
	return strings.Compare(a, b)
}

// page keeps the names from offset on, limit of them: the same ones in each set.
func (a *Answer) page(r Request) {
	all := make(map[string]bool)
	for _, set := range a.Sets {
		for _, allocation := range set.Allocations {
			all[allocation.Name] = true
		}
	}
	names := slices.SortedFunc(maps.Keys(all), compareNames)
	a.Total = len(names)
	if r.offset == 0 && r.limit == 0 {
		return
	}
	from := min(r.offset, len(names))
	to := len(names)
	if r.limit > 0 {
		to = min(from+r.limit, to)
	}
	keep := make(map[string]bool)
	for _, name := range names[from:to] {
		keep[name] = true
	}
	for i := range a.Sets {
		a.Sets[i].Allocations = slices.DeleteFunc(a.Sets[i].Allocations, func(o Allocation) bool { return !keep[o.Name] })
	}
}
