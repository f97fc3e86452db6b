package ahead

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/internal/webhook"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// groups are the pods with a label, as far as they have been seen. It is made anew
// after a restart, from what is stored.
type groups struct {
	label string
	until time.Time            // what was read
	pods  map[string]*groupPod // by cluster, namespace and name
}

// groupPod is a pod of a group.
type groupPod struct {
	value string
	last  time.Time // end of the hour in which it was seen last
}

const (
	// quiet is how long nothing of a group may run before it has ended.
	quiet = 10 * time.Minute
	// lost is how long a pod that is seen no more is waited for: the fact of its end
	// may be lost.
	lost = 2 * time.Hour
)

var groupKeys = []usage.Key{usage.Cluster, usage.Namespace, usage.Pod}

// read reads the pods of the label from where it was up to a moment, by the hour.
func (g *groups) read(ctx context.Context, engine Engine, from, to time.Time) error {
	key := usage.Label(g.label)
	if g.until.Before(from) {
		g.until = from
	}
	for _, hour := range (schema.Window{From: g.until, To: to}).Split(time.Hour) {
		all, err := engine.Charges(ctx, query.ChargeRequest{Window: hour, Aggregate: append(slices.Clone(groupKeys), key), Filter: []usage.Condition{{Key: key, Values: []string{"*"}}}})
		if err != nil {
			return fmt.Errorf("pods with the label %s: %w", g.label, err)
		}
		for _, c := range all {
			if value := c.Row.Key[string(key)]; value != "" && c.Row.Key[string(usage.Pod)] != "" {
				g.pods[keyOf(c.Row, groupKeys)] = &groupPod{value, hour.To}
			}
		}
		g.until = hour.To
	}
	maps.DeleteFunc(g.pods, func(_ string, p *groupPod) bool { return p.last.Before(from) })
	return nil
}

func podKey(r run) string { return "\x00" + r.cluster + "\x00" + r.namespace + "\x00" + r.name }

// noteGroups notes the groups that ended: all of whose pods have, and that have been
// quiet for a while. What ends later in a group of that name is another event.
func (a *Announcer) noteGroups(ctx context.Context, from, settled time.Time, events []registry.RunEvent) error {
	if a.groups == nil {
		return nil
	}
	if err := a.groups.read(ctx, a.desk.engine, from, settled); err != nil {
		return err
	}
	ended, err := a.desk.runs(ctx, kindPod, schema.Window{From: from, To: settled}, func(r run) bool { return a.groups.pods[podKey(r)] != nil })
	if err != nil {
		return err
	}
	runs, done := make(map[string][]run), make(map[string]bool)
	for _, r := range ended {
		value := a.groups.pods[podKey(r)].value
		runs[value], done[podKey(r)] = append(runs[value], r), true
	}
	for id, p := range a.groups.pods {
		if !done[id] && settled.Sub(p.last) < lost {
			delete(runs, p.value) // it goes on
		}
	}
	for _, value := range slices.Sorted(maps.Keys(runs)) {
		if err := a.noteGroup(ctx, a.groups.label+"="+value, runs[value], settled, events); err != nil {
			return err
		}
	}
	return nil
}

// noteGroup notes the event of one group, unless something of it is still to come.
func (a *Announcer) noteGroup(ctx context.Context, name string, runs []run, settled time.Time, events []registry.RunEvent) error {
	subject := kindGroup + "/" + name
	var before registry.RunEvent // that could not be made yet, the last
	var replaces []string
	for _, e := range events {
		switch {
		case e.Subject != subject:
		case e.State == registry.EventUnmade:
			before, replaces = e, append(replaces, e.ID)
		default:
			runs = slices.DeleteFunc(runs, func(r run) bool { return !r.end.After(e.Ended) })
		}
	}
	if len(runs) == 0 || settled.Sub(runs[len(runs)-1].end) < quiet || before.ID != "" && !a.again(before) {
		return nil
	}
	last := runs[len(runs)-1].end
	e := registry.RunEvent{ID: webhook.EventID(kindGroup, name, last.UTC().Format(time.RFC3339Nano)), Subject: subject, Ended: last, At: before.At, Attempts: before.Attempts}
	e.Replaces = slices.DeleteFunc(replaces, func(id string) bool { return id == e.ID })
	if err := a.makeGroup(ctx, name, runs, settled, e); err != nil {
		return a.unmade(ctx, e, err)
	}
	return nil
}

func (a *Announcer) makeGroup(ctx context.Context, name string, runs []run, settled time.Time, e registry.RunEvent) error {
	report, err := a.desk.endedReport(ctx, name, runs)
	if err != nil {
		return fmt.Errorf("report of %s: %w", e.Subject, err)
	}
	if report.open && settled.Sub(e.Ended) < provisionalFor {
		return nil
	}
	data := Ended{Kind: kindGroup, Name: name, Start: report.From, End: e.Ended, Failed: report.Failures > 0, Report: report, HTML: a.link(url.Values{"group": {name}}, runs[0].end, e.Ended)}
	_, err = a.put(ctx, e.ID, e.Subject, data, e.Replaces...)
	return err
}
