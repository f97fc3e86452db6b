package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/leader/access"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/spf13/cobra"
)

func newCluster(a *app) *cobra.Command {
	command := &cobra.Command{Use: "cluster", Aliases: []string{"clusters"}, Short: "List, add and remove clusters"}
	command.AddCommand(newClusterList(a), newClusterAdd(a), newClusterRemove(a), newClusterStatus(a),
		newClusterUpgrade(a), newClusterUpgrades(a), newClusterAccess(a), newClusterRotate(a))
	parent(command)
	return command
}

func newClusterList(a *app) *cobra.Command {
	command := &cobra.Command{
		Use:   "list",
		Short: "List the clusters and how far their data reach",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			overview, err := c.Overview(cmd.Context())
			if err != nil {
				return err
			}
			if a.output == asJSON {
				return a.printJSON(overview.Clusters)
			}
			t := &table{columns: append(left("NAME", "STATE"), right("NODES", "LAG")...)}
			t.columns = append(t.columns, left("CUSTOMER", "PROVIDER", "REGION", "URL")...)
			for _, c := range overview.Clusters {
				lag := nextWindow(c, overview.Now)
				if c.Settled != nil {
					lag = humanSpan(overview.Now.Sub(*c.Settled))
				}
				t.add(c.Name, string(c.State), fmt.Sprint(c.Nodes), lag, c.Customer, c.Provider, c.Region, cmp.Or(c.URL, c.Via))
			}
			if a.output == asCSV {
				return t.writeCSV(a.out)
			}
			if len(overview.Clusters) == 0 {
				a.printf("No cluster yet. Add one: accumulus cluster add NAME --context CONTEXT, or --url http://…:8081\n")
				return nil
			}
			return t.write(a.out)
		},
	}
	a.outputFlag(command, asTable, asJSON, asCSV)
	return command
}

func newClusterAdd(a *app) *cobra.Command {
	var spec fleet.Cluster
	var by contextOptions
	command := &cobra.Command{
		Use:   "add NAME --context CONTEXT | --url URL",
		Short: "Add a cluster: the leader installs its follower, or begins to pull from one by URL",
		Long: `Adds a cluster.

With --context, a context of your kubeconfig: it is used on this machine alone, with
the programs that it names (those of GKE, EKS and AKS included), to make a service
account for the leader with the few rights that it needs; "accumulus cluster access
NAME --print" shows them. Only that account's token goes to the leader, which installs
the follower and reaches it through the cluster's API server. May be run again: it
mends the account and gives the leader new credentials.

With --url, a follower that runs already.`,
		Example: `  accumulus cluster add ams-03 --context gke_acme_europe-west4_ams-03 --customer acme
  accumulus cluster add edge-a --url https://edge-a.example:8081 --customer acme --follower-token-file edge-a.token`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if by.name != "" {
				return a.addByContext(cmd.Context(), args[0], spec, by)
			}
			if given := by.given(cmd.Flags()); given != "" && spec.URL != "" {
				return fmt.Errorf("--%s goes with --context only: with --url the leader neither installs nor has an account there; leave it out", given)
			}
			if spec.URL == "" {
				return errors.New("say where the cluster is: --context CONTEXT of your kubeconfig, or --url URL of its follower")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := c.AddCluster(cmd.Context(), args[0], spec); err != nil {
				return err
			}
			a.printf("cluster %s was added; `accumulus cluster status %s` shows when its first window comes\n", args[0], args[0])
			return nil
		},
	}
	flags := command.Flags()
	flags.StringVar(&spec.URL, "url", "", "where its follower is; a path is kept, such as that of an API server's proxy")
	flags.StringVar(&spec.Customer, "customer", "", "who pays for it")
	flags.StringVar(&spec.Provider, "provider", "", "who runs its machines")
	flags.StringVar(&spec.Region, "region", "", "where they stand")
	flags.StringVar(&spec.TokenFile, "follower-token-file", "", "file on the leader's machine with the follower's leader token")
	flags.StringVar(&spec.CAFile, "follower-ca-file", "", "CA of the follower's certificate on the leader's machine, PEM")
	flags.StringVar(&spec.ClientCertFile, "client-cert-file", "", "certificate that the leader shows, on its machine, PEM; with --client-key-file")
	flags.StringVar(&spec.ClientKeyFile, "client-key-file", "", "its key, PEM")
	flags.StringVar(&spec.HeaderFile, "header-file", "", `file on the leader's machine with lines "Name: value", sent with each request, for a proxy on the way`)
	flags.DurationVar((*time.Duration)(&spec.PullInterval), "pull-interval", 0, "least time between two pulls: more minutes at once cost the follower less (0 = each tick)")
	flags.BoolVar(&spec.Compress, "compress", false, "pack rows with gzip, for a slow link: it costs the follower CPU")
	by.bind(flags)
	return command
}

func newClusterRemove(a *app) *cobra.Command {
	var yes, force bool
	var user userContext
	command := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a cluster: pull to its last settled window, uninstall its follower; its history is kept",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			question := "Remove cluster " + args[0] + "? Its history is kept."
			if user.name != "" {
				question = "Remove cluster " + args[0] + ", and the leader's account in the cluster of context " + user.name + "? Its history is kept."
			}
			if err := a.confirm(yes, question); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := c.RemoveCluster(cmd.Context(), args[0], force); err != nil {
				return err
			}
			a.printf("cluster %s was removed; its history is kept\n", args[0])
			return a.revoke(cmd.Context(), user)
		},
	}
	user.bind(command.Flags(), "context of your kubeconfig: delete the leader's account in that cluster, too")
	command.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	command.Flags().BoolVar(&force, "force", false, "remove it although its last pull fails, or the cluster cannot be reached: what was not pulled is lost, and what stands there stays")
	return command
}

// revoke deletes the leader's account in the cluster of a context, if one is given.
func (a *app) revoke(ctx context.Context, user userContext) error {
	if user.name == "" {
		return nil
	}
	config, err := user.config()
	if err != nil {
		return err
	}
	if err := access.Revoke(ctx, config); err != nil {
		return fmt.Errorf("the leader's account in the cluster of context %s is still there: %w", user.name, err)
	}
	a.printf("the leader's account in the cluster of context %s was deleted; its namespace %s was kept\n", user.name, access.Namespace)
	return nil
}
