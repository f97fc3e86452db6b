package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/spf13/cobra"
)

func newMeters(a *app) *cobra.Command {
	command := &cobra.Command{
		Use:   "meters",
		Short: "Show how each electricity meter is read, or read those of a site",
		Long: `Show how each electricity meter is read: its last reading, what is wrong, and how
long its times are behind usage (LAG), which is corrected.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			list, err := c.Meters(cmd.Context())
			if err != nil {
				return err
			}
			return a.showMeters(list)
		},
	}
	a.outputFlag(command, asTable, asJSON)
	command.AddCommand(newMetersRun(a))
	return command
}

func (a *app) showMeters(list []meters.Status) error {
	if a.output == asJSON {
		return a.printJSON(list)
	}
	if len(list) == 0 {
		a.printf("No meter was read yet. Apply Meter objects: accumulus apply --help\n")
		return nil
	}
	t := &table{columns: append(left("METER", "BOX", "LAST READING"), right("LAG", "COUNTED", "REFUSED")...)}
	t.columns = append(t.columns, left("COUNTS", "STATE")...)
	for _, m := range list {
		last, counts, state := "", "by itself", "ok"
		if !m.LastTime.IsZero() {
			last = humanTime(m.LastTime)
		}
		if m.Origin != "" {
			counts = m.Origin
		}
		if m.Note != "" {
			state = m.Note
		}
		if m.Error != "" {
			state = m.Error
		}
		t.add(m.Meter, m.Box, last, humanLag(m), strconv.FormatInt(m.Counted, 10), strconv.FormatInt(m.Refused, 10), counts, firstLine(state))
	}
	return t.write(a.out)
}

// humanLag is a meter's lag, and how sure it is.
func humanLag(m meters.Status) string {
	lag := time.Duration(m.LagSeconds * float64(time.Second)).Round(time.Second).String()
	if m.Correlation > 0 {
		lag += fmt.Sprintf(" (r=%.2f)", m.Correlation)
	}
	return lag
}

func newMetersRun(a *app) *cobra.Command {
	var file, buffer string
	var interval time.Duration
	command := &cobra.Command{
		Use:   "run --file meters.yaml",
		Short: "Read the meters near this machine and send their readings to the leader",
		Long: `Reads the meters of a file, which holds Meter objects as "accumulus apply" takes
them, and sends each reading to the leader, where the meters of the same names have
the driver push. While the leader cannot be reached, readings wait on disk. It is for
a site of the operator's own whose meters the leader does not reach. The token of the
leader's meters.token is enough for it, and good for nothing else.`,
		Example: "  accumulus meters run --server https://leader:8080 --token-file meters.token --file meters.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return errors.New("--file: name the file with the Meter objects")
			}
			found, err := a.readMeters(file)
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			transport := http.DefaultTransport.(*http.Transport).Clone()
			log := slog.New(slog.NewTextHandler(a.errOut, nil))
			agent, err := meters.NewAgent(meters.AgentConfig{Meters: found, Buffer: filepath.Join(buffer, "readings.jsonl"), Interval: interval, Permanent: client.IsUnknownMeter},
				c, &http.Client{Transport: transport}, a.clock, log)
			if err != nil {
				return err
			}
			log.Info("reading meters", "meters", len(found), "server", a.server)
			return agent.Run(cmd.Context())
		},
	}
	command.Flags().StringVar(&file, "file", "", "YAML file of Meter objects")
	command.Flags().StringVar(&buffer, "buffer", "accumulus-data/meters", "directory of the readings that wait")
	command.Flags().DurationVar(&interval, "interval", 10*time.Second, "time between two readings; a meter's own interval may be longer")
	return command
}

// readMeters are the meters of a fleet file. What they refer to is the leader's.
func (a *app) readMeters(path string) ([]fleet.Meter, error) {
	text, err := a.readFiles([]string{path})
	if err != nil {
		return nil, err
	}
	objects, err := fleet.Decode(text)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	var found []fleet.Meter
	var wrong fleet.Problems
	for _, o := range objects {
		if o.Kind != fleet.KindMeter {
			continue
		}
		wrong = append(wrong, fleet.CheckAlone(o)...)
		if m, ok := o.Spec.(fleet.Meter); ok {
			m.Name = o.Name()
			found = append(found, m)
		}
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("%s: %w", path, wrong)
	}
	return found, nil
}
