package prices

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/roots"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/cockroachdb/apd/v3"
	"github.com/prometheus/client_golang/prometheus"
)

// Config of the loop. Zero fields take the defaults.
type Config struct {
	Slot    time.Duration // between two looks at which series are due; default 1 minute
	Timeout time.Duration // of one answer; default 20 s
}

// defaultInterval is between two questions about one series.
const defaultInterval = 15 * time.Minute

// maxAnswer bounds what a source may send.
const maxAnswer = 4 << 20

// Books are where the fleet and prices are kept: *registry.Registry.
type Books interface {
	Fleet(ctx context.Context, at time.Time) (*fleet.Fleet, error)
	PutPrices(ctx context.Context, series, origin string, slots []registry.PriceSlot) (int, error)
}

// Status is how one series' source is.
type Status struct {
	Series string    `json:"series"`
	Asked  time.Time `json:"asked,omitzero"`  // the last attempt
	Newest time.Time `json:"newest,omitzero"` // until when it has told a price
	Error  string    `json:"error,omitempty"`
}

// Loop reads the fleet's PriceSeries. Status may be called at any time.
type Loop struct {
	config Config
	books  Books
	client *http.Client
	clock  clock.Clock
	log    *slog.Logger
	slots  *prometheus.CounterVec

	tick   sync.Mutex
	mu     sync.Mutex
	status map[string]Status
}

// NewLoop makes a loop that asks with a copy of the client. It fails only where its
// metrics are registered already.
func NewLoop(config Config, books Books, client *http.Client, clk clock.Clock, log *slog.Logger, metrics prometheus.Registerer) (*Loop, error) {
	if config.Slot <= 0 {
		config.Slot = time.Minute
	}
	if config.Timeout <= 0 {
		config.Timeout = 20 * time.Second
	}
	own := *client
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // else the token would go along
	l := &Loop{config: config, books: books, client: &own, clock: clk, log: log, status: make(map[string]Status),
		slots: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_prices_quarters_total",
			Help: "Quarters of dynamic prices read that are new or changed, and questions that failed (error)."}, []string{"result"})}
	return l, metrics.Register(l.slots)
}

// Run asks until ctx ends.
func (l *Loop) Run(ctx context.Context) error {
	for {
		slot, err := clock.Until(ctx, l.clock, l.config.Slot)
		if err != nil {
			return nil // the end of ctx is the way to stop
		}
		if err := l.Tick(ctx, slot); err != nil && ctx.Err() == nil {
			l.log.Warn("dynamic prices cannot be kept", "slot", slot, "err", err)
		}
	}
}

// Tick asks about the series that are due at a moment. A source that fails is no
// error but part of the Status.
func (l *Loop) Tick(ctx context.Context, now time.Time) error {
	l.tick.Lock()
	defer l.tick.Unlock()
	f, err := l.books.Fleet(ctx, now)
	if err != nil {
		return fmt.Errorf("read price series: %w", err)
	}
	present := make(map[string]bool)
	var failures []error
	for _, s := range f.AllSeries() {
		present[s.Name] = true
		interval := time.Duration(s.Interval)
		if interval == 0 {
			interval = defaultInterval
		}
		if last := l.statusOf(s.Name).Asked; !last.IsZero() && !now.Before(last) && now.Sub(last) < interval {
			continue
		}
		slots, err := l.ask(ctx, s)
		if ctx.Err() != nil {
			return ctx.Err() // stopping says nothing about a source
		}
		if err == nil {
			changed, kept := l.books.PutPrices(ctx, s.Name, "read from "+s.URL, slots)
			if kept != nil {
				failures = append(failures, kept)
			}
			l.slots.WithLabelValues("changed").Add(float64(changed))
		}
		l.record(s.Name, now, slots, err)
	}
	l.mu.Lock()
	maps.DeleteFunc(l.status, func(name string, _ Status) bool { return !present[name] })
	l.mu.Unlock()
	return errors.Join(failures...)
}

func (l *Loop) record(series string, now time.Time, slots []registry.PriceSlot, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.status[series]
	before := s.Error
	s.Series, s.Asked, s.Error = series, now, ""
	if err != nil {
		s.Error = err.Error()
		l.slots.WithLabelValues("error").Inc()
	}
	for _, slot := range slots {
		if slot.To.After(s.Newest) {
			s.Newest = slot.To
		}
	}
	l.status[series] = s
	switch {
	case err != nil && before == "":
		l.log.Warn("a source of prices fails", "series", series, "err", err)
	case err == nil && before != "":
		l.log.Info("a source of prices answers again", "series", series)
	}
}

func (l *Loop) statusOf(series string) Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status[series]
}

// Status is how the sources are, by series.
func (l *Loop) Status() map[string]Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.status)
}

// ask reads a source once.
func (l *Loop) ask(ctx context.Context, s fleet.PriceSeries) ([]registry.PriceSlot, error) {
	ctx, cancel := context.WithTimeout(ctx, l.config.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	if s.TokenFile != "" {
		token, err := os.ReadFile(s.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("read the token of %s: %w", s.Name, err)
		}
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	client, err := roots.Client(l.client, s.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the authority of %s: %w", s.Name, err)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", s.URL, response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.URL, err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("%s answers with more than %d MiB", s.URL, maxAnswer>>20)
	}
	return ParseAnswer(s, body)
}

// ParseAnswer reads the prices out of a source's JSON by the series' paths. Errors:
// ErrSlots that names the item.
func ParseAnswer(s fleet.PriceSeries, body []byte) ([]registry.PriceSlot, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var answer any
	if err := d.Decode(&answer); err != nil {
		return nil, fmt.Errorf("%w: no JSON: %w", ErrSlots, err)
	}
	found, ok := at(answer, s.Items)
	items, isList := found.([]any)
	if !ok || !isList {
		return nil, fmt.Errorf("%w: there is no list at %q", ErrSlots, s.Items)
	}
	factor := apd.New(1, 0)
	if s.Factor != "" {
		var err error
		if factor, err = s.Factor.Value(); err != nil {
			return nil, fmt.Errorf("%w: factor: %w", ErrSlots, err)
		}
	}
	slots := make([]registry.PriceSlot, 0, len(items))
	for i, item := range items {
		slot, err := slotOf(s, item)
		if err == nil {
			_, err = exactly.Mul(slot.Value, slot.Value, factor)
		}
		if err == nil {
			err = checkSlot(slot.From, slot.To)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: item %d: %w", ErrSlots, i+1, err)
		}
		slots = append(slots, slot)
	}
	return slots, nil
}

func slotOf(s fleet.PriceSeries, item any) (registry.PriceSlot, error) {
	var slot registry.PriceSlot
	price, ok := at(item, s.Price)
	if !ok || price == nil {
		return slot, fmt.Errorf("there is no price at %q", s.Price)
	}
	var err error
	if slot.Value, err = parsePrice(fmt.Sprint(price)); err != nil {
		return slot, err
	}
	if slot.From, err = timeAt(item, s.From); err != nil {
		return slot, err
	}
	if s.To == "" {
		slot.To = slot.From.Add(s.SlotOrDefault())
		return slot, nil
	}
	slot.To, err = timeAt(item, s.To)
	return slot, err
}

// at is what stands at a path such as data.prices; "" is the value itself.
func at(value any, path string) (any, bool) {
	if path == "" {
		return value, true
	}
	for name := range strings.SplitSeq(path, ".") {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, false
		}
		if value, ok = object[name]; !ok {
			return nil, false
		}
	}
	return value, true
}

// timeAt is RFC 3339, Unix seconds or, from the year 5138 in seconds on, Unix
// milliseconds.
func timeAt(item any, path string) (time.Time, error) {
	value, ok := at(item, path)
	if !ok {
		return time.Time{}, fmt.Errorf("there is no time at %q", path)
	}
	text := fmt.Sprint(value)
	if number, err := strconv.ParseInt(text, 10, 64); err == nil {
		if number >= 100_000_000_000 {
			return time.UnixMilli(number).UTC(), nil
		}
		return time.Unix(number, 0).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%.40q at %q is no time", text, path)
	}
	return t.UTC(), nil
}
