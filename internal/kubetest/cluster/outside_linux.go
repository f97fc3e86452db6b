package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/accumulus-metering/accumulus/internal/kubetest"
)

// patience for a lab to come up on a machine that does other things.
const (
	patience = 5 * time.Minute
	pollEach = 50 * time.Millisecond
)

func outside(action string, s settings) (int, error) {
	up, err := isUp(s.dir)
	if err != nil {
		return 1, err
	}
	switch action {
	case "up":
		if up {
			fmt.Println("The lab is up already.")
		} else if err := raise(s, false); err != nil {
			return 1, err
		}
		return 0, tell(s.dir)
	case "enter":
		if !up {
			return 1, errors.New("no lab is up: make e2e-up")
		}
		return enter(s)
	case "run":
		if up {
			return enter(s)
		}
		if err := raise(s, true); err != nil {
			return 1, err
		}
		code, err := enter(s)
		return code, errors.Join(err, lower(s.dir))
	case "down":
		return 0, lower(s.dir)
	}
	return 2, fmt.Errorf("%s: up, enter, run or down is needed", action)
}

// lock takes the lab's lock, which its keeper holds as long as it lives; nil
// without an error says that somebody has it.
func lock(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return file, nil
	}
	_ = file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, fmt.Errorf("lock %s: %w", dir, err)
}

func isUp(dir string) (bool, error) {
	file, err := lock(dir)
	if err != nil {
		return false, err
	}
	if file == nil {
		return true, nil
	}
	return false, file.Close()
}

// raise starts a keeper and waits until its lab is ready. A keeper that is tied
// ends with this process.
func raise(s settings, tied bool) error {
	if err := lower(s.dir); err != nil { // what a lab left that was killed with its keeper
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	id := fmt.Sprintf("%x", time.Now().UnixNano()%(1<<32))
	lab := &kubetest.Lab{ID: id, Dir: s.dir, Program: program, Images: s.images, Wanted: s.wanted}
	if err := lab.Write(); err != nil {
		return err
	}
	output, err := os.Create(filepath.Join(s.dir, "keep.log"))
	if err != nil {
		return err
	}
	defer func() { _ = output.Close() }()
	keeper := exec.Command(program, "keep", s.dir)
	keeper.Stdout, keeper.Stderr = output, output
	keeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if tied {
		keeper.SysProcAttr.Pdeathsig = syscall.SIGTERM // this is the main thread, which ends with the process
	}
	start := time.Now()
	if err := keeper.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- keeper.Wait() }()
	for {
		if _, err := lab.Clusters(); err == nil {
			fmt.Printf("%d clusters are up after %.1f s.\n", len(s.wanted), time.Since(start).Seconds())
			return nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(err, lower(s.dir))
		}
		select {
		case <-ended:
			return fmt.Errorf("the lab did not come up:\n%s", text(output.Name()))
		case <-time.After(pollEach):
		}
		if time.Since(start) > patience {
			return errors.Join(fmt.Errorf("the lab is not up after %s:\n%s", patience, text(output.Name())), lower(s.dir))
		}
	}
}

func text(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(content))
}

// lower ends the lab and waits until nothing of it is left.
func lower(dir string) error {
	for start := time.Now(); ; time.Sleep(pollEach) {
		file, err := lock(dir)
		if err != nil {
			return err
		}
		if file != nil {
			err := clean(dir)
			return errors.Join(err, file.Close())
		}
		if time.Since(start) > patience {
			return fmt.Errorf("the keeper of %s does not end", dir)
		}
		if pid, err := strconv.Atoi(text(filepath.Join(dir, "keep.pid"))); err == nil {
			_ = syscall.Kill(pid, syscall.SIGTERM) // until it lets go of the lock
		}
	}
}

// tell says how to get in.
func tell(dir string) error {
	lab, err := kubetest.ReadLab(dir)
	if err != nil {
		return err
	}
	clusters, err := lab.Clusters()
	if err != nil {
		return err
	}
	for _, cluster := range clusters {
		fmt.Printf("  %-8s %s, kubeconfig %s\n", cluster.Name, cluster.Config().Host, cluster.Kubeconfig)
		for _, node := range cluster.Nodes {
			fmt.Printf("    node %s, kubelet %s:10250, control group %s\n", node.Name, node.Address, node.Cgroup)
		}
	}
	fmt.Printf("Enter: %s enter -- bash   (there KUBECONFIG has a context of each cluster, and PATH has kubectl)\nEnd:   make e2e-down\n", lab.Program)
	return nil
}

// enter runs a command inside, where it is told of the lab, and in the working
// directory. Its exit code is this one's.
func enter(s settings) (int, error) {
	if len(s.rest) == 0 {
		return 2, errors.New("a command is needed: cluster enter -- bash")
	}
	lab, err := kubetest.ReadLab(s.dir)
	if err != nil {
		return 1, err
	}
	binaries, err := kubetest.Binaries()
	if err != nil {
		return 1, err
	}
	here, err := os.Getwd()
	if err != nil {
		return 1, err
	}
	args := []string{"--target", text(filepath.Join(s.dir, "hold.pid")), "--mount", "--net", "--pid", "--ipc", "--uts", "--", "env", "--chdir=" + here}
	command := exec.Command("nsenter", append(args, s.rest...)...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	// No proxy is reached from there.
	command.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return strings.HasSuffix(strings.ToUpper(name), "_PROXY")
	})
	command.Env = append(command.Env, kubetest.LabVariable+"="+s.dir, "CI=true", "KUBECONFIG="+lab.Kubeconfig(), "PATH="+binaries+":"+os.Getenv("PATH"))
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT) // the command has the terminal's; this process is to end after it
	defer signal.Stop(signals)
	if err := command.Start(); err != nil {
		return 1, err
	}
	go func() {
		for s := range signals {
			_ = command.Process.Signal(s)
		}
	}()
	err = command.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}
