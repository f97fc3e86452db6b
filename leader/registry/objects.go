package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// Objects are all versions of all objects, ordered by kind, name and start:
// what `fleet.Encode` of it and Apply of that leaves unchanged.
func (r *Registry) Objects(ctx context.Context) ([]fleet.Object, error) {
	objects, err := r.current(ctx)
	return slices.Clone(objects), err
}

// Fleet is the snapshot of what holds at the given moment.
func (r *Registry) Fleet(ctx context.Context, at time.Time) (*fleet.Fleet, error) {
	objects, err := r.current(ctx)
	if err != nil {
		return nil, err
	}
	return fleet.New(at, objects), nil
}

// History are the versions of the objects of a kind that hold at some moment of
// the window, whole, ordered by name and start.
func (r *Registry) History(ctx context.Context, kind fleet.Kind, w schema.Window) ([]fleet.Object, error) {
	objects, err := r.current(ctx)
	if err != nil {
		return nil, err
	}
	var found []fleet.Object
	for _, o := range objects {
		if o.Kind == kind && o.Overlaps(w.From, w.To) {
			found = append(found, o)
		}
	}
	return found, nil
}

// Cuts are the moments inside the window, its ends excluded, at which any
// object began or ceased to hold. Between two of them a Fleet is constant.
func (r *Registry) Cuts(ctx context.Context, w schema.Window) ([]time.Time, error) {
	objects, err := r.current(ctx)
	if err != nil {
		return nil, err
	}
	var cuts []time.Time
	for _, o := range objects {
		for _, t := range []time.Time{o.ValidFrom, o.ValidTo} {
			if !t.IsZero() && t.After(w.From) && t.Before(w.To) {
				cuts = append(cuts, t)
			}
		}
	}
	slices.SortFunc(cuts, time.Time.Compare)
	return slices.CompactFunc(cuts, time.Time.Equal), nil
}

// current are all versions that were not replaced. They are kept in memory
// until the next change; the caller does not change them.
func (r *Registry) current(ctx context.Context) ([]fleet.Object, error) {
	r.mu.Lock()
	objects, generation := r.objects, r.generation
	r.mu.Unlock()
	if objects != nil {
		return objects, nil
	}
	objects, err := load(ctx, r.reader)
	if err != nil {
		return nil, fmt.Errorf("read the fleet: %w", err)
	}
	r.mu.Lock()
	if generation == r.generation {
		r.objects = objects
	}
	r.mu.Unlock()
	return objects, nil
}

// forget makes the next look-up read the objects again.
func (r *Registry) forget() {
	r.mu.Lock()
	r.generation++
	r.objects = nil
	r.mu.Unlock()
}

// load reads the versions that were not replaced.
func load(ctx context.Context, q queryer) ([]fleet.Object, error) {
	objects := []fleet.Object{}
	err := each(ctx, q, func(scan func(...any) error) error {
		var kind fleet.Kind
		var name, text string
		s := span{}
		if err := scan(&kind, &name, &s.from, &s.to, &text); err != nil {
			return err
		}
		spec, err := fleet.DecodeSpec(kind, name, json.RawMessage(text))
		if err != nil {
			return fmt.Errorf("%s/%s: %w", kind, name, err)
		}
		s.spec = spec
		objects = append(objects, s.object(kind, name))
		return nil
	}, "SELECT kind, name, valid_from, valid_to, spec FROM object WHERE superseded_at IS NULL ORDER BY name, valid_from")
	slices.SortStableFunc(objects, func(a, b fleet.Object) int {
		return slices.Index(fleet.Kinds, a.Kind) - slices.Index(fleet.Kinds, b.Kind)
	})
	return objects, err
}
