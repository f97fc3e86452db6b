package influxtest

import (
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
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
)

const (
	startWithin = 15 * time.Second // of a machine that does other things; 0.2 s is usual
	pollEach    = 10 * time.Millisecond
)

// Process is an influxd of its own on a loopback port. It ends with the test's
// process, on Linux also when that is killed. It is not safe for concurrent
// use; its servers are.
type Process struct {
	binary, dir string
	port        int
	command     *exec.Cmd
	ended       chan struct{} // closed when the command has ended
}

// Start is a server of that kind in a directory of the test's own, stopped
// when the test ends. Without the program the test is skipped, or fails where
// the environment says CI=true.
func Start(t testing.TB, kind Kind, options Options) *Process {
	t.Helper()
	p, err := Launch(t.Context(), kind, t.TempDir(), options)
	demand(t, err)
	t.Cleanup(p.Kill)
	return p
}

// Launch starts a server in dir and returns when it answers. The caller kills
// it. Programs that share a server over several tests use it; others Start.
func Launch(ctx context.Context, kind Kind, dir string, options Options) (*Process, error) {
	binary, err := kind.Binary()
	if err != nil {
		return nil, err
	}
	p := &Process{binary: binary, dir: dir}
	for range 3 { // another program may take the port before the server does
		if p.port, err = freePort(); err != nil {
			return nil, fmt.Errorf("start %s: %w", kind, err)
		}
		if err = os.WriteFile(p.config(), []byte(options.text(dir, p.port)), 0o600); err != nil {
			return nil, fmt.Errorf("start %s: %w", kind, err)
		}
		if err = p.start(ctx); err == nil {
			return p, nil
		}
		if !strings.Contains(err.Error(), "address already in use") {
			break
		}
	}
	return nil, fmt.Errorf("start %s: %w", kind, err)
}

func (p *Process) config() string { return filepath.Join(p.dir, "influxdb.conf") }
func (p *Process) log() string    { return filepath.Join(p.dir, "influxd.log") }

// start runs the program and waits for its first answer.
func (p *Process) start(ctx context.Context) error {
	if err := p.run(); err != nil {
		return err
	}
	server, err := p.Server()
	if err != nil {
		return err
	}
	clk := clock.System()
	for end := clk.Now().Add(startWithin); ; {
		if err = server.Ping(ctx); err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("it ended: %s", p.lastWords())
		default:
		}
		if clk.Now().After(end) || ctx.Err() != nil {
			p.Kill()
			return fmt.Errorf("no answer within %s: %w: %s", startWithin, err, p.lastWords())
		}
		if err := clk.Sleep(ctx, pollEach); err != nil {
			p.Kill()
			return err
		}
	}
}

// run starts the program from a thread that stays until it has ended: the
// kernel takes the end of the thread for that of the parent.
func (p *Process) run() error {
	output, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	command := exec.Command(p.binary, "run", "-config", p.config())
	command.Stdout, command.Stderr = output, output
	// The defaults of the configuration file are not to come from elsewhere.
	command.Env = []string{"HOME=" + p.dir, "PATH=" + os.Getenv("PATH")}
	dieWithParent(command)
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		defer func() { _ = output.Close() }()
		err := command.Start()
		started <- err
		if err == nil {
			_ = command.Wait() // a kill is its usual end
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	p.command, p.ended = command, ended
	return nil
}

// Kill ends the server as a crash does (SIGKILL). A second call does nothing.
func (p *Process) Kill() {
	_ = p.command.Process.Kill() // an error says that it has ended
	<-p.ended
}

// Restart kills the server where it runs, and starts it again on the same
// directory and port. It returns when the server answers.
func (p *Process) Restart(ctx context.Context) error {
	p.Kill()
	if err := p.start(ctx); err != nil {
		return fmt.Errorf("restart %s: %w", filepath.Base(p.binary), err)
	}
	return nil
}

// PID is the process's id.
func (p *Process) PID() int { return p.command.Process.Pid }

// Dir is where it keeps its data: meta, data and wal.
func (p *Process) Dir() string { return p.dir }

// URL is the server's base.
func (p *Process) URL() string { return fmt.Sprintf("http://127.0.0.1:%d", p.port) }

// Server speaks to the process over connections of its own.
func (p *Process) Server() (*influxsync.Server, error) {
	return influxsync.New(influxsync.Config{URL: p.URL()})
}

// Wipe drops every database, so that the next test finds an empty server.
func (p *Process) Wipe(ctx context.Context) error {
	server, err := p.Server()
	if err != nil {
		return err
	}
	names, err := server.Databases(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := p.drop(ctx, name); err != nil {
			return fmt.Errorf("drop database %s: %w", name, err)
		}
	}
	return nil
}

func (p *Process) drop(ctx context.Context, name string) error {
	form := url.Values{"q": {`DROP DATABASE "` + strings.ReplaceAll(name, `"`, `\"`) + `"`}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL()+"/query", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || strings.Contains(string(answer), `"error"`) {
		return fmt.Errorf("status %d: %s", response.StatusCode, answer)
	}
	return nil
}

// lastWords is the end of what the server logged.
func (p *Process) lastWords() string {
	text, err := os.ReadFile(p.log())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-2000):]))
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
