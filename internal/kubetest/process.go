package kubetest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

const (
	startWithin = 2 * time.Minute // of a machine that does other things; 4 s is usual
	pollEach    = 50 * time.Millisecond
)

// process is a program that ends with the one that started it, on Linux also
// when that is killed. Its output is in LOG.
type process struct {
	name, log string
	command   *exec.Cmd
	ended     chan struct{} // closed when the program has ended
}

// start runs the program from a thread that stays until it has ended: the
// kernel takes the end of the thread for that of the parent.
func start(dir, name, binary string, change func(*syscall.SysProcAttr), args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
	output, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.command = exec.Command(binary, args...)
	p.command.Dir = dir
	p.command.Stdout, p.command.Stderr = output, output
	p.command.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	p.command.SysProcAttr = &syscall.SysProcAttr{}
	dieWithParent(p.command.SysProcAttr)
	if change != nil {
		change(p.command.SysProcAttr)
	}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.ended)
		defer func() { _ = output.Close() }()
		err := p.command.Start()
		started <- err
		if err == nil {
			_ = p.command.Wait() // a kill is its usual end
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// kill ends the program as a crash does. A second call does nothing.
func (p *process) kill() {
	_ = p.command.Process.Kill() // an error says that it has ended
	<-p.ended
}

// until asks until there is no error, the program has ended, or patience has.
func (p *process) until(ctx context.Context, ask func(context.Context) error) error {
	clk := clock.System()
	for end := clk.Now().Add(startWithin); ; {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended: %s", p.name, p.lastWords())
		default:
		}
		if clk.Now().After(end) || ctx.Err() != nil {
			return fmt.Errorf("%s is not ready within %s: %w: %s", p.name, startWithin, err, p.lastWords())
		}
		if err := clk.Sleep(ctx, pollEach); err != nil {
			return err
		}
	}
}

// lastWords is the end of what the program logged.
func (p *process) lastWords() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-2000):]))
}

// freePorts are n different TCP ports of an address.
func freePorts(address string, n int) ([]int, error) {
	var ports []int
	for range n {
		listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer func() { _ = listener.Close() }()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
