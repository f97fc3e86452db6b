package registry

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// ModelState is the power model of a hardware type from a moment on, until the
// next state of the same type and box.
type ModelState struct {
	Hardware string    `json:"hardware"`
	Box      string    `json:"box,omitempty"` // where it holds; "" is everywhere
	From     time.Time `json:"from"`
	// Known is a digest of what its owner said of the type when it was made: where
	// the fleet says something else, the state does not hold.
	Known string `json:"-"`
	// Body is the model as JSON; none: from then on the type has none in the box.
	Body     json.RawMessage `json:"model,omitempty"`
	Recorded time.Time       `json:"recorded"`
}

// ModelStates are all states that were not replaced, ordered by type, box and
// start. They are kept in memory until the next change; the caller does not
// change them.
func (r *Registry) ModelStates(ctx context.Context) ([]ModelState, error) {
	r.mu.Lock()
	states, generation := r.states, r.stateGeneration
	r.mu.Unlock()
	if states != nil {
		return states, nil
	}
	states = []ModelState{}
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var s ModelState
		var from, recorded int64
		var body string
		if err := scan(&s.Hardware, &s.Box, &from, &s.Known, &body, &recorded); err != nil {
			return err
		}
		s.From, s.Recorded = moment(from), moment(recorded)
		if body != "" {
			s.Body = json.RawMessage(body)
		}
		states = append(states, s)
		return nil
	}, `SELECT hardware, box, valid_from, known, body, recorded_at FROM model WHERE superseded_at IS NULL
		ORDER BY hardware, box, valid_from`)
	if err != nil {
		return nil, fmt.Errorf("read models: %w", err)
	}
	r.mu.Lock()
	if generation == r.stateGeneration {
		r.states = states
	}
	r.mu.Unlock()
	return states, nil
}

// PutModels records states. Each replaces those of its type and box that begin
// at its start or later, and makes power due from its start on in the boxes that
// it holds in; it returns that work.
func (r *Registry) PutModels(ctx context.Context, states []ModelState) ([]Due, error) {
	var due []Due
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		existing, err := load(ctx, tx)
		if err != nil {
			return err
		}
		at := nanos(r.clock.Now())
		for _, s := range states {
			if _, err := tx.ExecContext(ctx, `UPDATE model SET superseded_at = ?
				WHERE hardware = ? AND box = ? AND valid_from >= ? AND superseded_at IS NULL`, at, s.Hardware, s.Box, nanos(s.From)); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO model (hardware, box, valid_from, known, body, recorded_at)
				VALUES (?, ?, ?, ?, ?, ?)`, s.Hardware, s.Box, nanos(s.From), s.Known, string(s.Body), at); err != nil {
				return err
			}
		}
		if due, err = r.affectedByModels(ctx, tx, states, existing); err != nil {
			return err
		}
		return r.addDue(ctx, tx, due)
	})
	r.mu.Lock()
	r.stateGeneration++
	r.states = nil
	r.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("record %d models: %w", len(states), err)
	}
	return due, nil
}

// affectedByModels is the work that new states make due: the quarters since each
// one's start, of the boxes in which nodes of the type stood then.
func (r *Registry) affectedByModels(ctx context.Context, q queryer, states []ModelState, existing []fleet.Object) ([]Due, error) {
	first, err := firstQuarters(ctx, q)
	if err != nil || len(first) == 0 {
		return nil, err
	}
	now := nanos(r.clock.Now())
	reasons := make(map[Due]string)
	for _, s := range states {
		d := delta{from: nanos(s.From), to: forever}
		stretch := world(existing).in(d).since(first)
		to := newReach()
		stretch.nodes(to, func(n fleet.Node) bool { return n.Hardware == s.Hardware && (s.Box == "" || n.Box == s.Box) })
		stretch.together(to)
		for box := range to.boxes {
			stretch.quarters(d, now, stretch.earliest(box), func(at time.Time) {
				reasons[Due{Processor: ProcessorPower, Scope: box, Quarter: at}] = "model of " + s.Hardware + " changed"
			})
		}
	}
	return sortedDue(reasons), nil
}

// Calibration is a measurement of a node's power by load.
type Calibration struct {
	ID       int64              `json:"id"`
	Hardware string             `json:"hardware"`
	Cluster  string             `json:"cluster"`
	Node     string             `json:"node"`
	At       time.Time          `json:"at"` // when it was measured
	Points   []CalibrationPoint `json:"points"`
	Firmware string             `json:"firmware,omitempty"`
	Governor string             `json:"governor,omitempty"` // of the CPU's frequency
	Notes    string             `json:"notes,omitempty"`    // such as how it was measured
	Recorded time.Time          `json:"recorded"`
	By       string             `json:"by"`
}

// CalibrationPoint is the power at one load.
type CalibrationPoint struct {
	Load        float64 `json:"load"`                  // %, what was aimed at
	Utilisation float64 `json:"utilisation"`           // 0 … 1, what it was
	Watts       float64 `json:"watts"`                 // at the wall: the median of the repeats
	SpreadWatts float64 `json:"spreadWatts,omitempty"` // between the lowest and the highest repeat
	Repeats     int     `json:"repeats,omitempty"`
	Seconds     float64 `json:"seconds,omitempty"` // measured in all
}

// AddCalibration records a calibration and returns it with its number.
func (r *Registry) AddCalibration(ctx context.Context, c Calibration) (Calibration, error) {
	text, err := json.Marshal(c.Points)
	if err != nil {
		return c, fmt.Errorf("calibration of %s: %w", c.Hardware, err)
	}
	c.Recorded = moment(nanos(r.clock.Now()))
	if c.At.IsZero() {
		c.At = c.Recorded
	}
	err = r.write(ctx, synced, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `INSERT INTO calibration (hardware, cluster, node, at, points, firmware, governor, notes, recorded_at, recorded_by)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, c.Hardware, c.Cluster, c.Node, nanos(c.At), string(text), c.Firmware, c.Governor, c.Notes, nanos(c.Recorded), c.By)
		if err != nil {
			return err
		}
		c.ID, err = done.LastInsertId()
		return err
	})
	if err != nil {
		return c, fmt.Errorf("record calibration of %s: %w", c.Hardware, err)
	}
	return c, nil
}

// Calibrations are those of a hardware type, all of "", in the order in which
// they were measured.
func (r *Registry) Calibrations(ctx context.Context, hardware string) ([]Calibration, error) {
	var all []Calibration
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var c Calibration
		var at, recorded int64
		var points string
		if err := scan(&c.ID, &c.Hardware, &c.Cluster, &c.Node, &at, &points, &c.Firmware, &c.Governor, &c.Notes, &recorded, &c.By); err != nil {
			return err
		}
		c.At, c.Recorded = moment(at), moment(recorded)
		err := json.Unmarshal([]byte(points), &c.Points)
		all = append(all, c)
		return err
	}, `SELECT id, hardware, cluster, node, at, points, firmware, governor, notes, recorded_at, recorded_by FROM calibration
		WHERE hardware = ? OR ? = '' ORDER BY at, id`, hardware, hardware)
	if err != nil {
		return nil, fmt.Errorf("read calibrations: %w", err)
	}
	return all, nil
}

// Lesson is what a box drew by its meters over one window, and how its nodes
// were loaded.
type Lesson struct {
	At         time.Time          // the window's end
	Milliwatts int64              // the mean
	Loads      map[string][]int64 // by hardware type the nodes' utilisations, 1e-6, in the order of the nodes
	// Processors are likewise the mean powers that the nodes' processors counted of
	// themselves, mW; nil where not all of them did.
	Processors map[string][]int64
}

// Learning is how far a box's meters were learned from, and what came of it.
type Learning struct {
	Box     string          `json:"box"`
	Taken   time.Time       `json:"taken"` // what the meters counted until then has been looked at
	At      time.Time       `json:"at"`
	Outcome json.RawMessage `json:"outcome"`
}

// Lessons are the newest of a box, at most limit, in the order of time.
func (r *Registry) Lessons(ctx context.Context, box string, limit int) ([]Lesson, error) {
	var all []Lesson
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var l Lesson
		var at int64
		var loads, processors string
		if err := scan(&at, &l.Milliwatts, &loads, &processors); err != nil {
			return err
		}
		l.At = moment(at)
		err := json.Unmarshal([]byte(loads), &l.Loads)
		if err == nil && processors != "" {
			err = json.Unmarshal([]byte(processors), &l.Processors)
		}
		all = append(all, l)
		return err
	}, "SELECT at, milliwatts, loads, processors FROM lesson WHERE box = ? ORDER BY at DESC LIMIT ?", box, limit)
	if err != nil {
		return nil, fmt.Errorf("read lessons of %s: %w", box, err)
	}
	slices.Reverse(all)
	return all, nil
}

// Learnings are what came of each box that was looked at, by box.
func (r *Registry) Learnings(ctx context.Context) (map[string]Learning, error) {
	all := make(map[string]Learning)
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var l Learning
		var taken, at int64
		var outcome string
		if err := scan(&l.Box, &taken, &at, &outcome); err != nil {
			return err
		}
		l.Taken, l.At, l.Outcome = moment(taken), moment(at), json.RawMessage(outcome)
		all[l.Box] = l
		return nil
	}, "SELECT box, taken, at, outcome FROM learning")
	if err != nil {
		return nil, fmt.Errorf("read what was learned: %w", err)
	}
	return all, nil
}

// AddLessons records lessons of a box with how far its meters were looked at,
// and keeps the newest of all that there are.
func (r *Registry) AddLessons(ctx context.Context, state Learning, lessons []Lesson, keep int) error {
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		for _, l := range lessons {
			loads, err := json.Marshal(l.Loads)
			if err != nil {
				return err
			}
			var processors []byte
			if l.Processors != nil {
				if processors, err = json.Marshal(l.Processors); err != nil {
					return err
				}
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO lesson (box, at, milliwatts, loads, processors) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
				state.Box, nanos(l.At), l.Milliwatts, string(loads), string(processors)); err != nil {
				return err
			}
		}
		oldest := int64(math.MinInt64)
		err := each(ctx, tx, func(scan func(...any) error) error { return scan(&oldest) },
			"SELECT at FROM lesson WHERE box = ? ORDER BY at DESC LIMIT 1 OFFSET ?", state.Box, max(keep-1, 0))
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM lesson WHERE box = ? AND at < ?", state.Box, oldest); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO learning (box, taken, at, outcome) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET taken = excluded.taken, at = excluded.at, outcome = excluded.outcome`,
			state.Box, nanos(state.Taken), nanos(r.clock.Now()), cmp.Or(string(state.Outcome), "{}"))
		return err
	})
	if err != nil {
		return fmt.Errorf("record lessons of %s: %w", state.Box, err)
	}
	return nil
}
