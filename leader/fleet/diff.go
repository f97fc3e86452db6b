package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Action says what becomes of an object.
type Action string

// The actions.
const (
	Added     Action = "added"
	Changed   Action = "changed"
	Unchanged Action = "unchanged"
	Removed   Action = "removed"
)

// Change is what becomes of one object in [From, To); zero times are open.
type Change struct {
	Action Action        `json:"action"`
	Kind   Kind          `json:"kind"`
	Name   string        `json:"name"`
	From   time.Time     `json:"validFrom,omitzero"`
	To     time.Time     `json:"validTo,omitzero"`
	Fields []FieldChange `json:"fields,omitempty"` // of a changed object
}

// FieldChange is one field's value before and after, as JSON text; "" where the
// field was or is absent.
type FieldChange struct {
	Field string `json:"field"` // "spec.rates.0.price"
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
}

// Diff is the difference between two sets, ordered by kind and name.
type Diff []Change

// Compare is the difference between two sets. Versions of one name are matched
// by their validFrom.
func Compare(old, new []Object) Diff {
	type key struct {
		who  string
		from int64
	}
	keyOf := func(o Object) key { return key{o.String(), o.ValidFrom.UnixNano()} }
	before := make(map[key]Object, len(old))
	for _, o := range old {
		before[keyOf(o)] = o
	}
	var diff Diff
	for _, o := range new {
		c := Change{Action: Added, Kind: o.Kind, Name: o.Name(), From: o.ValidFrom, To: o.ValidTo}
		if former, ok := before[keyOf(o)]; ok {
			delete(before, keyOf(o))
			c.Action, c.Fields = Unchanged, FieldChanges(former, o)
			if len(c.Fields) > 0 {
				c.Action = Changed
			}
		}
		diff = append(diff, c)
	}
	for _, o := range before {
		diff = append(diff, Change{Action: Removed, Kind: o.Kind, Name: o.Name(), From: o.ValidFrom, To: o.ValidTo})
	}
	diff.Sort()
	return diff
}

// Sort orders the changes by kind, name and time.
func (d Diff) Sort() {
	slices.SortStableFunc(d, func(a, b Change) int {
		if a.Kind != b.Kind {
			return slices.Index(Kinds, a.Kind) - slices.Index(Kinds, b.Kind)
		}
		if a.Name != b.Name {
			return strings.Compare(a.Name, b.Name)
		}
		return a.From.Compare(b.From)
	})
}

// Count is how many changes have the action.
func (d Diff) Count(action Action) int {
	n := 0
	for _, c := range d {
		if c.Action == action {
			n++
		}
	}
	return n
}

// Empty says whether nothing changes.
func (d Diff) Empty() bool { return d.Count(Unchanged) == len(d) }

// String is the difference as text for a terminal: a line per object that
// changes with its fields below, then the counts.
func (d Diff) String() string {
	var out strings.Builder
	signs := map[Action]string{Added: "+", Changed: "~", Removed: "-"}
	for _, c := range d {
		if c.Action == Unchanged {
			continue
		}
		fmt.Fprintf(&out, "%s %s/%s", signs[c.Action], c.Kind, c.Name)
		if !c.From.IsZero() {
			fmt.Fprintf(&out, " from %s", stamp(c.From))
		}
		if !c.To.IsZero() {
			fmt.Fprintf(&out, " until %s", stamp(c.To))
		}
		out.WriteString("\n")
		for _, f := range c.Fields {
			fmt.Fprintf(&out, "    %s: %s → %s\n", f.Field, orNone(f.Old), orNone(f.New))
		}
	}
	fmt.Fprintf(&out, "%d added, %d changed, %d removed, %d unchanged\n",
		d.Count(Added), d.Count(Changed), d.Count(Removed), d.Count(Unchanged))
	return out.String()
}

func orNone(text string) string {
	if text == "" {
		return "(none)"
	}
	return text
}

// FieldChanges are the fields in which two versions of an object differ: those
// of the body, and validTo.
func FieldChanges(old, new Object) []FieldChange {
	before, after := flatten(old.Spec), flatten(new.Spec)
	if !old.ValidTo.Equal(new.ValidTo) {
		before["validTo"], after["validTo"] = stamp(old.ValidTo), stamp(new.ValidTo)
	}
	names := make([]string, 0, len(before)+len(after))
	for name := range before {
		names = append(names, name)
	}
	for name := range after {
		names = append(names, name)
	}
	slices.Sort(names)
	var changes []FieldChange
	for _, name := range slices.Compact(names) {
		if before[name] != after[name] {
			changes = append(changes, FieldChange{Field: name, Old: before[name], New: after[name]})
		}
	}
	return changes
}

// SameSpec says whether two bodies say the same.
func SameSpec(a, b Spec) bool {
	left, right := flatten(a), flatten(b)
	if len(left) != len(right) || a.Kind() != b.Kind() {
		return false
	}
	for field, value := range left {
		if other, ok := right[field]; !ok || other != value {
			return false
		}
	}
	return true
}

// flatten is a body's fields by path, each as JSON text.
func flatten(spec Spec) map[string]string {
	flat := make(map[string]string)
	data, err := json.Marshal(spec)
	if err != nil { // only NaN and infinities, which Validate refuses
		flat["spec"] = err.Error()
		return flat
	}
	var tree any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // a float64 does not hold every int64
	if err := d.Decode(&tree); err != nil {
		flat["spec"] = err.Error()
		return flat
	}
	flattenInto(flat, "spec", tree)
	return flat
}

func flattenInto(flat map[string]string, path string, tree any) {
	switch value := tree.(type) {
	case map[string]any:
		for key, child := range value {
			flattenInto(flat, path+"."+key, child)
		}
	case []any:
		for i, child := range value {
			flattenInto(flat, path+"."+strconv.Itoa(i), child)
		}
	default:
		text, _ := json.Marshal(value) // a scalar that came out of JSON
		flat[path] = string(text)
	}
}
