package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/demo"
	"github.com/spf13/cobra"
)

// newDemo is the whole product on this machine.
func newDemo(a *app) *cobra.Command {
	config := demo.Config{Version: version}
	var verbose bool
	command := &cobra.Command{
		Use:   "demo",
		Short: "Run a leader and three followers on this machine",
		Long: `Runs the whole product in one process: a leader and three followers on embedded
stores. One follower meters this very machine; two meter simulated edge clusters,
whose kubelets, API servers and electricity meters answer on loopback.

A request from this machine needs no token here: it may look, not change.`,
		Example: `  accumulus demo
  accumulus demo --data ./accumulus-data     # keep everything across restarts`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd.Context(), a, config, verbose)
		},
	}
	flags := command.Flags()
	flags.StringVar(&config.Dir, "data", "", "keep everything in this directory; without it, what is metered goes with the process")
	flags.StringVar(&config.Listen, "listen", "127.0.0.1:8080", "loopback address of the leader")
	flags.DurationVar(&config.Interval, "interval", 5*time.Second, "length of a scrape and of a tick")
	flags.BoolVar(&config.History, "history", true, "fill the day before the start, and close the month before")
	flags.BoolVar(&config.Host, "host", true, "meter this machine too")
	flags.BoolVarP(&verbose, "verbose", "v", false, "log what leader and followers do")
	command.AddCommand(newLoad())
	return command
}

func runDemo(ctx context.Context, a *app, config demo.Config, verbose bool) error {
	if config.Dir == "" {
		dir, err := os.MkdirTemp("", "accumulus-demo-")
		if err != nil {
			return fmt.Errorf("make data directory: %w", err)
		}
		defer func() { _ = os.RemoveAll(dir) }() // it holds nothing of worth
		config.Dir = dir
	}
	if self, err := os.Executable(); err == nil {
		config.Workload = []string{self, "demo", "load"}
	}
	level := slog.LevelWarn
	if verbose {
		level = slog.LevelInfo
	}
	say := &narrator{out: a.out, dir: config.Dir}
	config.Progress = say.event
	d, err := demo.New(config, clock.System(), slog.New(slog.NewTextHandler(a.errOut, &slog.HandlerOptions{Level: level})))
	if err != nil {
		return err
	}
	a.printf("Starting a leader and its followers; data in %s\n", config.Dir)
	if err := d.Run(ctx); err != nil {
		return err
	}
	a.printf("Stopped.\n")
	return nil
}

// narrator tells a person what happens, line by line.
type narrator struct {
	mu  sync.Mutex
	out io.Writer
	dir string

	server string // as a flag, where it is not the default
}

func (n *narrator) operator() string { return filepath.Join(n.dir, "leader", "operator.token") }

func (n *narrator) event(e demo.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case e.Kind == "listening":
		if e.Address != "127.0.0.1:8080" {
			n.server = " --server http://" + e.Address
		}
		server := n.server
		n.say("\n  Status page   http://%s/\n\n", e.Address)
		n.say("The first minute shows after about a minute. Meanwhile, or in another terminal:\n\n")
		for _, line := range []string{
			"accumulus status" + server,
			"accumulus usage --window 1h --aggregate cluster,namespace" + server,
			"accumulus usage --window 24h --aggregate namespace,workload -o csv" + server,
			"accumulus boxes --window 1h" + server,
			"accumulus export --period " + e.Time.UTC().Format("2006-01") + " --format csv" + server,
			"accumulus get pricelists -o yaml" + server + " >prices.yaml      # change a price, then:",
			"accumulus apply -f prices.yaml --token-file " + n.operator() + server,
		} {
			n.say("  %s\n", self(line))
		}
		n.say("\nCtrl-C stops everything.\n\n")
	case e.Kind == "books" && e.Err != nil:
		n.say("The month before could not be closed: %v\n", e.Err)
	case e.Kind == "books":
		n.say("\n%s of acme is closed, and a correction of it waits for the next statement:\n\n", e.Period)
		for _, line := range []string{
			"accumulus books list" + n.server,
			"accumulus books statement --customer acme --period " + e.Period + n.server,
			"accumulus books log --customer acme" + n.server,
			"accumulus explain acme/1 -o acme-1.json.gz" + n.server,
			"accumulus verify acme-1.json.gz",
			"accumulus books verify --customer acme" + n.server,
			"accumulus books draft --customer acme --period " + e.Time.UTC().Format("2006-01") + " --as me --token-file " + n.operator() + n.server + "   # has the correction",
		} {
			n.say("  %s\n", self(line))
		}
		n.say("\n")
	case e.Kind == "history" && e.Err != nil:
		n.say("History of %s stopped: %v\n", e.Cluster, e.Err)
	case e.Kind == "history" && e.Done >= 1:
		n.say("The last 24 hours of %s are there.\n", e.Cluster)
	case e.Kind == "history":
		n.say("The last 24 hours of %s: %3.0f %%\n", e.Cluster, 100*e.Done)
	case e.Kind == "workloads" && e.Err != nil:
		n.say("This machine is metered as a whole: no control groups can be made for workloads of our own.\n")
	}
}

func (n *narrator) say(format string, args ...any) {
	_, _ = fmt.Fprintf(n.out, format, args...) // a closed terminal: nothing to tell
}

// self is a command line of this program as the user would type it.
func self(line string) string {
	program := os.Args[0]
	if filepath.Base(program) == program {
		return line
	}
	return filepath.Dir(program) + string(filepath.Separator) + line
}
