// Command accumulus-follower meters one cluster, or this machine, and answers
// for it on one port. It links no Helm and no leader.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/accumulus-metering/accumulus/follower"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/settings"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "accumulus-follower: %v\n", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	name, err := os.Hostname()
	if err != nil {
		name = ""
	}
	options := follower.NewOptions(name)
	var config, clockURL, level string
	cmd := &cobra.Command{
		Use:   "accumulus-follower",
		Short: "Meter a cluster, or this machine, for Accumulus",
		Long: `Reads what the nodes and pods of a cluster used, settles it minute by minute
into its own store, and answers the leader's queries.

Each flag is also a variable (--scrape-interval is ACCUMULUS_SCRAPE_INTERVAL)
and a key of the YAML file given by --config. The command line wins over the
environment, the environment over the file.`,
		Example: `  accumulus-follower                                 # meter this machine
  accumulus-follower --source kubelet --cluster edge-1 --kubeconfig ~/.kube/config`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
	}
	flags := cmd.Flags()
	options.BindFlags(flags)
	flags.StringVar(&config, "config", "", "YAML file of settings")
	flags.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&clockURL, "clock-url", "", "the clock that another process shows")
	if err := flags.MarkHidden("clock-url"); err != nil {
		panic(err) // the flag is one line above
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := fill(cmd, &config); err != nil {
			return fmt.Errorf("configuration:\n%w", err)
		}
		var threshold slog.Level
		wrong := threshold.UnmarshalText([]byte(level))
		if wrong != nil {
			wrong = fmt.Errorf("log-level: %w", wrong)
		}
		complete, err := options.Complete()
		if err := errors.Join(err, wrong); err != nil {
			return fmt.Errorf("configuration:\n%w", err)
		}
		clk := clock.System()
		if clockURL != "" {
			clk = clock.NewRemote(clockURL, &http.Client{})
		}
		return run(cmd.Context(), complete, clk, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: threshold})))
	}
	return cmd
}

// fill takes what is not on the command line from the environment and the
// file; the file's own name may come from the environment.
func fill(cmd *cobra.Command, config *string) error {
	if value, ok := os.LookupEnv(settings.Variable("config")); ok && *config == "" {
		*config = value
	}
	var file []byte
	if *config != "" {
		var err error
		if file, err = os.ReadFile(*config); err != nil {
			return fmt.Errorf("config: %w", err)
		}
	}
	return settings.Fill(cmd.Flags(), os.LookupEnv, file)
}

func run(ctx context.Context, config follower.Config, clk clock.Clock, log *slog.Logger) error {
	registry := prometheus.NewRegistry()
	config.MemoryTarget = follower.Frugal()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	f, err := follower.New(config, follower.Deps{Clock: clk, Log: log, Registry: registry})
	if err != nil {
		return err
	}
	if err := f.Run(ctx); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}
