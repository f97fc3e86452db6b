// Command sync measures what copying with influxsync costs, against a copy with
// InfluxDB's own client and against reading and writing alone: `make
// bench-sync`. docs/benchmarks.md says how to read it.
//
// Source and sink are two influxd processes, and each case's client is a
// process of its own, so that CPU and memory are told apart. After each case
// the sink is compared with what the source was given; a sink that holds
// something else is an error. A goal that is missed is not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"syscall"
	"time"
)

func main() {
	if text := os.Getenv(jobVariable); text != "" {
		os.Exit(say(child(text)))
	}
	// The servers end with the thread that has started them.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		_, _ = fmt.Fprintf(os.Stderr, "bench-sync: %v\n", err) // nowhere is left to tell
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, out, errOut io.Writer) error {
	flags := flag.NewFlagSet("bench-sync", flag.ContinueOnError)
	flags.SetOutput(errOut)
	c := config{client: self, quiet: 500 * time.Millisecond, progress: errOut}
	binary := flags.String("influxd", "build/influxd-1.8.10", "the server's binary")
	path := flags.String("out", "build/bench-sync.json", "file for the figures")
	flags.IntVar(&c.rows, "rows", 970_000, "rows of the full window")
	flags.IntVar(&c.pods, "pods", 2000, "pods; each has four rows a minute, and each 20 have a node with one")
	flags.IntVar(&c.runs, "runs", 3, "runs of each case")
	flags.IntVar(&c.tick, "tick", 5, "minutes of a tick")
	flags.IntVar(&c.ticks, "ticks", 5, "ticks of a case")
	flags.IntVar(&c.wide, "wide", 30, "minutes of the table of pods with all its columns; 0 leaves it out")
	flags.IntVar(&c.long, "long", 4, "how many times the full window the long one is; 0 leaves it out")
	flags.Func("only", "regular expression of the cases' names", func(text string) (err error) {
		c.only, err = regexp.Compile(text)
		return err
	})
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // it has said why
	}
	if _, err := os.Stat(*binary); err != nil {
		return fmt.Errorf("find the server: %w; make servers builds it", err)
	}
	c.launch = influxd(*binary)
	measurements, err := run(ctx, c)
	if err != nil {
		return err
	}
	r := newReport(measurements, c)
	if err := r.print(out); err != nil {
		return err
	}
	return r.write(*path)
}

// self is this program again.
func self(ctx context.Context) *exec.Cmd {
	path, err := os.Executable()
	if err != nil {
		path = "/proc/self/exe"
	}
	return exec.CommandContext(ctx, path)
}
