package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// maxDepth bounds the walk below the root of a hierarchy.
const maxDepth = 8

// group is one control group that is metered as a pod.
type group struct {
	path  string // below the hierarchy's root, "/system.slice/ssh.service"
	inode uint64
	start time.Time // see startOf
}

// branches are the names of groups that hold services or containers and are
// none themselves, beside every slice of systemd.
var branches = map[string]bool{"docker": true, "containerd": true, "podman": true, "libpod_parent": true, "crio": true,
	"lxc": true, "lxc.payload": true, "machine": true, "system": true, "user": true, "garden": true, "k8s.io": true,
	"kubepods": true, "burstable": true, "besteffort": true}

// isBranch says whether what is below a group is metered, rather than the
// group. A pod's slice is metered whole.
func isBranch(name string) bool {
	if strings.Contains(name, "kubepods") && strings.Contains(name, "-pod") {
		return false
	}
	return branches[name] || strings.HasSuffix(name, ".slice")
}

// groupsBelow are the groups of a hierarchy that are metered, by path: below
// the root each group that is no branch, and each branch without a child. None
// of them contains another. What a branch's own processes use stands in none.
func groupsBelow(root string) ([]group, error) {
	var found []group
	var walk func(path string, depth int) error
	walk = func(path string, depth int) error {
		entries, err := os.ReadDir(filepath.Join(root, path))
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if !entry.IsDir() {
				continue
			}
			child := path + "/" + entry.Name()
			before := len(found)
			if isBranch(entry.Name()) && depth < maxDepth {
				if err := walk(child, depth+1); err != nil && !gone(err) {
					return err
				}
				if len(found) > before {
					continue
				}
			}
			if g, err := look(root, child); err == nil {
				found = append(found, g)
			} else if !gone(err) {
				return err
			}
		}
		return nil
	}
	if err := walk("", 1); err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b group) int { return strings.Compare(a.path, b.path) })
	return found, nil
}

func look(root, path string) (group, error) {
	directory := filepath.Join(root, path)
	info, err := os.Stat(directory)
	if err != nil {
		return group{}, err
	}
	g := group{path: path, start: startOf(directory, info)}
	if system, ok := info.Sys().(*syscall.Stat_t); ok {
		g.inode = system.Ino
	}
	return g, nil
}

// startOf is when a group was made, as near as the kernel tells: it keeps no
// birth time, so it is the earlier of the modification times of the directory
// (which a new child may move) and of a file in it that nobody writes.
func startOf(directory string, info fs.FileInfo) time.Time {
	start := info.ModTime()
	for _, name := range []string{"cgroup.clone_children", "cgroup.events"} {
		if file, err := os.Stat(filepath.Join(directory, name)); err == nil && file.ModTime().Before(start) {
			start = file.ModTime()
		}
	}
	return start.UTC().Truncate(time.Millisecond)
}

// gone says whether an error means that a group was removed meanwhile.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) }
