package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// kubeletOptions say which kubelets are read, and for how long.
type kubeletOptions struct {
	userContext
	nodes     []string
	stretch   time.Duration
	patience  time.Duration // for the leader to have the last minute
	scrape    time.Duration // the follower's interval
	namespace string
}

func (o *kubeletOptions) bindAll(flags *pflag.FlagSet) {
	o.bind(flags, "of kubelet: context of your kubeconfig")
	flags.StringSliceVar(&o.nodes, "node", nil, "of kubelet: only these nodes (default: all)")
	flags.DurationVar(&o.stretch, "for", 10*time.Minute, "of kubelet: how long, in whole minutes")
	flags.DurationVar(&o.patience, "patience", 15*time.Minute, "of kubelet: how long to wait for the leader to meter the last minute")
}

const (
	// lateRead is by how much a follower's reading may be late, at most half of its
	// interval.
	lateRead = 2 * time.Second
	// countedEach is how often it is asked whether kubelets have counted anew, which
	// they do each ten to fifteen seconds (more often where the follower reads more
	// often), and countedWithin for how long at most.
	countedEach   = 3 * time.Second
	countedWithin = 45 * time.Second
	// packets are the bytes that a pod's network counters may differ by in any case: a
	// packet of 1,500 bytes that lies on either side of an edge, at both.
	packets = 2 * 1500
)

// leastBound is the bound of a quantity of a pod that is at rest around the edges.
func leastBound(quantity string) *big.Rat {
	if strings.HasPrefix(quantity, "network") {
		return big.NewRat(packets, 1)
	}
	return new(big.Rat)
}

// span is from a moment until the follower has read again.
func (o kubeletOptions) span() time.Duration { return o.scrape + min(lateRead, o.scrape/2) }

// edgeReadings are what the pods' counters were at an edge of a stretch, by their own
// times, and readings around it. The follower's last reading before the edge is not
// older than before, and the first that counts what is after it not newer than after:
// what it took as counted at the edge lies between.
type edgeReadings struct {
	before, at, after kubeletReading
}

// timed is a reading of all kubelets, which were asked from one moment to another.
type timed struct {
	kubeletReading
	asked, came time.Time
}

// edgeOf is of readings around an edge, oldest first, beside a follower that reads at
// least once in a span. A kubelet answers when it can: what it counted when is what its
// counters say, not when it was asked. Counters are missing of which no reading came a
// span before the edge, or that were not counted after it.
func edgeOf(edge time.Time, span time.Duration, readings []timed) edgeReadings {
	e := edgeReadings{make(kubeletReading), make(kubeletReading), make(kubeletReading)}
	for pod, counters := range readings[len(readings)-1].kubeletReading {
		e.before[pod], e.at[pod], e.after[pod] = make(podCounters), make(podCounters), make(podCounters)
		for name, last := range counters {
			e.after[pod][name] = last
			of := slices.DeleteFunc(slices.Clone(readings), func(r timed) bool { _, there := r.kubeletReading[pod][name]; return !there })
			upper := slices.IndexFunc(of, func(r timed) bool { return r.kubeletReading[pod][name].at.After(edge) })
			if upper < 1 {
				continue
			}
			lower := upper - 1
			early := slices.IndexFunc(of, func(r timed) bool { return r.came.After(of[lower].asked.Add(-span)) }) - 1
			late := slices.IndexFunc(of, func(r timed) bool { return !r.asked.Before(of[upper].came.Add(span)) })
			if early < 0 || late < 0 {
				continue
			}
			e.before[pod][name], e.after[pod][name] = of[early].kubeletReading[pod][name], of[late].kubeletReading[pod][name]
			e.at[pod][name] = counter{edge, onLine(of[lower].kubeletReading[pod][name], of[upper].kubeletReading[pod][name], edge)}
		}
	}
	return e
}

// onLine is what a counter was at a moment between two others, on a line.
func onLine(a, b counter, at time.Time) *big.Rat {
	part := new(big.Rat).Mul(big.NewRat(int64(at.Sub(a.at)), int64(b.at.Sub(a.at))), new(big.Rat).Sub(b.value, a.value))
	return part.Add(part, a.value)
}

// grown is the most that a pod's counter grew between the edge and a reading beside
// it; nil where one of them lacks the pod, or the counter was set back.
func (e edgeReadings) grown(pod, name string) *big.Rat {
	before, was := e.before[pod][name]
	at, is := e.at[pod][name]
	after, goesOn := e.after[pod][name]
	if !was || !is || !goesOn {
		return nil
	}
	one, other := new(big.Rat).Sub(at.value, before.value), new(big.Rat).Sub(after.value, at.value)
	if one.Sign() < 0 || other.Sign() < 0 {
		return nil
	}
	if one.Cmp(other) < 0 {
		return other
	}
	return one
}

// counter is a pod's counter as its kubelet tells it: when it was counted, and how
// much since the pod began.
type counter struct {
	at    time.Time
	value *big.Rat // core-seconds, or bytes
}

// kubeletQuantities are those that kubelets count.
var kubeletQuantities = []string{"cpuCoreSeconds", "networkReceiveBytes", "networkTransmitBytes"}

// podCounters are a pod's counters by quantity.
type podCounters map[string]counter

// kubeletReading is one reading of all nodes: counters by pod.
type kubeletReading map[string]podCounters

// summary is the part of a kubelet's /stats/summary that is compared.
type summary struct {
	Pods []struct {
		PodRef struct{ Name, Namespace string }
		CPU    *struct {
			Time                 time.Time
			UsageCoreNanoSeconds *uint64
		}
		Network *struct {
			Time       time.Time
			Interfaces []struct{ RxBytes, TxBytes *uint64 }
		}
	}
}

// maxSummary bounds a kubelet's answer.
const maxSummary = 64 << 20

// decodeSummary is the counters of a namespace's pods in a kubelet's answer.
func decodeSummary(text []byte, namespace string) (kubeletReading, error) {
	var body summary
	if err := json.Unmarshal(text, &body); err != nil {
		return nil, fmt.Errorf("it is no summary of a kubelet: %w", err)
	}
	found := make(kubeletReading)
	for _, pod := range body.Pods {
		if pod.PodRef.Namespace != namespace {
			continue
		}
		counters := make(podCounters)
		put := func(name string, at time.Time, value *uint64, base int64) {
			if value != nil && !at.IsZero() {
				counters[name] = counter{at.UTC(), new(big.Rat).SetFrac(new(big.Int).SetUint64(*value), big.NewInt(base))}
			}
		}
		if pod.CPU != nil {
			put("cpuCoreSeconds", pod.CPU.Time, pod.CPU.UsageCoreNanoSeconds, int64(time.Second))
		}
		if pod.Network != nil {
			var received, sent *uint64
			for _, one := range pod.Network.Interfaces {
				received, sent = plusCount(received, one.RxBytes), plusCount(sent, one.TxBytes)
			}
			put("networkReceiveBytes", pod.Network.Time, received, 1)
			put("networkTransmitBytes", pod.Network.Time, sent, 1)
		}
		found[pod.PodRef.Name] = counters
	}
	return found, nil
}

// plusCount adds counts of which each may be unknown.
func plusCount(a, b *uint64) *uint64 {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	sum := *a + *b
	return &sum
}

// bounded is the answer of an API server, as far as maxSummary.
func bounded(ctx context.Context, request *rest.Request) ([]byte, error) {
	answer, err := request.Stream(ctx)
	if apierrors.IsForbidden(err) {
		return nil, fmt.Errorf("%w; reading kubelets takes the verb get on nodes/proxy (and list on nodes without --node)", err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Close() }() // it was only read
	return io.ReadAll(io.LimitReader(answer, maxSummary))
}

// nodeNames are those of the cluster's nodes.
func nodeNames(ctx context.Context, api rest.Interface) ([]string, error) {
	var list corev1.NodeList
	text, err := bounded(ctx, api.Get().Resource("nodes"))
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("read the list of nodes: %w", err)
	}
	var names []string
	for _, node := range list.Items {
		names = append(names, node.Name)
	}
	return names, nil
}

// dates notes what a server's clock showed when it answered (its Date) for a request
// whose context has a place for it: an API server hands on that of a kubelet.
type dates struct{ http.RoundTripper }

type dateKey struct{}

// RoundTrip implements http.RoundTripper.
func (d dates) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := d.RoundTripper.RoundTrip(request)
	if date, asked := request.Context().Value(dateKey{}).(*time.Time); asked && err == nil {
		*date, _ = http.ParseTime(response.Header.Get("Date")) // zero where it does not say
	}
	return response, err
}

// believed is how far a node's clock may be off before its times are shifted. A
// follower shifts those times of the same answers.
const believed = 30 * time.Second

// readKubelets asks each node's kubelet, through the API server. Counters have their
// nodes' times, or this machine's where a node's clock is wrong.
func readKubelets(ctx context.Context, api rest.Interface, now clock.Clock, nodes []string, namespace string) (kubeletReading, error) {
	all := make(kubeletReading)
	for _, node := range nodes {
		var found kubeletReading
		var date time.Time
		text, err := bounded(context.WithValue(ctx, dateKey{}, &date), api.Get().Resource("nodes").Name(node).SubResource("proxy", "stats", "summary"))
		if err == nil {
			found, err = decodeSummary(text, namespace)
		}
		if err != nil {
			return nil, fmt.Errorf("kubelet of %s: %w", node, err)
		}
		if off := now.Now().Sub(date); !date.IsZero() && off.Abs() > believed {
			found.shift(off)
		}
		maps.Copy(all, found)
	}
	return all, nil
}

// shift moves the times of all counters.
func (r kubeletReading) shift(by time.Duration) {
	for _, counters := range r {
		for name, c := range counters {
			counters[name] = counter{c.at.Add(by), c.value}
		}
	}
}

// compareKubelet reads the kubelets at both edges of a stretch of whole minutes, and
// asks the leader what it metered of the pods in just these.
func (a *app) compareKubelet(ctx context.Context, o kubeletOptions, cluster string) (comparison, error) {
	if o.stretch < 3*time.Minute || o.stretch%time.Minute != 0 || o.stretch < 4*o.scrape {
		return comparison{}, fmt.Errorf("--for %s: take whole minutes, at least 3, and four intervals of the follower (--scrape-interval)", o.stretch)
	}
	config, err := o.config()
	if err != nil {
		return comparison{}, err
	}
	config = rest.CopyConfig(config)
	config.Timeout, config.QPS = time.Minute, -1 // all nodes are read at one moment, as far as may be
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return dates{next} })
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return comparison{}, fmt.Errorf("reach the API server: %w", err)
	}
	api := clients.CoreV1().RESTClient()
	c, err := a.client()
	if err != nil {
		return comparison{}, err
	}
	if len(o.nodes) == 0 {
		if o.nodes, err = nodeNames(ctx, api); err != nil {
			return comparison{}, err
		}
	}
	first, err := a.readTimed(ctx, api, o)
	if err != nil {
		return comparison{}, err
	}
	from := first.came.Add(2 * o.span()).Truncate(time.Minute).Add(time.Minute)
	to := from.Add(o.stretch)
	_, _ = fmt.Fprintf(a.errOut, "Reading the kubelets of %s from %s to %s\n", strings.Join(o.nodes, ", "), humanTime(from), humanTime(to)) // nowhere is left to tell
	begin, err := a.readAround(ctx, api, o, from, first)
	if err != nil {
		return comparison{}, err
	}
	end, err := a.readAround(ctx, api, o, to)
	if err != nil {
		return comparison{}, err
	}
	metered, err := a.meteredPods(ctx, c, cluster, o, schema.Window{From: from, To: to})
	if err != nil {
		return comparison{}, err
	}
	made := compareCounters(schema.Window{From: from, To: to}, begin, end, metered, o.scrape)
	made.Cluster, made.Namespace = cluster, o.namespace
	if len(made.Quantities) == 0 {
		return made, fmt.Errorf("no pod of namespace %s was there from %s to %s on these nodes: name its nodes with --node, or leave that out", o.namespace, humanTime(from), humanTime(to))
	}
	return made, nil
}

// readTimed is one reading, and when.
func (a *app) readTimed(ctx context.Context, api rest.Interface, o kubeletOptions) (timed, error) {
	asked := a.clock.Now()
	reading, err := readKubelets(ctx, api, a.clock, o.nodes, o.namespace)
	return timed{reading, asked, a.clock.Now()}, err
}

// readAround reads the kubelets around an edge, from a minute or more before it on (as
// far as that is still to come) until all have counted after it and a span has passed.
// Readings of before may be there.
func (a *app) readAround(ctx context.Context, api rest.Interface, o kubeletOptions, edge time.Time, readings ...timed) (edgeReadings, error) {
	read := func(at time.Time) error {
		if err := clock.At(ctx, a.clock, at); err != nil {
			return err
		}
		reading, err := a.readTimed(ctx, api, o)
		readings = append(readings, reading)
		return err
	}
	span := o.span()
	for _, early := range []time.Duration{max(time.Minute, 3*span), 2 * span, span, 0} {
		if err := read(edge.Add(-early)); err != nil {
			return edgeReadings{}, err
		}
	}
	there := readings[len(readings)-1].kubeletReading
	for counted := false; !counted && a.clock.Now().Sub(edge) < countedWithin; {
		if err := read(a.clock.Now().Add(min(countedEach, o.scrape))); err != nil {
			return edgeReadings{}, err
		}
		counted = readings[len(readings)-1].countedAfter(edge, there)
	}
	if err := read(a.clock.Now().Add(span)); err != nil {
		return edgeReadings{}, err
	}
	return edgeOf(edge, span, readings), nil
}

// countedAfter says whether all counters of those pods of an earlier reading that are
// still there were counted after a moment.
func (r kubeletReading) countedAfter(at time.Time, earlier kubeletReading) bool {
	for pod, counters := range earlier {
		for name := range counters {
			if now, there := r[pod][name]; there && !now.at.After(at) {
				return false
			}
		}
	}
	return true
}

// errNotSettled is a leader that has not metered the stretch yet.
var errNotSettled = errors.New("the leader has not metered the whole stretch")

// meteredPods waits until the leader has metered a window, and is what it metered by
// pod and quantity.
func (a *app) meteredPods(ctx context.Context, c *client.Client, cluster string, o kubeletOptions, w schema.Window) (map[string]map[string]*big.Rat, error) {
	values := url.Values{"window": {w.From.Format(time.RFC3339) + "," + w.To.Format(time.RFC3339)}, "aggregate": {"pod"}, "filter": {"cluster=" + cluster, "namespace=" + o.namespace}}
	for until := a.clock.Now().Add(o.patience); ; {
		answer, err := c.Usage(ctx, values)
		if err != nil {
			return nil, err
		}
		if !answer.Settled.Before(w.To) {
			metered := make(map[string]map[string]*big.Rat)
			for _, row := range answer.Rows {
				of := make(map[string]*big.Rat)
				for name, quantity := range meterable {
					of[name], _ = new(big.Rat).SetString(quantity(row).String())
				}
				metered[row.Key["pod"]] = of
			}
			return metered, nil
		}
		if !a.clock.Now().Before(until) {
			return nil, fmt.Errorf("%w: it has all until %s (--patience waits longer)", errNotSettled, humanTime(answer.Settled))
		}
		if err := a.clock.Sleep(ctx, ownInterval); err != nil {
			return nil, err
		}
	}
}

// compareCounters compares what counters grew by with what was metered, pod by pod,
// and all of them together. A pod is compared where it was there around both edges and
// its counter did not fall. The bound of each is what its counter grew around the
// edges (edgeReadings), and leastBound at least.
func compareCounters(w schema.Window, begin, end edgeReadings, metered map[string]map[string]*big.Rat, scrape time.Duration) comparison {
	made := comparison{From: w.From, To: w.To, Origin: fmt.Sprintf("what a pod used around both edges of %s, before the follower's reading or until the next one, where it reads each %s", w.Length(), scrape)}
	type sum struct{ own, metered, bound *big.Rat }
	sums := make(map[string]*sum)
	for _, pod := range slices.Sorted(maps.Keys(end.at)) {
		for _, name := range kubeletQuantities {
			_, counted := end.at[pod][name]
			if _, goesOn := end.after[pod][name]; !counted && !goesOn {
				continue
			}
			first, last := begin.grown(pod, name), end.grown(pod, name)
			if first == nil || last == nil || end.at[pod][name].value.Cmp(begin.at[pod][name].value) < 0 {
				made.Skipped = append(made.Skipped, fmt.Sprintf("%s of pod %s: it began or ended near an edge or meanwhile, its counter was set back, or its kubelet did not count around an edge", name, pod))
				continue
			}
			told := metered[pod][name]
			if told == nil {
				told = new(big.Rat)
			}
			own := new(big.Rat).Sub(end.at[pod][name].value, begin.at[pod][name].value)
			bound := first.Add(first, last)
			if least := leastBound(name); bound.Cmp(least) < 0 {
				bound = least
			}
			made.Quantities = append(made.Quantities, within(pod, name, own, told, bound))
			if sums[name] == nil {
				sums[name] = &sum{new(big.Rat), new(big.Rat), new(big.Rat)}
			}
			s := sums[name]
			s.own.Add(s.own, own)
			s.metered.Add(s.metered, told)
			s.bound.Add(s.bound, bound)
		}
	}
	for _, pod := range slices.Sorted(maps.Keys(begin.at)) {
		if _, there := end.at[pod]; !there {
			made.Skipped = append(made.Skipped, fmt.Sprintf("pod %s: it ended meanwhile", pod))
		}
	}
	for _, name := range kubeletQuantities {
		if s := sums[name]; s != nil {
			made.Quantities = append(made.Quantities, within("", name, s.own, s.metered, s.bound))
		}
	}
	return made
}

// within compares one quantity with its bound.
func within(pod, name string, own, metered, bound *big.Rat) compared {
	difference := new(big.Rat).Sub(metered, own)
	one := compared{Pod: pod, Quantity: name, Own: own.FloatString(3), Metered: metered.FloatString(3), Bound: bound.FloatString(3)}
	if own.Sign() != 0 {
		one.Percent = percentOf(new(big.Rat).Quo(difference, own))
	}
	one.Within = difference.Abs(difference).Cmp(bound) <= 0
	return one
}
