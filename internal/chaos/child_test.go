package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/influxdata/influxdb/tsdb/index/tsi1"
)

// childEnv holds, in a sub-process, the child that it is.
const childEnv = "ACCUMULUS_TEST_CHAOS_CHILD"

// child is what a sub-process is told.
type child struct {
	Role      string // follower or leader
	Dir       string
	Seed      uint64
	Address   string // of the follower's port
	Life      int    // how often it was started before
	MarkFirst bool   // of a leader: the bug of the control
}

// TestMain runs the tests, or the sub-process that a test has started. A store is
// opened some thousand times: one file for each index instead of eight.
func TestMain(m *testing.M) {
	tsi1.DefaultPartitionN = 1
	debug.SetGCPercent(400)
	text := os.Getenv(childEnv)
	if text == "" {
		os.Exit(m.Run())
	}
	var c child
	err := json.Unmarshal([]byte(text), &c)
	if err == nil {
		err = c.run(context.Background())
	}
	fmt.Fprintln(os.Stderr, "child:", err) // a child never ends by itself
	os.Exit(1)
}

// say tells the parent something.
func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func (c child) run(ctx context.Context) error {
	if c.Role == "leader" {
		return c.lead(ctx)
	}
	return c.follow(ctx)
}

// settling are the steps of the follower in a schedule, and at the end all that
// is left to settle.
func (p *plan) settling() []step {
	var steps []step
	for _, s := range p.steps {
		switch s.kind {
		case write, settle:
			steps = append(steps, s)
		case pulling:
			for _, d := range s.during {
				steps = append(steps, d.step)
			}
		}
	}
	for i := range p.tables {
		b := newBooks()
		for _, s := range steps {
			if s.table == i {
				b.imagine(p, s)
			}
		}
		if windows := b.unsettled(p); len(windows) > 0 {
			steps = append(steps, step{kind: settle, table: i, windows: windows})
		}
	}
	return steps
}

// imagine takes in a step without a store: its entries have no times and hashes.
func (b *books) imagine(p *plan, s step) {
	if s.kind == write {
		b.wrote(p, s.rows)
		return
	}
	entries := make([]influxsync.Entry, len(s.windows))
	for i, w := range s.windows {
		entries[i] = b.entry(p, w)
	}
	b.journalled(p, entries)
}

// follow is a follower's store with its writer. It goes on where its journals say
// that it was, as far as the parent lets it: each line of its input is a number of
// steps.
func (c child) follow(ctx context.Context) error {
	p := newPlan(c.Seed)
	v, err := newVolume(ctx, p, clock.System(), c.Dir, nil)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", c.Address)
	if err != nil {
		return err
	}
	store := &url.URL{Scheme: "http", Host: "store"}
	go func() {
		proxy := &httputil.ReverseProxy{Transport: v.engine.Transport(), FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0), // leaders that are killed
			Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(store) }}
		say("ended %v", http.Serve(listener, proxy))
	}()
	steps, err := v.resume(ctx, p.settling())
	if err != nil {
		return err
	}
	say("left %d", len(steps))
	allowed := bufio.NewScanner(os.Stdin)
	for may := 0; len(steps) > 0; may-- {
		for may == 0 {
			if !allowed.Scan() {
				return fmt.Errorf("the parent has gone")
			}
			if may, err = strconv.Atoi(allowed.Text()); err != nil {
				return err
			}
		}
		say("step %d", len(steps))
		if err := v.do(ctx, steps[0]); err != nil {
			return err
		}
		steps = steps[1:]
	}
	say("settled")
	for allowed.Scan() { // until the parent has gone
	}
	return fmt.Errorf("the parent has gone")
}

// resume leaves out the steps that the journals tell of, and those before them in
// their tables. What was written after that is written again.
func (v *volume) resume(ctx context.Context, steps []step) ([]step, error) {
	done := make([]int, len(v.plan.tables))
	for _, s := range steps {
		done[s.table]++
	}
	for i, t := range v.plan.tables {
		entries, err := influxsync.ReadJournal(ctx, v.server.Database(t.DB), cluster, t.Name, time.Time{}, 0)
		if err != nil {
			return nil, err
		}
		var left []step
		if v.books[i], left, err = v.plan.told(i, steps, entries, false); err != nil {
			return nil, err
		}
		done[i] -= len(left)
	}
	var left []step
	for _, s := range steps {
		if done[s.table]--; done[s.table] < 0 {
			left = append(left, s)
		}
	}
	return left, nil
}

// teller is a link whose requests are told, so that the parent can kill between
// them.
type teller struct {
	http.RoundTripper
	requests *atomic.Int64
}

func (t teller) RoundTrip(r *http.Request) (*http.Response, error) {
	say("request %d", t.requests.Add(1))
	return t.RoundTripper.RoundTrip(r)
}

// lead is a leader's store with its registry, which pulls without end over links
// that have faults.
func (c child) lead(ctx context.Context) error {
	p := newPlan(c.Seed)
	var requests atomic.Int64
	own := http.DefaultTransport.(*http.Transport).Clone()
	own.DisableCompression = true
	links := [2]*link{newLink("source", p), newLink("sink", p)}
	servers := [2]*influxsync.Server{}
	for i, address := range []string{"http://" + c.Address, "http://centre"} {
		var err error
		if servers[i], err = influxsync.New(influxsync.Config{URL: address, Transport: teller{links[i], &requests}}); err != nil {
			return err
		}
	}
	r := rand.New(rand.NewPCG(c.Seed, uint64(c.Life)))
	now := newTurn(weather{})
	centre := &centre{plan: p, dir: c.Dir, clock: clock.System()}
	sync := syncing(influxsync.Sync)
	if c.MarkFirst {
		sync = markFirst(centre, sync)
	}
	if err := centre.open(ctx, servers[1], bounded(p, sync, func() *turn { return now })); err != nil {
		return err
	}
	links[0].lead(own)
	links[1].lead(centre.engine.Transport())
	if err := centre.prepare(ctx); err != nil {
		return err
	}
	for pull := 1; ; pull++ {
		now = newTurn(someWeather(r))
		for i, rate := range []int{now.source, now.sink} {
			links[i].begin(c.Life<<16+pull, min(rate, 120))
		}
		say("begin")
		result, err := centre.puller.Pull(ctx, cluster, servers[0])
		say("pulled %d %t %d", result.Windows, err == nil, links[0].faults()+links[1].faults())
		if result.Windows == 0 {
			if err := clock.System().Sleep(ctx, 3*time.Millisecond); err != nil { // it polls, as a leader does
				return err
			}
		}
	}
}
