package answers

import (
	"context"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/processors"
)

// told is the newest row of a pod in the table object.
type told struct {
	namespace, name, uid, spec string
	at                         time.Time
	ended                      int64 // Unix ns; 0 = it lives
}

// extended adds what pods requested of extended resources in the parts of the
// window, up to where the minutes have settled. No table of minutes repeats it: a
// request is exact for the time in which it held.
func (t *tally) extended(ctx context.Context, cuts []schema.Window) error {
	if t.asOf.Settled == nil {
		return nil
	}
	pods, err := t.extendedPods(ctx)
	if err != nil {
		return fmt.Errorf("read extended resources: %w", err)
	}
	for _, of := range pods {
		pod, ok := usage.ReadExtendedPod(of.spec)
		if !ok {
			continue
		}
		group := influxsync.NewPoint(schema.Object.Name, map[string]string{schema.Node: pod.Node, schema.Namespace: of.namespace, schema.Pod: of.name,
			schema.PodUID: of.uid, schema.WorkloadKind: pod.WorkloadKind, schema.Workload: pod.Workload}, nil, of.at)
		for _, cut := range cuts {
			w := schema.Window{From: cut.From, To: schema.Earlier(cut.To, *t.asOf.Settled)}
			if !w.From.Before(w.To) || of.ended != 0 && of.ended <= w.From.UnixNano() {
				continue
			}
			who := t.identify(group, false, cut)
			err := pod.Each(w, func(held schema.Window, requests map[string]int64) error {
				return t.request.RequestedBySteps(t.window, w, held, requests, func(b schema.Window, named processors.Quantities) error {
					made, err := t.row(who, b)
					if err != nil || made == nil {
						return err
					}
					return made.CountNamed(named)
				})
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// extendedPods are the pods that have extended resources, by all that is stored:
// a row stands at the time at which it was stored, whatever it tells of. Each row
// of such a pod says so, for what it has of them cannot be changed.
func (t *tally) extendedPods(ctx context.Context) (map[string]told, error) {
	where := append(t.where(), influxsync.Condition{Tag: schema.Kind, Value: watch.KindPod})
	today := schema.WindowAt(t.engine.clock.Now(), day)
	q := influxsync.Query{Select: []string{"valid_from"}, Aggregate: "first", From: schema.Object.Name, Where: where, Window: schema.Window{From: time.Unix(0, 0), To: today.To}}
	err := t.engine.store.Database(schema.FactsDB).Query(ctx, q, func(p influxsync.Point) error {
		q.Window.From = p.Time.Truncate(day)
		return nil
	})
	pods := make(map[string]told)
	if err != nil || q.Window.From.Equal(time.Unix(0, 0)) {
		return pods, err
	}
	q.Select, q.Aggregate, q.Group = []string{"spec", "valid_to"}, "", []string{schema.Namespace, "name", "uid"}
	q.Holds = []influxsync.Text{{Field: "spec", Part: usage.ExtendedMark}}
	return pods, t.sums(ctx, schema.FactsDB, q, func(p influxsync.Point) error {
		id := p.Tag("uid") // of a pod: no two have one
		if !t.scope.sees(p.Tag(schema.Namespace)) || p.Time.Before(pods[id].at) {
			return nil
		}
		spec, _ := p.Field("spec")
		pods[id] = told{namespace: p.Tag(schema.Namespace), name: p.Tag("name"), uid: id, spec: spec.Str(), at: p.Time, ended: p.Int("valid_to")}
		return nil
	})
}
