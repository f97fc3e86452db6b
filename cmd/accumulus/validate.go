package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/validate"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
)

// errInvalid is a meter that is off by more than is allowed.
var errInvalid = errors.New("the meter differs from the container's own counters by more than is allowed")

func newValidate(a *app) *cobra.Command {
	var user userContext
	var cluster string
	var wait time.Duration
	options := validate.Options{PullPolicy: corev1.PullIfNotPresent}
	var policy string
	plan := validate.DefaultPlan()
	command := &cobra.Command{
		Use:   "validate",
		Short: "Hold the meter of a cluster against a container's own counters",
		Long: fmt.Sprintf(`Run loads of known sizes in a pod of the cluster, and compare what its own
control group counted with what the meter says of the same minutes: one and two
cores, 10 to 100 MB of memory, 20 to 120 MB of disk, a page fetched many times.

CPU, memory and network may differ by %.0f %%, disk space by one block. It makes the
namespace %s, with two pods, and removes it again. It takes about %.0f minutes.`,
			validate.Within*100, validate.Namespace, (plan.Length() + 5*time.Minute).Minutes()),
		Example: `  accumulus validate --cluster ams-03 --context ams-03`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cluster == "" || user.name == "" {
				return errors.New("name the cluster with --cluster, and the context of your kubeconfig that reaches it with --context")
			}
			options.PullPolicy, options.Wait = corev1.PullPolicy(policy), wait
			return a.validate(cmd.Context(), cluster, user, plan, options)
		},
	}
	flags := command.Flags()
	user.bind(flags, "context of your kubeconfig that reaches the cluster")
	flags.StringVar(&cluster, "cluster", "", "the cluster's name at the leader")
	flags.StringVar(&options.Image, "image", "ghcr.io/accumulus-metering/accumulus-stress:"+version, "image of the pods")
	flags.StringVar(&policy, "image-pull-policy", string(corev1.PullIfNotPresent), "Always, IfNotPresent or Never")
	flags.StringVar(&options.Node, "node", "", "node to run on (default: where the scheduler likes)")
	flags.IntVar(&plan.Minutes, "minutes", plan.Minutes, "whole minutes that each load is compared for")
	flags.DurationVar(&plan.Interval, "scrape-interval", plan.Interval, "the follower's, which loads must outlast")
	flags.DurationVar(&wait, "wait", 2*time.Minute, "how long the pods may take to start")
	a.outputFlag(command, asTable, asJSON)
	return command
}

func (a *app) validate(ctx context.Context, cluster string, user userContext, plan validate.Plan, options validate.Options) (err error) {
	config, err := user.config()
	if err != nil {
		return err
	}
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("use context %s: %w", user.name, err)
	}
	leader, err := a.client()
	if err != nil {
		return err
	}
	meter := validate.Leader{API: leader, Cluster: cluster}
	if _, err := meter.Settled(ctx); err != nil { // before pods are made
		return err
	}
	clk := clock.System()
	pods, err := validate.Start(ctx, api, options, clk)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pods.Stop(context.WithoutCancel(ctx))) }()
	results, err := validate.Run(ctx, plan, pods, meter, clk, func(text string) { _, _ = fmt.Fprintln(a.errOut, text) })
	if err != nil {
		return err
	}
	if err := a.showResults(results); err != nil {
		return err
	}
	for _, r := range results {
		if !r.OK() {
			return errInvalid
		}
	}
	return nil
}

func (a *app) showResults(results []validate.Result) error {
	if a.output == asJSON {
		return a.printJSON(results)
	}
	units := map[validate.Quantity]string{validate.CPU: "core-s", validate.Memory: "B", validate.Disk: "B", validate.Network: "B"}
	t := &table{}
	t.columns = append(left("QUANTITY", "LOAD", "FROM"), right("CONTAINER", "METERED", "DIFFERENCE", "ALLOWED")...)
	t.columns = append(t.columns, left("UNIT", "")...)
	for _, r := range results {
		verdict := "ok"
		if !r.OK() {
			verdict = "WRONG"
		}
		figure := func(v float64) string { return fmt.Sprintf("%.3f", v) }
		if r.Quantity != validate.CPU {
			figure = func(v float64) string { return fmt.Sprintf("%.0f", v) }
		}
		t.add(string(r.Quantity), r.Load, r.Window.From.Format(time.TimeOnly), figure(r.Container), figure(r.Metered),
			figure(r.Difference()), figure(r.Allowed), units[r.Quantity], verdict)
	}
	return t.write(a.out)
}
