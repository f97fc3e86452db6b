package query

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/processors"
)

// tallyRow is one row in the making.
type tallyRow struct {
	usage.Tally
	pods     bool              // something of pods is in it
	labels   map[string]string // that they have in common; shared
	values   []string          // of the key, in the order of the question's aggregate
	prices   slots             // summed quantities by price list
	excluded slots             // those of namespaces that the list excludes
}

// slots are quantities by their prices: one of each id.
type slots struct {
	all  []*priced
	byID map[string]*priced // where there are many
}

// fewSlots is how many are looked through.
const fewSlots = 8

// of finds or makes the quantities at prices.
func (s *slots) of(at *resolved) *priced {
	if last := len(s.all) - 1; last >= 0 && s.all[last].at == at {
		return s.all[last]
	}
	if s.byID != nil {
		if found := s.byID[at.id]; found != nil {
			return found
		}
	} else if i := slices.IndexFunc(s.all, func(p *priced) bool { return p.at == at || p.at.id == at.id }); i >= 0 {
		return s.all[i]
	}
	made := s.fresh()
	made.at = at
	s.all = append(s.all, made)
	switch {
	case s.byID != nil:
		s.byID[at.id] = made
	case len(s.all) > fewSlots:
		s.byID = make(map[string]*priced)
		for _, p := range s.all {
			s.byID[p.at.id] = p
		}
	}
	return made
}

// fresh is room for quantities: that of slots which were emptied, where there is some.
func (s *slots) fresh() *priced {
	made := beyond(s.all)
	if made == nil {
		return new(priced)
	}
	*made = priced{}
	return made
}

// beyond is what a list that was emptied has still behind its end, nil where there is
// nothing.
func beyond[T any](list []*T) *T {
	if len(list) == cap(list) {
		return nil
	}
	return list[:len(list)+1][len(list)]
}

// emptied are no slots, with the room of these.
func (s *slots) emptied() slots { return slots{all: s.all[:0]} }

// add adds quantities to those at the same prices.
func (s *slots) add(at *resolved, sums *Sums, named processors.Quantities) error {
	slot := s.of(at)
	if err := slot.sums.Add(sums); err != nil {
		return err
	}
	return usage.AddNamed(&slot.named, named)
}

// sorted are the slots by their ids.
func (s *slots) sorted() []*priced {
	if len(s.all) < 2 {
		return s.all
	}
	return slices.SortedFunc(slices.Values(s.all), func(a, b *priced) int { return strings.Compare(a.at.id, b.at.id) })
}

// priced are quantities under one price list and who is billed for them.
type priced struct {
	at    *resolved
	sums  Sums
	named processors.Quantities
}

// row finds or makes the row of a key and a step.
func (t *tally) row(who *identity, b schema.Window) (*tallyRow, error) {
	t.id = binary.BigEndian.AppendUint64(t.id[:0], uint64(b.From.Unix()))
	for _, k := range t.request.Aggregate {
		t.id = append(append(t.id, who.value(k)...), 0)
	}
	row, ok := t.rowsByID[string(t.id)]
	if ok {
		return row, nil
	}
	if t.given+len(t.rowsByID) >= t.engine.config.MaxRows {
		return nil, usage.Wrong("aggregate", usage.KeyList(t.request.Aggregate),
			fmt.Sprintf("the answer has more than %d rows: aggregate by fewer keys, filter, or take a longer step", t.engine.config.MaxRows))
	}
	row = t.fresh()
	row.Key, row.Window = make(map[string]string, len(t.request.Aggregate)), b
	for _, k := range t.request.Aggregate {
		value := who.value(k)
		row.values = append(row.values, value)
		row.Key[string(k)] = value
	}
	t.rowsByID[string(t.id)] = row
	t.made = append(t.made, row)
	return row, nil
}

// fresh is a row with nothing in it: one that take has had, where there is one.
func (t *tally) fresh() *tallyRow {
	row := beyond(t.made)
	if row == nil {
		return &tallyRow{values: make([]string, 0, len(t.request.Aggregate))}
	}
	*row = tallyRow{values: row.values[:0], prices: row.prices.emptied(), excluded: row.excluded.emptied()}
	return row
}

// give gives the rows that there are to take, which must not keep them, beside which more
// may be read: into the rows that it has had before. It has one row at a time, in order.
func (t *tally) give() error {
	if t.take == nil {
		return nil
	}
	rows := t.sorted()
	if err := t.taken(); err != nil {
		return err
	}
	t.given += len(rows)
	t.made, t.spare = t.spare[:0], rows
	clear(t.rowsByID)
	taking := make(chan error, 1)
	t.taking = taking
	go func() {
		for _, row := range rows {
			if err := t.take(row); err != nil {
				taking <- err
				return
			}
		}
		taking <- nil
	}()
	return nil
}

// taken waits until take has had what it was given.
func (t *tally) taken() error {
	if t.taking == nil {
		return nil
	}
	err := <-t.taking
	t.taking = nil
	return err
}

// carry keeps of the labels those that another pod has too.
func (row *tallyRow) carry(labels map[string]string) {
	if row.pods {
		labels = usage.CommonLabels(row.labels, labels)
	}
	row.pods, row.labels = true, labels
}

// sorted are the rows, ordered by key and time as usage.CompareKeys does.
func (t *tally) sorted() []*tallyRow {
	slices.SortFunc(t.made, func(a, b *tallyRow) int {
		return cmp.Or(usage.CompareValues(a.values, b.values), a.Window.From.Compare(b.Window.From))
	})
	return t.made
}

// page is the page of finished rows that was asked for, the name of the next one and
// the number of all rows. All are finished only where they are sorted by what is in
// them.
func (t *tally) page() (rows []Row, next string, total int, err error) {
	made := t.sorted()
	if total = len(made); t.request.ByKey() {
		if made, next, err = usage.Cut(made, t.request, t.engine.config.PageRows); err != nil {
			return nil, "", 0, err
		}
	}
	rows = make([]Row, len(made))
	for i, row := range made {
		if rows[i], err = row.finish(); err != nil {
			return nil, "", 0, err
		}
	}
	if !t.request.ByKey() {
		rows, next, err = usage.Page(rows, t.request, t.engine.config.PageRows)
	}
	return rows, next, total, err
}

func (row *tallyRow) finish() (Row, error) {
	costs, err := costsOf(row.prices)
	if err != nil {
		return Row{}, err
	}
	excluded, err := costsOf(row.excluded)
	if err != nil {
		return Row{}, err
	}
	out, err := row.Row()
	out.SetCost(costs)
	out.Excluded = usage.Moneys(excluded)
	return out, err
}
