package books

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// Engine sums what was used: *query.Engine.
type Engine interface {
	Cells(ctx context.Context, cluster string, w schema.Window, step time.Duration) ([]query.Cell, error)
	Arrived(ctx context.Context, cluster string, w schema.Window) (query.ClusterCompleteness, []query.Gap, error)
	PodCells(ctx context.Context, cluster string, pods []string, w schema.Window, step time.Duration) ([]query.PodCell, error)
	Boxes(ctx context.Context, window string) (query.BoxAnswer, error)
	HeatCells(ctx context.Context, cluster string, w schema.Window, step time.Duration) ([]query.Cell, error)
	Assets(ctx context.Context, request query.ChargeRequest) ([]query.Charges, error)
	NodePods(ctx context.Context, cluster, node string, w schema.Window, step time.Duration) ([]query.PodCell, error)
	NodeWorkloads(ctx context.Context, cluster, node string, w schema.Window, step time.Duration) ([]query.PodCell, error)
}

// Signer signs hashes with the leader's key.
type Signer interface {
	SignBook(message []byte) []byte // ed25519
	BookKey() ed25519.PublicKey
}

// Config of the books.
type Config struct {
	Every time.Duration // between two looks of Run; 0 = 10 minutes
	Batch int           // days of clusters that one look sums at most; 0 = 200
	// Issuer is who bills, on statements; "" is Accumulus.
	Issuer string
	// FailedAfter is how long a node must not be ready, or not be reached, to have
	// failed; 0 = 5 minutes, after which Kubernetes evicts its pods
	// (default-unreachable-toleration-seconds).
	FailedAfter time.Duration
	// OnePerson lets one person draft and approve a period, with a token that several may
	// have too: the approval, its lines and its statement say so. Refunds by hand take two
	// persons in any case.
	OnePerson bool
	// Readings are those of the electricity meters, for explanations of energy; nil
	// explains it without them.
	Readings Readings
	// Archive is where the days of a period are put before it is closed; without it none
	// is.
	Archive Archive
}

// Readings are kept readings of electricity meters: *meters.Store.
type Readings interface {
	Load(ctx context.Context, box string, from, to time.Time) ([]meters.Reading, error)
}

func (c Config) withDefaults() Config {
	if c.Every <= 0 {
		c.Every = 10 * time.Minute
	}
	if c.Batch <= 0 {
		c.Batch = 200
	}
	if c.Issuer == "" {
		c.Issuer = "Accumulus"
	}
	if c.FailedAfter <= 0 {
		c.FailedAfter = 5 * time.Minute
	}
	return c
}

// Books are the books over a registry. They are safe for concurrent use.
type Books struct {
	config   Config
	registry *registry.Registry
	engine   Engine
	signer   Signer
	clock    clock.Clock
	log      *slog.Logger
	summed   prometheus.Counter
	failed   prometheus.Counter
}

// New makes the books. It starts nothing.
func New(config Config, r *registry.Registry, engine Engine, signer Signer, clk clock.Clock, log *slog.Logger, metrics prometheus.Registerer) (*Books, error) {
	b := &Books{config: config.withDefaults(), registry: r, engine: engine, signer: signer, clock: clk, log: log,
		summed: prometheus.NewCounter(prometheus.CounterOpts{Name: "accumulus_books_days_summed_total", Help: "Days of clusters that were summed for the books."}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{Name: "accumulus_books_failures_total", Help: "Looks at the books' days that failed."})}
	for _, c := range []prometheus.Collector{b.summed, b.failed} {
		if err := metrics.Register(c); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// Errors that a caller branches on.
var (
	ErrInput    = errors.New("the request cannot be carried out as it is")
	ErrState    = errors.New("the period is not in the state for that")
	ErrFourEyes = errors.New("four eyes")
)

// Error is one of the above with what to do about it.
type Error struct {
	Kind error
	Text string
	Hint string
	// Command is the hint for the command line, where it is another; "" = Hint.
	Command string
}

func (e *Error) Error() string { return e.Text }
func (e *Error) Unwrap() error { return e.Kind }

func wrong(format string, args ...any) error {
	return &Error{Kind: ErrInput, Text: fmt.Sprintf(format, args...)}
}

func (b *Books) now() time.Time { return b.clock.Now().UTC() }
