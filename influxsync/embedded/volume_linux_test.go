package embedded

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
)

// ownMounts names, in a process that may mount, the directory to mount on.
const ownMounts = "ACCUMULUS_TEST_OWN_MOUNTS"

// TestFullVolume: a volume fills up while rows are written, and has room again.
// Who wrote was told that it is full; what was acknowledged is there before and
// after the next start, by each of its tags; and writing goes on by itself.
func TestFullVolume(t *testing.T) {
	inOwnMounts(t, func(dir string) {
		for _, problem := range fullVolume(t, dir, false, func(*Server) {}) {
			t.Error(problem)
		}
	})
}

// TestStartOnFullVolume: a store is opened on a volume that is full, and writes
// when there is room.
func TestStartOnFullVolume(t *testing.T) {
	inOwnMounts(t, func(dir string) {
		for _, problem := range fullVolume(t, dir, true, func(*Server) {}) {
			t.Error(problem)
		}
	})
}

// TestFullVolumeControl: the engine by itself does not go on.
func TestFullVolumeControl(t *testing.T) {
	inOwnMounts(t, func(dir string) {
		problems := fullVolume(t, dir, false, func(s *Server) { s.transport.handler = s.engine.handler })
		if len(problems) == 0 {
			t.Error("nothing went wrong")
		}
		t.Log(strings.Join(problems, "\n"))
	})
}

// inOwnMounts runs the test once more, in a process with mounts of its own that
// end with it, and there does it in a small volume.
func inOwnMounts(t *testing.T, do func(dir string)) {
	t.Helper()
	if dir := os.Getenv(ownMounts); dir != "" {
		if err := errors.Join(syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""), syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64m")); err != nil {
			t.Fatal(err)
		}
		do(dir)
		return
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$", "-test.v")
	child.Env = append(os.Environ(), ownMounts+"="+t.TempDir())
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if uid := os.Getuid(); uid != 0 {
		child.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		child.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
	}
	output, err := child.CombinedOutput()
	if errors.Is(err, syscall.EPERM) && os.Getenv("CI") != "true" {
		t.Skip("this machine lets no process have mounts of its own")
	}
	t.Logf("%s", output)
	if err != nil {
		t.Error(err)
	}
}

// fullVolume fills the volume, opens the store again or not, gives it room and
// opens it again. It returns what went wrong.
func fullVolume(t *testing.T, volume string, restart bool, change func(*Server)) (problems []string) {
	t.Helper()
	dir, filler := filepath.Join(volume, "store"), filepath.Join(volume, "filler")
	s, db := open(t, dir)
	change(s)
	acknowledged := make(map[string]bool)
	write := func(series string) error {
		points := make([]influxsync.Point, 200)
		for i := range points {
			points[i] = influxsync.NewPoint("t", map[string]string{"k": series},
				map[string]influxsync.Value{"f": influxsync.Int(int64(i))}, time.Unix(1_750_000_000+int64(i), 0))
		}
		err := db.Write(t.Context(), points)
		if err == nil {
			acknowledged[series] = true
		}
		return err
	}
	check := func(when string, db *influxsync.Database) {
		for series := range acknowledged {
			n := 0
			err := db.Query(t.Context(), influxsync.Query{From: "t", Where: []influxsync.Condition{{Tag: "k", Value: series}}}, func(influxsync.Point) error {
				n++
				return nil
			})
			if err != nil || n != 200 {
				problems = append(problems, fmt.Sprintf("%s: %d rows of series %s that were acknowledged, %v", when, n, series, err))
			}
		}
	}
	if err := write("before"); err != nil {
		t.Fatal(err)
	}
	fill(t, filler)
	full := 0
	for i := range 100 {
		if err := write(fmt.Sprintf("while-%d", i)); err != nil {
			if full++; influxsync.ClassOf(err) != influxsync.DiskFull {
				problems = append(problems, fmt.Sprintf("full: %v", err))
			}
		}
	}
	if full == 0 {
		t.Fatal("the volume takes all")
	}
	check("full", db)
	if restart { // a process that is started while it is full
		_ = s.Close() // it may say once more that the volume is full
		s, db = open(t, dir)
		check("opened while full", db)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	for i := range 100 { // those again that were refused, as the meter does
		if err := write(fmt.Sprintf("while-%d", i)); err != nil {
			problems = append(problems, fmt.Sprintf("with room again: %v", err))
		}
	}
	if err := write("after"); err != nil {
		problems = append(problems, fmt.Sprintf("with room again: %v", err))
	}
	check("with room again", db)
	if err := s.Close(); err != nil {
		problems = append(problems, fmt.Sprintf("close: %v", err))
	}
	again, db := open(t, dir)
	check("opened again", db)
	if err := again.Close(); err != nil {
		problems = append(problems, fmt.Sprintf("close again: %v", err))
	}
	return problems
}

// fill leaves a few KiB of the volume.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 20; size >= 4<<10; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	info, err := f.Stat()
	if err == nil {
		err = f.Truncate(info.Size() - 24<<10)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
