package query

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// ChargesStarts answers ChargesAhead for several windows to come, in their order, and
// says once what was assumed. What was used is read from the stores for the first of
// them alone, and the fleet is laid out anew where other price lists hold. Errors: those of ChargesAhead.
func (e *Engine) ChargesStarts(ctx context.Context, request ChargeRequest, coming []schema.Window) ([][]Charges, []string, error) {
	ctx = e.Remember(ctx)
	once := *e
	once.priced = make(map[string][]slice)
	all := make([][]Charges, len(coming))
	var assumed []string
	for i, w := range coming {
		charges, notes, err := once.ChargesAhead(ctx, request, w)
		if err != nil {
			return nil, nil, err
		}
		all[i] = charges
		assumed = append(assumed, slices.DeleteFunc(notes, func(note string) bool { return slices.Contains(assumed, note) })...)
	}
	return all, assumed, nil
}

// memory is the key of a context's stores that remember.
type memory struct{}

// Remember is a context in which the stores are asked the same once: questions about
// overlapping times, one after the other, share what they read. What they answer is of
// the moment of the first.
func (e *Engine) Remember(ctx context.Context) context.Context {
	if _, remembers := ctx.Value(memory{}).(Stores); remembers {
		return ctx
	}
	room := &room{left: mostRemembered}
	return context.WithValue(ctx, memory{}, Stores{Minute: &remembering{from: e.stores.Minute, room: room}, Quarter: &remembering{from: e.stores.Quarter, room: room}})
}

// remembered is the engine with the context's stores, where it has some.
func (e *Engine) remembered(ctx context.Context) *Engine {
	stores, remembers := ctx.Value(memory{}).(Stores)
	if !remembers {
		return e
	}
	once := *e
	once.stores = stores
	return &once
}

// mostRemembered bounds the rows that one question remembers: a thousand bytes each at
// most. What is beyond is read again.
const mostRemembered = 100_000

// room is how many rows may still be remembered.
type room struct {
	mu   sync.Mutex
	left int
}

// take takes room for some rows, or says that there is none.
func (r *room) take(rows int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rows > r.left {
		return false
	}
	r.left -= rows
	return true
}

// give gives room back that was taken.
func (r *room) give(rows int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left += rows
}

// remembering is a store that is asked the same once.
type remembering struct {
	from Reader
	room *room

	mu   sync.Mutex
	held map[string][]influxsync.Point
}

// Query answers from what was read before, or reads it.
func (r *remembering) Query(ctx context.Context, q influxsync.Query, each func(influxsync.Point) error) error {
	key := fmt.Sprintf("%+v", q)
	r.mu.Lock()
	points, known := r.held[key]
	r.mu.Unlock()
	if known {
		for _, p := range points {
			if err := each(p); err != nil {
				return err
			}
		}
		return nil
	}
	fits := true
	err := r.from.Query(ctx, q, func(p influxsync.Point) error {
		if fits && !r.room.take(1) {
			r.room.give(len(points)) // what is not held takes no room
			fits, points = false, nil
		}
		if fits {
			kept := p // the next row may be made in the same place
			kept.Tags, kept.Fields = slices.Clone(p.Tags), slices.Clone(p.Fields)
			points = append(points, kept)
		}
		return each(p)
	})
	if err != nil || !fits {
		r.room.give(len(points))
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held == nil {
		r.held = make(map[string][]influxsync.Point)
	}
	r.held[key] = points
	return nil
}
