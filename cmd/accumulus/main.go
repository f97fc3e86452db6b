// Command accumulus is the leader and the command line of Accumulus.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/client"
	"golang.org/x/term"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	a := &app{in: os.Stdin, out: os.Stdout, errOut: os.Stderr, interactive: isTerminal(os.Stdin), getenv: os.Getenv, clock: clock.System()}
	code := runAs(ctx, a, os.Args[0], os.Args[1:])
	stop()
	os.Exit(code)
}

// run executes one command line of accumulus.
func run(ctx context.Context, a *app, args []string) int { return runAs(ctx, a, "accumulus", args) }

// runAs executes one command line, of the plugin of kubectl where the program is
// called by its name, and returns the exit code: 0, or 1 after an
// error, which has been printed with what to do about it.
func runAs(ctx context.Context, a *app, program string, args []string) int {
	root := newRoot(a)
	if isPlugin(program) {
		root = newPlugin(a)
	}
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	printError(a.errOut, err)
	return 1
}

func printError(w io.Writer, err error) {
	_, _ = fmt.Fprintf(w, "Error: %v\n", err) // nowhere is left to tell
	if hint := client.Hint(err); hint != "" {
		_, _ = fmt.Fprintf(w, "%s\n", hint)
	}
}

func isTerminal(file *os.File) bool { return term.IsTerminal(int(file.Fd())) }
