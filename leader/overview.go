package leader

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/followers"
	"github.com/accumulus-metering/accumulus/leader/manager"
	"github.com/accumulus-metering/accumulus/leader/pull"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/leader/status"
)

// hanging is when a loop counts as that, in ticks.
const hanging = 20

// Overview is how the leader and its clusters are, with each reason why data
// are missing.
func (l *Leader) Overview(ctx context.Context) (status.Overview, error) {
	now := l.clock.Now()
	snapshot, err := l.registry.Fleet(ctx, now)
	if err != nil {
		return status.Overview{}, err
	}
	overview := status.Overview{Now: now, Clusters: []status.Cluster{}}
	for _, cluster := range snapshot.Clusters() {
		described, err := l.clusterStatus(ctx, now, snapshot, cluster)
		if err != nil {
			return overview, err
		}
		overview.Clusters = append(overview.Clusters, described)
		refused, err := l.registry.QuarantineCount(ctx, cluster.Name)
		if err != nil {
			return overview, err
		}
		overview.Leader.Quarantined += refused
	}
	if err := l.leaderStatus(ctx, snapshot, &overview); err != nil {
		return overview, err
	}
	return overview, nil
}

func (l *Leader) leaderStatus(ctx context.Context, snapshot *fleet.Fleet, overview *status.Overview) error {
	loop := l.manager.Loop()
	due, err := l.registry.DueCount(ctx)
	if err != nil {
		return err
	}
	of := &overview.Leader
	of.ID, of.Version, of.Demo, of.Running, of.Started = l.id, l.config.API.Version, l.config.API.Demo, l.running(), l.started
	of.TickSeconds, of.LastTick, of.MissedTicks = l.config.Tick.Seconds(), moment(loop.Ticked), loop.Missed
	of.ClusterCount, of.Problems = len(overview.Clusters), []status.Problem{}
	for _, n := range due {
		of.DueWork += int64(n)
	}
	if !of.Running {
		of.Problems = append(of.Problems, status.NewProblem(status.LoopsStopped, "the loops are stopped: nothing is pulled or computed"))
	}
	if len(overview.Clusters) == 0 {
		of.Problems = append(of.Problems, status.NewProblem(status.NoCluster, "no cluster is known"))
	}
	if len(snapshot.PriceLists()) == 0 {
		of.Problems = append(of.Problems, status.NewProblem(status.NoPriceList, "there is no price list"))
	}
	if loop.Failed != nil {
		of.Problems = append(of.Problems, status.NewProblem(status.ProcessorFailing, loop.Failed.Error()))
	}
	for _, meter := range l.meters.Status() {
		if meter.Error != "" {
			of.Problems = append(of.Problems, status.NewProblem(status.MeterFailing, fmt.Sprintf("meter %s of box %s: %s", meter.Meter, meter.Box, meter.Error)))
		}
	}
	for _, grid := range l.carbon.Status() {
		of.Grids = append(of.Grids, status.Grid{Name: grid.Grid, Zone: grid.Zone, Asked: moment(grid.Asked), Newest: moment(grid.Newest), Error: grid.Error})
		if grid.Error != "" {
			failing := status.NewProblem(status.GridFailing, fmt.Sprintf("intensity of grid %s (%s): %s", grid.Grid, grid.Zone, grid.Error))
			failing.Since = moment(grid.ErrorTime)
			of.Problems = append(of.Problems, failing)
		}
	}
	copies, err := l.archive.Copies(ctx)
	if err != nil {
		return err
	}
	if copies != nil && copies.Failed != "" {
		failing := status.NewProblem(status.ArchiveNotCopied, fmt.Sprintf("%s to be copied to %s: %s", plural.Of(copies.Waiting, "archived day waits", "archived days wait"), copies.Bucket, copies.Failed))
		failing.Since = moment(copies.Since)
		of.Problems = append(of.Problems, failing)
	}
	for _, series := range l.prices.Status() {
		if series.Error != "" {
			of.Problems = append(of.Problems, status.NewProblem(status.PricesFailing, fmt.Sprintf("prices of %s: %s", series.Series, series.Error)))
		}
	}
	return nil
}

func (l *Leader) clusterStatus(ctx context.Context, now time.Time, snapshot *fleet.Fleet, cluster fleet.Cluster) (status.Cluster, error) {
	contact := l.manager.Contact(cluster.Name)
	settled, err := l.manager.Settled(ctx, cluster.Name)
	if err != nil {
		return status.Cluster{}, err
	}
	described := status.Cluster{Name: cluster.Name, Customer: cluster.Customer, Provider: cluster.Provider, Region: cluster.Region,
		URL: cluster.URL, Via: cluster.Via, Manage: cluster.Manage, Nodes: len(snapshot.NodesOfCluster(cluster.Name)), LastContact: moment(contact.Succeeded), Settled: moment(settled),
		State: status.OK, Problems: append(append(problems(contact), l.tokenProblems(cluster.Name)...), l.seedProblems(cluster.Name)...)}
	if !settled.IsZero() {
		lag := now.Sub(settled).Seconds()
		described.LagSeconds = &lag
	}
	if next := contact.Follower.NextWindow; !next.IsZero() {
		described.NextWindow = &next
	}
	if h := contact.Follower.History; h != nil {
		described.History = &status.Progress{From: h.From, To: h.To, Done: h.Done}
	}
	if contact.Err != nil {
		described.LastError = &status.Failure{Time: contact.Failed, Message: contact.Err.Error()}
		described.NextAttempt = moment(contact.NextAttempt)
	}
	refused, err := l.registry.QuarantineCount(ctx, cluster.Name)
	if err != nil {
		return described, err
	}
	if refused > 0 {
		described.Problems = append(described.Problems, status.NewProblem(status.RowsQuarantined, plural.Of(refused, "row names", "rows name")+" another cluster"))
	}
	if err := l.refusedRows(ctx, &described); err != nil {
		return described, err
	}
	if err := l.installProblem(ctx, &described); err != nil {
		return described, err
	}
	if settled.IsZero() && contact.Err == nil {
		described.Problems = append(described.Problems, status.NewProblem(status.NoWindowYet, "no window has settled yet"))
	}
	for _, box := range snapshot.BoxesOfCluster(cluster.Name) {
		if len(snapshot.MetersOfBox(box.Name)) == 0 {
			described.Problems = append(described.Problems, status.NewProblem(status.NoMeter, "box "+box.Name+" has no electricity meter"))
		}
	}
	late, behind := l.behind(now, settled, cluster, contact)
	switch {
	case !l.running():
		described.State = status.Stopped
	case contact.Err != nil && !errors.Is(contact.Err, pull.ErrQuarantineFull):
		described.State = status.Unreachable
	case settled.IsZero():
		described.State = status.Waiting
	case behind:
		described.State = status.Lagging
		described.Problems = append(described.Problems, late)
	}
	return described, nil
}

// refusedRows tells of rows that the centre's store does not take, by table and
// by what is the matter, and of tables that are not pulled for them.
func (l *Leader) refusedRows(ctx context.Context, of *status.Cluster) error {
	counts, err := l.registry.QuarantineCounts(ctx, registry.QuarantineFilter{Cluster: of.Name, Kind: registry.Refused})
	if err != nil {
		return err
	}
	byTable := make(map[string]int64)
	for _, c := range counts {
		if c.Rows > 0 {
			problem := status.NewProblem(status.RowsRefused, fmt.Sprintf("%s of %s: %s", plural.Of(c.Rows, "row", "rows"), c.Table, c.Class))
			of.Problems = append(of.Problems, problem)
		}
		before := byTable[c.Table]
		byTable[c.Table] += c.Rows
		if before < registry.MaxRefused && byTable[c.Table] >= registry.MaxRefused {
			of.Problems = append(of.Problems, status.NewProblem(status.QuarantineFull, "table "+c.Table+" is not pulled"))
		}
	}
	return nil
}

// problems are the reasons that the last contact gave.
func problems(contact manager.Contact) []status.Problem {
	list := []status.Problem{}
	add := func(code status.Code, message string) { list = append(list, status.NewProblem(code, message)) }
	var file *followers.FileError
	switch err := contact.Err; {
	case err == nil:
	case accessRefused(err):
		add(status.AccessRefused, err.Error())
	case errors.As(err, &file):
		add(status.LinkFiles, file.Error())
	case errors.Is(err, followers.ErrUnauthorized):
		add(status.FollowerUnauthorized, err.Error())
	case errors.Is(err, influxsync.ErrMismatch):
		add(status.SyncMismatch, err.Error())
	case errors.Is(err, pull.ErrQuarantineFull): // told by table
	default:
		add(status.FollowerUnreachable, err.Error())
	}
	if errors.Is(contact.PushErr, influxsync.ErrFenced) {
		fenced := status.NewProblem(status.Fenced, contact.PushErr.Error())
		fenced.Since = moment(contact.PushFailed)
		list = append(list, fenced)
	}
	follower := contact.Follower
	if contact.Succeeded.IsZero() {
		return list
	}
	for _, source := range follower.Sources {
		switch {
		case source.Error == "":
		case strings.Contains(source.Error, "403"):
			add(status.KubeletForbidden, source.Name+": "+source.Error)
		case strings.Contains(source.Error, "kubelet"):
			add(status.KubeletUnreachable, source.Name+": "+source.Error)
		default:
			add(status.SourceFailing, source.Name+": "+source.Error)
		}
	}
	if follower.StoreError != "" {
		add(status.SourceFailing, "the follower's store: "+follower.StoreError)
	}
	if !follower.Clock.Trusted && follower.Clock.Reason != "" {
		add(status.ClockOff, follower.Clock.Reason)
	}
	switch {
	case follower.Seed.Error != "" && follower.Seed.Loaded:
		add(status.SeedRefused, follower.Seed.Error)
	case follower.Seed.Error != "":
		add(status.SeedMissing, follower.Seed.Error)
	case !follower.Seed.Loaded:
		add(status.SeedMissing, "no seed is loaded")
	}
	if len(follower.UnknownNodes) > 0 {
		add(status.UnknownNode, "unknown nodes: "+strings.Join(follower.UnknownNodes, ", "))
	}
	if follower.WaitingRows > 0 {
		add(status.RowsWaiting, plural.Of(follower.WaitingRows, "row waits", "rows wait")+" for facts")
	}
	return list
}

// Live fails when the loop hangs.
func (l *Leader) Live() error {
	if !l.running() {
		return nil
	}
	last := l.manager.Loop().Ticked
	if last.IsZero() {
		last = l.started
	}
	if silent := l.clock.Now().Sub(last); silent > hanging*l.config.Tick {
		return fmt.Errorf("the loop has not finished a tick for %s", silent.Round(time.Second))
	}
	return nil
}

// Ready fails until the first tick is done and every cluster has rows.
func (l *Leader) Ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), schema.Minute)
	defer cancel()
	if l.manager.Loop().Ticked.IsZero() {
		return errors.New("the first tick is not done")
	}
	snapshot, err := l.registry.Fleet(ctx, l.clock.Now())
	if err != nil {
		return err
	}
	var waiting []string
	for _, cluster := range snapshot.Clusters() {
		settled, err := l.manager.Settled(ctx, cluster.Name)
		if err != nil {
			return err
		}
		if settled.IsZero() {
			waiting = append(waiting, cluster.Name)
		}
	}
	if len(waiting) > 0 {
		return fmt.Errorf("no rows yet of %s", strings.Join(waiting, ", "))
	}
	return nil
}

// moment is t, or nil for the zero time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
