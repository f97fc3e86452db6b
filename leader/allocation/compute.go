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
	EachCharge(ctx context.Context, request query.ChargeRequest, f func(*query.Charges) error) error
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
	used := newReader(r, len(cuts))
	if err := used.read(cuts, func(question query.ChargeRequest, at func(time.Time) int) error {
		return e.source.EachCharge(ctx, question, func(c *query.Charges) error {
			used.add(c, at(c.Row.From))
			return nil
		})
	}); err != nil {
		return answer, err
	}
	assets := make([][]query.Charges, len(cuts))
	if r.idle() {
		err := used.read(cuts, func(question query.ChargeRequest, at func(time.Time) int) error {
			nodes, err := e.source.Assets(ctx, question)
			for i := range nodes {
				used.note(&nodes[i])
				assets[at(nodes[i].Row.From)] = append(assets[at(nodes[i].Row.From)], nodes[i])
			}
			return err
		})
		if err != nil {
			return answer, err
		}
		if query.Scoped(ctx) {
			answer.warnOnce("Idle is told, and shared, of clusters in which nobody but you has anything.")
		}
	}
	if answer.Currency, err = used.currency(&answer.Warnings); err != nil {
		return answer, err
	}
	for i, cut := range cuts {
		if !used.direct {
			used.groups[i] = r.group(cut, used.atoms[i], assets[i], &answer)
		}
		answer.Sets = append(answer.Sets, r.set(cut, used.groups[i], &answer))
	}
	answer.page(r)
	answer.warn(r)
	return answer, nil
}

// reader reads what an answer is made of.
type reader struct {
	request Request
	keys    []usage.Key
	direct  bool                      // nothing is shared or split: atoms are added to groups as they come
	atoms   [][]*atom                 // by step, else
	groups  []groups                  // by step
	scratch values                    // of an atom that is added at once
	lists   map[*fleet.PriceList]bool // that something has a price of
	last    *fleet.PriceList
}

func newReader(r Request, steps int) *reader {
	u := &reader{request: r, keys: r.keys(), lists: make(map[*fleet.PriceList]bool), groups: make([]groups, steps), atoms: make([][]*atom, steps)}
	u.direct = !r.idle() && !r.shares() && !slices.Contains(u.keys, usage.Container)
	for i := range u.groups {
		u.groups[i] = make(groups)
	}
	return u
}

// read asks for all steps at once where they are those of the clock, else for one
// after the other. at is the number of the step of a row.
func (u *reader) read(cuts []schema.Window, ask func(question query.ChargeRequest, at func(from time.Time) int) error) error {
	r := u.request
	question := query.ChargeRequest{Window: r.Window, Aggregate: u.keys, Filter: r.conditions(), Figures: true, Labels: true}
	if clocked := len(cuts) > 1 && day%r.Step == 0 && r.Window.From.Truncate(r.Step).Equal(r.Window.From); clocked {
		question.Step = r.Step
		return ask(question, func(from time.Time) int { return int(from.Sub(r.Window.From) / r.Step) })
	}
	for i, cut := range cuts {
		question.Window = cut
		if err := ask(question, func(time.Time) int { return i }); err != nil {
			return err
		}
	}
	return nil
}

// add makes an atom of a step.
func (u *reader) add(c *query.Charges, step int) {
	u.note(c)
	if u.direct {
		charged := u.scratch.charged
		clear(charged)
		u.scratch = values{charged: charged}
		if a := newAtom(c, u.request.Currency, &u.scratch); !a.idle && !a.values.empty() {
			u.groups[step].add(u.request, a, u.keys)
		}
		return
	}
	if a := newAtom(c, u.request.Currency, new(values)); !a.values.empty() { // else it is a node's time alone, without a price
		u.atoms[step] = append(u.atoms[step], a)
	}
}

// note notes the lists of charges.
func (u *reader) note(c *query.Charges) {
	for i := range c.Lines {
		if list := c.Lines[i].List; list != nil && list != u.last {
			u.lists[list], u.last = true, list
		}
	}
}

// currency is the currency of the answer's costs: the one that the prices are in.
func (u *reader) currency(warnings *[]string) (string, error) {
	found, sharing := make(map[string]bool), make(map[string]bool)
	for list := range u.lists {
		found[list.Currency] = true
		if len(list.Share) > 0 {
			sharing[list.Name] = true
		}
	}
	if !u.request.shares() {
		for _, name := range slices.Sorted(maps.Keys(sharing)) {
			*warnings = append(*warnings, "Bills by price list "+name+" share idle nodes or namespaces that serve all others; here they stand where they arose, unless shareIdle, shareNamespaces, shareLabels or shareCost is given.")
		}
	}
	names := slices.Sorted(maps.Keys(found))
	switch own := u.request.Currency; {
	case own != "":
		if names = slices.DeleteFunc(names, func(n string) bool { return n == own }); len(names) > 0 {
			*warnings = append(*warnings, "Costs in "+strings.Join(names, ", ")+" are left out: the question is of "+own+".")
		}
		return own, nil
	case len(names) > 1:
		return "", usage.Wrong("currency", "", "the prices are in "+strings.Join(names, " and ")+", and OpenCost's answer has one currency: add currency="+names[0]+", or filter by cluster or customer")
	case len(names) == 1:
		return names[0], nil
	}
	return "", nil
}

// group shares what the question shares in one step, and puts together what has one
// name.
func (r Request) group(w schema.Window, atoms []*atom, assets []query.Charges, answer *Answer) groups {
	var idle []*atom
	for _, a := range atoms {
		a.name = r.nameOf(a)
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
	all, keys := make(groups), r.keys()
	for _, a := range slices.Concat(atoms, idle) {
		all.add(r, a, keys)
	}
	return all
}

// groups are allocations in the making, by their names.
type groups map[string]*group

// add adds an atom that the filter keeps.
func (g groups) add(r Request, a *atom, keys []usage.Key) {
	if r.filter != nil && !r.filter.keeps(a) {
		return
	}
	a.name = r.nameOf(a)
	if g[a.name] == nil {
		g[a.name] = newGroup(a)
	}
	g[a.name].add(a, keys)
}

// set is the allocations of one step.
func (r Request) set(w schema.Window, groups groups, answer *Answer) Set {
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
