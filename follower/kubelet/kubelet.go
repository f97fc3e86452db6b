// Package kubelet reads what every node of a cluster used from its kubelet's
// /metrics/cadvisor, and hands it on as readings: the node, kubepods, each pod,
// each container. It is the one source of each counter. Once a minute it reads
// /stats/summary too, for volumes of claims, the ephemeral storage of pods and
// the writable layers of containers.
//
// It guarantees that a value is what the kubelet wrote, floored to the integer
// unit from its decimal digits; that it stands at the sample's own time (a
// sample without one is refused and counted); that a series has one counter at
// a time; and that an epoch changes only when the counter began anew (see
// package life). One node's failure delays or hides no other's.
//
// It interpolates, adds and stores nothing, and it finds neither nodes nor
// pods: that is the watch's.
package kubelet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/internal/clock"
)

// Target is one node's kubelet.
type Target struct {
	Node    string
	Address string
	Port    int
	BootID  string // another one means that every counter began anew; "" if unknown
}

// Pod is what a body does not say of a pod.
type Pod struct {
	Namespace, Name string
	HostNetwork     bool
}

// Inventory knows the cluster's nodes and pods.
type Inventory interface {
	// Targets are the nodes to read.
	Targets() []Target
	// Pod is the pod with that UID as cgroups write it.
	Pod(uid string) (Pod, bool)
}

// Config is how kubelets are asked.
type Config struct {
	CAFile             string        // PEM; "" = the system's roots
	TokenFile          string        // bearer token; "" = none
	InsecureSkipVerify bool          // for kubelets whose certificates no CA signed
	Timeout            time.Duration // for one node; default 10 s
	Concurrency        int           // nodes at once; default 8
	SummaryEvery       time.Duration // between two summaries of a node; default 1 minute
	DisableKeepAlives  bool
	Alias              Aliaser // gives names that leave the cluster; nil = their own
}

// NodeStatus is how reading one node went.
type NodeStatus struct {
	Node        string
	LastSuccess time.Time // zero = never
	LastAttempt time.Time
	Err         error // of the last attempt, a *NodeError; nil = it went well
	// SummaryErr is why the volumes and the ephemeral storage of the node could not
	// be read, a *NodeError.
	SummaryErr error
	// MemoryOff says that the node's kernel does not count the memory of its pods.
	MemoryOff bool
}

// Source reads kubelets.
type Source struct {
	inventory Inventory
	config    Config
	client    client
	clock     clock.Clock
	log       *slog.Logger

	scrapes *prometheus.CounterVec
	seconds prometheus.Histogram
	bytes   prometheus.Counter
	refused *prometheus.CounterVec

	reading  sync.Mutex // held by Read: decoders belong to one sweep at a time
	decoders map[string]*decoder

	mu     sync.Mutex
	status map[string]NodeStatus
}

// New makes a source; it does no I/O.
func New(config Config, inventory Inventory, clk clock.Clock, log *slog.Logger, registry prometheus.Registerer) (*Source, error) {
	if config.Timeout < 0 || config.Concurrency < 0 || config.SummaryEvery < 0 {
		return nil, fmt.Errorf("kubelet source: timeout %s, concurrency %d and %s between summaries must not be negative", config.Timeout, config.Concurrency, config.SummaryEvery)
	}
	config.Timeout = cmp.Or(config.Timeout, 10*time.Second)
	config.Concurrency = cmp.Or(config.Concurrency, 8)
	config.SummaryEvery = cmp.Or(config.SummaryEvery, summaryEvery)
	s := &Source{
		inventory: inventory, config: config, client: client{config: config}, clock: clk, log: log,
		scrapes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_kubelet_scrapes_total",
			Help: "Bodies asked of kubelets, by result (ok, error)."}, []string{"result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "accumulus_kubelet_scrape_duration_seconds",
			Help: "Time to read and decode one kubelet's body.", Buckets: prometheus.ExponentialBuckets(0.005, 2, 12)}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "accumulus_kubelet_body_bytes_total",
			Help: "Bytes of the bodies read."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_kubelet_samples_refused_total",
			Help: "Samples that were not used, by reason (syntax, timestamp, value, superseded)."}, []string{"reason"}),
		decoders: make(map[string]*decoder),
		status:   make(map[string]NodeStatus),
	}
	for _, c := range []prometheus.Collector{s.scrapes, s.seconds, s.bytes, s.refused} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register kubelet metrics: %w", err)
		}
	}
	for _, reason := range refusals {
		s.refused.WithLabelValues(reason)
	}
	return s, nil
}

// RestoreReadings tells the source the last readings before a restart, with the times
// and epochs that it gave them, so that a start time that the kubelet tells
// differently now does not begin a new epoch. Without it, epochs are those of
// the first body.
func (s *Source) RestoreReadings(last []reading.Reading) {
	s.reading.Lock()
	defer s.reading.Unlock()
	for _, r := range last {
		s.decoder(r.Node).restore(r)
	}
}

// Read asks every node once. It returns the bodies of the nodes that answered,
// by node name, and the joined *NodeError of the others.
func (s *Source) Read(ctx context.Context) ([]reading.Body, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if err := s.client.refresh(); err != nil {
		return nil, err
	}
	targets := s.inventory.Targets()
	bodies := make([]reading.Body, len(targets))
	errs := make([]error, len(targets))
	var group errgroup.Group
	group.SetLimit(s.client.config.Concurrency)
	for i, target := range targets {
		d := s.decoder(target.Node)
		d.booted(target.BootID)
		group.Go(func() error {
			bodies[i], errs[i] = s.scrape(ctx, target, d)
			return nil
		})
	}
	_ = group.Wait()
	s.note(targets, bodies, errs)
	bodies = slices.DeleteFunc(bodies, func(b reading.Body) bool { return len(b.Readings) == 0 })
	slices.SortFunc(bodies, func(a, b reading.Body) int { return cmp.Compare(a.Node, b.Node) })
	return bodies, errors.Join(errs...)
}

// decoder is the node's decoder, made at first use. The caller holds reading.
func (s *Source) decoder(node string) *decoder {
	d, ok := s.decoders[node]
	if !ok {
		d = newDecoder(node)
		d.alias = s.config.Alias
		s.decoders[node] = d
	}
	return d
}

func (s *Source) scrape(ctx context.Context, target Target, d *decoder) (reading.Body, error) {
	began := s.clock.Now()
	body := reading.Body{Node: target.Node}
	err := s.client.get(ctx, target, cadvisorPath, "text/plain;version=0.0.4", func(text io.Reader, date time.Time) error {
		body.NodeTime = date
		counted := &counter{from: text}
		var err error
		body.Readings, body.NewestSample, err = d.decode(counted, s.inventory.Pod)
		s.bytes.Add(float64(counted.n))
		for reason, n := range d.refused {
			s.refused.WithLabelValues(reason).Add(float64(n))
		}
		return err
	})
	body.Received = s.clock.Now()
	s.seconds.Observe(body.Received.Sub(began).Seconds())
	if err != nil {
		s.scrapes.WithLabelValues("error").Inc()
		return reading.Body{}, err
	}
	s.scrapes.WithLabelValues("ok").Inc()
	if d.memoryOff = unmetered(body.Readings); d.memoryOff {
		withoutMemory(body.Readings)
	}
	body.Volumes = s.summarize(ctx, target, d) // after the counters, which it must not delay
	return body, nil
}

// note keeps how each node went, logs changes, and drops the nodes that are no
// targets any more. The caller holds reading.
func (s *Source) note(targets []Target, bodies []reading.Body, errs []error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	current := make(map[string]NodeStatus, len(targets))
	for i, target := range targets {
		before := s.status[target.Node]
		status := NodeStatus{Node: target.Node, LastSuccess: before.LastSuccess, LastAttempt: now, Err: errs[i]}
		if errs[i] == nil {
			status.LastSuccess = bodies[i].Received
		}
		if d := s.decoders[target.Node]; d != nil {
			status.SummaryErr, status.MemoryOff = d.further.err, d.memoryOff
		}
		if status.MemoryOff && !before.MemoryOff {
			s.log.Warn("node counts no memory of its pods: its memory control group is off", "node", target.Node)
		}
		if (before.Err == nil) != (errs[i] == nil) {
			if errs[i] != nil {
				s.log.Warn("kubelet cannot be read", "node", target.Node, "err", errs[i])
			} else {
				s.log.Info("kubelet is read again", "node", target.Node)
			}
		}
		current[target.Node] = status
	}
	for node := range s.decoders {
		if _, ok := current[node]; !ok && len(targets) > 0 {
			delete(s.decoders, node)
		}
	}
	s.status = current
}

// Status is how the last sweep went, by node name.
func (s *Source) Status() []NodeStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]NodeStatus, 0, len(s.status))
	for _, status := range s.status {
		all = append(all, status)
	}
	slices.SortFunc(all, func(a, b NodeStatus) int { return cmp.Compare(a.Node, b.Node) })
	return all
}

// counter counts what is read through it.
type counter struct {
	from io.Reader
	n    int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.n += int64(n)
	return n, err
}
