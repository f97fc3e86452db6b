// Package events tells a webhook of usage as CloudEvents 1.0: an event per
// customer, cluster, namespace, resource and hour. An event's id depends on what it
// is of and on its revision alone; the first revision has the whole, each later one
// what changed since, so that a receiver that adds up and forgets ids it knows has
// the right sums whatever is sent again.
//
// What has to be told is noted durably before it is sent, and what was accepted
// after. Without an answer an event is sent again, later and later; one that is
// refused (4xx) is kept with the reason, shown, and not sent again by itself.
package events

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/internal/webhook"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/prometheus/client_golang/prometheus"
)

// Config says where events go.
type Config struct {
	URL       string // of the webhook; "" is none
	TokenFile string // bearer token, read for each request; "" is none
	Source    string // of the events; "" is accumulus
	Schedule  string // five cron fields in UTC
	// Lookback is how far back sums are compared with what was told: what is rated
	// again later than that is not told. 0 = 72 h; a receiver forgets ids after 32
	// days.
	Lookback time.Duration
}

// Validate lists what is wrong.
func (c Config) Validate() error {
	if c.URL == "" {
		return nil
	}
	if err := webhook.CheckURL(c.URL); err != nil {
		return fmt.Errorf("events URL: %w", err)
	}
	if c.Lookback < 0 || c.Lookback > 32*24*time.Hour {
		return fmt.Errorf("events lookback %s: use at most 768h, after which a receiver no longer knows what it has", c.Lookback)
	}
	return nil
}

// Books note what was told: *registry.Registry.
type Books interface {
	PlanEvents(ctx context.Context, hours []schema.Window, values []registry.EventValue) error
	Events(ctx context.Context, state string, limit int) ([]registry.Event, error)
	EventsSent(ctx context.Context, events []registry.Event) error
	EventsRefused(ctx context.Context, events []registry.Event, why string) error
}

// Engine answers what was used: *query.Engine.
type Engine interface {
	Charges(ctx context.Context, request query.ChargeRequest) ([]query.Charges, error)
	Settled(ctx context.Context) (time.Time, error)
}

const (
	batch      = 100 // events in one request
	attempts   = 8   // of a request, in one run
	maxBackoff = 5 * time.Minute
)

// Sender plans and sends.
type Sender struct {
	config Config
	engine Engine
	books  Books
	client *http.Client
	clock  clock.Clock
	log    *slog.Logger
	sent   *prometheus.CounterVec
}

// New makes a sender. It sends nothing yet.
func New(config Config, engine Engine, books Books, client *http.Client, clk clock.Clock, log *slog.Logger, registerer prometheus.Registerer) (*Sender, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if config.Source == "" {
		config.Source = "accumulus"
	}
	if config.Lookback == 0 {
		config.Lookback = 72 * time.Hour
	}
	s := &Sender{config: config, engine: engine, books: books, client: client, clock: clk, log: log,
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_events_sent_total", Help: "Usage events by what came of them: sent, refused, or a failed request."}, []string{"result"})}
	if err := registerer.Register(s.sent); err != nil {
		return nil, fmt.Errorf("register metrics of events: %w", err)
	}
	return s, nil
}

// Tick plans what has to be told of the settled hours, and sends it.
func (s *Sender) Tick(ctx context.Context) error {
	if err := s.Plan(ctx); err != nil {
		return err
	}
	return s.Send(ctx)
}

var keys = []query.Key{query.Customer, query.Cluster, query.Namespace}

// Plan compares the hours of the look-back with what was told, a day at a time.
// An hour of which something may still change waits.
func (s *Sender) Plan(ctx context.Context) error {
	settled, err := s.engine.Settled(ctx)
	if err != nil {
		return err
	}
	end := settled.UTC().Truncate(time.Hour)
	w := schema.Window{From: end.Add(-s.config.Lookback).Truncate(time.Hour), To: end}
	for at := w.From; at.Before(w.To); {
		day := usage.Bucket(w, 24*time.Hour, at)
		at = day.To
		charges, err := s.engine.Charges(ctx, query.ChargeRequest{Window: day, Step: time.Hour, Aggregate: keys})
		if err != nil {
			return fmt.Errorf("charges of %s: %w", day, err)
		}
		hours, values := settledHours(day, charges)
		if err := s.books.PlanEvents(ctx, hours, values); err != nil {
			return err
		}
	}
	return nil
}

// settledHours are the hours of a day in which nothing is provisional, and what was
// used in them.
func settledHours(day schema.Window, charges []query.Charges) (hours []schema.Window, values []registry.EventValue) {
	open := make(map[int64]bool)
	for _, c := range charges {
		open[c.Row.From.Unix()] = open[c.Row.From.Unix()] || c.Row.Provisional
	}
	for _, hour := range day.Split(time.Hour) {
		if !open[hour.From.Unix()] {
			hours = append(hours, hour)
		}
	}
	sums := make(map[registry.EventKey]*registry.EventValue)
	costs := make(map[registry.EventKey]*big.Rat)
	var order []registry.EventKey
	for _, c := range charges {
		if open[c.Row.From.Unix()] {
			continue
		}
		for _, line := range c.Lines {
			key := registry.EventKey{Customer: c.Row.Key[string(query.Customer)], Cluster: c.Row.Key[string(query.Cluster)], Namespace: c.Row.Key[string(query.Namespace)],
				Resource: string(line.Resource), Bucket: c.Row.From.UTC()}
			if line.List != nil {
				key.Currency = line.List.Currency
			}
			if sums[key] == nil {
				sums[key], costs[key] = &registry.EventValue{EventKey: key}, new(big.Rat)
				order = append(order, key)
			}
			if sums[key].Quantity += line.Quantity; line.UnitPrice != nil {
				costs[key].Add(costs[key], line.Cost())
			}
		}
	}
	for _, key := range order {
		sums[key].Cost = costs[key].FloatString(12)
		values = append(values, *sums[key])
	}
	return hours, values
}

// Send sends what is pending until nothing is, or until the receiver has not
// answered too often: then the next run goes on.
func (s *Sender) Send(ctx context.Context) error {
	for {
		pending, err := s.books.Events(ctx, registry.EventPending, batch)
		if err != nil || len(pending) == 0 {
			return err
		}
		if err := s.deliver(ctx, pending); err != nil {
			return err
		}
	}
}

// deliver sends some events together, and each by itself where one is refused.
func (s *Sender) deliver(ctx context.Context, some []registry.Event) error {
	refusal, err := s.patiently(ctx, some)
	switch {
	case err != nil:
		return err
	case refusal == "":
		s.sent.WithLabelValues("sent").Add(float64(len(some)))
		return s.books.EventsSent(ctx, some)
	case len(some) > 1 && ofOne(refusal):
		for _, one := range some {
			if err := s.deliver(ctx, []registry.Event{one}); err != nil {
				return err
			}
		}
		return nil
	}
	s.sent.WithLabelValues("refused").Add(float64(len(some)))
	s.log.Warn("usage events refused", "events", len(some), "cluster", some[0].Cluster, "namespace", some[0].Namespace, "resource", some[0].Resource, "bucket", some[0].Bucket, "answer", refusal)
	return s.books.EventsRefused(ctx, some, refusal)
}

// ofOne says whether a refusal may be of one event among several, and not of who
// sends or where.
func ofOne(refusal string) bool {
	for _, status := range []int{http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity} {
		if strings.HasPrefix(refusal, strconv.Itoa(status)) {
			return true
		}
	}
	return false
}

// patiently sends until there is an answer; refusal is that of a 4xx.
func (s *Sender) patiently(ctx context.Context, some []registry.Event) (refusal string, err error) {
	wait := time.Second
	for try := 1; ; try++ {
		refusal, err = s.post(ctx, some)
		if err == nil {
			return refusal, nil
		}
		s.sent.WithLabelValues("failed").Inc()
		if try == attempts {
			return "", fmt.Errorf("send %d usage events, %d times: %w", len(some), try, err)
		}
		s.log.Debug("usage events not answered", "try", try, "wait", wait, "err", err)
		if err := s.clock.Sleep(ctx, wait); err != nil {
			return "", err
		}
		wait = min(2*wait, maxBackoff)
	}
}

// post sends one request.
func (s *Sender) post(ctx context.Context, some []registry.Event) (refusal string, err error) {
	media, body, err := s.encode(some)
	if err != nil {
		return "", err
	}
	return webhook.Post(ctx, s.client, webhook.Request{URL: s.config.URL, TokenFile: s.config.TokenFile,
		Header: map[string]string{"Content-Type": media}, Body: body, Said: 500})
}

// cloudEvent is an event on the wire.
type cloudEvent struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Subject     string    `json:"subject"`
	Time        time.Time `json:"time"`
	Data        eventData `json:"data"`
}

type eventData struct {
	Cluster   string      `json:"cluster"`
	Namespace string      `json:"namespace"`
	Resource  string      `json:"resource"`
	Quantity  json.Number `json:"quantity"`
	Unit      string      `json:"unit"`
	Cost      json.Number `json:"cost"`
	Currency  string      `json:"currency,omitempty"`
	From      time.Time   `json:"from"`
	To        time.Time   `json:"to"`
	Revision  int64       `json:"revision"`
}

// Type is the type of the events.
const Type = "accumulus.namespace.usage"

// Unassigned is the subject of usage that is no customer's.
const Unassigned = "unassigned"

// encode is one event, or a batch.
func (s *Sender) encode(some []registry.Event) (media string, body []byte, err error) {
	list := make([]cloudEvent, len(some))
	for i, e := range some {
		resource := processors.Resource(e.Resource)
		base := resource.Base()
		if base == 0 {
			return "", nil, fmt.Errorf("event of resource %q: it has no unit", e.Resource)
		}
		subject := e.Customer
		if subject == "" {
			subject = Unassigned
		}
		list[i] = cloudEvent{SpecVersion: "1.0", ID: ID(e), Source: s.config.Source, Type: Type, Subject: subject, Time: e.Bucket.UTC(),
			Data: eventData{Cluster: e.Cluster, Namespace: e.Namespace, Resource: e.Resource, Quantity: json.Number(big.NewRat(e.Quantity, base).FloatString(12)), Unit: resource.Unit(),
				Cost: json.Number(e.Cost), Currency: e.Currency, From: e.Bucket.UTC(), To: e.Bucket.UTC().Add(time.Hour), Revision: e.Revision}}
	}
	if len(list) == 1 {
		body, err = json.Marshal(list[0])
		return "application/cloudevents+json", body, err
	}
	body, err = json.Marshal(list)
	return "application/cloudevents-batch+json", body, err
}

// ID is an event's: of what it is of and of its revision.
func ID(e registry.Event) string {
	return webhook.EventID(e.Customer, e.Cluster, e.Namespace, e.Resource, e.Currency, e.Bucket.UTC().Format(time.RFC3339), strconv.FormatInt(e.Revision, 10))
}
