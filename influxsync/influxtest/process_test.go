package influxtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// holdingServer, as environment of this test's program, makes it start that
// kind of server and wait to be killed.
const holdingServer = "INFLUXTEST_HOLDS"

func TestMain(m *testing.M) {
	if kind := os.Getenv(holdingServer); kind != "" {
		hold(Kind(kind))
	}
	os.Exit(m.Run())
}

func hold(kind Kind) {
	dir, err := os.MkdirTemp(os.Getenv("TMPDIR"), "held")
	if err == nil {
		var p *Process
		if p, err = Launch(context.Background(), kind, dir, nil); err == nil {
			fmt.Println(p.PID())
			select {}
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

func everyKind(t *testing.T, test func(*testing.T, Kind)) {
	for _, kind := range Kinds {
		t.Run(string(kind), func(t *testing.T) { test(t, kind) })
	}
}

func write(t *testing.T, p *Process, at int64) {
	t.Helper()
	server, err := p.Server()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Create(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	row := influxsync.NewPoint("t", nil, map[string]influxsync.Value{"n": influxsync.Int(at)}, time.Unix(at, 0))
	if err := server.Database("db").Write(t.Context(), []influxsync.Point{row}); err != nil {
		t.Fatal(err)
	}
}

func rows(t *testing.T, p *Process) int {
	t.Helper()
	server, err := p.Server()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = server.Database("db").TimeQuery(t.Context(), "t", schema.Window{}, nil, func(influxsync.Point) error { n++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRestartKeepsDirectoryAndPort(t *testing.T) {
	everyKind(t, func(t *testing.T, kind Kind) {
		p := Start(t, kind, nil)
		url, pid := p.URL(), p.PID()
		write(t, p, 1)
		p.Kill()
		p.Kill()
		server, err := p.Server()
		if err != nil {
			t.Fatal(err)
		}
		if err := server.Ping(t.Context()); err == nil {
			t.Error("a killed server answers")
		}
		if err := p.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		write(t, p, 2)
		if err := p.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if p.URL() != url || p.PID() == pid || rows(t, p) != 2 {
			t.Errorf("%s, process %d, %d rows; want %s, another than %d, 2 rows", p.URL(), p.PID(), rows(t, p), url, pid)
		}
		if err := p.Wipe(t.Context()); err != nil {
			t.Fatal(err)
		}
		if names, err := server.Databases(t.Context()); err != nil || len(names) != 0 {
			t.Errorf("databases after a wipe: %v, %v", names, err)
		}
	})
}

func TestOptionsReachTheServer(t *testing.T) {
	everyKind(t, func(t *testing.T, kind Kind) {
		p := Start(t, kind, Options{"http.max-row-limit": "7", "data.index-version": `"inmem"`})
		text, err := os.ReadFile(p.config())
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"max-row-limit = 7\n", `index-version = "inmem"` + "\n"} {
			if strings.Count(string(text), line) != 1 {
				t.Errorf("configuration has no line %q:\n%s", line, text)
			}
		}
		if strings.Contains(string(text), "tsi1") {
			t.Error("the option stands beside the line that it replaces")
		}
		_, err = Launch(t.Context(), kind, t.TempDir(), Options{"http.max-row-limit": `"many"`})
		if err == nil || !strings.Contains(err.Error(), "parse config") {
			t.Errorf("an option that is none: %v; want what the server says", err)
		}
	})
}

// TestServerDiesWithItsTest: a test's process that is killed leaves none behind.
func TestServerDiesWithItsTest(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux kills a child with its parent")
	}
	everyKind(t, func(t *testing.T, kind Kind) {
		if _, err := kind.Binary(); err != nil {
			demand(t, err)
		}
		holder := exec.Command(os.Args[0])
		holder.Env = append(os.Environ(), holdingServer+"="+string(kind), "TMPDIR="+t.TempDir())
		output, err := holder.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := holder.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(output).ReadString('\n')
		pid, notNumber := strconv.Atoi(strings.TrimSpace(line))
		if err := errors.Join(err, notNumber); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, 0); err != nil {
			t.Fatalf("process %d does not run: %v", pid, err)
		}
		if err := holder.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = holder.Wait()
		clk := clock.System()
		for end := clk.Now().Add(startWithin); running(pid); {
			if clk.Now().After(end) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				t.Fatalf("process %d outlives its test", pid)
			}
			if err := clk.Sleep(t.Context(), pollEach); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// running says whether a process is there that is not merely unburied.
func running(pid int) bool {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	return err == nil && !strings.Contains(string(status), "State:\tZ")
}

func TestMissingServerNamesTheTarget(t *testing.T) {
	_, err := Kind("influxd-0").Binary()
	if !errors.Is(err, errMissing) || !strings.Contains(err.Error(), "make servers") {
		t.Errorf("%v; want an error that says make servers", err)
	}
	for ci, want := range map[string]outcome{"": {skipped: true}, "true": {failed: true}} {
		t.Setenv("CI", ci)
		got := outcome{}
		if demand(&got, err); got != want {
			t.Errorf("CI=%q: %+v, want %+v", ci, got, want)
		}
	}
}

// outcome notes how a test would have ended.
type outcome struct {
	testing.TB
	skipped, failed bool
}

func (o *outcome) Helper()      {}
func (o *outcome) Skip(...any)  { o.skipped = true }
func (o *outcome) Fatal(...any) { o.failed = true }
