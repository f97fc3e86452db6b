package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/follower"
	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/leader/seed"
	"github.com/prometheus/client_golang/prometheus"
)

// A demonstration begins with a month that is closed. In its last night but one
// pastCustomer had pastCluster, an hour before midnight and two after it. A follower
// metered it, whose clock stands at the end of that: the leader pulls it, computes and
// bills it with the code of every day.
const (
	pastCluster  = "edge-fra"
	pastCustomer = "acme"
	beforeEdge   = time.Hour
	behindEdge   = 2 * time.Hour
	// What is learnt of it later: from midnight on this namespace was another customer's.
	movedNamespace = "data"
	movedTo        = "globex"
)

// pastPatience bounds how long the leader may take for it.
const pastPatience = 15 * time.Minute

// lastMonth is the newest month that ended before anything that the demonstration
// itself meters, and the midnight in which its last day begins.
func lastMonth(live time.Time, zone *time.Location) (period string, edge time.Time) {
	year, month, _ := live.Add(-fleetAge).In(zone).Date()
	edge = time.Date(year, month, 0, 0, 0, 0, 0, zone)
	return edge.Format("2006-01"), edge.UTC()
}

// night is when the cluster was there.
func night(edge time.Time) schema.Window {
	return schema.Window{From: edge.Add(-beforeEdge), To: edge.Add(behindEdge)}
}

// past is the cluster of the month that is closed.
func past(w schema.Window) simulator.Fleet {
	all := simulator.DemoSince(w.From.Add(-time.Hour))
	cluster := all.Clusters[1]
	cluster.Name = pastCluster
	rename := func(node string) string { return "fra" + strings.TrimPrefix(node, "par") }
	for i := range cluster.Nodes {
		cluster.Nodes[i].Name, cluster.Nodes[i].Box = rename(cluster.Nodes[i].Name), "box-fra"
	}
	for i := range cluster.Pods {
		cluster.Pods[i].Node = rename(cluster.Pods[i].Node)
	}
	all.Boxes, all.Clusters = []simulator.Box{{Name: "box-fra", Since: all.Boxes[0].Since}}, []simulator.Cluster{cluster}
	return all
}

// closeMonth meters the month before, closes it, and corrects it; it calls pulled when
// the leader has what was metered, or will not have it. After a restart it goes on where
// it was.
func (d *Demo) closeMonth(ctx context.Context, pulled func()) error {
	defer pulled()
	zone, err := time.LoadLocation("Europe/Amsterdam") // pastCustomer's
	if err != nil {
		return err
	}
	period, edge := lastMonth(d.state.Live, zone)
	ctx, cancel := context.WithTimeout(ctx, pastPatience)
	defer cancel()
	if err := d.meterPast(ctx, night(edge)); err != nil {
		return err
	}
	pulled()
	if err := d.bill(ctx, period); err != nil {
		return err
	}
	if err := d.correct(ctx, period, edge); err != nil {
		return err
	}
	d.config.Progress(Event{Kind: "books", Period: period, Done: 1, Time: d.clock.Now()})
	return nil
}

// nothing is the source of a cluster that is gone.
type nothing struct{}

func (nothing) Read(context.Context) ([]reading.Body, error) { return nil, nil }

// meterPast meters the cluster's time through a follower of its own and lets the leader
// pull it: the cluster is in the fleet that night, and again while it is pulled.
func (d *Demo) meterPast(ctx context.Context, w schema.Window) (err error) {
	r := d.leader.Registry()
	there, err := r.History(ctx, fleet.KindCluster, w)
	if err != nil {
		return err
	}
	present, err := r.Fleet(ctx, d.clock.Now())
	if err != nil {
		return err
	}
	was := slices.ContainsFunc(there, func(o fleet.Object) bool { return o.Name() == pastCluster })
	if _, still := present.Cluster(pastCluster); was && !still {
		return nil // that was done before a restart
	}
	simulated, err := simulator.New(past(w))
	if err != nil {
		return err
	}
	gone, cancel := context.WithCancel(ctx)
	a, err := d.pastAgent(gone, simulated, w)
	if err != nil {
		cancel()
		return err
	}
	done := make(chan error, 1)
	go func() { done <- a.run(gone) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-done, os.RemoveAll(a.dir))
	}()
	source := func(t time.Time) ([]reading.Body, error) { return simulated.Readings(pastCluster, t), nil }
	if err := a.follower.Fill(ctx, w.From, w.To, source, nil); err != nil {
		return err
	}
	err = d.await(ctx, func() (bool, error) {
		tables, err := r.Completeness(ctx, pastCluster, w)
		expected, missing := 0, 0
		for _, t := range tables {
			expected, missing = expected+t.Expected, missing+t.Expected-t.Received
		}
		return expected > 0 && missing <= 0, err
	})
	if err != nil {
		return fmt.Errorf("pull %s: %w", pastCluster, err)
	}
	return d.leave(ctx)
}

// leave takes the cluster out of the fleet, as if it had not come again.
func (d *Demo) leave(ctx context.Context) error {
	objects, err := d.leader.Registry().Objects(ctx)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if o.Kind == fleet.KindCluster && o.Name() == pastCluster && o.ValidTo.IsZero() {
			_, err = d.leader.Registry().RemoveSince(ctx, fleet.KindCluster, pastCluster, "demo", o.ValidFrom)
		}
	}
	return err
}

// pastAgent tells the leader the cluster, and makes its follower, whose clock stands.
func (d *Demo) pastAgent(ctx context.Context, simulated *simulator.Simulator, w schema.Window) (*agent, error) {
	config := d.baseConfig(pastCluster)
	config.From, config.Interval = w.To, schema.Minute
	now := clock.NewManual(w.To.Add(follower.DefaultFactsDeadline + follower.DefaultSettleDeadline))
	log := slog.New(slog.DiscardHandler) // what is wrong with it, Fill says
	pods, err := watch.NewLog(watch.Config{}, now, log)
	if err != nil {
		return nil, err
	}
	infos := simulated.PodInfos(pastCluster, w.From, w.To)
	for i := range infos {
		if infos[i].End.IsZero() {
			infos[i].End, infos[i].EndReason = w.To, "Completed"
		}
	}
	pods.PutEnded(infos)
	made, err := follower.New(config, follower.Deps{Clock: now, Log: log, Registry: prometheus.NewRegistry(), Input: &follower.Input{Source: nothing{}, Log: pods}})
	if err != nil {
		return nil, fmt.Errorf("make follower of %s: %w", pastCluster, err)
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the follower of %s: %w", pastCluster, err)
	}
	a := &agent{cluster: pastCluster, dir: config.Dir, log: log, follower: made, listener: listener}
	spec := clusterSpec(pastCluster, a.endpoint())
	spec.Customer = pastCustomer
	objects := []fleet.Object{fleet.NewObject(pastCluster, spec).Since(w.From).Until(w.To),
		fleet.NewObject(pastCluster, spec).Since(d.clock.Now().Truncate(schema.Minute))} // again, to be pulled
	for _, node := range simulated.Fleet().Clusters[0].Nodes {
		objects = append(objects, fleet.NewObject(nodeName(pastCluster, node.Name),
			fleet.Node{Cluster: pastCluster, Node: node.Name, Hardware: hardwareName(node)}).Since(w.From).Until(w.To))
	}
	if _, err := d.leader.Registry().Apply(ctx, objects, "demo"); err != nil {
		return nil, errors.Join(err, a.close())
	}
	facts, err := seed.Of(ctx, d.leader.Registry(), pastCluster)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(a.seedDir()), 0o700)
	}
	if err == nil {
		err = facts.Write(a.seedDir())
	}
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

// await asks until something is so.
func (d *Demo) await(ctx context.Context, so func() (bool, error)) error {
	for {
		if yes, err := so(); err != nil || yes {
			return err
		}
		if err := d.clock.Sleep(ctx, d.config.Interval); err != nil {
			return err
		}
	}
}

// bill takes the month from its draft to its statement, by two persons.
func (d *Demo) bill(ctx context.Context, period string) error {
	b := d.leader.Books()
	known, err := b.List(ctx, pastCustomer, period)
	if err != nil || slices.ContainsFunc(known, func(p books.Period) bool { return p.State == books.StateClosed }) {
		return err
	}
	if err := d.settled(ctx, period); err != nil {
		return err
	}
	if _, err := b.Draft(ctx, pastCustomer, period, "dora"); err != nil {
		return err
	}
	if _, err := b.Review(ctx, pastCustomer, period, "dora"); err != nil {
		return err
	}
	if _, err := b.Approve(ctx, pastCustomer, period, "anna"); err != nil {
		return err
	}
	_, err = b.Close(ctx, pastCustomer, period, books.CloseRequest{By: "anna"})
	return err
}

// settled waits until nothing of the month is being computed any more.
func (d *Demo) settled(ctx context.Context, period string) error {
	err := d.await(ctx, func() (bool, error) {
		waiting, err := d.leader.Books().Waiting(ctx, pastCustomer, period)
		return len(waiting) == 0, err
	})
	if err != nil {
		return fmt.Errorf("wait for %s of %s: %w", period, pastCustomer, err)
	}
	return nil
}

// correct learns later whose a namespace was, and applies what that changes.
func (d *Demo) correct(ctx context.Context, period string, edge time.Time) error {
	rule := fleet.NewObject(pastCluster+"-"+movedNamespace, fleet.Assignment{Priority: 100, Cluster: pastCluster, Namespace: movedNamespace, Customer: movedTo}).
		Since(edge).Until(night(edge).To)
	if _, err := d.leader.Registry().Apply(ctx, []fleet.Object{rule}, "demo"); err != nil {
		return err
	}
	if err := d.settled(ctx, period); err != nil {
		return err
	}
	reason := fmt.Sprintf("the namespace %s was %s's since %s", movedNamespace, movedTo, edge.Format("2006-01-02 15:04 MST"))
	_, err := d.leader.Books().Apply(ctx, pastCustomer, period, "dora", reason)
	if errors.Is(err, registry.ErrStale) {
		return nil // somebody was faster, with the same
	}
	return err
}
