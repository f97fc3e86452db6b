package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// Asked is a change that somebody asks for.
type Asked struct {
	Principal string `json:"principal"`
	Role      string `json:"role"`
	Via       string `json:"via"`    // how he is known
	Source    string `json:"source"` // address
	Method    string `json:"method"`
	Route     string `json:"route"` // as the table of routes has it
	Path      string `json:"path"`
}

// logEntry is the text of an entry: of a request that is asked for, or with a
// status of one that was answered.
type logEntry struct {
	Seq     int64  `json:"seq"`
	At      int64  `json:"at"`
	Request string `json:"request"`
	Asked   *Asked `json:"asked,omitempty"`
	Status  int    `json:"status,omitempty"`
	// Objects is a SHA-256 of the changes of objects that came of the request.
	Objects string `json:"objects,omitempty"`
}

// Logged is what was asked for and what came of it, or what the leader changed of
// its own.
type Logged struct {
	Seq int64     `json:"seq,omitempty"` // of the log; none is the leader's own
	At  time.Time `json:"at"`
	Asked
	Status  int            `json:"status"`  // of the answer; 0 where the leader stopped before it answered
	Objects []ObjectChange `json:"objects"` // of the fleet that were changed
	Hash    string         `json:"hash,omitempty"`
}

// ObjectChange names a change of an object.
type ObjectChange struct {
	Action string     `json:"action"` // apply or remove
	Kind   fleet.Kind `json:"kind"`
	Name   string     `json:"name"`
	Reason string     `json:"reason,omitempty"`
}

// Chain is what the log's hashes say. Note Head elsewhere: it vouches for all that
// was logged until then.
type Chain struct {
	Entries int64  `json:"entries"`
	Head    string `json:"head"`             // hash of the newest entry
	Broken  string `json:"broken,omitempty"` // what does not agree; "" is nothing
}

type requestKey struct{}

// requestOf is the request that a context is of, "" for the leader's own doings.
func requestOf(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// LogAsked notes a change before it is carried out. The context that it returns
// is that of the change: objects that are changed with it are noted with it.
func (r *Registry) LogAsked(ctx context.Context, asked Asked) (context.Context, error) {
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return ctx, fmt.Errorf("log a change: %w", err)
	}
	id := hex.EncodeToString(random[:])
	if err := r.appendLog(ctx, logEntry{Request: id, Asked: &asked}); err != nil {
		return ctx, fmt.Errorf("log a change: %w", err)
	}
	return context.WithValue(ctx, requestKey{}, id), nil
}

// LogDone notes how the change of a context was answered.
func (r *Registry) LogDone(ctx context.Context, status int) error {
	if err := r.appendLog(ctx, logEntry{Request: requestOf(ctx), Status: status}); err != nil {
		return fmt.Errorf("log the outcome of a change: %w", err)
	}
	return nil
}

// appendLog links an entry to the newest one.
func (r *Registry) appendLog(ctx context.Context, e logEntry) error {
	return r.write(ctx, synced, func(tx *sql.Tx) error {
		var before []byte
		err := tx.QueryRowContext(ctx, "SELECT seq, hash FROM audit_log ORDER BY seq DESC LIMIT 1").Scan(&e.Seq, &before)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		e.Seq, e.At = e.Seq+1, nanos(r.clock.Now())
		if e.Asked == nil {
			if e.Objects, err = objectsDigest(ctx, tx, e.Request); err != nil {
				return err
			}
		}
		text, err := json.Marshal(e)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO audit_log (seq, at, request, entry, hash) VALUES (?, ?, ?, ?, ?)", e.Seq, e.At, e.Request, string(text), linked(before, text))
		return err
	})
}

// linked is the hash of an entry after another.
func linked(before, text []byte) []byte {
	sum := sha256.Sum256(append(bytes.Clone(before), text...))
	return sum[:]
}

// objectsDigest is the SHA-256 of the rows of objects that a request changed, ""
// for none.
func objectsDigest(ctx context.Context, q queryer, request string) (string, error) {
	sum, rows := sha256.New(), 0
	err := each(ctx, q, func(scan func(...any) error) error {
		var row struct {
			ID, At                                        int64
			By, Action, Kind, Name, Before, After, Reason string
		}
		if err := scan(&row.ID, &row.At, &row.By, &row.Action, &row.Kind, &row.Name, &row.Before, &row.After, &row.Reason); err != nil {
			return err
		}
		text, err := json.Marshal(row)
		_, _ = sum.Write(append(text, '\n')) // a hash returns no error
		rows++
		return err
	}, "SELECT id, at, by, action, kind, name, before, after, reason FROM audit WHERE request = ? AND request <> '' ORDER BY id", request)
	if err != nil || rows == 0 {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Changes are the newest changes since a moment and before another, which may be
// the zero time, newest first, at most limit.
func (r *Registry) Changes(ctx context.Context, since, before time.Time, limit int) ([]Logged, error) {
	until := int64(1<<63 - 1)
	if !before.IsZero() {
		until = nanos(before)
	}
	all := []Logged{}
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var text, answered string
		var hash []byte
		if err := scan(&text, &hash, &answered); err != nil {
			return err
		}
		c, err := changeOf(text, answered)
		c.Hash = hex.EncodeToString(hash)
		all = append(all, c)
		return err
	}, `SELECT a.entry, a.hash, coalesce((SELECT d.entry FROM audit_log d WHERE d.request = a.request AND d.seq > a.seq), '')
		FROM audit_log a WHERE a.entry ->> '$.asked' IS NOT NULL AND a.at >= ? AND a.at < ? ORDER BY a.seq DESC LIMIT ?`, nanosOr0(since), until, limit)
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	if all, err = r.withObjects(ctx, all, nanosOr0(since), until, limit); err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	slices.SortStableFunc(all, func(a, b Logged) int { return b.At.Compare(a.At) })
	return all[:min(limit, len(all))], nil
}

// changeOf reads the two entries of a request.
func changeOf(text, answered string) (Logged, error) {
	var asked, done logEntry
	if err := json.Unmarshal([]byte(text), &asked); err != nil {
		return Logged{}, err
	}
	if answered != "" {
		if err := json.Unmarshal([]byte(answered), &done); err != nil {
			return Logged{}, err
		}
	}
	return Logged{Seq: asked.Seq, At: moment(asked.At), Asked: *asked.Asked, Status: done.Status, Objects: []ObjectChange{}}, nil
}

// withObjects adds what of the fleet was changed by the requests, and what was
// changed by none of them.
func (r *Registry) withObjects(ctx context.Context, all []Logged, since, until int64, limit int) ([]Logged, error) {
	bySeq := make(map[int64]int, len(all))
	for i, c := range all {
		bySeq[c.Seq] = i
	}
	own := make(map[int64]int) // by time: of one doing
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var at, seq int64
		var by string
		var o ObjectChange
		if err := scan(&at, &by, &o.Action, &o.Kind, &o.Name, &o.Reason, &seq); err != nil {
			return err
		}
		i, known := bySeq[seq]
		if seq == 0 {
			if i, known = own[at]; !known && len(own) < limit {
				i, known = len(all), true
				all, own[at] = append(all, Logged{At: moment(at), Asked: Asked{Principal: by}, Status: 200}), i
			}
		}
		if known {
			all[i].Objects = append(all[i].Objects, o)
		}
		return nil
	}, `SELECT at, by, action, kind, name, reason, coalesce((SELECT min(seq) FROM audit_log l WHERE l.request = audit.request), 0)
		FROM audit WHERE at >= ? AND (at < ? OR request <> '') ORDER BY id DESC`, since, until)
	return all, err
}

// VerifyChanges computes the log's hashes anew, from the first entry on.
func (r *Registry) VerifyChanges(ctx context.Context) (Chain, error) {
	var chain Chain
	var before []byte
	var digests []logEntry
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var seq, at int64
		var request, text string
		var hash []byte
		if err := scan(&seq, &at, &request, &text, &hash); err != nil {
			return err
		}
		chain.Entries++
		var e logEntry
		switch err := json.Unmarshal([]byte(text), &e); {
		case chain.Broken != "":
		case err != nil || e.Seq != seq || e.At != at || e.Request != request:
			chain.Broken = fmt.Sprintf("entry %d is not what it says of itself", seq)
		case seq != chain.Entries:
			chain.Broken = fmt.Sprintf("entry %d is missing", chain.Entries)
		case !bytes.Equal(hash, linked(before, []byte(text))):
			chain.Broken = fmt.Sprintf("entry %d or the hash before it was changed", seq)
		}
		if e.Asked == nil {
			digests = append(digests, e)
		}
		before, chain.Head = hash, hex.EncodeToString(hash)
		return nil
	}, "SELECT seq, at, request, entry, hash FROM audit_log ORDER BY seq")
	if err != nil {
		return Chain{}, fmt.Errorf("verify audit log: %w", err)
	}
	for _, e := range digests {
		if chain.Broken != "" {
			break
		}
		got, err := objectsDigest(ctx, r.reader, e.Request)
		if err != nil {
			return Chain{}, fmt.Errorf("verify audit log: %w", err)
		}
		if got != e.Objects {
			chain.Broken = fmt.Sprintf("changes of objects that entry %d vouches for were changed", e.Seq)
		}
	}
	return chain, nil
}
