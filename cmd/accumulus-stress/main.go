// Command accumulus-stress makes loads of a known size in a container and tells
// what the container's own counters showed. `accumulus validate` runs it.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/stress"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "accumulus-stress: %v\n", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var listen, dir, message string
	var length time.Duration
	var cores, units int
	cmd := &cobra.Command{
		Use:   "accumulus-stress",
		Short: "Make loads of a known size in a container and tell what its counters showed",
		Long: `Serves /stress/cpu/{cores}, /stress/ram/{MB}, /stress/disk/{MB},
/stress/net/{n}?url= and /readings.

With --for it is a job instead: it keeps --cores busy for that time, leaves the
container's counters as JSON in --message, and ends. With --work it does a fixed
amount of work on one core, and tells how long that took, too.`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case length > 0 && units > 0:
				return errors.New("give --for or --work, not both")
			case length > 0:
				return last(message)(stress.Job(cmd.Context(), stress.Own(), clock.System(), cores, length))
			case units > 0:
				return last(message)(stress.Work(cmd.Context(), stress.Own(), clock.System(), units))
			}
			return serve(cmd.Context(), listen, dir)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&listen, "listen", ":8080", "host:port")
	flags.StringVar(&dir, "dir", os.TempDir(), "directory of the disk's load")
	flags.DurationVar(&length, "for", 0, "run as a job of this length")
	flags.IntVar(&cores, "cores", 1, "cores that the job keeps busy")
	flags.IntVar(&units, "work", 0, "run as a job of so much work, in units of about a millisecond")
	flags.StringVar(&message, "message", "/dev/termination-log", "file of the job's last words")
	return cmd
}

// last leaves a job's last words.
func last(message string) func(stress.Reading, error) error {
	return func(reading stress.Reading, err error) error {
		if err != nil {
			return err
		}
		return stress.WriteMessage(message, reading)
	}
}

// grace is how long requests may go on after a signal.
const grace = 2 * time.Second

func serve(ctx context.Context, listen, dir string) error {
	load := stress.NewLoad(dir)
	server := stress.NewServer(stress.Own(), load, clock.System(), &http.Client{})
	web := &http.Server{Addr: listen, Handler: server.Handler(), ReadHeaderTimeout: 5 * time.Second}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Run(ctx) })
	group.Go(func() error {
		if err := web.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		timed, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		return web.Shutdown(timed)
	})
	return errors.Join(group.Wait(), load.Close())
}
