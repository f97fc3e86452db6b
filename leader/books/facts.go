package books

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// part is a part of a window in which no fact of the fleet changes.
type part struct {
	schema.Window
	fleet *fleet.Fleet
}

func (b *Books) parts(ctx context.Context, w schema.Window) ([]part, error) {
	cuts, err := b.registry.Cuts(ctx, w)
	if err != nil {
		return nil, fmt.Errorf("read changes of the fleet: %w", err)
	}
	var all []part
	for _, piece := range usage.CutAt(w, cuts) {
		snapshot, err := b.registry.Fleet(ctx, piece.From)
		if err != nil {
			return nil, fmt.Errorf("read fleet at %s: %w", piece.From.Format(time.RFC3339), err)
		}
		all = append(all, part{piece, snapshot})
	}
	return all, nil
}

// accounts are who may be billed for something in a cluster: its customer, and those
// that a rule for it names.
func accounts(f *fleet.Fleet, cluster string) []string {
	var names []string
	if owner, ok := f.Cluster(cluster); ok && owner.Customer != "" {
		names = append(names, owner.Customer)
	}
	for _, rule := range f.Assignments() {
		if rule.Customer != "" && (rule.Cluster == "" || rule.Cluster == cluster) {
			names = append(names, rule.Customer)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// clusters are those in which a customer may be billed for something in the window,
// by name.
func (b *Books) clusters(ctx context.Context, customer string, w schema.Window) ([]string, error) {
	parts, err := b.parts(ctx, w)
	if err != nil {
		return nil, err
	}
	found := make(map[string]bool)
	for _, p := range parts {
		for _, c := range p.fleet.Clusters() {
			if !found[c.Name] && slices.Contains(accounts(p.fleet, c.Name), customer) {
				found[c.Name] = true
			}
		}
	}
	return sortedKeys(found), nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// version names a price list as it was: its name, the moment from which it holds,
// and a hash of what it says, for a version that was corrected is another one.
func version(list fleet.PriceList, from time.Time) (name, spec string, err error) {
	text, err := json.Marshal(list)
	if err != nil {
		return "", "", fmt.Errorf("price list %s: %w", list.Name, err)
	}
	since := "always"
	if !from.IsZero() {
		since = from.UTC().Format(time.RFC3339)
	}
	sum := sha256.Sum256(text)
	return fmt.Sprintf("%s@%s#%s", list.Name, since, hex.EncodeToString(sum[:4])), string(text), nil
}

// tariffs knows the price lists of a stretch of time, compiled.
type tariffs struct {
	b        *Books
	versions []fleet.Object // of price lists
	series   map[string]rating.Series
	plans    map[[2]string]*rating.Plan // by version and customer
	kept     map[string]bool            // versions that are stored
}

func (b *Books) tariffs(ctx context.Context, w schema.Window) (*tariffs, error) {
	t := &tariffs{b: b, plans: make(map[[2]string]*rating.Plan), kept: make(map[string]bool)}
	var err error
	if t.versions, err = b.registry.History(ctx, fleet.KindPriceList, w); err != nil {
		return nil, fmt.Errorf("read price lists: %w", err)
	}
	t.series, err = b.registry.PriceSeries(ctx, seriesOf(t.versions), w)
	return t, err
}

// seriesOf are the names of the dynamic prices that lists use, sorted.
func seriesOf(lists []fleet.Object) []string {
	var names []string
	for _, o := range lists {
		names = append(names, o.Spec.(fleet.PriceList).Series()...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// timed says whether prices of some list change with time while it holds.
func (t *tariffs) timed() bool {
	return slices.ContainsFunc(t.versions, func(o fleet.Object) bool { return o.Spec.(fleet.PriceList).Timed() })
}

// creditsHeat says whether some list has a price of useful heat.
func (t *tariffs) creditsHeat() bool { return creditHeat(t.versions) }

func creditHeat(lists []fleet.Object) bool {
	return slices.ContainsFunc(lists, func(o fleet.Object) bool { return o.Spec.(fleet.PriceList).CreditsHeat() })
}

// find is the list that a fleet has for somebody in a cluster, with its version;
// false where there is none. The version is kept.
func (t *tariffs) find(ctx context.Context, p part, cluster, customer string) (fleet.PriceList, string, bool, error) {
	list, ok := p.fleet.PriceListFor(cluster, customer)
	if !ok {
		return list, "", false, nil
	}
	i := slices.IndexFunc(t.versions, func(o fleet.Object) bool { return o.Name() == list.Name && o.ValidAt(p.From) })
	if i < 0 {
		return list, "", false, fmt.Errorf("price list %s: no version holds at %s", list.Name, p.From.Format(time.RFC3339))
	}
	name, spec, err := version(list, t.versions[i].ValidFrom)
	if err != nil || t.kept[name] {
		return list, name, true, err
	}
	by, at, err := t.b.registry.Recorded(ctx, fleet.KindPriceList, list.Name, t.versions[i].ValidFrom)
	if err != nil {
		return list, name, true, err
	}
	t.kept[name] = true
	return list, name, true, t.b.registry.PutBookList(ctx, registry.BookList{Version: name, Name: list.Name, Spec: spec, By: by, At: at})
}

// plan is a list compiled for a customer.
func (t *tariffs) plan(list fleet.PriceList, version, customer string) (*rating.Plan, error) {
	key := [2]string{version, customer}
	if plan := t.plans[key]; plan != nil {
		return plan, nil
	}
	plan, err := compile(list, version, customer, t.series)
	if err != nil {
		return nil, err
	}
	t.plans[key] = plan
	return plan, nil
}

func compile(list fleet.PriceList, version, customer string, series map[string]rating.Series) (*rating.Plan, error) {
	text, err := list.Rating(version)
	if err != nil {
		return nil, fmt.Errorf("price list %s: %w", version, err)
	}
	return rating.Compile(text, customer, series)
}

// kept is a list as days were summed with it.
func (b *Books) kept(ctx context.Context, version string) (fleet.PriceList, registry.BookList, error) {
	stored, err := b.registry.BookList(ctx, version)
	if err != nil {
		return fleet.PriceList{}, stored, err
	}
	spec, err := fleet.DecodeSpec(fleet.KindPriceList, stored.Name, json.RawMessage(stored.Spec))
	if err != nil {
		return fleet.PriceList{}, stored, fmt.Errorf("price list %s: %w", version, err)
	}
	return spec.(fleet.PriceList), stored, nil
}

// method goes into each fingerprint: another way to sum makes all days due.
const method = "books/1"

// fingerprint is that of all that a cluster's sums of a window come from, whoever
// they are of; due says that some of it is still being computed.
func (b *Books) fingerprint(ctx context.Context, cluster string, w schema.Window) (text string, due bool, err error) {
	inputs, due, err := b.registry.BookInputs(ctx, cluster, w)
	if err != nil {
		return "", due, err
	}
	sum := sha256.New()
	put := func(format string, args ...any) { _, _ = fmt.Fprintf(sum, format, args...) } // a hash returns no error
	put("%s %s %s %s\n", method, cluster, w, inputs)
	labels := false
	var lists []fleet.Object
	for _, kind := range []fleet.Kind{fleet.KindCluster, fleet.KindNode, fleet.KindAssignment, fleet.KindPriceList} {
		versions, err := b.registry.History(ctx, kind, w)
		if err != nil {
			return "", due, fmt.Errorf("read facts of %s: %w", cluster, err)
		}
		for _, o := range versions {
			if !concerns(o, cluster) {
				continue
			}
			rule, isRule := o.Spec.(fleet.Assignment)
			labels = labels || isRule && len(rule.Labels) > 0
			if kind == fleet.KindPriceList {
				lists = append(lists, o)
			}
			if err := putObject(sum, o, w); err != nil {
				return "", due, err
			}
		}
	}
	if names := seriesOf(lists); len(names) > 0 {
		series, err := b.registry.PriceSeries(ctx, names, w)
		if err != nil {
			return "", due, err
		}
		for _, name := range names {
			put("series %s\n", name)
			for at := w.From.Truncate(schema.Quarter); at.Before(w.To); at = at.Add(schema.Quarter) {
				if value := series[name][at]; value != nil {
					put("%d %s\n", at.Unix(), value.Text('f'))
				}
			}
		}
	}
	if creditHeat(lists) { // readings of heat come late, and change no quarter of the cluster
		cells, err := b.engine.HeatCells(ctx, cluster, w, 0)
		if err != nil {
			return "", due, err
		}
		for _, c := range cells {
			put("heat %q %q %d\n", c.Customer, c.Namespace, c.Quantities[processors.UsefulHeat])
		}
	}
	if err := b.putPods(ctx, sum, cluster, w, labels); err != nil {
		return "", due, err
	}
	return hex.EncodeToString(sum.Sum(nil)), due, nil
}

// concerns says whether an object may change what is summed of a cluster.
func concerns(o fleet.Object, cluster string) bool {
	switch spec := o.Spec.(type) {
	case fleet.Cluster:
		return o.Name() == cluster
	case fleet.Node:
		return spec.Cluster == cluster
	case fleet.Assignment:
		return spec.Cluster == "" || spec.Cluster == cluster
	}
	return true
}

// putObject counts what of an object's version holds in the window.
func putObject(sum hash.Hash, o fleet.Object, w schema.Window) error {
	switch spec := o.Spec.(type) {
	case fleet.Cluster: // how it is reached changes no sum
		o.Spec = fleet.Cluster{Customer: spec.Customer, Provider: spec.Provider, Region: spec.Region}
	case fleet.Node:
		o.Spec = fleet.Node{Cluster: spec.Cluster, Node: spec.Node, Hardware: spec.Hardware}
	}
	from, since := schema.Later(o.ValidFrom, w.From), o.ValidFrom
	if o.Kind != fleet.KindPriceList {
		since = from // of a price list the start is in the version
	}
	to := w.To
	if !o.ValidTo.IsZero() {
		to = schema.Earlier(o.ValidTo, w.To)
	}
	text, err := json.Marshal(o.Spec)
	if err != nil {
		return fmt.Errorf("%s: %w", o, err)
	}
	_, _ = fmt.Fprintf(sum, "%s %d %d %d %s\n", o, since.Unix(), from.Unix(), to.Unix(), text) // a hash returns no error
	return nil
}

// putPods counts what pods requested of extended resources and, where rules name
// labels, their labels.
func (b *Books) putPods(ctx context.Context, sum hash.Hash, cluster string, w schema.Window, labels bool) error {
	put := func(format string, args ...any) { _, _ = fmt.Fprintf(sum, format, args...) } // a hash returns no error
	err := b.registry.ExtendedRequests(ctx, cluster, w, func(of registry.ExtendedRequest) error {
		put("%q %q %q %d %d", of.Namespace, of.UID, of.Node, schema.Later(of.Held.From, w.From).UnixMilli(), schema.Earlier(of.Held.To, w.To).UnixMilli())
		for _, name := range sortedKeys(of.Requests) {
			put(" %q=%d", name, of.Requests[name])
		}
		put("\n")
		return nil
	})
	if err != nil || !labels {
		return err
	}
	type pod struct {
		uid    string
		from   int64
		labels string
	}
	var pods []pod
	err = b.registry.KubeObjects(ctx, cluster, "Pod", w, func(o registry.KubeObject) error {
		text, err := json.Marshal(o.Labels)
		pods = append(pods, pod{o.UID, o.ValidFrom.UnixNano(), string(text)})
		return err
	})
	slices.SortFunc(pods, func(x, y pod) int {
		return cmp.Or(cmp.Compare(x.uid, y.uid), cmp.Compare(x.from, y.from), cmp.Compare(x.labels, y.labels))
	})
	for _, p := range pods {
		put("%q %d %s\n", p.uid, p.from, p.labels)
	}
	return err
}
