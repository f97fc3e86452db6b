package main

import (
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/spf13/cobra"
)

func newCluster(a *app) *cobra.Command {
	command := &cobra.Command{Use: "cluster", Aliases: []string{"clusters"}, Short: "List, add and remove clusters"}
	command.AddCommand(newClusterList(a), newClusterAdd(a), newClusterRemove(a), newClusterStatus(a))
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
				t.add(c.Name, string(c.State), fmt.Sprint(c.Nodes), lag, c.Customer, c.Provider, c.Region, c.URL)
			}
			if a.output == asCSV {
				return t.writeCSV(a.out)
			}
			if len(overview.Clusters) == 0 {
				a.printf("No cluster yet. Add one: accumulus cluster add NAME --url http://…:8081\n")
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
	command := &cobra.Command{
		Use:     "add NAME --url URL",
		Short:   "Add a cluster: the leader begins to pull from its follower",
		Example: "  accumulus cluster add edge-a --url https://edge-a.example:8081 --customer acme --follower-token-file edge-a.token",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
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
	_ = command.MarkFlagRequired("url") // the flag was just added
	return command
}

func newClusterRemove(a *app) *cobra.Command {
	var yes bool
	command := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a cluster: pull to its last settled window, then no more; its history is kept",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.confirm(yes, "Remove cluster "+args[0]+"? Its history is kept."); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := c.RemoveCluster(cmd.Context(), args[0]); err != nil {
				return err
			}
			a.printf("cluster %s was removed; its history is kept\n", args[0])
			return nil
		},
	}
	command.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return command
}
