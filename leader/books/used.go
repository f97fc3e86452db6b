package books

import (
	"context"
	"fmt"
	"slices"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// Use is what a customer used in one place of a cluster on a local day, by prices. Of
// a place with several prices Figures stand with each what is at that price.
type Use struct {
	schema.Window
	Cluster, Namespace, Project, User string
	Version                           string // of the price list; "" is none
	Excluded                          bool   // by the list
	Facts                             rating.Facts
	Slot                              rating.Slot
	Quantities                        processors.Quantities
	Figures                           Figures
}

// Used are the sealed days that a closed period rests on, by cluster, day and place.
// There are none where it is not closed.
func (b *Books) Used(ctx context.Context, customer, period string) ([]Use, error) {
	c, err := b.calendar(ctx, customer, period)
	if err != nil {
		return nil, err
	}
	var all []Use
	own := c.days()
	err = b.registry.BookDays(ctx, customer, c.Window, true, func(d registry.BookDay) error {
		if !slices.Contains(own, d.Window) {
			return nil
		}
		s, err := unpackSheet(d.Cells)
		if err != nil {
			return fmt.Errorf("day %s of %s: %w", d.Window, d.Cluster, err)
		}
		for _, g := range s.Groups {
			all = append(all, Use{Window: d.Window, Cluster: d.Cluster, Namespace: g.Namespace, Project: assigned(g.Project), User: assigned(g.User),
				Version: g.List, Excluded: g.Excluded, Facts: g.Facts, Slot: g.Slot, Quantities: g.Quantities, Figures: g.Figures})
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("days of period %s of %s: %w", period, customer, err)
	}
	return all, nil
}

// Add adds other figures. Error: usage.ErrOverflow.
func (f *Figures) Add(o Figures) error { return f.add(o) }
