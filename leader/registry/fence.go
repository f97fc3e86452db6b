package registry

import (
	"context"
	"database/sql"
	"fmt"
)

// NextFence is the number of a leader that starts now: the present in Unix ns,
// so that it is above those of a leader with another registry, and in any case
// above the last one of this registry, whatever the clock shows. It is on the
// disk when this returns.
func (r *Registry) NextFence(ctx context.Context) (int64, error) {
	var number int64
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `INSERT INTO fence (id, number) VALUES (1, ?)
			ON CONFLICT DO UPDATE SET number = max(number + 1, excluded.number) RETURNING number`, nanos(r.clock.Now())).Scan(&number)
	})
	if err != nil {
		return 0, fmt.Errorf("next fence: %w", err)
	}
	return number, nil
}
