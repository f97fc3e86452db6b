package e2e

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

// process is a running sub-process, as its parent sees it.
type process struct {
	testing.TB
	child child
	loops int // that sleep when it rests
	clock *clock.Manual
	cmd   *exec.Cmd
	in    io.WriteCloser
	ended chan struct{} // closed when it has ended and all that it told was heard

	mu     sync.Mutex
	moved  chan struct{} // closed when any of these changes
	asleep map[string]time.Time
	last   string // point
	victim *victim
	killed bool
}

// spawn starts this test's binary as the child.
func spawn(t testing.TB, c child, clk *clock.Manual, loops int) *process {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{TB: t, child: c, loops: loops, clock: clk, ended: make(chan struct{}), moved: make(chan struct{}), asleep: make(map[string]time.Time)}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			p.hear(scanner.Text())
		}
	}()
	t.Cleanup(p.kill)
	return p
}

// kill ends the process with SIGKILL and waits for it; it may have ended.
func (p *process) kill() {
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
	_ = p.in.Close()
	_ = p.cmd.Wait() // the kill is its exit status
}

// victim says at which point a process is killed, or after how long.
type victim struct {
	point string        // the first time that it is reached
	after time.Duration // else
}

// aim says when the process is to be killed.
func (p *process) aim(v *victim) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.victim = v
}

// hear takes a line that the process told. At a point it goes on when it is
// told so, or is killed.
func (p *process) hear(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() { close(p.moved); p.moved = make(chan struct{}) }()
	words := strings.Fields(line)
	switch {
	case strings.HasPrefix(line, "at "):
		p.last = strings.TrimPrefix(line, "at ")
		if p.victim != nil && p.victim.point == p.last {
			p.killed = true
			_ = p.cmd.Process.Kill()
			return
		}
		_, _ = fmt.Fprintln(p.in, "go") // one that has ended needs no answer
	case len(words) == 3 && words[0] == "rest":
		if ns, err := strconv.ParseInt(words[2], 10, 64); err == nil {
			p.asleep[words[1]] = time.Unix(0, ns)
		}
	case len(words) == 2 && words[0] == "wake":
		delete(p.asleep, words[1])
	}
}

// state is whether the loops sleep, whether it was killed, and what tells of
// the next change.
func (p *process) state() (rests, killed bool, last string, moved <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, now := 0, p.clock.Now()
	for _, until := range p.asleep {
		if until.After(now) {
			n++
		}
	}
	return n >= p.loops, p.killed, p.last, p.moved
}

// rest returns when the loops sleep, or when the process was killed where its
// victim said, and says where that was.
func (p *process) rest() (killed bool, where string) {
	p.Helper()
	var timer <-chan time.Time
	if p.victim != nil && p.victim.point == "" {
		timer = time.After(p.victim.after)
	}
	for late := time.After(patience); ; {
		rests, killed, last, moved := p.state()
		if killed || rests && timer != nil { // it was faster: it is killed asleep
			p.kill()
			if !killed {
				last = "asleep"
			}
			return true, last
		}
		if rests {
			return false, ""
		}
		select {
		case <-moved:
		case <-timer:
			p.kill()
			return true, "by chance, " + cmp.Or(last, "starting")
		case <-p.ended:
			if _, killed, _, _ := p.state(); !killed {
				p.Fatalf("%s ended by itself after %q", p.child.Role, last)
			}
		case <-late:
			p.Fatalf("%s does not come to rest; last at %q", p.child.Role, last)
		}
	}
}

// freePort is a port of loopback that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}
