package influxtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
)

// External is an installed influxd, started on a loopback port with an empty
// directory and stopped when the test ends. Without one on the PATH the test
// is skipped.
func External(t testing.TB) *influxsync.Server {
	t.Helper()
	binary, err := exec.LookPath("influxd")
	if err != nil {
		t.Skip("no influxd on the PATH")
	}
	dir, port := t.TempDir(), freePort(t)
	config := filepath.Join(dir, "influxdb.conf")
	text := fmt.Sprintf(`reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
dir = %q
[data]
dir = %q
wal-dir = %q
index-version = "tsi1"
[http]
bind-address = "127.0.0.1:%d"
log-enabled = false
[monitor]
store-enabled = false
`, filepath.Join(dir, "meta"), filepath.Join(dir, "data"), filepath.Join(dir, "wal"), port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(binary, "run", "-config", config)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait() // the kill is its exit status
	})
	server, err := influxsync.New(influxsync.Config{URL: fmt.Sprintf("http://127.0.0.1:%d", port)})
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if err = server.Ping(t.Context()); err == nil {
			return server
		}
		if err := clock.System().Sleep(t.Context(), 50*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("influxd does not answer: %v", err)
	return nil
}

func freePort(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port
}
