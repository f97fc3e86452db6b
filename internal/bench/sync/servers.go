package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
)

// server is one store in a process of its own, with a directory of its own.
type server struct {
	*influxsync.Server
	url     string
	command *exec.Cmd
}

// launcher is the command of a server that keeps its data in dir and listens
// on a port of loopback.
type launcher func(dir string, port int) (*exec.Cmd, error)

// influxd runs the binary. What it holds in its cache stays there: a snapshot
// that comes because time has passed would change what a later case reads.
func influxd(binary string) launcher {
	return func(dir string, port int) (*exec.Cmd, error) {
		config := filepath.Join(dir, "influxdb.conf")
		text := fmt.Sprintf(`reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
dir = %q
logging-enabled = false
[data]
dir = %q
wal-dir = %q
index-version = "tsi1"
series-id-set-cache-size = 0
query-log-enabled = false
cache-snapshot-write-cold-duration = "24h"
[http]
bind-address = "127.0.0.1:%d"
log-enabled = false
[logging]
level = "error"
[monitor]
store-enabled = false
[continuous_queries]
enabled = false
`, filepath.Join(dir, "meta"), filepath.Join(dir, "data"), filepath.Join(dir, "wal"), port)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return nil, err
		}
		return exec.Command(binary, "run", "-config", config), nil
	}
}

// start waits until the server answers. The server ends with this process.
func start(ctx context.Context, launch launcher, dir string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	command, err := launch(dir, port)
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	command.Stderr = &said
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	s := &server{url: fmt.Sprintf("http://127.0.0.1:%d", port), command: command}
	if s.Server, err = influxsync.New(influxsync.Config{URL: s.url}); err == nil {
		err = s.await(ctx)
	}
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("server %s does not answer: %w; it said %q", command.Path, err, said.String())
	}
	return s, nil
}

func (s *server) await(ctx context.Context) error {
	var err error
	for range 600 {
		if err = s.Ping(ctx); err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// stop kills the server and waits for its end: nobody needs its data again.
func (s *server) stop() {
	_ = s.command.Process.Kill()
	_ = s.command.Wait() // the kill is its exit status
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	return port, listener.Close()
}

// statement runs what influxsync has no name for.
func (s *server) statement(ctx context.Context, text string) error {
	body := strings.NewReader(url.Values{"q": {text}}.Encode())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/query", body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := exchange(request)
	if err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	if bytes.Contains(answer, []byte(`"error"`)) {
		return fmt.Errorf("%s: %s", text, answer)
	}
	return nil
}

// collect makes the server collect its garbage, so that no case runs in the
// room that the one before has left on the heap.
func (s *server) collect(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/debug/pprof/heap?gc=1", nil)
	if err != nil {
		return err
	}
	if _, err = exchange(request); err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	return nil
}

func exchange(request *http.Request) ([]byte, error) {
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode/100 != 2 {
		err = fmt.Errorf("status %d: %s", response.StatusCode, bytes.TrimSpace(body))
	}
	return body, err
}

// cpu is what the server's process has used since it began, to 10 ms.
func (s *server) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.command.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read CPU of a server: %w", err)
	}
	return parseStat(text)
}

// parseStat takes user and system time of proc(5)'s stat. The process' name
// may hold anything, so fields are counted from its closing parenthesis.
func parseStat(text []byte) (time.Duration, error) {
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("stat of a process is too short")
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("stat of a process: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil // USER_HZ is 100 wherever Go runs
}

// peakKiB is the most memory that a process had, its own status' VmHWM.
func peakKiB() (int64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("read peak memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		}
	}
	return 0, errors.New("no VmHWM in the status of a process")
}
