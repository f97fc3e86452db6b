package meters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"golang.org/x/sync/errgroup"
)

// Receiver takes readings to a leader: *client.Client. An error that is Permanent
// will not go away by sending again.
type Receiver interface {
	PushReadings(ctx context.Context, meter string, sent []Sent) ([]Verdict, error)
}

// AgentConfig of an Agent. Zero durations take the defaults.
type AgentConfig struct {
	Meters   []fleet.Meter
	Buffer   string        // file of readings that are not sent yet
	Interval time.Duration // 10 s
	Timeout  time.Duration // of one meter's answer; default half an interval
	// Permanent says that an error of the Receiver will not go away by sending
	// again, as with a meter that the leader does not know. nil: none is.
	Permanent func(error) bool
}

// Agent reads the meters near it and sends their readings to a leader. What was
// read is durable before it is sent, and is forgotten when the leader has answered.
type Agent struct {
	config   AgentConfig
	receiver Receiver
	readers  readers
	buffer   *buffer
	clock    clock.Clock
	log      *slog.Logger
	last     map[string]time.Time // of the newest reading, by meter
	asked    map[string]time.Time // slot of the last attempt

	mu      sync.Mutex
	failing map[string]string // what was logged last, by meter
}

// batch is how many readings go in one request.
const batch = 2000

// NewAgent opens the buffer. Errors: a meter of the driver push, none, or a buffer
// that another process has or that cannot be read.
func NewAgent(config AgentConfig, receiver Receiver, client *http.Client, clk clock.Clock, log *slog.Logger) (*Agent, error) {
	if len(config.Meters) == 0 {
		return nil, errors.New("there is no meter to read: the file must hold objects of the kind Meter")
	}
	for _, m := range config.Meters {
		if !polled(m) {
			return nil, fmt.Errorf("meter %s has the driver %s: here stands how it is read; at the leader it is %s", m.Name, m.Driver, fleet.DriverPush)
		}
	}
	if config.Interval <= 0 {
		config.Interval = 10 * time.Second
	}
	if config.Timeout <= 0 {
		config.Timeout = config.Interval / 2
	}
	opened, err := openBuffer(config.Buffer)
	if err != nil {
		return nil, err
	}
	return &Agent{config: config, receiver: receiver, readers: newReaders(client, clk, log), buffer: opened, clock: clk, log: log,
		last: opened.newest(), asked: make(map[string]time.Time), failing: make(map[string]string)}, nil
}

// Run reads and, beside it, sends at each slot until ctx ends: a leader that hangs
// keeps no meter from being read. A meter or a leader that does not answer is no
// error; a buffer that cannot be written is, for then nothing can be promised.
func (a *Agent) Run(ctx context.Context) error {
	defer a.readers.close()
	group, ctx := errgroup.WithContext(ctx)
	each := func(do func(context.Context, time.Time) error) func() error {
		return func() error {
			for {
				slot, err := clock.Until(ctx, a.clock, a.config.Interval)
				if err != nil {
					return nil
				}
				if err := do(ctx, slot); err != nil {
					return err
				}
			}
		}
	}
	group.Go(each(a.Read))
	group.Go(each(func(ctx context.Context, _ time.Time) error { return a.Send(ctx) }))
	return errors.Join(group.Wait(), a.buffer.close())
}

// Read reads what is due at the slot and makes it durable.
func (a *Agent) Read(ctx context.Context, slot time.Time) error {
	return a.buffer.add(a.collect(ctx, slot))
}

// collect asks all meters that are due, side by side.
func (a *Agent) collect(ctx context.Context, slot time.Time) []kept {
	ctx, cancel := context.WithTimeout(ctx, a.config.Timeout)
	defer cancel()
	answers := make([][]kept, len(a.config.Meters))
	failed := make([]error, len(a.config.Meters))
	var wait sync.WaitGroup
	for i, m := range a.config.Meters {
		last, ok := a.asked[m.Name]
		if ok && !slot.Before(last) && slot.Sub(last) < time.Duration(m.Interval) {
			continue
		}
		a.asked[m.Name] = slot
		after := a.last[m.Name]
		wait.Go(func() {
			samples, err := a.readers.read(ctx, m, after)
			failed[i] = err
			for _, s := range samples {
				answers[i] = append(answers[i], kept{Meter: m.Name, Sent: s.sent(m)})
			}
		})
	}
	wait.Wait()
	var fresh []kept
	for i, m := range a.config.Meters {
		a.tell(m.Name, failed[i])
		for _, k := range answers[i] {
			if k.Time.After(a.last[m.Name]) {
				a.last[m.Name] = k.Time
				fresh = append(fresh, k)
			}
		}
	}
	return fresh
}

// sent is a sample as it is sent: at its meter's time, or at that of its receipt.
func (s sample) sent(m fleet.Meter) Sent {
	r := s.reading(m)
	sent := Sent{Time: r.Time}
	if s.hasCounter {
		sent.Counter, sent.Unit = joules(s.counter), "J"
	}
	if s.hasPower {
		sent.Watts = joules(s.power) // thousandths likewise
	}
	sent.Step = s.step
	return sent
}

// Send sends what waits, meter by meter, until the leader does not answer.
func (a *Agent) Send(ctx context.Context) error {
	for _, name := range a.buffer.meters() {
		for {
			waiting := a.buffer.of(name, batch)
			if len(waiting) == 0 {
				break
			}
			verdicts, err := a.receiver.PushReadings(ctx, name, waiting)
			permanent := err != nil && a.config.Permanent != nil && a.config.Permanent(err)
			a.tell("leader", err)
			if permanent {
				break // another meter may be known
			}
			if err != nil {
				return nil
			}
			if i := slices.IndexFunc(verdicts, func(v Verdict) bool { return v.Result == ResultRefused }); i >= 0 {
				a.log.Warn("leader refused a reading", "meter", name, "time", verdicts[i].Time, "reason", verdicts[i].Reason)
			}
			if err := a.buffer.drop(name, waiting[len(waiting)-1].Time); err != nil {
				return err
			}
		}
	}
	return nil
}

// tell logs when something begins to fail and when it ends.
func (a *Agent) tell(who string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	text := ""
	if err != nil {
		text = err.Error()
	}
	if former := a.failing[who]; (former == "") != (text == "") {
		if err != nil {
			a.log.Warn("does not answer", "who", who, "err", err, "waiting", a.buffer.size())
		} else {
			a.log.Info("answers again", "who", who)
		}
	}
	a.failing[who] = text
}
