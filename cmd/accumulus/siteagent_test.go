package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync/embedded"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/meters"
)

// mainEnv makes this test's binary the program itself.
const mainEnv = "ACCUMULUS_TEST_MAIN"

// TestMain runs the tests, or the program as a test has started it.
func TestMain(m *testing.M) {
	if os.Getenv(mainEnv) != "" {
		main() // it exits
	}
	os.Exit(m.Run())
}

// running is this program in a process of its own.
type running struct {
	t    *testing.T
	cmd  *exec.Cmd
	said *said
}

// said is what a process printed.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	p := &running{t: t, cmd: exec.Command(os.Args[0], args...), said: &said{}}
	p.cmd.Env = append(os.Environ(), mainEnv+"=1")
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.end(os.Kill) })
	return p
}

// end sends a signal and waits; it may have ended.
func (p *running) end(signal os.Signal) {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Signal(signal)
		_ = p.cmd.Wait() // the signal is its exit status
	}
}

// once runs a command line to its end.
func once(t *testing.T, args ...string) {
	t.Helper()
	command := exec.Command(os.Args[0], args...)
	command.Env = append(os.Environ(), mainEnv+"=1")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("accumulus %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// until waits for what other processes do.
func until(t *testing.T, what string, ok func() bool, of ...*running) {
	t.Helper()
	clk := clock.System()
	for end := clk.Now().Add(90 * time.Second); !ok(); {
		if clk.Now().After(end) {
			for _, p := range of {
				t.Logf("%s", p.said)
			}
			t.Fatalf("not within 90 s: %s", what)
		}
		if err := clk.Sleep(t.Context(), 20*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

// plug is a Shelly whose counter grows by 0.277 Wh with each answer, until it is
// pulled out.
type plug struct {
	mu    sync.Mutex
	shown []int64 // mWh, each answer's
	out   bool
}

func (p *plug) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out {
		http.Error(w, "gone", http.StatusBadGateway)
		return
	}
	counter := int64(5_000_000 + 277*len(p.shown))
	p.shown = append(p.shown, counter)
	_, _ = fmt.Fprintf(w, `{"apower":100,"aenergy":{"total":%d.%03d}}`, counter/1000, counter%1000)
}

func (p *plug) answers() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.shown)
}

// TestSiteAgent: the program as a site agent reads a device and sends to the program
// as a leader. The leader is killed, then the agent, the agent comes back first: what
// the device showed stands at the leader, each reading once, but for the answer that
// each killed agent may have had in its hand, whose energy is in the next. (An agent
// waits for a device half of its interval: here a second, on a machine that does much.)
func TestSiteAgent(t *testing.T) {
	device := &plug{}
	served := httptest.NewServer(device)
	t.Cleanup(served.Close)
	dir := t.TempDir()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	const head = "apiVersion: accumulus.dev/v1\nkind: "
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fleet := file("fleet.yaml", head+"Box\nmetadata: {name: far}\nspec: {}\n---\n"+head+"Meter\nmetadata: {name: plug}\nspec: {box: far, driver: push}\n")
	site := file("meters.yaml", head+"Meter\nmetadata: {name: plug}\nspec: {box: far, driver: shelly-gen2, url: \""+served.URL+"\"}\n")
	data, server, waiting := filepath.Join(dir, "centre"), "http://"+address, filepath.Join(dir, "buffer", "readings.jsonl")
	token := func(name string) string { return filepath.Join(data, "leader", name) }
	lead := func() *running {
		p := start(t, "leader", "--data", data, "--listen", address, "--tick", "1s")
		until(t, "the leader answers", func() bool {
			response, err := http.Get(server + "/healthz")
			if err != nil {
				return false
			}
			_, _ = io.Copy(io.Discard, response.Body)
			return response.Body.Close() == nil && response.StatusCode == http.StatusOK
		}, p)
		return p
	}
	agent := func() *running {
		return start(t, "meters", "run", "--server", server, "--token-file", token("meters.token"), "--file", site, "--buffer", filepath.Dir(waiting), "--interval", "2s")
	}
	size := func() int64 {
		info, err := os.Stat(waiting)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	more := func(n int) func() bool {
		then := device.answers() + n
		return func() bool { return device.answers() >= then }
	}

	centre := lead()
	once(t, "apply", "--yes", "-f", fleet, "--server", server, "--token-file", token("operator.token"))
	reader := agent()
	until(t, "the device is read", more(3), centre, reader)
	centre.end(os.Kill)
	until(t, "readings wait for the leader", func() bool { return size() > 200 }, reader)
	reader.end(os.Kill)
	reader = agent()
	until(t, "a second agent reads on", more(3), reader)
	centre = lead()
	until(t, "what waited is sent", func() bool { return size() == 0 }, centre, reader)
	until(t, "the device is read as before", more(2), centre, reader)
	device.mu.Lock()
	device.out = true
	device.mu.Unlock()
	until(t, "the last is sent", func() bool { return size() == 0 && strings.Contains(reader.said.String(), "does not answer") }, centre, reader)
	reader.end(os.Interrupt)
	centre.end(os.Interrupt)
	checkArrived(t, filepath.Join(data, "leader", "store"), device.shown)
}

// checkArrived holds what the leader's store has against what the device showed.
func checkArrived(t *testing.T, store string, shown []int64) {
	t.Helper()
	engine, err := embedded.Open(embedded.Config{Dir: store}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	client, err := engine.Client()
	if err != nil {
		t.Fatal(err)
	}
	now := clock.System().Now()
	stored := meters.NewStore(client)
	arrived, err := stored.Load(context.Background(), "far", now.Add(-time.Hour), now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	const killed = 1 // agents
	counts := make(map[int64]int)
	for i, r := range arrived {
		counts[r.CounterMillijoules/3600]++
		if i > 0 && (!r.Epoch.Equal(arrived[0].Epoch) || r.CounterMillijoules <= arrived[i-1].CounterMillijoules) {
			t.Errorf("reading %d of %d mJ follows %d mJ, or began anew", i, r.CounterMillijoules, arrived[i-1].CounterMillijoules)
		}
	}
	missing := 0
	for _, counter := range shown {
		switch counts[counter] {
		case 0:
			missing++
		case 1:
		default:
			t.Errorf("%d mWh arrived %d times", counter, counts[counter])
		}
	}
	t.Logf("%d answers of the device, %d readings arrived", len(shown), len(arrived))
	if missing > killed || len(arrived)+missing != len(shown) {
		t.Errorf("%d of %d answers are missing, at most %d may be; %d arrived", missing, len(shown), killed, len(arrived))
	}
	if last := arrived[len(arrived)-1].CounterMillijoules; last != shown[len(shown)-1]*3600 {
		t.Errorf("the last that arrived is %d mJ, the device showed %d", last, shown[len(shown)-1]*3600)
	}
}
