package books

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

const (
	// settleTime is how long after its end a day has settled, if nothing of it is due.
	settleTime = schema.SettleDeadline + time.Minute
	// chunk is how much of a day is read at once where prices change with time.
	chunk = 4 * time.Hour
)

// freshness is what became of looking at days.
type freshness struct {
	summed  int             // cluster-days that were summed again
	waiting []schema.Window // that have not settled: some work on them is due, or they have not ended
}

// freshen sums the days of clusters again whose inputs have changed since they were
// summed for the customers, who have one calendar. It stops after limit
// cluster-days, where that is above 0.
func (b *Books) freshen(ctx context.Context, customers, clusters []string, days []schema.Window, limit int) (freshness, error) {
	var done freshness
	for _, cluster := range clusters {
		known, whole := make(map[string]map[time.Time]string), make(map[string]map[time.Time]bool)
		span := schema.Window{From: days[0].From, To: days[len(days)-1].To}
		for _, customer := range customers {
			var err error
			if known[customer], whole[customer], err = b.registry.BookFingerprints(ctx, customer, cluster, span); err != nil {
				return done, err
			}
		}
		for _, day := range days {
			if err := ctx.Err(); err != nil {
				return done, err
			}
			if b.now().Before(day.To.Add(settleTime)) {
				done.wait(day)
				continue
			}
			fingerprint, due, err := b.fingerprint(ctx, cluster, day)
			if err != nil {
				return done, fmt.Errorf("inputs of %s on %s: %w", cluster, day, err)
			}
			if due {
				done.wait(day)
			}
			var stale, recheck []string
			for _, customer := range customers {
				switch {
				case known[customer][day.From] != fingerprint:
					stale = append(stale, customer)
				case !whole[customer][day.From]:
					recheck = append(recheck, customer)
				}
			}
			if len(stale)+len(recheck) == 0 {
				continue
			}
			if again, err := b.sum(ctx, stale, recheck, cluster, day, fingerprint); err != nil {
				return done, fmt.Errorf("day %s of %s: %w", day, cluster, err)
			} else if !again {
				continue
			}
			if done.summed++; limit > 0 && done.summed >= limit {
				return done, nil
			}
		}
	}
	return done, nil
}

func (f *freshness) wait(day schema.Window) {
	if !slices.Contains(f.waiting, day) {
		f.waiting = append(f.waiting, day)
	}
}

// sum sums a day of a cluster for the customers whose sums are stale and stores it;
// of those to recheck, whose inputs are the same, only if nothing is missing any
// more, as of rows in quarantine that were given up.
func (b *Books) sum(ctx context.Context, stale, recheck []string, cluster string, day schema.Window, fingerprint string) (bool, error) {
	arrived, gaps, err := b.engine.Arrived(ctx, cluster, day)
	if err != nil {
		return false, err
	}
	if arrived.Complete {
		stale = append(stale, recheck...)
	}
	if len(stale) == 0 {
		return false, nil
	}
	told, err := json.Marshal(gapTexts(gaps))
	if err != nil {
		return false, err
	}
	sheets, err := b.sheets(ctx, stale, cluster, day)
	if err != nil {
		return false, err
	}
	stored := make([]registry.BookDay, 0, len(stale))
	for _, customer := range stale {
		cells, err := sheets[customer].pack()
		if err != nil {
			return false, err
		}
		stored = append(stored, registry.BookDay{Customer: customer, Cluster: cluster, Window: day, Fingerprint: fingerprint,
			Expected: int64(arrived.Expected), Received: int64(arrived.Received), Complete: arrived.Complete, Gaps: string(told), Cells: cells})
	}
	b.summed.Add(float64(len(stored)))
	return true, b.registry.PutBookDays(ctx, stored)
}

// maxGaps bounds the gaps that a day names.
const maxGaps = 20

func gapTexts(gaps []query.Gap) []string {
	texts := []string{}
	for i, gap := range gaps {
		if i == maxGaps {
			return append(texts, fmt.Sprintf("and %d more", len(gaps)-maxGaps))
		}
		texts = append(texts, gap.String())
	}
	return texts
}

// sheets are the sums of a cluster in a window, of those customers; each has one.
func (b *Books) sheets(ctx context.Context, customers []string, cluster string, w schema.Window) (map[string]*sheet, error) {
	all := make(map[string]*sheet, len(customers))
	for _, customer := range customers {
		all[customer] = new(sheet)
	}
	parts, err := b.parts(ctx, w)
	if err != nil {
		return nil, err
	}
	tariffs, err := b.tariffs(ctx, w)
	if err != nil {
		return nil, err
	}
	metering, err := b.registry.MeteringNamespaces(ctx, cluster)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		for _, customer := range accounts(p.fleet, cluster) {
			sheet := all[customer]
			if sheet == nil {
				continue
			}
			if _, version, ok, err := tariffs.find(ctx, p, cluster, customer); err != nil {
				return nil, err
			} else if ok {
				sheet.hold(version, p.Window)
			}
		}
		if err := b.read(ctx, all, tariffs, p, cluster, metering); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// read counts the cells of a part into the sheets of their accounts.
func (b *Books) read(ctx context.Context, all map[string]*sheet, tariffs *tariffs, p part, cluster string, metering []string) error {
	step, pieces := time.Duration(0), []schema.Window{p.Window}
	if tariffs.timed() {
		step, pieces = schema.Quarter, p.Split(chunk)
	}
	for _, piece := range pieces {
		cells, err := b.engine.Cells(ctx, cluster, piece, step)
		if err != nil {
			return err
		}
		if tariffs.creditsHeat() {
			heat, err := b.engine.HeatCells(ctx, cluster, piece, step)
			if err != nil {
				return err
			}
			cells = append(cells, heat...)
		}
		shared, err := query.Share(ctx, b.engine, p.fleet, cluster, piece, step, metering, cells)
		if err != nil {
			return err
		}
		for _, cell := range shared {
			customer := p.fleet.Billed(cluster, cell.Customer)
			sheet := all[customer]
			if sheet == nil {
				continue
			}
			sheet.shares(cmp.Or(cell.Origin, cell.Pooled))
			at := place{Namespace: cell.Namespace, Project: cell.Project, User: cell.User, Origin: cell.Origin,
				Facts: rating.Facts{Hardware: cell.Hardware, Provider: cell.Provider, Region: cell.Region}}
			list, version, ok, err := tariffs.find(ctx, p, cluster, customer)
			if err != nil {
				return err
			}
			if ok {
				plan, err := tariffs.plan(list, version, customer)
				if err != nil {
					return err
				}
				at.List, at.Excluded, at.Slot = version, cell.Nobodys || list.Excludes(cell.Namespace, metering), plan.SlotAt(cell.From)
			}
			if err := sheet.count(at, cell.Cell); err != nil {
				return err
			}
		}
	}
	return nil
}

// shares notes that others carry a part of what a namespace used.
func (s *sheet) shares(origin string) {
	if i, known := slices.BinarySearch(s.Shared, origin); !known && origin != "" {
		s.Shared = slices.Insert(s.Shared, i, origin)
	}
}
