package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// BookFailure is a node that failed.
type BookFailure struct {
	ID              int64
	Cluster, Node   string
	At              time.Time
	Source          string // watch or operator
	Evidence        string
	By              string // "" of the watch
	Recorded        time.Time
	Fingerprint     string // of what the losses come from; "" before they were summed
	DismissedBy     string // "" of one that counts
	DismissedReason string
	Dismissed       time.Time
	Log             []BookAction   // what persons did about it, the oldest first
	Lost            []BookLost     // by namespace, pod and UID
	Refunded        []BookRefunded // of these
}

// BookLost is a pod that died with a node.
type BookLost struct {
	Cluster, UID, Namespace, Pod string
	Start, End                   time.Time // a zero End was not seen
	Used                         []byte    // as leader/books packs it
}

// BookRefunded is what of a lost pod was given back to a customer.
type BookRefunded struct {
	Customer, Cluster, UID string
	Period                 string // in which it was used
	Failure, Statement     int64
}

// Errors of dismissing a failure, and of taking that back.
var (
	// ErrRefunded is a failure for which a statement has given back something.
	ErrRefunded = errors.New("a statement has given back what its pods used")
	// ErrCounts is a failure that was not dismissed.
	ErrCounts = errors.New("it was not dismissed")
)

// AddBookFailure records a failure and returns its number. One of the same node that
// is within apart of it stands for it: added is false then. did is nil of what no
// person does.
func (r *Registry) AddBookFailure(ctx context.Context, f BookFailure, apart time.Duration, did *BookAction) (id int64, added bool, err error) {
	err = r.write(ctx, synced, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, "SELECT id FROM book_failure WHERE cluster = ?1 AND node = ?2 AND abs(at - ?3) <= ?4 ORDER BY abs(at - ?3) LIMIT 1",
			f.Cluster, f.Node, nanos(f.At), int64(apart)).Scan(&id)
		if err == nil || !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		result, err := tx.ExecContext(ctx, "INSERT INTO book_failure (cluster, node, at, source, evidence, recorded_by, recorded_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
			f.Cluster, f.Node, nanos(f.At), f.Source, f.Evidence, f.By, nanos(r.clock.Now()))
		if err != nil {
			return err
		}
		if id, err = result.LastInsertId(); err != nil {
			return err
		}
		added = true
		if did == nil {
			return nil
		}
		did.Failure = id
		return r.bookAction(ctx, tx, *did)
	})
	if err != nil {
		return 0, false, fmt.Errorf("record the failure of node %s of %s: %w", f.Node, f.Cluster, err)
	}
	return id, added, nil
}

// DismissBookFailure says that a failure does not count, by whom and why. Its pods
// are free for another one of the node; what they used is laid aside. Errors:
// ErrNotFound, ErrRefunded.
func (r *Registry) DismissBookFailure(ctx context.Context, id int64, reason string, did BookAction) error {
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		var refunded bool
		if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM book_refunded WHERE failure = ?)", id).Scan(&refunded); err != nil {
			return err
		}
		if refunded {
			return ErrRefunded
		}
		result, err := tx.ExecContext(ctx, "UPDATE book_failure SET dismissed_by = ?, dismissed_reason = ?, dismissed_at = ? WHERE id = ?", did.By, reason, nanos(r.clock.Now()), id)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(ErrNotFound, err)
		}
		if _, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO book_dismissed_lost (failure, cluster, uid, namespace, pod, started, ended, used)
			SELECT failure, cluster, uid, namespace, pod, started, ended, used FROM book_lost WHERE failure = ?`, id); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM book_lost WHERE failure = ?", id); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE book_failure SET fingerprint = '' WHERE dismissed_at = 0
			AND (cluster, node) = (SELECT cluster, node FROM book_failure WHERE id = ?)`, id); err != nil {
			return err
		}
		did.Failure = id
		return r.bookAction(ctx, tx, did)
	})
	if err != nil {
		return fmt.Errorf("dismiss failure %d: %w", id, err)
	}
	return nil
}

// ReinstateBookFailure takes a dismissal back: the failure counts again, with what its
// pods had used. Those that died with another one by what was found meanwhile stay with
// it. Without anything laid aside it is to be summed again. Errors: ErrNotFound,
// ErrCounts.
func (r *Registry) ReinstateBookFailure(ctx context.Context, id int64, did BookAction) error {
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		var dismissed, aside bool
		err := tx.QueryRowContext(ctx, "SELECT dismissed_at <> 0, EXISTS (SELECT 1 FROM book_dismissed_lost WHERE failure = ?1) FROM book_failure WHERE id = ?1", id).Scan(&dismissed, &aside)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return ErrNotFound
		case err != nil:
			return err
		case !dismissed:
			return ErrCounts
		}
		if _, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO book_lost (cluster, uid, failure, namespace, pod, started, ended, used)
			SELECT cluster, uid, failure, namespace, pod, started, ended, used FROM book_dismissed_lost WHERE failure = ?`, id); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM book_dismissed_lost WHERE failure = ?", id); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE book_failure SET dismissed_by = '', dismissed_reason = '', dismissed_at = 0, fingerprint = iif(?, fingerprint, '') WHERE id = ?", aside, id); err != nil {
			return err
		}
		did.Failure = id
		return r.bookAction(ctx, tx, did)
	})
	if err != nil {
		return fmt.Errorf("take back the dismissal of failure %d: %w", id, err)
	}
	return nil
}

// PutBookLost stores what a failure's pods used, and the fingerprint of what that
// comes from. A pod that died with another failure stays with that one, and one that
// was refunded stays as it is.
func (r *Registry) PutBookLost(ctx context.Context, failure int64, fingerprint string, lost []BookLost) error {
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM book_lost WHERE failure = ?1
			AND NOT EXISTS (SELECT 1 FROM book_refunded AS r WHERE r.cluster = book_lost.cluster AND r.uid = book_lost.uid)`, failure); err != nil {
			return err
		}
		for _, p := range lost {
			end := int64(0)
			if !p.End.IsZero() {
				end = nanos(p.End)
			}
			if _, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO book_lost (cluster, uid, failure, namespace, pod, started, ended, used) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
				p.Cluster, p.UID, failure, p.Namespace, p.Pod, nanos(p.Start), end, p.Used); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, "UPDATE book_failure SET fingerprint = ? WHERE id = ?", fingerprint, failure)
		return err
	})
	if err != nil {
		return fmt.Errorf("store what was lost by failure %d: %w", failure, err)
	}
	return nil
}

// BookFailures are the failures of a cluster's nodes, of all clusters for "", the
// oldest first, with their pods.
func (r *Registry) BookFailures(ctx context.Context, cluster string) ([]BookFailure, error) {
	all := []BookFailure{}
	at := make(map[int64]int)
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var f BookFailure
		var when, recorded, dismissed int64
		err := scan(&f.ID, &f.Cluster, &f.Node, &when, &f.Source, &f.Evidence, &f.By, &recorded, &f.Fingerprint, &f.DismissedBy, &f.DismissedReason, &dismissed)
		f.At, f.Recorded = moment(when), moment(recorded)
		if dismissed != 0 {
			f.Dismissed = moment(dismissed)
		}
		at[f.ID] = len(all)
		all = append(all, f)
		return err
	}, `SELECT id, cluster, node, at, source, evidence, recorded_by, recorded_at, fingerprint, dismissed_by, dismissed_reason, dismissed_at
		FROM book_failure WHERE ?1 = '' OR cluster = ?1 ORDER BY at, id`, cluster)
	if err != nil {
		return nil, fmt.Errorf("read failures of nodes: %w", err)
	}
	err = each(ctx, r.reader, func(scan func(...any) error) error {
		var a BookAction
		var when int64
		err := scan(&a.Failure, &when, &a.By, &a.Action, &a.Detail)
		a.At = moment(when)
		if i, known := at[a.Failure]; known {
			all[i].Log = append(all[i].Log, a)
		}
		return err
	}, "SELECT failure, at, by, action, detail FROM book_action WHERE failure <> 0 ORDER BY id")
	if err != nil {
		return nil, fmt.Errorf("read what was done about failures: %w", err)
	}
	err = each(ctx, r.reader, func(scan func(...any) error) error {
		var p BookLost
		var failure, start, end int64
		err := scan(&failure, &p.Cluster, &p.UID, &p.Namespace, &p.Pod, &start, &end, &p.Used)
		if p.Start = moment(start); end != 0 {
			p.End = moment(end)
		}
		if i, known := at[failure]; known {
			all[i].Lost = append(all[i].Lost, p)
		}
		return err
	}, "SELECT failure, cluster, uid, namespace, pod, started, ended, used FROM book_lost WHERE ?1 = '' OR cluster = ?1 ORDER BY namespace, pod, uid", cluster)
	if err != nil {
		return nil, fmt.Errorf("read pods that died with their nodes: %w", err)
	}
	err = each(ctx, r.reader, func(scan func(...any) error) error {
		var given BookRefunded
		err := scan(&given.Customer, &given.Cluster, &given.UID, &given.Period, &given.Failure, &given.Statement)
		if i, known := at[given.Failure]; known {
			all[i].Refunded = append(all[i].Refunded, given)
		}
		return err
	}, "SELECT customer, cluster, uid, period, failure, statement FROM book_refunded WHERE ?1 = '' OR cluster = ?1 ORDER BY customer, uid, period", cluster)
	if err != nil {
		return nil, fmt.Errorf("read what was refunded of failures: %w", err)
	}
	return all, nil
}

// refund notes what a statement gives back. Error: ErrStale where another one has.
func refund(ctx context.Context, tx *sql.Tx, statement int64, refunded []BookRefunded) error {
	for _, given := range refunded {
		result, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO book_refunded (customer, cluster, uid, period, failure, statement) VALUES (?, ?, ?, ?, ?, ?)",
			given.Customer, given.Cluster, given.UID, given.Period, given.Failure, statement)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n != 1 {
			return errors.Join(fmt.Errorf("pod %s of %s: %w", given.UID, given.Cluster, ErrStale), err)
		}
	}
	return nil
}

// PodsOfNode calls fn with the newest row of each pod of a cluster that was on a
// node and had not ended before a moment.
func (r *Registry) PodsOfNode(ctx context.Context, cluster, node string, at time.Time, fn func(KubeObject) error) error {
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		o := KubeObject{Cluster: cluster, Kind: "Pod"}
		var from, to int64
		var spec string
		if err := scan(&o.Namespace, &o.Name, &o.UID, &from, &to, &spec, &o.Reason); err != nil {
			return err
		}
		if o.ValidFrom, o.Spec = moment(from), []byte(spec); to != 0 {
			o.ValidTo = moment(to)
		}
		return fn(o)
	}, `SELECT namespace, name, uid, valid_from, valid_to, spec, reason FROM kube_object AS o
		WHERE cluster = ?1 AND kind = 'Pod' AND (valid_to = 0 OR valid_to >= ?2) AND instr(spec, ?3) > 0
			AND time = (SELECT max(time) FROM kube_object AS n WHERE n.cluster = o.cluster AND n.kind = o.kind
				AND n.namespace = o.namespace AND n.name = o.name AND n.uid = o.uid)
		ORDER BY namespace, name, uid`, cluster, nanos(at), `"node":`+strconv.Quote(node))
	if err != nil {
		return fmt.Errorf("pods of node %s of %s: %w", node, cluster, err)
	}
	return nil
}
