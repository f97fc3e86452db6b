package fleet

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Problem is one thing that is wrong with one object.
type Problem struct {
	Object  string // "Node/alpha.n1"
	Field   string // "spec.box"
	Message string
}

// String is the problem in one line.
func (p Problem) String() string { return p.Object + ": " + p.Field + ": " + p.Message }

// Problems is the error of Validate: everything that is wrong.
type Problems []Problem

// Error lists the problems, one a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// maxName is the longest name of a DNS subdomain.
const maxName = 253

// maxProxied is the longest name of a cluster whose follower is a chart's: its
// schema allows no longer one.
const maxProxied = 63

var (
	nameForm     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)
	extendedForm = regexp.MustCompile(`^(ephemeral-storage|hugepages-[0-9A-Za-z]+|[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[0-9A-Za-z]([-._0-9A-Za-z]*[0-9A-Za-z])?)$`)
	patternForm  = regexp.MustCompile(`^[-a-z0-9._*?\\^\[\]]+$`) // letters that names of namespaces have, and those of path.Match
	currencyForm = regexp.MustCompile(`^[A-Z]{3}$`)
)

// Validate checks a set of objects that is to be applied on top of the existing
// ones (nil if it stands alone): names, validity, each body, that what a body
// refers to exists while the body holds, and that no two contradict each other.
// The error is Problems with all that is wrong, or nil.
func Validate(objects, existing []Object) error {
	v := validator{reported: make(map[Problem]bool)}
	for _, o := range objects {
		v.object(o)
	}
	v.overlaps(objects)
	v.references(objects, append(slices.Clone(existing), objects...))
	known := append(others(existing, objects), objects...)
	v.nodes(objects, known)
	v.priceLists(objects, known)
	v.binds(objects, known, gridBinding)
	v.binds(objects, known, contractBinding)
	v.meters(objects, known)
	v.exchanges(objects, known)
	if len(v.problems) > 0 {
		return v.problems
	}
	return nil
}

type validator struct {
	problems Problems
	reported map[Problem]bool
}

func (v *validator) report(o Object, field, format string, args ...any) {
	p := Problem{Object: o.String(), Field: field, Message: fmt.Sprintf(format, args...)}
	if !v.reported[p] {
		v.reported[p] = true
		v.problems = append(v.problems, p)
	}
}

// CheckAlone is what is wrong with an object by itself, whatever it refers to.
func CheckAlone(o Object) Problems {
	v := validator{reported: make(map[Problem]bool)}
	v.object(o)
	return v.problems
}

func (v *validator) object(o Object) {
	if o.APIVersion != APIVersion {
		v.report(o, "apiVersion", "%q is not %q", o.APIVersion, APIVersion)
	}
	if !nameForm.MatchString(o.Name()) || len(o.Name()) > maxName {
		v.report(o, "metadata.name", "%q is not lower-case letters, digits, '-' and '.' (at most %d)", o.Name(), maxName)
	}
	if c, ok := o.Spec.(Cluster); ok && c.Via == ViaServiceProxy && len(o.Name()) > maxProxied {
		v.report(o, "metadata.name", "has more than %d characters, which the chart of the follower does not take; choose a shorter one", maxProxied)
	}
	if !o.ValidFrom.IsZero() && !o.ValidTo.IsZero() && !o.ValidFrom.Before(o.ValidTo) {
		v.report(o, "validTo", "%s is not after validFrom %s", stamp(o.ValidTo), stamp(o.ValidFrom))
	}
	v.moment(o, "validFrom", o.ValidFrom)
	v.moment(o, "validTo", o.ValidTo)
	if o.Spec == nil {
		v.report(o, "spec", "is missing")
		return
	}
	if o.Kind != o.Spec.Kind() {
		v.report(o, "kind", "%q has the spec of a %s", o.Kind, o.Spec.Kind())
	}
	o.Spec.check(func(field, format string, args ...any) { v.report(o, "spec."+field, format, args...) })
}

// moment refuses a year that no cluster was metered in.
func (v *validator) moment(o Object, field string, t time.Time) {
	if !t.IsZero() && (t.Year() < 1970 || t.Year() > 2200) {
		v.report(o, field, "%s is not between the years 1970 and 2200", stamp(t))
	}
}

// overlaps refuses two versions of one name that hold at the same time. An open
// end is the start of the next version.
func (v *validator) overlaps(objects []Object) {
	byName := make(map[string][]Object)
	for _, o := range objects {
		byName[o.String()] = append(byName[o.String()], o)
	}
	for _, versions := range byName {
		slices.SortStableFunc(versions, func(a, b Object) int { return a.ValidFrom.Compare(b.ValidFrom) })
		for i := 1; i < len(versions); i++ {
			former, o := versions[i-1], versions[i]
			if former.ValidFrom.IsZero() && o.ValidFrom.IsZero() {
				v.report(o, "metadata.name", "stands twice without validFrom: two versions of one name need one each")
			} else if former.ValidFrom.Equal(o.ValidFrom) || former.ValidTo.After(o.ValidFrom) {
				v.report(o, "validFrom", "%s lies in another version's validity [%s, %s)",
					stamp(o.ValidFrom), stamp(former.ValidFrom), stamp(former.ValidTo))
			}
		}
	}
	slices.SortStableFunc(v.problems, func(a, b Problem) int { return strings.Compare(a.Object, b.Object) })
}

func (v *validator) references(objects, known []Object) {
	byName := make(map[string][]Object)
	for _, o := range known {
		byName[o.String()] = append(byName[o.String()], o)
	}
	for _, o := range objects {
		if o.Spec == nil {
			continue
		}
		for _, ref := range o.Spec.references() {
			if ref.name == "" {
				continue
			}
			targets := byName[string(ref.kind)+"/"+ref.name]
			switch {
			case len(targets) == 0:
				v.report(o, "spec."+ref.field, "%s %q does not exist", ref.kind, ref.name)
			case !slices.ContainsFunc(targets, func(t Object) bool { return t.Overlaps(o.ValidFrom, o.ValidTo) }):
				v.report(o, "spec."+ref.field, "%s %q does not hold in [%s, %s)", ref.kind, ref.name, stamp(o.ValidFrom), stamp(o.ValidTo))
			}
		}
	}
}

// nodes refuses two objects for one node of one cluster at the same time.
func (v *validator) nodes(objects, known []Object) {
	type place struct{ cluster, node string }
	rivals := make(map[place][]Object)
	for _, other := range known {
		if m, ok := other.Spec.(Node); ok {
			rivals[place{m.Cluster, m.Node}] = append(rivals[place{m.Cluster, m.Node}], other)
		}
	}
	for _, o := range objects {
		n, ok := o.Spec.(Node)
		if !ok {
			continue
		}
		for _, other := range rivals[place{n.Cluster, n.Node}] {
			if other.Name() != o.Name() && other.Overlaps(o.ValidFrom, o.ValidTo) {
				v.report(o, "spec.node", "node %q of cluster %q is %s already", n.Node, n.Cluster, other)
			}
		}
	}
}

// priceLists refuses two lists with one binding at the same time.
func (v *validator) priceLists(objects, known []Object) {
	for _, o := range objects {
		list, ok := o.Spec.(PriceList)
		if !ok {
			continue
		}
		for _, other := range known {
			rival, ok := other.Spec.(PriceList)
			if !ok || other.Name() == o.Name() || !other.Overlaps(o.ValidFrom, o.ValidTo) {
				continue
			}
			v.bindings(o, other, "clusters", list.Clusters, rival.Clusters)
			v.bindings(o, other, "customers", list.Customers, rival.Customers)
			if len(list.Clusters)+len(list.Customers)+len(rival.Clusters)+len(rival.Customers) == 0 {
				v.report(o, "spec.clusters", "%s is the default already; name clusters or customers", other)
			}
		}
	}
}

func (v *validator) bindings(o, other Object, field string, mine, theirs []string) {
	for _, name := range mine {
		if slices.Contains(theirs, name) {
			v.report(o, "spec."+field, "%q is bound to %s already", name, other)
		}
	}
}

// others are the existing objects whose kind and name none of the new ones has.
func others(existing, objects []Object) []Object {
	replaced := make(map[string]bool, len(objects))
	for _, o := range objects {
		replaced[o.String()] = true
	}
	var kept []Object
	for _, o := range existing {
		if !replaced[o.String()] {
			kept = append(kept, o)
		}
	}
	return kept
}

// stamp is a time in RFC 3339, or "open".
func stamp(t time.Time) string {
	if t.IsZero() {
		return "open"
	}
	return t.UTC().Format(time.RFC3339Nano)
}
