package registry

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// ErrStale is a change of the books that rests on something older than what is
// there now.
var ErrStale = errors.New("the books have changed meanwhile: look again")

// BookDay is what a customer used in a cluster on one of its days.
type BookDay struct {
	Customer, Cluster  string
	Window             schema.Window
	Revision           int64 // from 1
	Fingerprint        string
	Expected, Received int64 // node-windows
	Complete           bool
	Gaps               string // JSON
	Cells              []byte // as leader/books packs them
	Sealed             bool
}

// BookPeriod is a billing period of a customer. Body and Draft are leader/books'.
type BookPeriod struct {
	Customer, Period string
	Window           schema.Window
	Zone, State      string
	Body             string
	Draft            []byte
}

// BookLine is a link of a customer's chain.
type BookLine struct {
	Customer  string `json:"customer"`
	Seq       int64  `json:"seq"`
	Period    string `json:"period"`
	Statement int64  `json:"statement"`
	Text      string `json:"text"`
	Previous  string `json:"previous"`
	Hash      string `json:"hash"`
	Signature []byte `json:"signature"`
}

// BookStatement is a statement or credit note that was issued.
type BookStatement struct {
	Customer  string
	Number    int64
	Kind      string
	Period    string
	Refers    int64 // to a statement; 0 is none
	Text      string
	Signature []byte
	Issued    time.Time
}

// BookCorrection is one that was applied; Statement is 0 until it is billed.
type BookCorrection struct {
	ID               int64
	Customer, Period string
	Text             string
	At               time.Time
	Statement        int64
	Basis            []byte // what it was computed from; written with it, read by BookBasis
}

// BookAction says who did what.
type BookAction struct {
	At       time.Time `json:"at"`
	By       string    `json:"by"`
	Action   string    `json:"action"`
	Customer string    `json:"customer"`
	Period   string    `json:"period,omitempty"`
	Detail   string    `json:"detail,omitempty"`
	Failure  int64     `json:"failure,omitempty"` // of a node, that it is about
}

// BookList is a version of a price list as days were summed with it.
type BookList struct {
	Version, Name, Spec, By string
	At                      time.Time
}

// closedState is BookPeriod.State of what does not change any more.
const closedState = "closed"

// BookInputs is a fingerprint of the quarters that were computed of a cluster in a
// window, and whether some work on them, or on the energy that they hold, is due.
func (r *Registry) BookInputs(ctx context.Context, cluster string, w schema.Window) (fingerprint string, due bool, err error) {
	boxes, err := r.boxesOf(ctx, cluster, w)
	if err != nil {
		return "", false, err
	}
	open, err := dueQuarters(ctx, r.reader, cluster, boxes, w)
	if err != nil {
		return "", false, fmt.Errorf("due work of %s: %w", cluster, err)
	}
	hash := sha256.New()
	err = each(ctx, r.reader, func(scan func(...any) error) error {
		var quarter int64
		var of string
		err := scan(&quarter, &of)
		_, _ = fmt.Fprintf(hash, "%d %q\n", quarter, of) // a hash returns no error
		return err
	}, "SELECT quarter, fingerprint FROM fingerprint WHERE processor = ? AND scope = ? AND quarter >= ? AND quarter < ? ORDER BY quarter",
		ProcessorUsage, cluster, nanos(quarterOf(w.From)), nanos(w.To))
	if err != nil {
		return "", false, fmt.Errorf("fingerprints of %s: %w", cluster, err)
	}
	return hex.EncodeToString(hash.Sum(nil)), len(open) > 0, nil
}

// Recorded is who recorded the version of an object that holds from a moment on,
// and when; the zero time is its beginning.
func (r *Registry) Recorded(ctx context.Context, kind fleet.Kind, name string, from time.Time) (by string, at time.Time, err error) {
	start := int64(always)
	if !from.IsZero() {
		start = nanos(from)
	}
	var recorded int64
	err = r.reader.QueryRowContext(ctx, `SELECT recorded_by, recorded_at FROM object
		WHERE kind = ? AND name = ? AND valid_from = ? AND superseded_at IS NULL`, kind, name, start).Scan(&by, &recorded)
	if errors.Is(err, sql.ErrNoRows) {
		return "", time.Time{}, fmt.Errorf("%s/%s: %w", kind, name, ErrNotFound)
	}
	if err != nil {
		return "", time.Time{}, fmt.Errorf("look up %s/%s: %w", kind, name, err)
	}
	return by, moment(recorded), nil
}

// PutBookList keeps a version of a price list; one that is there stays.
func (r *Registry) PutBookList(ctx context.Context, list BookList) error {
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO book_list (version, name, spec, recorded_by, recorded_at) VALUES (?, ?, ?, ?, ?)",
			list.Version, list.Name, list.Spec, list.By, nanos(list.At))
		return err
	})
	if err != nil {
		return fmt.Errorf("keep price list %s: %w", list.Version, err)
	}
	return nil
}

// BookList is a version that was kept. Error: ErrNotFound.
func (r *Registry) BookList(ctx context.Context, version string) (BookList, error) {
	list := BookList{Version: version}
	var at int64
	err := r.reader.QueryRowContext(ctx, "SELECT name, spec, recorded_by, recorded_at FROM book_list WHERE version = ?", version).
		Scan(&list.Name, &list.Spec, &list.By, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return list, fmt.Errorf("price list %s: %w", version, ErrNotFound)
	}
	if err != nil {
		return list, fmt.Errorf("read price list %s: %w", version, err)
	}
	list.At = moment(at)
	return list, nil
}

// PutBookDays stores days, each as its next revision. What no closed period rests
// on goes.
func (r *Registry) PutBookDays(ctx context.Context, days []BookDay) error {
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		for _, d := range days {
			var last int64
			err := tx.QueryRowContext(ctx, "SELECT coalesce(max(revision), 0) FROM book_day WHERE customer = ? AND cluster = ? AND from_at = ?",
				d.Customer, d.Cluster, nanos(d.Window.From)).Scan(&last)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "DELETE FROM book_day WHERE customer = ? AND cluster = ? AND from_at = ? AND sealed = 0",
				d.Customer, d.Cluster, nanos(d.Window.From)); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO book_day (customer, cluster, from_at, to_at, revision, fingerprint, expected, received, complete, gaps, cells, summed_at)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, d.Customer, d.Cluster, nanos(d.Window.From), nanos(d.Window.To), last+1, d.Fingerprint,
				d.Expected, d.Received, d.Complete, d.Gaps, d.Cells, nanos(r.clock.Now())); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store days of the books: %w", err)
	}
	return nil
}

// BookDays calls fn with the newest revision of each day of a customer that begins
// in a window, by cluster and time; with sealed those that a closed period rests
// on, where a day has several the newest of these.
func (r *Registry) BookDays(ctx context.Context, customer string, w schema.Window, sealed bool, fn func(BookDay) error) error {
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		d := BookDay{Customer: customer}
		var from, to int64
		if err := scan(&d.Cluster, &from, &to, &d.Revision, &d.Fingerprint, &d.Expected, &d.Received, &d.Complete, &d.Gaps, &d.Cells, &d.Sealed); err != nil {
			return err
		}
		d.Window = schema.Window{From: moment(from), To: moment(to)}
		return fn(d)
	}, `SELECT cluster, from_at, to_at, revision, fingerprint, expected, received, complete, gaps, cells, sealed FROM book_day AS d
		WHERE customer = ?1 AND from_at >= ?2 AND from_at < ?3 AND (?4 = 0 OR sealed = 1)
			AND revision = (SELECT max(revision) FROM book_day AS n
				WHERE n.customer = d.customer AND n.cluster = d.cluster AND n.from_at = d.from_at AND (?4 = 0 OR n.sealed = 1))
		ORDER BY cluster, from_at`, customer, nanos(w.From), nanos(w.To), sealed)
	if err != nil {
		return fmt.Errorf("days of %s: %w", customer, err)
	}
	return nil
}

// BookClusters are those of which a customer has days that begin in a window, by
// name.
func (r *Registry) BookClusters(ctx context.Context, customer string, w schema.Window) ([]string, error) {
	all, err := names(ctx, r.reader, "SELECT DISTINCT cluster FROM book_day WHERE customer = ? AND from_at >= ? AND from_at < ? ORDER BY cluster",
		customer, nanos(w.From), nanos(w.To))
	if err != nil {
		return nil, fmt.Errorf("clusters of %s: %w", customer, err)
	}
	return all, nil
}

// BookFingerprints are those of a customer's days in a cluster that begin in a
// window, the newest revisions, by their start; false of days that are incomplete.
func (r *Registry) BookFingerprints(ctx context.Context, customer, cluster string, w schema.Window) (map[time.Time]string, map[time.Time]bool, error) {
	fingerprints, complete := make(map[time.Time]string), make(map[time.Time]bool)
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var from int64
		var fingerprint string
		var whole bool
		err := scan(&from, &fingerprint, &whole)
		fingerprints[moment(from)], complete[moment(from)] = fingerprint, whole
		return err
	}, "SELECT from_at, fingerprint, complete FROM book_day WHERE customer = ? AND cluster = ? AND from_at >= ? AND from_at < ? ORDER BY from_at, revision",
		customer, cluster, nanos(w.From), nanos(w.To))
	if err != nil {
		return nil, nil, fmt.Errorf("days of %s in %s: %w", customer, cluster, err)
	}
	return fingerprints, complete, nil
}

// BookPeriod is a customer's period. Error: ErrNotFound.
func (r *Registry) BookPeriod(ctx context.Context, customer, period string) (BookPeriod, error) {
	all, err := r.bookPeriods(ctx, "WHERE customer = ? AND period = ?", customer, period)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("period %s of %s: %w", period, customer, ErrNotFound)
	}
	if err != nil {
		return BookPeriod{}, err
	}
	return all[0], nil
}

// BookPeriods are all periods, by customer and time; of a customer or a period
// where these are not "". They come without their drafts.
func (r *Registry) BookPeriods(ctx context.Context, customer, period string) ([]BookPeriod, error) {
	all, err := r.bookPeriods(ctx, "WHERE (?1 = '' OR customer = ?1) AND (?2 = '' OR period = ?2)", customer, period)
	for i := range all {
		all[i].Draft = nil
	}
	return all, err
}

func (r *Registry) bookPeriods(ctx context.Context, where string, args ...any) ([]BookPeriod, error) {
	var all []BookPeriod
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var p BookPeriod
		var from, to int64
		if err := scan(&p.Customer, &p.Period, &from, &to, &p.Zone, &p.State, &p.Body, &p.Draft); err != nil {
			return err
		}
		p.Window = schema.Window{From: moment(from), To: moment(to)}
		all = append(all, p)
		return nil
	}, "SELECT customer, period, from_at, to_at, zone, state, body, draft FROM book_period "+where+" ORDER BY customer, from_at", args...)
	if err != nil {
		return nil, fmt.Errorf("read periods of the books: %w", err)
	}
	return all, nil
}
