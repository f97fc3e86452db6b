package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// Intensity is the CO2e of a kWh in a zone from At to Until.
type Intensity struct {
	At, Until time.Time
	Milligram int64 // CO2e per kWh
	Estimated bool  // so its source says
	Origin    string
}

// longestIntensity bounds how far before a window an intensity may begin that
// reaches into it: a year, with a leap day.
const longestIntensity = 366 * 24 * time.Hour

// PutIntensities stores what a source (fleet.Grid.Values) says of a zone. Of a moment that it has told of before, the
// new value counts. What changed makes carbon due, and nothing else, in the
// quarters that were computed. It returns how many values are new or changed.
func (r *Registry) PutIntensities(ctx context.Context, source, zone string, list []Intensity) (int, error) {
	changed := 0
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		now := nanos(r.clock.Now())
		var spans []schema.Window
		for _, one := range list {
			span, err := putIntensity(ctx, tx, source, zone, one, now)
			if err != nil {
				return err
			}
			if span.From.Before(span.To) {
				spans = append(spans, span)
				changed++
			}
		}
		due, err := r.carbonOfZone(ctx, tx, source, zone, spans)
		if err != nil {
			return err
		}
		return r.addDue(ctx, tx, due)
	})
	if err != nil {
		return 0, fmt.Errorf("store intensities of %s: %w", zone, err)
	}
	return changed, nil
}

// putIntensity stores one value. It returns the time of which something else is
// known now, empty where nothing is.
func putIntensity(ctx context.Context, tx *sql.Tx, source, zone string, one Intensity, now int64) (schema.Window, error) {
	span := schema.Window{From: one.At, To: one.Until}
	if !one.At.Before(one.Until) || one.Milligram < 0 || one.Until.Sub(one.At) > longestIntensity {
		return span, fmt.Errorf("intensity of %d mg/kWh in %s: from, to or value is wrong", one.Milligram, span)
	}
	var former Intensity
	var until int64
	err := tx.QueryRowContext(ctx, "SELECT until, milligram, estimated, origin FROM grid_intensity WHERE source = ? AND zone = ? AND at = ?",
		source, zone, nanos(one.At)).Scan(&until, &former.Milligram, &former.Estimated, &former.Origin)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return span, err
	case until == nanos(one.Until) && former.Milligram == one.Milligram && former.Estimated == one.Estimated && former.Origin == one.Origin:
		return schema.Window{}, nil
	default:
		if before := moment(until); before.After(span.To) {
			span.To = before
		}
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO grid_intensity (source, zone, at, until, milligram, estimated, origin, recorded) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET until = excluded.until, milligram = excluded.milligram, estimated = excluded.estimated,
			origin = excluded.origin, recorded = excluded.recorded`,
		source, zone, nanos(one.At), nanos(one.Until), one.Milligram, one.Estimated, one.Origin, now)
	return span, err
}

// Intensities are what a source says of a zone in a window, the older first. Of
// two that hold at one moment, the later begun counts.
func (r *Registry) Intensities(ctx context.Context, source, zone string, w schema.Window) ([]Intensity, error) {
	var list []Intensity
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var one Intensity
		var at, until int64
		err := scan(&at, &until, &one.Milligram, &one.Estimated, &one.Origin)
		one.At, one.Until = moment(at), moment(until)
		list = append(list, one)
		return err
	}, `SELECT at, until, milligram, estimated, origin FROM grid_intensity
		WHERE source = ? AND zone = ? AND at >= ? AND at < ? AND until > ? ORDER BY at`,
		source, zone, nanos(w.From.Add(-longestIntensity)), nanos(w.To), nanos(w.From))
	if err != nil {
		return nil, fmt.Errorf("intensities of %s: %w", zone, err)
	}
	return list, nil
}

// carbonOfZone is the carbon work of the boxes, and of the nodes in none, that
// were in a zone of a source during the spans: where power was computed. What was
// not computed yet will find the values when it is.
func (r *Registry) carbonOfZone(ctx context.Context, tx *sql.Tx, source, zone string, spans []schema.Window) ([]Due, error) {
	if len(spans) == 0 {
		return nil, nil
	}
	slices.SortFunc(spans, func(a, b schema.Window) int { return a.From.Compare(b.From) })
	var due []Due
	seen := make(map[string]int64) // scope → quarters before it are done
	for _, span := range mergedSpans(spans) {
		cuts, err := r.Cuts(ctx, span)
		if err != nil {
			return nil, err
		}
		from := span.From
		for _, to := range append(cuts, span.To) {
			scopes, err := r.scopesOfZone(ctx, tx, source, zone, from)
			if err != nil {
				return nil, err
			}
			for _, scope := range scopes {
				first := max(nanos(quarterOf(from)), seen[scope])
				err := each(ctx, tx, func(scan func(...any) error) error {
					var quarter int64
					err := scan(&quarter)
					due = append(due, Due{Processor: ProcessorCarbon, Scope: scope, Quarter: moment(quarter), Reason: "intensity of " + zone})
					return err
				}, "SELECT quarter FROM fingerprint WHERE processor = ? AND scope = ? AND quarter >= ? AND quarter < ?", ProcessorPower, scope, first, nanos(to))
				if err != nil {
					return nil, err
				}
				seen[scope] = nanos(quarterOf(to.Add(-1))) + int64(schema.Quarter)
			}
			from = to
		}
	}
	return due, nil
}

// mergedSpans are spans in order, those that touch as one.
func mergedSpans(spans []schema.Window) []schema.Window {
	var all []schema.Window
	for _, span := range spans {
		if last := len(all) - 1; last >= 0 && !span.From.After(all[last].To) {
			if span.To.After(all[last].To) {
				all[last].To = span.To
			}
			continue
		}
		all = append(all, span)
	}
	return all
}

// scopesOfZone are the power scopes whose grid at a moment is the zone by that
// source.
func (r *Registry) scopesOfZone(ctx context.Context, tx *sql.Tx, source, zone string, at time.Time) ([]string, error) {
	f, err := r.Fleet(ctx, at)
	if err != nil {
		return nil, err
	}
	in := func(g fleet.Grid, ok bool) bool { return ok && g.Zone == zone && g.Values() == source }
	var scopes []string
	for _, box := range f.Boxes() {
		if in(f.GridOf(box.Name)) {
			scopes = append(scopes, box.Name)
		}
	}
	for _, cluster := range f.Clusters() {
		if !in(f.GridOf("", cluster.Name)) {
			continue
		}
		loose, err := looseNodes(ctx, tx, cluster.Name, func(node string) bool {
			n, described := f.Node(cluster.Name, node)
			return !described || n.Box == ""
		})
		if err != nil {
			return nil, err
		}
		scopes = append(scopes, loose...)
	}
	return scopes, nil
}

// looseNodes are the scopes of a cluster's nodes of which anything has come and
// that stand in no box.
func looseNodes(ctx context.Context, q queryer, cluster string, loose func(node string) bool) ([]string, error) {
	var scopes []string
	err := each(ctx, q, func(scan func(...any) error) error {
		var node string
		err := scan(&node)
		if loose(node) {
			scopes = append(scopes, LooseScope(cluster, node))
		}
		return err
	}, "SELECT node FROM node_number WHERE cluster = ? ORDER BY node", cluster)
	return scopes, err
}
