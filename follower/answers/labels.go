package answers

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
)

// maxCuts is in how many parts a question by labels may be read.
const maxCuts = 200

// cutAtLabels reads the pods' labels and cuts the window where a pod's labels
// changed while it lived.
func (t *tally) cutAtLabels(ctx context.Context) ([]schema.Window, error) {
	t.labels = make(map[string]usage.Labels)
	where := append(t.where(), influxsync.Condition{Tag: schema.Kind, Value: watch.KindPod})
	q := influxsync.Query{Select: []string{"spec", "valid_from", "valid_to"}, From: schema.Object.Name, Where: where,
		Group: []string{schema.Namespace, "uid"}}
	err := t.engine.store.Database(schema.FactsDB).Query(ctx, q, func(p influxsync.Point) error {
		from, to := time.Unix(0, p.Int("valid_from")).UTC(), time.Unix(0, p.Int("valid_to")).UTC()
		if !t.scope.sees(p.Tag(schema.Namespace)) || !from.Before(t.window.To) || p.Int("valid_to") != 0 && !to.After(t.window.From) {
			return nil
		}
		var body struct {
			Labels map[string]string `json:"labels"`
		}
		if spec, _ := p.Field("spec"); json.Unmarshal([]byte(spec.Str()), &body) != nil {
			return nil // it has no labels that could be read
		}
		uid := p.Tag("uid")
		t.labels[uid] = append(t.labels[uid], usage.LabelVersion{From: from, Labels: body.Labels})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read labels: %w", err)
	}
	var changes []time.Time
	for uid, versions := range t.labels {
		slices.SortStableFunc(versions, func(a, b usage.LabelVersion) int { return a.From.Compare(b.From) })
		versions = slices.CompactFunc(versions, func(a, b usage.LabelVersion) bool { return maps.Equal(a.Labels, b.Labels) })
		for _, changed := range versions[1:] {
			changes = append(changes, changed.From)
		}
		t.labels[uid] = versions
	}
	cuts := usage.CutAt(t.window, changes)
	if len(cuts) > maxCuts {
		return nil, usage.Wrong("window", t.request.Window, fmt.Sprintf("labels of pods changed in more than %d of its minutes: ask for a shorter window", maxCuts))
	}
	return cuts, nil
}
