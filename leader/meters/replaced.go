package meters

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// apparatus is the device behind a meter, and when others were replaced by it.
type apparatus struct {
	identity string
	replaced []time.Time
}

// identity is what tells devices apart: where a meter is read, and what of it.
func identity(m fleet.Meter) string {
	return fmt.Sprintf("%q", []any{m.Driver, m.URL, m.Channel, m.Preset, m.Topic, m.Database, m.Measurement, m.Tags, m.Fields.Counter, m.Fields.Power})
}

// replacements are the times at which another device took a meter's place: where
// one version of its object says another than the one before.
func replacements(versions []fleet.Object) []time.Time {
	versions = slices.Clone(versions)
	slices.SortFunc(versions, func(a, b fleet.Object) int { return a.ValidFrom.Compare(b.ValidFrom) })
	var times []time.Time
	for i := 1; i < len(versions); i++ {
		a, known := versions[i-1].Spec.(fleet.Meter)
		b, _ := versions[i].Spec.(fleet.Meter)
		gap := !versions[i-1].ValidTo.IsZero() && versions[i-1].ValidTo.Before(versions[i].ValidFrom)
		if known && (gap || identity(a) != identity(b)) {
			times = append(times, versions[i].ValidFrom)
		}
	}
	return times
}

// noteReplaced looks up when meters were replaced, of those that are new here or are
// described otherwise than at the last tick.
func (l *Loop) noteReplaced(ctx context.Context, meters []fleet.Meter) error {
	changed := slices.DeleteFunc(slices.Clone(meters), func(m fleet.Meter) bool {
		return l.devices[meterKey{m.Place(), m.Name}].identity == identity(m)
	})
	if len(changed) == 0 {
		return nil
	}
	all, err := l.registry.History(ctx, fleet.KindMeter, schema.Window{})
	if err != nil {
		return err
	}
	byName := make(map[string][]fleet.Object)
	for _, o := range all {
		byName[o.Name()] = append(byName[o.Name()], o)
	}
	for _, m := range changed {
		l.devices[meterKey{m.Place(), m.Name}] = apparatus{identity(m), replacements(byName[m.Name])}
	}
	return nil
}
