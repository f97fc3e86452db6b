package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

// WorkloadConfig is a command that runs in a control group of its own.
type WorkloadConfig struct {
	CgroupRoot string // default /sys/fs/cgroup
	Name       string // of the group, one path element below the root
	Command    []string
	Env        []string // nil = this process's
	Output     io.Writer
}

// Workload is a running command in its own control group.
type Workload struct {
	config      WorkloadConfig
	clock       clock.Clock
	directories []string // of the group, in each hierarchy
	command     *exec.Cmd
}

// held is what the child runs first where it can't be born in its group: it
// waits for a line, then becomes the command. What the shell itself uses is
// used in the group.
const held = `read -r _ && exec "$@" </dev/null`

// StartWorkload makes the group and starts the command in it: with cgroup v2
// it is born there; with v1 it waits until it has been placed, so that all it
// uses is counted. An empty group of that name that an earlier process left is
// removed first; one with processes in it is an error, as is a machine that
// allows no groups. The command dies with this process.
func StartWorkload(config WorkloadConfig, clk clock.Clock) (*Workload, error) {
	if config.CgroupRoot == "" {
		config.CgroupRoot = "/sys/fs/cgroup"
	}
	if config.Name == "" || strings.ContainsRune(config.Name, '/') || strings.HasPrefix(config.Name, ".") || len(config.Command) == 0 {
		return nil, fmt.Errorf("start workload %q: a name without a slash and a command are needed", config.Name)
	}
	w := &Workload{config: config, clock: clk}
	v2 := exists(filepath.Join(config.CgroupRoot, "cgroup.controllers"))
	err := w.make(v2)
	if err == nil {
		err = w.start(v2)
	}
	if err != nil {
		w.remove()
		return nil, fmt.Errorf("start workload %s: %w", config.Name, err)
	}
	return w, nil
}

// make creates the group: below the one root with v2, with v1 in cpuacct and,
// where it is mounted, in memory.
func (w *Workload) make(v2 bool) error {
	roots := []string{w.config.CgroupRoot}
	if !v2 {
		roots = []string{filepath.Join(w.config.CgroupRoot, "cpuacct")}
		if memory := filepath.Join(w.config.CgroupRoot, "memory"); exists(filepath.Join(memory, "memory.usage_in_bytes")) {
			roots = append(roots, memory)
		}
	}
	for _, root := range roots {
		directory := filepath.Join(root, w.config.Name)
		if err := os.Remove(directory); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("a group of that name is in use: %w", err)
		}
		if err := os.Mkdir(directory, 0o755); err != nil {
			return err
		}
		w.directories = append(w.directories, directory)
	}
	return nil
}

func (w *Workload) start(v2 bool) error {
	arguments := w.config.Command
	if !v2 {
		arguments = append([]string{"/bin/sh", "-c", held, "workload"}, arguments...)
	}
	w.command = exec.Command(arguments[0], arguments[1:]...) //nolint:gosec // the caller's command
	w.command.Env = w.config.Env
	w.command.Stdout, w.command.Stderr = w.config.Output, w.config.Output
	w.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if v2 {
		directory, err := os.Open(w.directories[0])
		if err != nil {
			return err
		}
		defer directory.Close()
		w.command.SysProcAttr.UseCgroupFD, w.command.SysProcAttr.CgroupFD = true, int(directory.Fd())
		return w.command.Start()
	}
	gate, err := w.command.StdinPipe()
	if err != nil {
		return err
	}
	if err := w.command.Start(); err != nil {
		return err
	}
	for _, directory := range w.directories {
		if err = os.WriteFile(filepath.Join(directory, "cgroup.procs"), []byte(strconv.Itoa(w.command.Process.Pid)), 0o644); err != nil {
			break
		}
	}
	if err == nil {
		_, err = io.WriteString(gate, "\n")
	}
	if err == nil {
		err = gate.Close()
	}
	if err != nil {
		w.kill()
		_ = w.command.Wait() // it was killed
	}
	return err
}

// Path is the group's path as the host source names it.
func (w *Workload) Path() string { return "/" + w.config.Name }

// Wait waits for the command's own end and returns what it used by the
// kernel's account of processes (getrusage), user and system.
func (w *Workload) Wait() (time.Duration, error) {
	err := w.command.Wait()
	state := w.command.ProcessState
	if state == nil {
		return 0, err
	}
	return state.UserTime() + state.SystemTime(), err
}

// Stop kills what runs in the group and removes it. It waits at most until ctx
// ends.
func (w *Workload) Stop(ctx context.Context) error {
	w.kill()
	if w.command.ProcessState == nil {
		_ = w.command.Wait() // it was killed
	}
	for {
		err := w.remove()
		if err == nil {
			return nil
		}
		w.kill()
		if w.clock.Sleep(ctx, 10*time.Millisecond) != nil {
			return fmt.Errorf("stop workload %s: %w", w.config.Name, err)
		}
	}
}

// kill kills the command's process group and whatever else is in the group.
func (w *Workload) kill() {
	if w.command.Process != nil && w.command.ProcessState == nil {
		_ = syscall.Kill(-w.command.Process.Pid, syscall.SIGKILL) // it may be gone
	}
	_ = eachFields(filepath.Join(w.directories[0], "cgroup.procs"), func(fields []string) {
		if pid, err := strconv.Atoi(fields[0]); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
}

// remove removes the group's directories.
func (w *Workload) remove() error {
	var errs []error
	for _, directory := range w.directories {
		if err := os.Remove(directory); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
