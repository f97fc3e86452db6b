package query

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

// ChargeRequest asks for exact charges by key and step.
type ChargeRequest struct {
	Window    schema.Window // whole minutes; it may reach beyond what is settled
	Step      time.Duration // cuts at its multiples in UTC; 0 is the whole window
	Aggregate []Key
	Filter    []Condition
	// Moved is for ChargesAhead alone: the window itself is moved to the start of the
	// coming one, as a run is that starts then.
	Moved bool
	// Hardware prices what was used as if it had been used on that hardware type.
	Hardware string
	Figures  bool // with Charges.CarbonMicrograms and HeatMillijoules
	Labels   bool // with Charges.Labels, where the rows are by pod
	// Brief reads energy and nodes alone, for Charges: what pods used, volumes and
	// extended resources are not in the sums. It takes a fraction of the time.
	Brief bool
}

// Charges is what one key used in one step, and what that costs.
type Charges struct {
	// Row has its key, its times, its sums and how good they are; no figures of them.
	Row   Row
	Lines []Charge // by price list and resource, then what has no price
	// CarbonMicrograms is location-based CO2e where CarbonKnown says that it is of
	// all of the energy; HeatMillijoules what became heat, where HeatKnown.
	CarbonMicrograms, HeatMillijoules int64
	CarbonKnown, HeatKnown            bool
	// Labels are those that the pods of the row have in common, each as it was when
	// the window began or the pod, annotations as labels; not to be changed.
	Labels map[string]string
}

// Charge is a quantity under one price list. Nothing of it is rounded.
type Charge struct {
	Resource processors.Resource
	Quantity int64            // in stored units; Resource.Base of them are one Resource.Unit
	List     *fleet.PriceList // nil where it has no price; then Price and Cost are nothing
	// ListPrice is the price before discounts, Price what is charged: per
	// Resource.Unit, in the slot of time and at the place.
	ListPrice, Price fleet.Decimal
	UnitPrice        *big.Rat // of List.Currency for one stored unit; shared by charges, not to be changed
	Slot             string   // of the list's time of use; "" where it has none
	Excluded         bool     // by the price list: it has no price for that
}

// Cost is what the quantity costs, in List.Currency; nil where it has no price.
func (c *Charge) Cost() *big.Rat {
	if c.UnitPrice == nil {
		return nil
	}
	return new(big.Rat).Mul(c.UnitPrice, new(big.Rat).SetInt64(c.Quantity))
}

// Charges are the charges of a window, ordered by time and key. It may have more
// rows than an answer to a person: ask for a day at a time. Errors: those of Usage.
func (e *Engine) Charges(ctx context.Context, request ChargeRequest) ([]Charges, error) {
	table, err := e.charged(ctx, request, nil)
	if err != nil {
		return nil, err
	}
	return chargesOf(table, request)
}

// EachCharge calls f with each of the Charges: what it is given is f's until it
// returns, but for the row's key and the labels, which stay. Errors: those of Usage and
// f's. Where the first key is the cluster, f has the rows of one while the next is
// read, still one after the other.
func (e *Engine) EachCharge(ctx context.Context, request ChargeRequest, f func(*Charges) error) error {
	var made Charges
	take := func(row *tallyRow) error {
		if err := row.charges(&made, request.Figures); err != nil {
			return err
		}
		return f(&made)
	}
	if len(request.Aggregate) > 0 && request.Aggregate[0] == Cluster {
		_, err := e.charged(ctx, request, take)
		return err
	}
	table, err := e.charged(ctx, request, nil)
	if err != nil {
		return err
	}
	rows := table.sorted()
	table.rowsByID = nil
	for i, row := range rows {
		rows[i] = nil // it is not needed any more
		if err := take(row); err != nil {
			return err
		}
	}
	return nil
}

// charged is what a request's charges are of; it is empty where take takes them.
func (e *Engine) charged(ctx context.Context, request ChargeRequest, take func(*tallyRow) error) (*tally, error) {
	question := Request{Aggregate: request.Aggregate, Step: request.Step, Filter: request.Filter}
	return e.read(ctx, &tally{figures: request.Figures, labelled: request.Labels && question.Uses(Pod), as: request.Hardware, take: take, brief: request.Brief}, question, request.Window, nil, nil)
}

// chargesOf are the charges of what was read.
func chargesOf(table *tally, request ChargeRequest) ([]Charges, error) {
	rows := table.sorted()
	all := make([]Charges, len(rows))
	for i, row := range rows {
		if err := row.charges(&all[i], request.Figures); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// figures takes carbon and heat out of the sums.
func (c *Charges) figures() error {
	s := c.Row.Sums
	energy, err := s.Energy()
	if err != nil {
		return err
	}
	if energy > 0 && s[usage.CarbonLocationEnergy] == energy {
		c.CarbonMicrograms, c.CarbonKnown = s[usage.CarbonLocation], true
	}
	if s[usage.Heat] != 0 {
		c.HeatMillijoules, c.HeatKnown = s[usage.Heat], true
	}
	return nil
}

// charges makes a row's charges, in the room that made has.
func (row *tallyRow) charges(made *Charges, figures bool) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("charges of %v: %w", row.Key, err)
		}
	}()
	*made = Charges{Lines: made.Lines[:0]}
	if made.Row, err = row.Bare(); err != nil {
		return err
	}
	if figures {
		if err := made.figures(); err != nil {
			return err
		}
	}
	rest, err := amountsOf(&row.Sums)
	if err != nil {
		return err
	}
	made.Labels = row.labels
	named := maps.Clone(row.Named)
	excluded, err := row.leftOut()
	if err != nil {
		return err
	}
	made.Lines = slices.Grow(made.Lines, len(standard)+len(named))
	for _, slot := range row.prices.sorted() {
		err := slot.each(func(i counted, resource processors.Resource, unit *unitPrice, quantity int64) error {
			if quantity == 0 {
				return nil
			}
			if i >= 0 {
				rest[i] -= quantity
			} else {
				named[resource] -= quantity
			}
			made.Lines = append(made.Lines, Charge{Resource: resource, Quantity: quantity, List: &slot.at.list, Slot: slot.at.tariff,
				ListPrice: fleet.Decimal(unit.before), Price: fleet.Decimal(unit.text), UnitPrice: unit.price})
			return nil
		})
		if err != nil {
			return err
		}
	}
	return inOrder(named, func(i counted, resource processors.Resource) error {
		left, out := named[resource], excluded[resource]
		if i >= 0 {
			left = rest[i]
		}
		if left -= out; (left != 0 || out != 0) && resource.Derived() {
			return nil
		}
		if out != 0 {
			made.Lines = append(made.Lines, Charge{Resource: resource, Quantity: out, Excluded: true})
		}
		if left != 0 {
			made.Lines = append(made.Lines, Charge{Resource: resource, Quantity: left})
		}
		return nil
	})
}

// figuresOf are the sums of the same rows, of another subject.
func (e *Engine) figuresOf(ctx context.Context, question Request, about usage.Subject, w schema.Window) (map[string]Sums, error) {
	question.About = about
	table, err := e.tally(ctx, question, w)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", about, err)
	}
	sums := make(map[string]Sums, len(table.rowsByID))
	for _, row := range table.rowsByID {
		sums[rowID(row.Window.From, row.Key, question.Aggregate)] = row.Sums
	}
	return sums, nil
}

func rowID(from time.Time, key map[string]string, keys []Key) string {
	id := from.UTC().Format(time.RFC3339)
	for _, k := range keys {
		id += "\x00" + key[string(k)]
	}
	return id
}

// Sector is a step of a window, and whether all of it is here.
type Sector struct {
	schema.Window
	Complete bool      // it is settled, nothing of it is missing or was refused, and no work on it is due
	Updated  time.Time // when the newest of it arrived; the zero time where nothing did
}

// Sectors is the completeness of a window by step, from the ledger. Of what lies
// ahead of the settled minute nothing is complete.
func (e *Engine) Sectors(ctx context.Context, w schema.Window, step time.Duration) ([]Sector, error) {
	_, settled, err := e.settled(ctx, nil)
	if err != nil {
		return nil, err
	}
	clusters, err := e.clustersIn(ctx, w)
	if err != nil {
		return nil, err
	}
	var sectors []Sector
	for at := w.From; at.Before(w.To); {
		b := usage.Bucket(w, step, at)
		sectors = append(sectors, Sector{Window: b, Complete: !b.To.After(settled)})
		at = b.To
	}
	parts, err := e.slices(ctx, w, nil)
	if err != nil {
		return nil, err
	}
	due, err := e.workIn(ctx, w)
	if err != nil {
		return nil, err
	}
	clusters = slices.DeleteFunc(clusters, func(name string) bool { return !scopesOf(ctx).reads(name, fleetsOf(parts)...) })
	all := make([][]Sector, len(clusters))
	err = parallel(ctx, len(clusters), func(ctx context.Context, i int) error {
		all[i] = slices.Clone(sectors)
		if err := e.sectorsOf(ctx, clusters[i], w, due.open(clusters[i]), all[i]); err != nil {
			return fmt.Errorf("completeness of %s: %w", clusters[i], err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, own := range all {
		for i, sector := range own {
			sectors[i].Complete = sectors[i].Complete && sector.Complete
			sectors[i].Updated = schema.Later(sectors[i].Updated, sector.Updated)
		}
	}
	return sectors, nil
}

// atATime leaves some of the registry's connections to others.
const atATime = 3

// parallel calls f with each number below n, on some of the processors, and
// returns the first error.
func parallel(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0), atATime) {
		group.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && ctx.Err() == nil; i = next.Add(1) - 1 {
				if err := f(ctx, int(i)); err != nil {
					cancel(err)
				}
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}

// sectorsOf counts one cluster into the sectors.
func (e *Engine) sectorsOf(ctx context.Context, cluster string, w schema.Window, open []schema.Window, sectors []Sector) error {
	parts, err := e.registry.Arrivals(ctx, cluster, e.past(w))
	if err != nil {
		return err
	}
	for i := range sectors {
		for _, part := range parts {
			length := schema.Quarter
			if part.Grain == registry.GrainDay {
				length = 24 * time.Hour
			}
			if sectors[i].Overlap(part.Quarter, part.Quarter.Add(length)) <= 0 {
				continue
			}
			var totals Totals
			totals.add(part)
			sectors[i].Complete = sectors[i].Complete && totals.Complete()
			sectors[i].Updated = schema.Later(sectors[i].Updated, part.Newest)
		}
		sectors[i].Complete = sectors[i].Complete && !overlaps(open, sectors[i].Window)
	}
	return nil
}
