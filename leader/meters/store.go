package meters

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Fields of the table meter that have no constant in package schema.
const (
	fieldCounter = "counter_millijoules"
	fieldPower   = "watts_milli"
	fieldStep    = "step_millijoules"
	fieldRefused = "refused"
	fieldOrigin  = "origin"
	fieldNote    = "note"
)

// Reading is one row of the table meter.
type Reading struct {
	Box, Meter         string
	Time               time.Time // the meter's own where it gives one, else Received
	Received           time.Time // half way between request and answer
	Epoch              time.Time // the first reading of this life of the counter
	CounterMillijoules int64     // valid if HasCounter
	PowerMilliwatts    int64     // valid if HasPower
	StepMillijoules    int64     // resolution of the counter; 0 = not known
	HasCounter         bool
	HasPower           bool
	Refused            string // why it does not count; "" = it counts
	Origin             string // of the counter: "" = the meter's, "integrated" = ours, of its watts
	Note               string // what was done about it; it counts all the same
}

// Store reads and writes the table meter. Its database must exist.
type Store struct{ db, minute *influxsync.Database }

// NewStore is the store in the database schema.MetersDB. What the models say of
// usage it reads from schema.MinuteDB.
func NewStore(server *influxsync.Server) *Store {
	return &Store{db: server.Database(schema.MetersDB), minute: server.Database(schema.MinuteDB)}
}

// Write makes the readings durable. A reading of the same meter and time is
// replaced.
func (s *Store) Write(ctx context.Context, readings []Reading) error {
	points := make([]influxsync.Point, len(readings))
	for i, r := range readings {
		points[i] = r.point()
	}
	if err := s.db.Write(ctx, points); err != nil {
		return fmt.Errorf("write %d meter readings: %w", len(readings), err)
	}
	return nil
}

func (r Reading) point() influxsync.Point {
	var epoch int64
	if !r.Epoch.IsZero() {
		epoch = r.Epoch.UnixNano()
	}
	fields := map[string]influxsync.Value{
		schema.ReadingReceived: influxsync.Int(r.Received.UnixNano()),
		schema.ReadingEpoch:    influxsync.Int(epoch),
		fieldRefused:           influxsync.Str(r.Refused),
		fieldOrigin:            influxsync.Str(r.Origin),
		fieldNote:              influxsync.Str(r.Note),
	}
	if r.HasCounter {
		fields[fieldCounter] = influxsync.Int(r.CounterMillijoules)
		fields[fieldStep] = influxsync.Int(r.StepMillijoules)
	}
	if r.HasPower {
		fields[fieldPower] = influxsync.Int(r.PowerMilliwatts)
	}
	return influxsync.NewPoint(schema.MeterReading.Name, map[string]string{schema.Box: r.Box, schema.Meter: r.Meter}, fields, r.Time)
}

func readingOf(p influxsync.Point) Reading {
	r := Reading{Box: p.Tag(schema.Box), Meter: p.Tag(schema.Meter), Time: p.Time.UTC(),
		Received: time.Unix(0, p.Int(schema.ReadingReceived)).UTC(), StepMillijoules: p.Int(fieldStep)}
	if epoch := p.Int(schema.ReadingEpoch); epoch != 0 {
		r.Epoch = time.Unix(0, epoch).UTC()
	}
	if v, ok := p.Field(fieldCounter); ok {
		r.CounterMillijoules, r.HasCounter = v.Int(), true
	}
	if v, ok := p.Field(fieldPower); ok {
		r.PowerMilliwatts, r.HasPower = v.Int(), true
	}
	refused, _ := p.Field(fieldRefused)
	r.Refused = refused.Str()
	origin, _ := p.Field(fieldOrigin)
	note, _ := p.Field(fieldNote)
	r.Origin, r.Note = origin.Str(), note.Str()
	return r
}

// Load are the readings of a box that count, in [from, to), and of each of its
// meters the last one before and the first one at or after to. They are ordered
// by meter and time.
func (s *Store) Load(ctx context.Context, box string, from, to time.Time) ([]Reading, error) {
	where := []influxsync.Condition{{Tag: schema.Box, Value: box}}
	var readings []Reading
	err := s.db.TimeQuery(ctx, schema.MeterReading.Name, schema.Window{From: from, To: to}, where, func(p influxsync.Point) error {
		if r := readingOf(p); r.Refused == "" {
			readings = append(readings, r)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load readings of %s: %w", box, err)
	}
	for _, outside := range []struct {
		window     schema.Window
		descending bool
	}{{schema.Window{To: from}, true}, {schema.Window{From: to}, false}} {
		edge, err := s.nearest(ctx, where, outside.window, outside.descending, counts)
		if err != nil {
			return nil, fmt.Errorf("load readings of %s: %w", box, err)
		}
		readings = append(readings, edge...)
	}
	slices.SortFunc(readings, func(a, b Reading) int {
		if c := strings.Compare(a.Meter, b.Meter); c != 0 {
			return c
		}
		return a.Time.Compare(b.Time)
	})
	return readings, nil
}

// Refused are the readings of a box in the window that do not count, with
// their reasons, in order of time.
func (s *Store) Refused(ctx context.Context, box string, w schema.Window) ([]Reading, error) {
	var readings []Reading
	err := s.db.TimeQuery(ctx, schema.MeterReading.Name, w, []influxsync.Condition{{Tag: schema.Box, Value: box}}, func(p influxsync.Point) error {
		if r := readingOf(p); r.Refused != "" {
			readings = append(readings, r)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load refused readings of %s: %w", box, err)
	}
	slices.SortFunc(readings, func(a, b Reading) int { return a.Time.Compare(b.Time) })
	return readings, nil
}

func counts(r Reading) bool { return r.Refused == "" }

// page is how many rows of a meter are read at once in search of one.
const page = 256

// nearest is the first row of each meter that keep takes, from the window's
// start on or, descending, from its end back.
func (s *Store) nearest(ctx context.Context, where []influxsync.Condition, w schema.Window, descending bool, keep func(Reading) bool) ([]Reading, error) {
	firsts, err := s.rows(ctx, where, w, descending, 1)
	if err != nil {
		return nil, err
	}
	var found []Reading
	for _, r := range firsts {
		of := []influxsync.Condition{{Tag: schema.Box, Value: r.Box}, {Tag: schema.Meter, Value: r.Meter}}
		for rows := []Reading{r}; len(rows) > 0; {
			if i := slices.IndexFunc(rows, keep); i >= 0 {
				found = append(found, rows[i])
				break
			}
			past := w
			if last := rows[len(rows)-1].Time; descending {
				past.To = last
			} else {
				past.From = last.Add(time.Nanosecond)
			}
			if rows, err = s.rows(ctx, of, past, descending, page); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

func (s *Store) rows(ctx context.Context, where []influxsync.Condition, w schema.Window, descending bool, limit int) ([]Reading, error) {
	var readings []Reading
	err := s.db.Query(ctx, influxsync.Query{From: schema.MeterReading.Name, Where: where, Group: []string{"*"},
		Window: w, Descending: descending, Limit: limit}, func(p influxsync.Point) error {
		readings = append(readings, readingOf(p))
		return nil
	})
	return readings, err
}

// life is what the store knows of a meter.
func (s *Store) life(ctx context.Context, box, meter string) (life, error) {
	where := []influxsync.Condition{{Tag: schema.Box, Value: box}, {Tag: schema.Meter, Value: meter}}
	last, err := s.nearest(ctx, where, schema.Window{}, true, counts)
	if err != nil {
		return life{}, fmt.Errorf("read meter %s: %w", meter, err)
	}
	if len(last) == 0 {
		return life{}, nil
	}
	after := schema.Window{From: last[0].Time.Add(time.Nanosecond)}
	refused, err := s.rows(ctx, where, after, true, page)
	if err != nil {
		return life{}, fmt.Errorf("read meter %s: %w", meter, err)
	}
	slices.Reverse(refused)
	return recall(last[0], refused), nil
}
