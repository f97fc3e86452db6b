// Package heat takes the readings of heat sources that somebody pushes, and
// deletes them again after three days.
//
// A reading is kept as the sensors showed it, in 1e-6 of their unit, so that a
// corrected sensor's settings count for all that is still there. What a sensor did
// not tell is null, and counts as a fault, never as 0. A push is taken whole or not
// at all. Temperatures and the heat of a household are kept in the registry of the
// operator alone: no table that is synced, pushed or exported has a column for
// them.
//
// It computes no heat: processors.Heat does.
package heat

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

var (
	// ErrNoSource: no heat source has that name now.
	ErrNoSource = errors.New("no such heat source")
	// ErrReadings: what was sent is no readings, or not of that source.
	ErrReadings = errors.New("readings are not taken")
)

// ahead is how far a reading may be in the future.
const ahead = 5 * time.Minute

// purgeEvery is how often old readings are deleted.
const purgeEvery = 15 * time.Minute

// Books are where readings are kept: *registry.Registry.
type Books interface {
	Fleet(ctx context.Context, at time.Time) (*fleet.Fleet, error)
	PutHeatReadings(ctx context.Context, source, box string, reach time.Duration, readings []processors.HeatReading) error
	PurgeHeat(ctx context.Context) (int64, error)
}

// Receiver takes readings.
type Receiver struct {
	books Books
	clock clock.Clock
	log   *slog.Logger
}

// New makes a receiver.
func New(books Books, clk clock.Clock, log *slog.Logger) *Receiver {
	return &Receiver{books: books, clock: clk, log: log}
}

// Receipt is what was taken.
type Receipt struct {
	Source   string    `json:"source"`
	Readings int       `json:"readings"`
	From     time.Time `json:"from"` // of the first
	To       time.Time `json:"to"`   // of the last
}

// Allowed says whether a token opens the source for readings, and it alone: it
// is the one in the source's token file.
func (r *Receiver) Allowed(ctx context.Context, source, token string) bool {
	f, err := r.books.Fleet(ctx, r.clock.Now())
	if err != nil || token == "" {
		return false
	}
	described, known := f.HeatSource(source)
	if !known || described.TokenFile == "" {
		return false
	}
	text, err := os.ReadFile(described.TokenFile)
	if err != nil {
		r.log.Warn("token of a heat source cannot be read", "source", source, "err", err)
		return false
	}
	want := strings.TrimSpace(string(text))
	return want != "" && subtle.ConstantTimeCompare([]byte(want), []byte(token)) == 1
}

// Receive stores what somebody sends of a source: JSON, or CSV where the media
// type says so. Errors: ErrNoSource, ErrReadings.
func (r *Receiver) Receive(ctx context.Context, source, mediaType string, body []byte) (Receipt, error) {
	now := r.clock.Now()
	f, err := r.books.Fleet(ctx, now)
	if err != nil {
		return Receipt{}, err
	}
	described, known := f.HeatSource(source)
	if !known {
		return Receipt{}, fmt.Errorf("heat source %q: %w", source, ErrNoSource)
	}
	readings, err := parse(mediaType, body)
	if err == nil {
		err = check(readings, described, now)
	}
	if err != nil {
		return Receipt{}, fmt.Errorf("heat source %s: %w: %w", source, ErrReadings, err)
	}
	values := make([]processors.HeatReading, len(readings))
	for i, one := range readings {
		values[i] = one.HeatReading
	}
	slices.SortStableFunc(values, func(a, b processors.HeatReading) int { return a.Time.Compare(b.Time) })
	reach := 2 * described.PeriodOrDefault()
	if err := r.books.PutHeatReadings(ctx, source, described.Box, reach, values); err != nil {
		return Receipt{}, err
	}
	return Receipt{Source: source, Readings: len(values), From: values[0].Time, To: values[len(values)-1].Time}, nil
}

// check looks for what a source's readings must have, and for times that cannot
// be taken.
func check(readings []reading, source fleet.HeatSource, now time.Time) error {
	if len(readings) == 0 {
		return errors.New("there is none")
	}
	needs := []string{"supply", "return", "flow"}
	if source.Method == fleet.HeatCapture {
		needs = nil
		if source.MaxStoreCelsius == nil {
			return errors.New("it has the method capture and no maxStoreCelsius: it needs no readings")
		}
	}
	if source.MaxStoreCelsius != nil {
		needs = append(needs, "store")
	}
	var wrong []error
	for _, one := range readings {
		for _, name := range needs {
			if !one.named[name] {
				wrong = append(wrong, fmt.Errorf("%s: no %s; send it empty (null) where the sensor told nothing", one.where, name))
			}
		}
		switch {
		case one.Time.Before(now.Add(-registry.HeatFinal)):
			wrong = append(wrong, fmt.Errorf("%s: %s is more than %s ago: what lies before is final, and its readings are deleted", one.where, one.Time.Format(time.RFC3339), registry.HeatFinal))
		case one.Time.After(now.Add(ahead)):
			wrong = append(wrong, fmt.Errorf("%s: %s is in the future; the leader's clock shows %s", one.where, one.Time.Format(time.RFC3339), now.UTC().Format(time.RFC3339)))
		case one.Flow.Known && (one.Flow.Micro < 0 || one.Flow.Micro > maxFlow):
			wrong = append(wrong, fmt.Errorf("%s: a flow that is not between 0 and %d l/min", one.where, maxFlow/1_000_000))
		}
		if len(wrong) >= maxWrong {
			break
		}
	}
	return errors.Join(wrong...)
}

// maxFlow is far above a loop's flow, in 1e-6 l/min; maxWrong bounds the lines
// that an error names.
const (
	maxFlow  = 10_000_000_000
	maxWrong = 20
)

// Run deletes old readings until ctx ends.
func (r *Receiver) Run(ctx context.Context) error {
	for {
		gone, err := r.books.PurgeHeat(ctx)
		switch {
		case ctx.Err() != nil:
			return nil // the way to stop
		case err != nil:
			r.log.Error("old heat readings are not deleted", "err", err)
		case gone > 0:
			r.log.Debug("old heat readings deleted", "rows", gone)
		}
		if r.clock.Sleep(ctx, purgeEvery) != nil {
			return nil // the way to stop
		}
	}
}
