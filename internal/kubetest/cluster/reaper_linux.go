package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/accumulus-metering/accumulus/internal/kubetest"
)

// reaper waits for every process that is left to the first one of a namespace,
// and tells of those that it started itself. Before it runs, package os/exec may
// be used; afterwards it would be told that its processes do not exist.
type reaper struct {
	mu    sync.Mutex
	news  *sync.Cond
	ended map[int]chan syscall.WaitStatus
}

func newReaper() *reaper {
	r := &reaper{ended: make(map[int]chan syscall.WaitStatus)}
	r.news = sync.NewCond(&r.mu)
	return r
}

// start starts a program whose output goes to a log, and tells how it ended.
func (r *reaper) start(command kubetest.Command, log string) (<-chan syscall.WaitStatus, error) {
	output, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = output.Close() }()
	path, err := exec.LookPath(command.Args[0])
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(path, command.Args, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, output.Fd(), output.Fd()}})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", command.Name, err)
	}
	ended := make(chan syscall.WaitStatus, 1)
	r.ended[pid] = ended
	r.news.Broadcast()
	return ended, nil
}

// toEnd runs a program to its end.
func (r *reaper) toEnd(command kubetest.Command, log string) error {
	ended, err := r.start(command, log)
	if err != nil {
		return err
	}
	if status := <-ended; status != 0 {
		return fmt.Errorf("%s ended with status %d", command.Name, status.ExitStatus())
	}
	return nil
}

// run reaps for ever.
func (r *reaper) run() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		r.mu.Lock()
		switch {
		case errors.Is(err, syscall.ECHILD):
			if len(r.ended) == 0 {
				r.news.Wait() // until there is a child
			}
		case err == nil:
			if ended, ok := r.ended[pid]; ok {
				delete(r.ended, pid)
				ended <- status
			}
		}
		r.mu.Unlock()
	}
}
