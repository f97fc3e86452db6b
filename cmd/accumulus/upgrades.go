package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/spf13/cobra"
)

// newClusterUpgrades are the upgrades of all clusters, in waves.
func newClusterUpgrades(a *app) *cobra.Command {
	command := &cobra.Command{
		Use:   "upgrades",
		Short: "Upgrade all clusters in waves: list, start, stop, resume",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			all, err := c.Upgrades(cmd.Context())
			if err != nil {
				return err
			}
			list := table{columns: append(left("ID", "VERSION", "STATE"), append(right("WAVE", "DONE", "FAILED", "CLUSTERS"), left("BEGAN", "MESSAGE")...)...)}
			for _, u := range all {
				done, failed := count(u)
				list.add(strconv.FormatInt(u.ID, 10), u.Version, u.State, strconv.Itoa(u.Wave+1), strconv.Itoa(done), strconv.Itoa(failed),
					strconv.Itoa(len(u.Clusters)), humanTime(u.Created), u.Message)
			}
			return list.writeOr(a.out, "No upgrade of the fleet was begun yet.")
		},
	}
	command.AddCommand(newUpgradesStart(a), newUpgradesStop(a), newUpgradesResume(a))
	return command
}

// count is how many clusters of an upgrade are done, and have failed.
func count(u registry.Upgrade) (done, failed int) {
	for _, c := range u.Clusters {
		switch c.State {
		case registry.UpgradeDone:
			done++
		case registry.UpgradeFailed:
			failed++
		}
	}
	return done, failed
}

func newUpgradesStart(a *app) *cobra.Command {
	var plan registry.UpgradePlan
	var soak time.Duration
	command := &cobra.Command{
		Use:   "start",
		Short: "Bring all clusters to the leader's version: canaries first, then wave by wave",
		Example: `  accumulus cluster upgrades start --canary ams-03 --soak 1h --wave-size 10
  accumulus cluster upgrades start --canaries 2 --max-failures 3`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			plan.Soak = fleet.Duration(soak)
			u, err := c.StartUpgrade(cmd.Context(), plan)
			if err != nil {
				return err
			}
			if u.State == registry.UpgradeDone {
				a.printf("%s\n", u.Message)
				return nil
			}
			a.printf("upgrade %d of %d clusters to %s has begun; `accumulus cluster upgrades` shows how far it is\n", u.ID, len(u.Clusters), u.Version)
			return nil
		},
	}
	flags := command.Flags()
	flags.StringSliceVar(&plan.Canary, "canary", nil, "cluster of the first wave; may be given several times")
	flags.IntVar(&plan.Canaries, "canaries", 0, "how many clusters make the first wave, in place of --canary")
	flags.IntVar(&plan.WaveSize, "wave-size", 0, "clusters of each later wave (default: all that are left)")
	flags.DurationVar(&soak, "soak", 0, "how long a wave is watched before the next one begins")
	flags.IntVar(&plan.MaxFailures, "max-failures", 1, "with so many clusters that failed it stops")
	return command
}

func upgradeID(text string) (int64, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("upgrade %q: give the number that `accumulus cluster upgrades` shows", text)
	}
	return id, nil
}

func newUpgradesStop(a *app) *cobra.Command {
	return newUpgradesChange(a, "stop ID", "Begin no further cluster; those that were begun go on", "is stopped", (*client.Client).StopUpgrade)
}

func newUpgradesResume(a *app) *cobra.Command {
	return newUpgradesChange(a, "resume ID", "Go on with an upgrade that was stopped; clusters that failed are tried again", "goes on", (*client.Client).ResumeUpgrade)
}

// newUpgradesChange is a command that changes how an upgrade goes.
func newUpgradesChange(a *app, use, short, done string, change func(*client.Client, context.Context, int64) (registry.Upgrade, error)) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := upgradeID(args[0])
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if _, err := change(c, cmd.Context(), id); err != nil {
				return err
			}
			a.printf("upgrade %d %s\n", id, done)
			return nil
		},
	}
}
