package chaos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Where files live in memory, if there is such a place with room.
const (
	memoryDir  = "/dev/shm"
	memoryRoom = 2 << 30
	memoryName = "accumulus-chaos-"
)

// tempDir is a directory of the test's own: in memory if that can be, for each
// schedule makes some hundred files.
func tempDir(t *testing.T) string {
	t.Helper()
	var room syscall.Statfs_t
	if err := syscall.Statfs(memoryDir, &room); err != nil || room.Bavail*uint64(room.Bsize) < memoryRoom {
		return t.TempDir()
	}
	sweep()
	dir, err := os.MkdirTemp(memoryDir, fmt.Sprintf("%s%d-", memoryName, os.Getpid()))
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// sweep removes what tests have left that were killed: it would stay in memory.
func sweep() {
	left, _ := filepath.Glob(filepath.Join(memoryDir, memoryName+"*")) // the pattern is good
	for _, dir := range left {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), memoryName), "-")
		n, err := strconv.Atoi(pid)
		if err == nil && errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir) // another test may do the same
		}
	}
}
