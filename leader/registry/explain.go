package registry

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// explain puts what lacks into the parts that it lies in, each with its reason.
// The reason is that of the whole stretch, not of the piece in a part.
func (c *comparison) explain(ctx context.Context, parts []part, counted []Completeness) error {
	names := c.numbers.names()
	for _, r := range c.runs.list {
		gap := Gap{}
		if r.node >= 0 {
			gap.Node = names[r.node]
		}
		var err error
		if gap.Reason, gap.Message, err = c.reason(ctx, r); err != nil {
			return err
		}
		i := sort.Search(len(parts), func(i int) bool { return parts[i].to > r.from })
		for ; i < len(parts) && parts[i].from < r.to; i++ {
			piece := span{from: max(r.from, parts[i].from), to: min(r.to, parts[i].to)}
			gap.From, gap.To, gap.Windows = moment(piece.from), moment(piece.to), c.weight(r, piece)
			counted[i].Missing = append(counted[i].Missing, gap)
		}
	}
	for i := range counted {
		slices.SortStableFunc(counted[i].Missing, func(a, b Gap) int { return cmp.Or(a.From.Compare(b.From), strings.Compare(a.Node, b.Node)) })
	}
	return nil
}

// weight is how many node-windows lack in a piece of a run.
func (c *comparison) weight(r run, piece span) int {
	if r.node < 0 && !r.refused && !r.unexplained {
		return c.expected.weight(piece)
	}
	return int((piece.to - piece.from + int64(schema.Minute) - 1) / int64(schema.Minute))
}

// reason says why a run lacks what it lacks.
func (c *comparison) reason(ctx context.Context, r run) (GapCode, string, error) {
	switch {
	case r.refused:
		return GapQuarantined, plural.Of(r.rows, "row is in quarantine", "rows are in quarantine"), nil
	case r.unexplained:
		return GapUnexplained, plural.Of(r.rows, "row", "rows"), nil
	case r.node >= 0 && r.disk:
		return GapDiskBudget, "the journal says so", nil
	case r.node >= 0:
		return GapNodeSilent, "node not reached", nil
	case c.first.IsZero() || r.from >= nanos(c.last):
		code, message := c.tail()
		return code, message, nil
	case !c.filling.From.IsZero() && r.from < nanos(c.filling.To) && r.to > nanos(c.filling.From):
		return GapFilling, "it has come to " + c.filling.From.Format(time.RFC3339), nil
	case r.to <= nanos(c.first):
		return GapBeforeFirst, "it begins at " + c.first.Format(time.RFC3339), nil
	}
	message, era, err := c.betweenEras(ctx, r.span)
	if err != nil || era {
		return GapEra, message, err
	}
	if state, until, found := c.link.during(r.span); found {
		return state.code(), said(state, until), nil
	}
	return GapNotJournaled, "", nil
}

// tail is why the newest windows lack: by how the link is now.
func (c *comparison) tail() (GapCode, string) {
	state, bad := c.link.now()
	switch {
	case bad:
		return state.code(), said(state, time.Time{})
	case c.first.IsZero():
		return GapNotYet, "nothing has come of this table"
	}
	return GapNotYet, "the newest window ends at " + c.last.Format(time.RFC3339)
}

// betweenEras says whether the windows on the two sides of a gap are of two
// stores, or the one after it came from a journal that had begun anew.
func (c *comparison) betweenEras(ctx context.Context, gap span) (string, bool, error) {
	var began []int64
	err := each(ctx, c.q, func(scan func(...any) error) error {
		var at int64
		err := scan(&at)
		began = append(began, at)
		return err
	}, "SELECT began_at FROM era WHERE cluster = ? AND tbl = ? ORDER BY began_at", c.cluster, c.table.Name)
	if err != nil || len(began) == 0 {
		return "", false, err
	}
	before, ok, err := windowBefore(ctx, c.q, c.cluster, c.table.Name, gap.from)
	if err != nil || !ok {
		return "", false, err
	}
	after, ok, err := windowAfter(ctx, c.q, c.cluster, c.table.Name, gap.to)
	if err != nil || !ok {
		return "", false, err
	}
	for _, at := range began {
		if before.received < at && at <= after.received {
			return fmt.Sprintf("seen at %s: store %s, before it %s", moment(at).Format(time.RFC3339), after.store, before.store), true, nil
		}
	}
	if before.store != after.store {
		return fmt.Sprintf("store %s, before it %s", after.store, before.store), true, nil
	}
	return "", false, nil
}

// saysDisk says whether a journal entry was made without the rows that there was
// no room for.
func saysDisk(reason string) bool { return strings.Contains(reason, "disk") }
