package registry

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/internal/usage"
)

// ErrTaken is a name that something else has.
var ErrTaken = errors.New("the name is taken")

// Token is a named token, without its secret.
type Token struct {
	Name      string      `json:"name"`
	Prefix    string      `json:"prefix"` // what the secret begins with
	Role      string      `json:"role"`
	Scope     usage.Scope `json:"scope,omitzero"` // of a tenant
	Created   time.Time   `json:"created"`
	CreatedBy string      `json:"createdBy"`
	Expires   time.Time   `json:"expires,omitzero"`
	Used      time.Time   `json:"lastUsed,omitzero"` // to the minute
	Revoked   time.Time   `json:"revoked,omitzero"`
	RevokedBy string      `json:"revokedBy,omitempty"`
}

const tokenColumns = "name, prefix, role, scope, created_at, created_by, expires_at, used_at, revoked_at, revoked_by"

func scanToken(scan func(...any) error, more ...any) (Token, error) {
	var t Token
	var scope string
	var created, expires, used, revoked int64
	if err := scan(append([]any{&t.Name, &t.Prefix, &t.Role, &scope, &created, &t.CreatedBy, &expires, &used, &revoked, &t.RevokedBy}, more...)...); err != nil {
		return Token{}, err
	}
	t.Created = moment(created)
	for into, ns := range map[*time.Time]int64{&t.Expires: expires, &t.Used: used, &t.Revoked: revoked} {
		if ns != 0 {
			*into = moment(ns)
		}
	}
	return t, json.Unmarshal([]byte(scope), &t.Scope)
}

// AddToken keeps a new token by the hash of its secret. Errors: ErrTaken.
func (r *Registry) AddToken(ctx context.Context, t Token, hash []byte) error {
	scope, err := json.Marshal(t.Scope)
	if err != nil {
		return fmt.Errorf("token %s: %w", t.Name, err)
	}
	err = r.write(ctx, synced, func(tx *sql.Tx) error {
		var taken int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM token WHERE name = ? AND revoked_at = 0 OR prefix = ?", t.Name, t.Prefix).Scan(&taken); err != nil {
			return err
		}
		if taken > 0 {
			return ErrTaken
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO token ("+tokenColumns+", hash) VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, '', ?)",
			t.Name, t.Prefix, t.Role, string(scope), nanos(t.Created), t.CreatedBy, nanosOr0(t.Expires), hash)
		return err
	})
	if err != nil {
		return fmt.Errorf("add token %s: %w", t.Name, err)
	}
	return nil
}

// nanosOr0 is a time as it is stored, 0 for the zero time.
func nanosOr0(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return nanos(t)
}

// Tokens are all that hold, and with revoked also those that were revoked, by
// name and age.
func (r *Registry) Tokens(ctx context.Context, revoked bool) ([]Token, error) {
	all := []Token{}
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		t, err := scanToken(scan)
		all = append(all, t)
		return err
	}, "SELECT "+tokenColumns+" FROM token WHERE revoked_at = 0 OR ? ORDER BY name, id", revoked)
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	return all, nil
}

// TokenOf is the token of a prefix, with the hash of its secret, also one that was
// revoked or has expired. Errors: ErrNotFound.
func (r *Registry) TokenOf(ctx context.Context, prefix string) (Token, []byte, error) {
	var hash []byte
	t, err := scanToken(r.reader.QueryRowContext(ctx, "SELECT "+tokenColumns+", hash FROM token WHERE prefix = ?", prefix).Scan, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return Token{}, nil, fmt.Errorf("read token: %w", err)
	}
	return t, hash, nil
}

// UseToken notes that a token was used.
func (r *Registry) UseToken(ctx context.Context, prefix string, at time.Time) error {
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE token SET used_at = max(used_at, ?) WHERE prefix = ?", nanos(at), prefix)
		return err
	})
	if err != nil {
		return fmt.Errorf("note the use of a token: %w", err)
	}
	return nil
}

// RevokeToken ends a token. Errors: ErrNotFound.
func (r *Registry) RevokeToken(ctx context.Context, name, by string) error {
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, "UPDATE token SET revoked_at = ?, revoked_by = ? WHERE name = ? AND revoked_at = 0", nanos(r.clock.Now()), by, name)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, ErrNotFound)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("revoke token %s: %w", name, err)
	}
	return nil
}
