package carbon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// Config of the loop. Zero fields take the defaults.
type Config struct {
	Slot    time.Duration // between two looks at which grids are due; default 1 minute
	Timeout time.Duration // of one answer; default 20 s
	// Behind is how far back hours that are missing are asked for one by one;
	// default 7 days. PerSlot bounds these questions of a grid; default 12.
	Behind  time.Duration
	PerSlot int
}

// defaultInterval is between two questions about one grid.
const defaultInterval = 15 * time.Minute

// Books are where intensities are kept: *registry.Registry.
type Books interface {
	Fleet(ctx context.Context, at time.Time) (*fleet.Fleet, error)
	PutIntensities(ctx context.Context, source, zone string, list []registry.Intensity) (int, error)
	Intensities(ctx context.Context, source, zone string, w schema.Window) ([]registry.Intensity, error)
}

// Status is how one grid's API is.
type Status struct {
	Grid      string    `json:"grid"`
	Zone      string    `json:"zone"`
	Asked     time.Time `json:"asked,omitzero"`  // the last attempt
	Newest    time.Time `json:"newest,omitzero"` // until when an intensity is known
	Error     string    `json:"error,omitempty"`
	ErrorTime time.Time `json:"errorTime,omitzero"`
}

// Loop asks the APIs of the fleet's grids. Status may be called at any time.
type Loop struct {
	config Config
	books  Books
	client mapsClient
	clock  clock.Clock
	log    *slog.Logger
	values *prometheus.CounterVec

	tick   sync.Mutex
	mu     sync.Mutex
	status map[string]Status
}

// New makes a loop that asks with a copy of the client. It fails only where its
// metrics are registered already.
func New(config Config, books Books, client *http.Client, clk clock.Clock, log *slog.Logger, metrics prometheus.Registerer) (*Loop, error) {
	if config.Slot <= 0 {
		config.Slot = time.Minute
	}
	if config.Timeout <= 0 {
		config.Timeout = 20 * time.Second
	}
	if config.Behind <= 0 {
		config.Behind = 7 * 24 * time.Hour
	}
	if config.PerSlot <= 0 {
		config.PerSlot = 12
	}
	own := *client
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // else the token would go along
	l := &Loop{config: config, books: books, client: mapsClient{&own}, clock: clk, log: log, status: make(map[string]Status),
		values: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_carbon_intensities_total",
			Help: "Intensities of grids by result (changed, same), and questions that failed (error)."}, []string{"result"})}
	return l, metrics.Register(l.values)
}

// Run asks until ctx ends.
func (l *Loop) Run(ctx context.Context) error {
	for {
		slot, err := clock.Until(ctx, l.clock, l.config.Slot)
		if err != nil {
			return nil // the end of ctx is the way to stop
		}
		if err := l.Tick(ctx, slot); err != nil && ctx.Err() == nil {
			l.log.Warn("intensities of grids cannot be kept", "slot", slot, "err", err)
		}
	}
}

// Tick asks about the grids that are due at a moment. A grid whose API fails is no
// error but part of the Status.
func (l *Loop) Tick(ctx context.Context, now time.Time) error {
	l.tick.Lock()
	defer l.tick.Unlock()
	f, err := l.books.Fleet(ctx, now)
	if err != nil {
		return fmt.Errorf("read grids: %w", err)
	}
	present := make(map[string]bool)
	var failures []error
	for _, g := range f.Grids() {
		if g.SourceOrDefault() != fleet.GridElectricityMaps {
			continue
		}
		present[g.Name] = true
		interval := time.Duration(g.Interval)
		if interval == 0 {
			interval = defaultInterval
		}
		if last := l.statusOf(g.Name).Asked; !last.IsZero() && !now.Before(last) && now.Sub(last) < interval {
			continue
		}
		kept, err := l.ask(ctx, g, now)
		if ctx.Err() != nil {
			return ctx.Err() // stopping says nothing about a grid
		}
		if err != nil && !kept {
			failures = append(failures, err)
		}
		l.record(g, now, err)
	}
	l.mu.Lock()
	maps.DeleteFunc(l.status, func(name string, _ Status) bool { return !present[name] })
	l.mu.Unlock()
	return errors.Join(failures...)
}

// ask takes the last day, the newest value, and then what is missing before. kept
// is false where the books are to blame for the error.
func (l *Loop) ask(ctx context.Context, g fleet.Grid, now time.Time) (kept bool, err error) {
	limited, cancel := context.WithTimeout(ctx, l.config.Timeout)
	defer cancel()
	list, err := l.client.history(limited, g)
	if err != nil {
		return true, err
	}
	newest, err := l.client.latest(limited, g)
	if err != nil {
		return true, err
	}
	for _, one := range newest { // history may not have it yet, or have it revised
		if !slices.ContainsFunc(list, func(o registry.Intensity) bool { return o.At.Equal(one.At) }) {
			list = append(list, one)
		}
	}
	if err := l.keep(ctx, g, list); err != nil {
		return false, err
	}
	missing, err := l.missing(ctx, g, now)
	if err != nil {
		return false, err
	}
	for _, at := range missing {
		one, err := l.client.past(limited, g, at)
		if err != nil {
			return true, err
		}
		if err := l.keep(ctx, g, one); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (l *Loop) keep(ctx context.Context, g fleet.Grid, list []registry.Intensity) error {
	changed, err := l.books.PutIntensities(ctx, g.Values(), g.Zone, list)
	if err != nil {
		return err
	}
	l.values.WithLabelValues("changed").Add(float64(changed))
	l.values.WithLabelValues("same").Add(float64(len(list) - changed))
	if len(list) > 0 {
		last := list[0].Until
		for _, one := range list {
			if one.Until.After(last) {
				last = one.Until
			}
		}
		l.mu.Lock()
		s := l.status[g.Name]
		if last.After(s.Newest) {
			s.Newest = last
		}
		l.status[g.Name] = s
		l.mu.Unlock()
	}
	return nil
}

// missing are the hours before the last day of which nothing is known, the newest
// first, at most PerSlot: of a leader that was off.
func (l *Loop) missing(ctx context.Context, g fleet.Grid, now time.Time) ([]time.Time, error) {
	end := now.UTC().Truncate(time.Hour).Add(-24 * time.Hour)
	w := schema.Window{From: end.Add(-l.config.Behind), To: end}
	known, err := l.books.Intensities(ctx, g.Values(), g.Zone, w)
	if err != nil {
		return nil, err
	}
	if len(known) == 0 { // nothing before: the leader has not been off, it is new
		return nil, nil
	}
	var hours []time.Time
	for at := end.Add(-time.Hour); at.After(known[0].At) && len(hours) < l.config.PerSlot; at = at.Add(-time.Hour) {
		if !slices.ContainsFunc(known, func(one registry.Intensity) bool { return !at.Before(one.At) && at.Before(one.Until) }) {
			hours = append(hours, at)
		}
	}
	return hours, nil
}

func (l *Loop) statusOf(grid string) Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status[grid]
}

func (l *Loop) record(g fleet.Grid, now time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.status[g.Name]
	former := s.Error
	s.Grid, s.Zone, s.Asked, s.Error, s.ErrorTime = g.Name, g.Zone, now, "", time.Time{}
	if err != nil {
		s.Error, s.ErrorTime = err.Error(), now
		l.values.WithLabelValues("error").Inc()
	}
	if (former == "") != (s.Error == "") {
		l.log.Info("intensity of a grid changed state", "grid", g.Name, "zone", g.Zone, "err", s.Error)
	}
	l.status[g.Name] = s
}

// Status is how each grid's API is, by name.
func (l *Loop) Status() []Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(maps.Values(l.status), func(a, b Status) int { return strings.Compare(a.Grid, b.Grid) })
}
