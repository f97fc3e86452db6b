package registry

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"sort"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// Who says which nodes there were.
const (
	ByWatch = "watch" // the cluster's own Node objects
	ByFleet = "fleet" // the nodes that are described
	BySeen  = "seen"  // the nodes of neighbouring windows: nobody else knows
)

// kindNode is a node in the table object.
const kindNode = "Node"

// presence is a node's existence.
type presence struct {
	span
	node string
}

// expectation says which nodes must have rows at each minute.
type expectation struct {
	by     string
	starts []int64   // of the stretches in which the nodes are the same, in order
	sets   []nodeSet // of each stretch
}

// at are the nodes of the minute, and when that set ends.
func (e expectation) at(minute int64) (nodeSet, int64) {
	i := sort.Search(len(e.starts), func(i int) bool { return e.starts[i] > minute })
	until := int64(forever)
	if i < len(e.starts) {
		until = e.starts[i]
	}
	if i == 0 {
		return nil, until
	}
	return e.sets[i-1], until
}

// weight is how many node-windows the minutes of a stretch are: a minute without
// any node is one, for its window must be there nevertheless.
func (e expectation) weight(s span) int {
	total := 0
	for at := s.from; at < s.to; {
		set, until := e.at(at)
		until = min(until, s.to)
		total += max(1, set.count()) * int((until-at+int64(schema.Minute)-1)/int64(schema.Minute))
		at = until
	}
	return total
}

// expectationOf puts presences together. A node belongs to each minute of which
// it was there for a part: so does the follower's meter see it.
func expectationOf(by string, there []presence, numbers numbering) expectation {
	type change struct {
		at    int64
		node  int
		comes bool
	}
	var changes []change
	for _, p := range there {
		if p.from >= p.to {
			continue
		}
		from, to := p.from, p.to
		if from != always {
			from = nanos(moment(from).Truncate(schema.Minute))
		}
		if to != forever {
			to = nanos(moment(to + int64(schema.Minute) - 1).Truncate(schema.Minute))
		}
		node := numbers.number(p.node)
		changes = append(changes, change{from, node, true}, change{to, node, false})
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.at, b.at) })
	e := expectation{by: by}
	present := make(map[int]int)
	for i := 0; i < len(changes); {
		at := changes[i].at
		for ; i < len(changes) && changes[i].at == at; i++ {
			if changes[i].comes {
				present[changes[i].node]++
			} else {
				present[changes[i].node]--
			}
		}
		set := nodeSet{}
		for node, n := range present {
			if n > 0 {
				set = set.with(node)
			}
		}
		e.starts, e.sets = append(e.starts, at), append(e.sets, set)
	}
	return e
}

// watched are the nodes that the cluster's own objects tell of, each from when
// it joined until it left. A new store tells anew of every node that is there: of
// which it does not, that left while there was none.
func watched(ctx context.Context, q queryer, cluster string) ([]presence, error) {
	newest := make(map[string]int) // by UID
	var there []presence
	var told []int64 // when each was last told of
	err := each(ctx, q, func(scan func(...any) error) error {
		var name, uid string
		var at, from, to int64
		if err := scan(&name, &uid, &at, &from, &to); err != nil {
			return err
		}
		if to == 0 {
			to = forever
		}
		i, known := newest[uid]
		if !known {
			i = len(there)
			newest[uid] = i
			there, told = append(there, presence{span{from: from}, name}), append(told, at)
		}
		there[i].from, there[i].to, told[i] = min(there[i].from, from), to, max(told[i], at)
		return nil
	}, "SELECT name, uid, time, valid_from, valid_to FROM kube_object WHERE cluster = ? AND kind = ? ORDER BY valid_from, time", cluster, kindNode)
	if err != nil || len(there) == 0 {
		return there, err
	}
	anew, err := toldAnew(ctx, q, cluster)
	if err != nil {
		return nil, err
	}
	for i := range there {
		if told[i] < anew && there[i].to > anew {
			there[i].to = anew
		}
	}
	return there, nil
}

// toldAnew is the start of the first window in which the cluster's present store
// told of objects; always where it never had another one.
func toldAnew(ctx context.Context, q queryer, cluster string) (int64, error) {
	var store string
	err := q.QueryRowContext(ctx, "SELECT store FROM era WHERE cluster = ? AND tbl = ? AND former_store NOT IN ('', store) ORDER BY began_at DESC LIMIT 1",
		cluster, schema.Object.Name).Scan(&store)
	if errors.Is(err, sql.ErrNoRows) {
		return always, nil
	}
	if err != nil {
		return 0, err
	}
	var loose sql.NullInt64
	err = q.QueryRowContext(ctx, "SELECT min(window_from) FROM ledger WHERE cluster = ? AND tbl = ? AND store = ?",
		cluster, schema.Object.Name, store).Scan(&loose)
	if err != nil {
		return 0, err
	}
	first := int64(forever)
	if loose.Valid {
		first = loose.Int64
	}
	err = eachFolded(ctx, q, cluster, schema.Object.Name, span{from: 0, to: first}, func(_ int64, rows []ledgerRow) error {
		for _, e := range rows {
			if e.store == store {
				first = min(first, e.from)
			}
		}
		return nil
	})
	if first == forever {
		first = always // it has told of nothing yet
	}
	return first, err
}

// described are the cluster's nodes in the fleet.
func described(objects []fleet.Object, cluster string) []presence {
	var there []presence
	for _, o := range objects {
		if n, ok := o.Spec.(fleet.Node); ok && n.Cluster == cluster {
			s := spanOf(o)
			there = append(there, presence{span{from: s.from, to: s.to}, n.Node})
		}
	}
	return there
}

// seen takes the nodes of a quarter to be those of its windows and of the
// quarters beside it; where none came, those of the last window before.
func seen(ctx context.Context, q queryer, cluster string, w schema.Window, numbers numbering) (expectation, error) {
	const quarter = int64(schema.Quarter)
	first, last := nanos(quarterOf(w.From)), nanos(quarterOf(w.To.Add(-1)))
	of := make(map[int64]nodeSet)
	for _, table := range minuteTables {
		err := eachNodes(ctx, q, cluster, table.Name, span{from: first - quarter, to: last + 2*quarter}, func(quarter int64, nodes nodeSet) {
			of[quarter] = of[quarter].union(nodes)
		})
		if err != nil {
			return expectation{}, err
		}
	}
	e := expectation{by: BySeen}
	var carried nodeSet // of the last quarter of which any came
	looked := false
	for at := first; at <= last; at += quarter {
		set := of[at-quarter].union(of[at]).union(of[at+quarter])
		if len(set) == 0 && !looked {
			looked = true
			var err error
			if carried, err = lastSeen(ctx, q, cluster, at); err != nil {
				return e, err
			}
		}
		if len(set) == 0 {
			set = carried
		}
		if came := of[at]; len(came) > 0 {
			carried, looked = came, true
		}
		e.starts, e.sets = append(e.starts, at), append(e.sets, set)
	}
	return e, nil
}

// eachNodes calls f with the sets of nodes of the windows that begin in a span of
// whole quarters, at least once for each quarter and set.
func eachNodes(ctx context.Context, q queryer, cluster, table string, s span, f func(quarter int64, nodes nodeSet)) error {
	err := each(ctx, q, func(scan func(...any) error) error {
		var quarter int64
		var nodes []byte
		err := scan(&quarter, &nodes)
		f(quarter, nodes)
		return err
	}, `SELECT quarter, nodes FROM ledger WHERE cluster = ? AND tbl = ? AND window_from >= ? AND window_from < ? AND nodes IS NOT NULL
		GROUP BY quarter, nodes`, cluster, table, s.from, s.to)
	if err != nil {
		return err
	}
	return eachFolded(ctx, q, cluster, table, s, func(_ int64, rows []ledgerRow) error {
		for _, e := range rows {
			if e.from >= s.from && e.from < s.to {
				f(nanos(quarterOf(moment(e.from))), e.nodes)
			}
		}
		return nil
	})
}

// seenWithin bounds the days that are looked at for a node.
const seenWithin = 10

// lastSeen are the nodes of the newest day before a moment of which any came.
func lastSeen(ctx context.Context, q queryer, cluster string, before int64) (nodeSet, error) {
	var set nodeSet
	for _, table := range minuteTables {
		for range seenWithin {
			last, found, err := windowBefore(ctx, q, cluster, table.Name, before)
			if err != nil {
				return nil, err
			}
			if !found {
				break
			}
			from := dayOf(last.from)
			err = eachWindow(ctx, q, cluster, table.Name, span{from: from, to: before}, func(e ledgerRow) error {
				set = set.union(e.nodes)
				return nil
			})
			if err != nil {
				return nil, err
			}
			if len(set) > 0 {
				break
			}
			before = from
		}
	}
	return set, nil
}

// minuteTables are the tables of which each minute must have a window.
var minuteTables = func() []schema.Table {
	var tables []schema.Table
	for _, t := range schema.Pulled {
		if t.EachMinute() {
			tables = append(tables, t)
		}
	}
	return tables
}()

// expectation is that of the watch; else of the fleet; else what was seen.
func (r *Registry) expectation(ctx context.Context, q queryer, objects []fleet.Object, cluster string, w schema.Window) (expectation, numbering, error) {
	numbers, err := loadNumbers(ctx, q, cluster)
	if err != nil {
		return expectation{}, nil, err
	}
	there, err := watched(ctx, q, cluster)
	if err != nil {
		return expectation{}, nil, err
	}
	if len(there) > 0 {
		return expectationOf(ByWatch, there, numbers), numbers, nil
	}
	if there = described(objects, cluster); len(there) > 0 {
		return expectationOf(ByFleet, there, numbers), numbers, nil
	}
	e, err := seen(ctx, q, cluster, w, numbers)
	return e, numbers, err
}

// minute is the start of the minute that holds a moment.
func minute(t time.Time) time.Time { return t.UTC().Truncate(schema.Minute) }
