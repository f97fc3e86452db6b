package main

import (
	"github.com/spf13/cobra"
)

func newSeed(a *app) *cobra.Command {
	var out string
	command := &cobra.Command{
		Use:   "seed NAME --out DIR",
		Short: "Write what a cluster's follower may know of the fleet, for a follower that gets no ConfigMap",
		Long: `Writes seed.sql.gz and its signature, seed.sql.gz.sig, into a directory: the facts
about the cluster's own nodes, and nothing else. A follower that is reached by URL
reads them there (--seed DIR --seed-public-key KEY); one that the leader installed
gets them by itself.`,
		Example: `  accumulus seed edge-a --out /srv/accumulus/seed-edge-a
  accumulus seed key
  accumulus seed renew edge-a`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			signed, err := c.Seed(cmd.Context(), args[0], false)
			if err != nil {
				return err
			}
			if err := signed.Write(out); err != nil {
				return err
			}
			a.printf("seed of %s, version %s: %d bytes in %s\n", args[0], signed.Version, len(signed.Packed), out)
			return nil
		},
	}
	command.Flags().StringVar(&out, "out", "", "directory, made when it is missing")
	_ = command.MarkFlagRequired("out") // the flag was just added
	command.AddCommand(newSeedKey(a), newSeedRenew(a))
	return command
}

func newSeedKey(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "key",
		Short: "Print the public key by which followers know the leader's seeds",
		Long:  "Prints the key that a follower's --seed-public-key and the chart's seed.publicKey take.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			key, err := c.SeedKey(cmd.Context())
			if err != nil {
				return err
			}
			a.printf("%s\n", key)
			return nil
		},
	}
}

func newSeedRenew(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "renew NAME",
		Short: "Give a cluster's seed a higher generation: its follower has one that the leader's registry, restored from a copy, has forgotten",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			signed, err := c.Seed(cmd.Context(), args[0], true)
			if err != nil {
				return err
			}
			a.printf("seed of %s has generation %d now; a ConfigMap follows by itself, a directory by `accumulus seed %s --out DIR`\n", args[0], signed.Generation, args[0])
			return nil
		},
	}
}
