package chaos

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
)

// process is a running sub-process, as its parent sees it.
type process struct {
	child  child
	faults int // that its links have told of
	cmd    *exec.Cmd
	in     io.WriteCloser
	dead   chan struct{} // closed when it is to be killed: nobody listens any more
	ended  chan struct{} // closed when it has ended
	killed bool
}

// line is what a process told: a word and numbers, and "gone" when it ends.
type line struct {
	from    *process
	word    string
	numbers []int
}

// spawn starts this test's binary as the child, and sends what it tells. The
// thread that starts it stays until it has ended, because the kernel takes the
// end of the thread for that of the parent.
func spawn(c child, heard chan<- line) (*process, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	p := &process{child: c, cmd: exec.Command(os.Args[0]), dead: make(chan struct{}), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), childEnv+"="+string(text), "GOMAXPROCS=1")
	p.cmd.Stderr = os.Stderr
	dieWithParent(p.cmd)
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.ended)
		err := p.cmd.Start()
		if started <- err; err != nil {
			return
		}
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			p.tell(heard, scanner.Text())
		}
		_ = p.cmd.Wait() // a kill is its usual end
		p.tell(heard, "gone")
	}()
	return p, <-started
}

// tell sends a line on, unless nobody listens.
func (p *process) tell(heard chan<- line, text string) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return
	}
	l := line{from: p, word: words[0]}
	for _, word := range words[1:] {
		n, err := strconv.Atoi(word)
		if word == "true" {
			n, err = 1, nil
		}
		if word == "false" {
			err = nil
		}
		if err == nil {
			l.numbers = append(l.numbers, n)
		}
	}
	select {
	case heard <- l:
	case <-p.dead:
	}
}

// allow lets a follower go on by some steps.
func (p *process) allow(steps int) {
	_, _ = fmt.Fprintln(p.in, steps) // one that has ended needs none
}

// kill ends the process with SIGKILL and waits for it; it may have ended.
func (p *process) kill() {
	if p == nil || p.killed {
		return
	}
	p.killed = true
	_ = p.cmd.Process.Kill() // it may have ended
	close(p.dead)
	<-p.ended
	_ = p.in.Close()
}
