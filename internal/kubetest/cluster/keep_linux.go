package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/accumulus-metering/accumulus/internal/kubetest"
)

// namespaces of a lab.
const namespaces = syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS

// keep is the lab's keeper: it starts the lab's first process and removes what
// that leaves.
func keep(dir string) error {
	file, err := lock(dir)
	if err != nil {
		return err
	}
	if file == nil {
		return fmt.Errorf("another lab is up in %s", dir)
	}
	defer func() { _ = file.Close() }()
	if err := writePID(dir, "keep", os.Getpid()); err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	first := exec.Command(program, "hold", dir)
	first.Stdout, first.Stderr = os.Stdout, os.Stderr
	// The main thread starts it and lives as long as this process.
	first.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Pdeathsig: syscall.SIGTERM}
	if err := first.Start(); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	err = writePID(dir, "hold", first.Process.Pid)
	if err != nil {
		_ = first.Process.Kill()
	}
	ended := make(chan error, 1)
	go func() { ended <- first.Wait() }()
	select {
	case <-signals:
		_ = first.Process.Kill() // the kernel kills all of its process namespace before it is reaped
		<-ended
	case end := <-ended:
		err = errors.Join(err, fmt.Errorf("the lab's first process ended: %w", end))
	}
	return errors.Join(err, clean(dir))
}

func writePID(dir, name string, pid int) error {
	return os.WriteFile(filepath.Join(dir, name+".pid"), []byte(strconv.Itoa(pid)), 0o600)
}

// clean removes what a lab leaves that has ended: its control groups, and all
// of its directory but the logs.
func clean(dir string) error {
	lab, err := kubetest.ReadLab(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := removeCgroups(lab.Cgroup()); err != nil {
		return err
	}
	return errors.Join(removeFiles(dir), os.Remove(filepath.Join(dir, "lab.json")))
}

// removeFiles removes all below dir but logs, what was told and the lock.
func removeFiles(dir string) error {
	kept := map[string]bool{"lab.json": true, "lock": true, "clusters": true}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		if name := entry.Name(); !kept[name] && filepath.Ext(name) != ".log" {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
		}
	}
	clusters := filepath.Join(dir, "clusters")
	var logs []string
	_ = filepath.WalkDir(clusters, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".log" && entry.Type().IsRegular() {
			logs = append(logs, path)
		}
		if err == nil && entry.IsDir() && (entry.Name() == "containerd" || entry.Name() == "kubelet") {
			return filepath.SkipDir
		}
		return nil
	})
	for _, path := range logs {
		name, err := filepath.Rel(clusters, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, "logs", name)
		errs = append(errs, os.MkdirAll(filepath.Dir(to), 0o755), os.Rename(path, to))
	}
	return errors.Join(append(errs, os.RemoveAll(clusters))...)
}

// hierarchies are where the control groups are mounted.
func hierarchies() ([]string, error) {
	mounts, err := cgroupMounts()
	var points []string
	for _, mount := range mounts {
		points = append(points, mount.point)
	}
	return points, err
}

// removeCgroups removes the groups of that name and all below them. The kernel
// lets go of a group a moment after its last process.
func removeCgroups(name string) error {
	points, err := hierarchies()
	if err != nil {
		return err
	}
	for start := time.Now(); ; time.Sleep(pollEach) {
		var errs []error
		for _, point := range points {
			errs = append(errs, removeTree(filepath.Join(point, name)))
		}
		if err = errors.Join(errs...); err == nil {
			return nil
		}
		if time.Since(start) > 10*time.Second {
			return fmt.Errorf("remove control groups: %w", err)
		}
	}
}

// removeTree removes a directory and those below it; their files are the
// kernel's.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}
