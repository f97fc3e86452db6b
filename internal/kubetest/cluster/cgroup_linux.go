package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroupMount is a mounted hierarchy of control groups.
type cgroupMount struct {
	point, kind string // kind is cgroup or cgroup2
	options     string // that mount it again
}

// cgroupMounts are the hierarchies that are mounted below cgroupRoot.
func cgroupMounts() ([]cgroupMount, error) {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var found []cgroupMount
	for line := range strings.Lines(string(content)) {
		before, after, _ := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if len(left) < 5 || len(right) < 3 || !strings.HasPrefix(left[4], cgroupRoot+"/") {
			continue
		}
		switch right[0] {
		case "cgroup":
			found = append(found, cgroupMount{left[4], right[0], hierarchyOptions(right[2])})
		case "cgroup2":
			found = append(found, cgroupMount{left[4], right[0], ""})
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no control groups are mounted below " + cgroupRoot)
	}
	return found, nil
}

// hierarchyOptions are those of a mount that name the hierarchy: controllers,
// or the name of one without controllers.
func hierarchyOptions(options string) string {
	var names []string
	for _, option := range strings.Split(options, ",") {
		switch {
		case option == "rw" || option == "ro" || option == "xattr" || option == "noprefix" || option == "clone_children" || strings.HasPrefix(option, "release_agent="):
		case strings.HasPrefix(option, "name="):
			names = append(names, "none", option)
		default:
			names = append(names, option)
		}
	}
	return strings.Join(names, ",")
}

// cgroupLinks are the other names of hierarchies, as cpu is one of cpu,cpuacct.
func cgroupLinks() (map[string]string, error) {
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil, err
	}
	links := make(map[string]string)
	for _, entry := range entries {
		if entry.Type() != os.ModeSymlink {
			continue
		}
		path := filepath.Join(cgroupRoot, entry.Name())
		if links[path], err = os.Readlink(path); err != nil {
			return nil, err
		}
	}
	return links, nil
}

// mountCgroups mounts the hierarchies again: in a namespace of control groups
// they begin with the process's own groups.
func mountCgroups(mounts []cgroupMount, links map[string]string) error {
	if err := syscall.Mount("tmpfs", cgroupRoot, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for _, mount := range mounts {
		if err := os.MkdirAll(mount.point, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(mount.kind, mount.point, mount.kind, syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, mount.options); err != nil {
			return fmt.Errorf("mount %s (%s): %w", mount.point, mount.options, err)
		}
	}
	var errs []error
	for path, target := range links {
		errs = append(errs, os.Symlink(target, path))
	}
	return errors.Join(errs...)
}

// joinCgroups makes the group of that path in every hierarchy and moves this
// process into it. A new group of cpuset has no processors until it is given some.
func joinCgroups(path string) error {
	mounts, err := cgroupMounts()
	if err != nil {
		return err
	}
	for _, mount := range mounts {
		group := mount.point
		for _, part := range strings.Split(path, "/") {
			parent := group
			group = filepath.Join(group, part)
			if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				return fmt.Errorf("make control group: %w", err)
			}
			for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
				if !exists(filepath.Join(parent, name)) {
					continue
				}
				content, err := os.ReadFile(filepath.Join(parent, name))
				if err != nil {
					return fmt.Errorf("make control group: %w", err)
				}
				if err := os.WriteFile(filepath.Join(group, name), content, 0o644); err != nil {
					return fmt.Errorf("make control group: %w", err)
				}
			}
		}
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("0"), 0o644); err != nil {
			return fmt.Errorf("join control group: %w", err)
		}
	}
	return nil
}
