package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/calibrate"
	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/models"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
)

// calibration is what a calibration is told.
type calibration struct {
	node, points, since string
	user                userContext
	plan                calibrate.Plan
	jobs                calibrate.Jobs
	policy              string
	notes               registry.Calibration
}

func newCalibrate(a *app) *cobra.Command {
	o := &calibration{plan: calibrate.DefaultPlan()}
	command := &cobra.Command{
		Use:   "calibrate --node NAME",
		Short: "Measure a node's power at idle, 10, 50 and 100 % of load",
		Long: `Measure a node's power at idle, 10, 50 and 100 % of load by the meter of its box,
or its own, and keep the points: its hardware type's power model follows them.

Jobs of the stress image run on the node by the context of your kubeconfig, in a
namespace ` + calibrate.Namespace + `, which is removed again. What else runs on the node
stays, and is a part of the load that is noted. Other nodes behind the same meter
must be idle: what they draw by their models is taken off, and where one is busy the
calibration ends with an error.

--points enters what was measured elsewhere. A model that changes counts from the next
minute on; --since lets it count from a moment in the past, and the energy since then
is computed again.`,
		Example: `  accumulus calibrate --node ams-03.n1 --context ams-03
  accumulus calibrate --node ams-03.n1 --points idle=62.5,10=95,50=140,100=231 --since 2026-11-01T00:00:00Z`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.calibrate(cmd.Context(), o) },
	}
	flags := command.Flags()
	o.user.bind(flags, "context of your kubeconfig that reaches the cluster")
	flags.StringVar(&o.node, "node", "", "the node: name of its object, or CLUSTER/NODE")
	flags.StringVar(&o.points, "points", "", "watts that were measured elsewhere: idle=W,10=W,50=W,100=W")
	flags.StringVar(&o.since, "since", "", "let the model count from this moment in the past on (RFC 3339)")
	flags.DurationVar(&o.plan.Idle, "idle", o.plan.Idle, "how long to measure without a load")
	flags.DurationVar(&o.plan.Hold, "hold", o.plan.Hold, "how long each load stands")
	flags.DurationVar(&o.plan.Drop, "drop", o.plan.Drop, "of each, how much of its begin does not count")
	flags.IntVar(&o.plan.Repeats, "repeats", o.plan.Repeats, "how often; the median is kept, and the spread")
	flags.StringVar(&o.jobs.Image, "image", "ghcr.io/accumulus-metering/accumulus-stress:"+version, "image of the load")
	flags.StringVar(&o.policy, "image-pull-policy", string(corev1.PullIfNotPresent), "Always, IfNotPresent or Never")
	flags.DurationVar(&o.jobs.Wait, "wait", 2*time.Minute, "how long a Job may take to start")
	flags.StringVar(&o.notes.Firmware, "firmware", "", "note: firmware of the node")
	flags.StringVar(&o.notes.Governor, "governor", "", "note: governor of its CPUs' frequency")
	flags.StringVar(&o.notes.Notes, "notes", "", "note: anything else")
	a.outputFlag(command, asTable, asJSON)
	return command
}

func (a *app) calibrate(ctx context.Context, o *calibration) error {
	if o.node == "" || (o.points == "") == (o.user.name == "") {
		return errors.New("name the node with --node, and either the context of your kubeconfig that reaches its cluster with --context, or what was measured elsewhere with --points")
	}
	request := api.CalibrationRequest{Calibration: o.notes}
	var err error
	if o.since != "" {
		if request.Since, err = time.Parse(time.RFC3339, o.since); err != nil {
			return fmt.Errorf("since %q: use a time such as 2026-11-01T00:00:00Z", o.since)
		}
	}
	leader, err := a.client()
	if err != nil {
		return err
	}
	if o.points != "" {
		if request.Points, err = parsePoints(o.points); err != nil {
			return err
		}
		if request.Cluster, request.Node, err = nodeNamed(ctx, leader, o.node); err != nil {
			return err
		}
	} else if err := a.runCalibration(ctx, o, leader, &request); err != nil {
		return err
	}
	changed, err := leader.Calibrate(ctx, request)
	if err != nil {
		return err
	}
	return a.showCalibration(changed)
}

// nodeNamed is the node that an object, or CLUSTER/NODE, names.
func nodeNamed(ctx context.Context, leader *client.Client, name string) (cluster, node string, err error) {
	if cluster, node, ok := strings.Cut(name, "/"); ok {
		return cluster, node, nil
	}
	objects, err := leader.Objects(ctx, "node", name, nil)
	if err != nil {
		return "", "", err
	}
	for _, o := range objects {
		if n, ok := o.Spec.(fleet.Node); ok {
			return n.Cluster, n.Node, nil
		}
	}
	return "", "", fmt.Errorf("no node %q: `accumulus get node` shows them", name)
}

// runCalibration drives the load and reads the meter.
func (a *app) runCalibration(ctx context.Context, o *calibration, leader calibrate.Meter, request *api.CalibrationRequest) (err error) {
	if err := o.plan.Validate(); err != nil {
		return err
	}
	clk := clock.System()
	now := clk.Now().UTC().Truncate(schema.Minute)
	// Before anything is made: can its power be told at all?
	// What came of late is looked at first; where rows come later than that, what is older.
	var first models.Measured
	for _, w := range []schema.Window{{From: now.Add(-6 * schema.Minute), To: now.Add(-3 * schema.Minute)}, {From: now.Add(-20 * schema.Minute), To: now.Add(-10 * schema.Minute)}} {
		if first, err = leader.Measure(ctx, o.node, w); err != nil {
			return err
		}
		if first.Ready {
			break
		}
	}
	if !first.Ready {
		return fmt.Errorf("node %s was not metered of late: %s", o.node, first.Why)
	}
	config, err := o.user.config()
	if err != nil {
		return err
	}
	progress := func(text string) { _, _ = fmt.Fprintln(a.errOut, text) }
	progress(fmt.Sprintf("node %s by %s: %.0f W now; it takes %s", first.Node, strings.Join(first.Meters, ", "), first.Watts, o.plan.Length().Round(time.Minute)))
	for _, other := range first.Others {
		progress(fmt.Sprintf("behind the same meter: node %s, %.1f W by its model, taken off; it must stay idle", other.Node, other.Watts))
	}
	jobs := o.jobs
	jobs.Node, jobs.PullPolicy, jobs.Clock = first.Name, corev1.PullPolicy(o.policy), clk
	if jobs.API, err = kubernetes.NewForConfig(config); err != nil {
		return fmt.Errorf("use context %s: %w", o.user.name, err)
	}
	if err := jobs.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, jobs.Stop(context.WithoutCancel(ctx))) }()
	request.Cluster, request.Node, request.At = first.Cluster, first.Name, clk.Now().UTC()
	request.Points, err = calibrate.Run(ctx, first.Node, first.Capacity, o.plan, &jobs, leader, clk, progress)
	return err
}

// parsePoints reads idle=W,10=W,50=W,100=W.
func parsePoints(text string) ([]registry.CalibrationPoint, error) {
	var points []registry.CalibrationPoint
	for _, part := range strings.Split(text, ",") {
		name, watts, _ := strings.Cut(strings.TrimSpace(part), "=")
		if name == "idle" {
			name = "0"
		}
		load, err := strconv.ParseFloat(strings.TrimSuffix(name, "%"), 64)
		w, also := strconv.ParseFloat(watts, 64)
		if err != nil || also != nil || !(load >= 0 && load <= 100) || !(w > 0) {
			return nil, fmt.Errorf("points: %q is not such as idle=62.5 or 50=140, a load in %% and watts", part)
		}
		points = append(points, registry.CalibrationPoint{Load: load, Utilisation: load / 100, Watts: w})
	}
	return points, nil
}

func (a *app) showCalibration(changed models.Changed) error {
	if a.output == asJSON {
		return a.printJSON(changed)
	}
	t := &table{columns: right("LOAD", "UTILISATION", "WATTS", "SPREAD", "REPEATS")}
	for _, p := range changed.Calibration.Points {
		t.add(fmt.Sprintf("%.0f %%", p.Load), fmt.Sprintf("%.1f %%", p.Utilisation*100), fmt.Sprintf("%.1f W", p.Watts), fmt.Sprintf("%.1f W", p.SpreadWatts), strconv.Itoa(p.Repeats))
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	if len(changed.Models) == 0 {
		a.printf("\nKept; the model of %s stays as it is.\n", changed.Calibration.Hardware)
		return nil
	}
	a.printf("\nThe model of %s follows it from %s on; %d quarters of boxes are computed again. `accumulus power models` shows it.\n",
		changed.Calibration.Hardware, humanTime(changed.Models[0].From), changed.Due)
	return nil
}
