package registry

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// ErrNotFound is an object that does not hold now.
var ErrNotFound = errors.New("not found")

// Applied is what a change of the fleet did, or would do.
type Applied struct {
	Diff fleet.Diff
	// Due is the work that the change makes due in quarters that have been
	// received already. Apply and Remove have added it, in their transaction.
	Due []Due
}

// key is an object's kind and name.
type key struct {
	kind fleet.Kind
	name string
}

// edit is one name's timeline before and after.
type edit struct {
	key
	old, new timeline
}

// Plan is what Apply would do. It changes nothing.
func (r *Registry) Plan(ctx context.Context, objects []fleet.Object) (Applied, error) {
	return r.PlanChange(ctx, objects, freely(""))
}

// PlanChange is what ApplyChange would do. It changes nothing.
func (r *Registry) PlanChange(ctx context.Context, objects []fleet.Object, change Change) (Applied, error) {
	existing, err := r.current(ctx)
	if err != nil {
		return Applied{}, err
	}
	applied, edits, err := r.plan(ctx, r.reader, objects, existing)
	if err == nil {
		err = refused(pastPrices(edits, existing, applied.Due, r.minute(), change))
	}
	return applied, err
}

// freely is a change that may correct all of the past.
func freely(by string) Change { return Change{By: by, Correct: true, Reason: by + "'s"} }

func refused(problems fleet.Problems) error {
	if len(problems) == 0 {
		return nil
	}
	return problems
}

// Apply lays the objects over the fleet, by whom. Each holds from its
// validFrom on, and what held before it ends there; what lies before that
// moment is not touched. Without a validFrom a new object holds from the
// beginning and a changed one from the present minute. A validFrom in the past
// is a correction: the quarters since then become due. An open validTo lasts
// until the next version that is there. To apply the same again changes
// nothing. Errors: fleet.Problems with all that is wrong.
func (r *Registry) Apply(ctx context.Context, objects []fleet.Object, by string) (Applied, error) {
	applied, err := r.applyChange(ctx, objects, freely(by), "")
	return applied, err
}

// ApplyChange is Apply with a reason, which is recorded. Prices that have held are
// edited by a correction alone.
func (r *Registry) ApplyChange(ctx context.Context, objects []fleet.Object, change Change) (Applied, error) {
	return r.applyChange(ctx, objects, change, change.Reason)
}

func (r *Registry) applyChange(ctx context.Context, objects []fleet.Object, change Change, reason string) (Applied, error) {
	var applied Applied
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		existing, err := load(ctx, tx)
		if err != nil {
			return err
		}
		var edits []edit
		if applied, edits, err = r.plan(ctx, tx, objects, existing); err != nil {
			return err
		}
		if err := refused(pastPrices(edits, existing, applied.Due, r.minute(), change)); err != nil {
			return err
		}
		return r.store(ctx, tx, edits, applied.Due, action{"apply", change.By, reason})
	})
	r.forget()
	if err != nil {
		return Applied{}, fmt.Errorf("apply: %w", err)
	}
	return applied, nil
}

// Remove ends an object at the present minute; its history stays. With a
// cluster end its nodes. Errors: ErrNotFound, or fleet.Problems that name the
// objects that still refer to it.
func (r *Registry) Remove(ctx context.Context, kind fleet.Kind, name, by string) (Applied, error) {
	return r.RemoveSince(ctx, kind, name, by, r.minute())
}

// RemoveSince is Remove of an object that ended at a minute of the past: nothing is
// expected of a cluster since then, and the quarters since then become due.
func (r *Registry) RemoveSince(ctx context.Context, kind fleet.Kind, name, by string, ended time.Time) (Applied, error) {
	ended = ended.UTC().Truncate(schema.Minute)
	var applied Applied
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		existing, err := load(ctx, tx)
		if err != nil {
			return err
		}
		gone, err := removal(existing, key{kind, name}, ended)
		if err != nil {
			return err
		}
		lines := timelines(existing)
		var edits []edit
		for _, k := range gone {
			edits = append(edits, edit{k, lines[k], lines[k].cut(nanos(ended))})
			applied.Diff = append(applied.Diff, fleet.Change{Action: fleet.Removed, Kind: k.kind, Name: k.name, From: ended})
		}
		applied.Diff.Sort()
		if applied.Due, err = r.affected(ctx, tx, edits, existing); err != nil {
			return err
		}
		return r.store(ctx, tx, edits, applied.Due, action{"remove", by, ""})
	})
	r.forget()
	if err != nil {
		return Applied{}, fmt.Errorf("remove %s/%s: %w", kind, name, err)
	}
	return applied, nil
}

// removal are the objects that end with k, or why it cannot end.
func removal(existing []fleet.Object, k key, now time.Time) ([]key, error) {
	gone := []key{k}
	found := false
	var problems fleet.Problems
	for _, o := range existing {
		if !o.Overlaps(now, time.Time{}) {
			continue
		}
		other := key{o.Kind, o.Name()}
		if other == k {
			found = found || o.ValidAt(now)
			continue
		}
		for _, field := range fleet.FieldsNaming(o.Spec, k.kind, k.name) {
			switch {
			case k.kind == fleet.KindCluster && o.Kind == fleet.KindNode:
				if !slices.Contains(gone, other) {
					gone = append(gone, other)
				}
			case k.kind == fleet.KindCluster: // rules may name a cluster that has gone
			default:
				problems = append(problems, fleet.Problem{Object: o.String(), Field: "spec." + field,
					Message: fmt.Sprintf("still names %s %q", k.kind, k.name)})
			}
		}
	}
	if !found {
		return nil, ErrNotFound
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return gone, nil
}

// minute is the start of the present minute. Changes begin there, so that a
// settled minute lies in one version of the fleet.
func (r *Registry) minute() time.Time { return r.clock.Now().UTC().Truncate(schema.Minute) }

func timelines(objects []fleet.Object) map[key]timeline {
	lines := make(map[key]timeline)
	for _, o := range objects {
		k := key{o.Kind, o.Name()}
		lines[k] = append(lines[k], spanOf(o))
	}
	return lines
}

// plan gives the objects their validity, validates them on top of the existing
// ones and lays them over.
func (r *Registry) plan(ctx context.Context, q queryer, objects, existing []fleet.Object) (Applied, []edit, error) {
	known := timelines(existing)
	byName := make(map[key][]fleet.Object)
	var order []key
	for _, o := range objects {
		k := key{o.Kind, o.Name()}
		if byName[k] == nil {
			order = append(order, k)
		}
		byName[k] = append(byName[k], o)
	}
	var resolved []fleet.Object
	for k, list := range byName {
		byName[k] = resolve(list, known[k], r.minute())
		resolved = append(resolved, byName[k]...)
	}
	if err := fleet.Validate(resolved, existing); err != nil {
		return Applied{}, nil, err
	}
	var applied Applied
	var edits []edit
	for _, k := range order {
		old := known[k]
		after := old
		for _, o := range byName[k] {
			after = after.put(spanOf(o))
		}
		for _, o := range byName[k] {
			applied.Diff = append(applied.Diff, change(k, spanOf(o), old, after))
		}
		if !after.equal(old) {
			edits = append(edits, edit{k, old, after})
		}
	}
	applied.Diff.Sort()
	var err error
	applied.Due, err = r.affected(ctx, q, edits, existing)
	return applied, edits, err
}

// change says what became of one applied span.
func change(k key, s span, old, after timeline) fleet.Change {
	now, _ := after.at(s.from)
	o := now.object(k.kind, k.name)
	c := fleet.Change{Action: fleet.Added, Kind: k.kind, Name: k.name, From: o.ValidFrom, To: o.ValidTo}
	former, ok := old.at(s.from)
	if !ok {
		return c
	}
	c.Action = fleet.Changed
	before := former.object(k.kind, k.name)
	if former.from != now.from {
		before.ValidTo = o.ValidTo // it is cut, which From says
	}
	if c.Fields = fleet.FieldChanges(before, o); len(c.Fields) == 0 {
		c.Action = fleet.Unchanged
	}
	return c
}

// action is what an audit row says of who did what, and why.
type action struct{ what, by, reason string }

// store writes the edits, their audit rows and what they make due.
func (r *Registry) store(ctx context.Context, tx *sql.Tx, edits []edit, due []Due, did action) error {
	at := nanos(r.clock.Now())
	for _, e := range edits {
		for _, s := range e.old {
			if e.new.has(s) {
				continue
			}
			if _, err := tx.ExecContext(ctx, `UPDATE object SET superseded_at = ?
				WHERE kind = ? AND name = ? AND valid_from = ? AND superseded_at IS NULL`, at, e.kind, e.name, s.from); err != nil {
				return err
			}
		}
		for _, s := range e.new {
			if e.old.has(s) {
				continue
			}
			text, err := json.Marshal(s.spec)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO object (kind, name, valid_from, valid_to, spec, recorded_at, recorded_by)
				VALUES (?, ?, ?, ?, ?, ?, ?)`, e.kind, e.name, s.from, s.to, string(text), at, did.by); err != nil {
				return err
			}
		}
		before, err := e.old.text(e.key)
		if err != nil {
			return err
		}
		after, err := e.new.text(e.key)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO audit (at, by, action, kind, name, before, after, reason, request) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			at, did.by, did.what, e.kind, e.name, before, after, did.reason, requestOf(ctx)); err != nil {
			return err
		}
	}
	return r.addDue(ctx, tx, due)
}

func (tl timeline) has(s span) bool {
	return slices.ContainsFunc(tl, func(o span) bool {
		return o.from == s.from && o.to == s.to && fleet.SameSpec(o.spec, s.spec)
	})
}

// text is the timeline as a JSON list of objects.
func (tl timeline) text(k key) (string, error) {
	objects := make([]fleet.Object, len(tl))
	for i, s := range tl {
		objects[i] = s.object(k.kind, k.name)
	}
	text, err := json.Marshal(objects)
	return string(text), err
}

// AuditEntry is one change of one object: who, when and what.
type AuditEntry struct {
	At     time.Time       `json:"at"`
	By     string          `json:"by"`
	Action string          `json:"action"` // apply or remove
	Kind   fleet.Kind      `json:"kind"`
	Name   string          `json:"name"`
	Before json.RawMessage `json:"before"` // its versions, a list of objects
	After  json.RawMessage `json:"after"`
	Reason string          `json:"reason,omitempty"` // in the words of who changed it
}

// Audit are the newest changes of the fleet, newest first, at most limit.
func (r *Registry) Audit(ctx context.Context, limit int) ([]AuditEntry, error) {
	return r.audit(ctx, "", limit)
}

// maxAudit bounds AuditOf.
const maxAudit = 1000

// AuditOf are the newest changes of one object, newest first.
func (r *Registry) AuditOf(ctx context.Context, kind fleet.Kind, name string) ([]AuditEntry, error) {
	return r.audit(ctx, "WHERE kind = ? AND name = ?", kind, name, maxAudit)
}

func (r *Registry) audit(ctx context.Context, where string, args ...any) ([]AuditEntry, error) {
	var entries []AuditEntry
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var e AuditEntry
		var at int64
		var before, after string
		if err := scan(&at, &e.By, &e.Action, &e.Kind, &e.Name, &before, &after, &e.Reason); err != nil {
			return err
		}
		e.At, e.Before, e.After = moment(at), json.RawMessage(before), json.RawMessage(after)
		entries = append(entries, e)
		return nil
	}, "SELECT at, by, action, kind, name, before, after, reason FROM audit "+where+" ORDER BY id DESC LIMIT ?", args...)
	if err != nil {
		return nil, fmt.Errorf("read audit: %w", err)
	}
	return entries, nil
}
