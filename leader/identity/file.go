package identity

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/accumulus-metering/accumulus/internal/reread"
	"github.com/prometheus/client_golang/prometheus"
)

// Rules are how much callers may take, and which proxies speak for them.
type Rules struct {
	Limits  Limits
	Proxies Proxies
}

// File is the access file as it is now: it is read again when it changes, also by a
// mounted ConfigMap. One that cannot be taken changes nothing, so that a slip locks
// nobody out; it is logged and counted. It is safe for concurrent use.
type File struct {
	path  string
	known Known
	log   *slog.Logger
	reads *prometheus.CounterVec
	stale prometheus.Gauge
	held  held

	mu      sync.Mutex
	changes reread.Files
	rules   Rules
	callers Directory
}

// Known makes those who know callers. What they register is served while their file is
// the one that holds.
type Known func(config Config, metrics prometheus.Registerer) (Directory, error)

// held are the metrics of those who know callers now: others when another file is taken,
// the same when it is refused.
type held struct {
	now atomic.Pointer[prometheus.Registry]
}

// Describe tells nothing ahead: the metrics change with the file.
func (h *held) Describe(chan<- *prometheus.Desc) {}

// Collect tells those of now.
func (h *held) Collect(to chan<- prometheus.Metric) {
	if now := h.now.Load(); now != nil {
		now.Collect(to)
	}
}

// OpenFile reads an access file; "" is none, which knows what the zero Config does.
// Errors: a file that cannot be taken, and metrics that are registered already.
func OpenFile(path string, known Known, log *slog.Logger, metrics prometheus.Registerer) (*File, error) {
	f := &File{path: path, known: known, log: log,
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_access_file_reads_total", Help: "Access files that were read, by what became of them: taken or refused."}, []string{"result"}),
		stale: prometheus.NewGauge(prometheus.GaugeOpts{Name: "accumulus_access_file_stale", Help: "1 while the access file cannot be taken, and what stood there before holds."})}
	for _, c := range []prometheus.Collector{f.reads, f.stale, &f.held} {
		if err := metrics.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of the access file: %w", err)
		}
	}
	for _, result := range []string{"taken", "refused"} {
		f.reads.WithLabelValues(result)
	}
	return f, f.read()
}

// read takes the file over, or nothing of it.
func (f *File) read() error {
	if f.path != "" {
		f.changes = reread.Look(f.path)
	}
	config, err := ReadConfig(f.path)
	var callers Directory
	metrics := prometheus.NewRegistry()
	if err == nil {
		callers, err = f.known(config, metrics)
	}
	var proxies Proxies
	if err == nil {
		proxies, err = ParseProxies(config.Proxies)
	}
	if err != nil {
		f.reads.WithLabelValues("refused").Inc()
		f.stale.Set(1)
		return err
	}
	f.reads.WithLabelValues("taken").Inc()
	f.stale.Set(0)
	f.rules, f.callers = Rules{config.Limits, proxies}, callers
	f.held.now.Store(metrics)
	return nil
}

// now is what holds now.
func (f *File) now() (Rules, Directory) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changes.Changed() {
		if err := f.read(); err != nil {
			f.log.Warn("a changed access file is not taken", "err", err)
		} else {
			f.log.Info("access file was read again", "file", f.path)
		}
	}
	return f.rules, f.callers
}

// Rules are the limits and proxies as they hold now.
func (f *File) Rules() Rules {
	rules, _ := f.now()
	return rules
}

// Who is the caller with a token. Errors: those of a Source.
func (f *File) Who(ctx context.Context, token string) (Principal, error) {
	_, callers := f.now()
	return callers.Who(ctx, token)
}
