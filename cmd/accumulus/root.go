package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// app is what every command shares.
type app struct {
	in          io.Reader
	out, errOut io.Writer
	interactive bool // somebody can answer a question
	getenv      func(string) string
	clock       clock.Clock

	server, tokenFile, caFile string
	output, units             string
}

// Output formats and units.
const (
	asTable = "table"
	asJSON  = "json"
	asCSV   = "csv"
	asYAML  = "yaml"

	humanUnits = "human"
	baseUnits  = "base"
)

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "accumulus",
		Short: "Metering for fleets of Kubernetes clusters",
		Long: `Accumulus meters what the clusters of a fleet use: CPU, memory, network, energy
and its cost, by cluster, box, namespace, workload, customer and project.

Try it on this machine:      accumulus demo
Then, in another terminal:   accumulus usage --window 1h --aggregate cluster,namespace`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	a.prepare(root)
	for _, group := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"use", "What is used, and what it costs:", []*cobra.Command{newUsage(a), newEnergy(a), newHeat(a), newCarbon(a), newBoxes(a), newRates(a), newReport(a)}},
		{"ahead", "What will be:", []*cobra.Command{newForecast(a), newEstimate(a), newRecommend(a), newBudget(a)}},
		{"bill", "Prices and bills:", []*cobra.Command{newPrices(a), newBooks(a), newExplain(a), newVerify(a), newExport(a), newArchive(a)}},
		{"fleet", "The fleet, and whether all has come:", []*cobra.Command{newStatus(a), newCluster(a), newApply(a), newGet(a), newMeters(a), newPower(a), newCalibrate(a), newSync(a), newValidate(a), newEvaluate(a)}},
		{"access", "Who may do what, and did:", []*cobra.Command{newToken(a), newAudit(a), newSeed(a)}},
		{"run", "Programs:", []*cobra.Command{newDemo(a), newLeader(a)}},
	} {
		root.AddGroup(&cobra.Group{ID: group.id, Title: group.title})
		for _, command := range group.commands {
			command.GroupID = group.id
		}
		root.AddCommand(group.commands...)
	}
	root.AddCommand(newVersion(a))
	parent(root)
	return root
}

// prepare gives a root the program's streams and the flags that say how the leader is
// reached, and lets a wrong flag name the command's help.
func (a *app) prepare(root *cobra.Command) {
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
	})
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.errOut)
	flags := root.PersistentFlags()
	flags.StringVar(&a.server, "server", a.env("ACCUMULUS_SERVER", client.DefaultServer), "URL of the leader (ACCUMULUS_SERVER)")
	flags.StringVar(&a.tokenFile, "token-file", a.env("ACCUMULUS_TOKEN_FILE", ""), "file with the bearer token (ACCUMULUS_TOKEN_FILE; default "+client.DefaultTokenFile+", else viewer.token beside it)")
	flags.StringVar(&a.caFile, "ca-file", a.env("ACCUMULUS_CA_FILE", ""), "CA of the leader's certificate, PEM (ACCUMULUS_CA_FILE)")
}

// parent makes a command that only has others show its help, and refuse one that
// it has not.
func parent(command *cobra.Command) {
	suggest(command)
	command.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
}

// suggest makes a command that takes no arguments name the one below it that was
// meant.
func suggest(command *cobra.Command) {
	command.DisableFlagsInUseLine, command.SuggestionsMinimumDistance = true, 2
	command.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		hint := ""
		if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
			hint = fmt.Sprintf(", perhaps you meant %s", strings.Join(like, " or "))
		}
		return fmt.Errorf("%s has no command %q%s; see %s --help", cmd.CommandPath(), args[0], hint, cmd.CommandPath())
	}
}

func (a *app) env(name, otherwise string) string {
	if value := a.getenv(name); value != "" {
		return value
	}
	return otherwise
}

func (a *app) client() (*client.Client, error) {
	return client.New(client.Config{Server: a.server, TokenFile: a.tokenFile, CAFile: a.caFile})
}

// outputFlag adds -o; the first format is the default.
func (a *app) outputFlag(command *cobra.Command, formats ...string) {
	command.Flags().StringVarP(&a.output, "output", "o", formats[0], "output format: "+strings.Join(formats, ", "))
	_ = command.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // the flag was just added
	check := command.PreRunE
	command.PreRunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(formats, a.output) {
			return fmt.Errorf("output %q: use %s", a.output, strings.Join(formats, ", "))
		}
		if check != nil {
			return check(cmd, args)
		}
		return nil
	}
}

// answerFlags adds -o with what every answer can be, and other formats; --json, as
// these commands once had it alone, is the same as -o json and not shown.
func (a *app) answerFlags(command *cobra.Command, others ...string) {
	a.outputFlag(command, append([]string{asTable, asJSON, asYAML}, others...)...)
	var alone bool
	command.Flags().BoolVar(&alone, "json", false, "the same as -o json")
	_ = command.Flags().MarkHidden("json") // the flag was just added
	check := command.PreRunE
	command.PreRunE = func(cmd *cobra.Command, args []string) error {
		if alone {
			a.output = asJSON
		}
		return check(cmd, args)
	}
}

// longWait is after how long a command says on standard error what it is doing, and how
// often.
const longWait = 5 * time.Second

// sayWhile says what a command does for as long as it takes, until stop is called.
func (a *app) sayWhile(ctx context.Context, what func() string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for waited := longWait; a.clock.Sleep(ctx, longWait) == nil; waited += longWait {
			_, _ = fmt.Fprintf(a.errOut, "%s (%s)\n", what(), waited)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// answerOr prints an answer as JSON or YAML, unless there is an error.
func (a *app) answerOr(err error, answer any) error {
	if err != nil {
		return err
	}
	if a.output != asYAML {
		return a.printJSON(answer)
	}
	text, err := yaml.Marshal(answer)
	if err != nil {
		return fmt.Errorf("write YAML: %w", err)
	}
	_, err = a.out.Write(text)
	return err
}

// unitsFlag adds --units.
func (a *app) unitsFlag(command *cobra.Command) {
	command.Flags().StringVar(&a.units, "units", humanUnits, "units of tables: human, base (core-seconds, byte-seconds, bytes, joules)")
	check := command.PreRunE
	command.PreRunE = func(cmd *cobra.Command, args []string) error {
		if a.units != humanUnits && a.units != baseUnits {
			return fmt.Errorf("units %q: use human or base", a.units)
		}
		if check != nil {
			return check(cmd, args)
		}
		return nil
	}
}

func (a *app) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(a.out, format, args...) // a closed pipe, as after head: nothing to tell
}

func (a *app) printJSON(value any) error {
	encoder := json.NewEncoder(a.out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// errNotConfirmed is a question answered with no.
var errNotConfirmed = errors.New("not confirmed; nothing was changed")

// confirm asks unless yes; where nobody can answer it is an error that says so.
func (a *app) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	if !a.interactive {
		return fmt.Errorf("%s Nobody can answer here: add --yes", question)
	}
	a.printf("%s [y/N] ", question)
	answer, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read answer: %w", err)
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errNotConfirmed
	}
	return nil
}
