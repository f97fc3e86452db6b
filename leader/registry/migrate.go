package registry

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// ErrNewer is a file that a newer version of the program has written.
var ErrNewer = errors.New("the registry was written by a newer version")

// step is one migration: a file NNNN_name.sql. Steps are taken in the order of
// their numbers, those of one number by name; a number may be left out.
type step struct {
	name   string
	number int
	text   string
}

// migrations are the steps in order.
func migrations() ([]step, error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	steps := make([]step, len(names))
	for i, file := range names {
		name := strings.TrimSuffix(path.Base(file), ".sql")
		digits, _, _ := strings.Cut(name, "_")
		number, err := strconv.Atoi(digits)
		if err != nil || len(digits) != 4 || number < 1 {
			return nil, fmt.Errorf("migration %s: want a name such as 0001_what.sql", file)
		}
		text, err := migrationFiles.ReadFile(file)
		if err != nil {
			return nil, err
		}
		steps[i] = step{name, number, string(text)}
	}
	slices.SortFunc(steps, func(a, b step) int { return cmp.Or(cmp.Compare(a.number, b.number), strings.Compare(a.name, b.name)) })
	return steps, nil
}

// migrate brings the schema up to date, each step in a transaction with the
// note that it was taken.
func migrate(ctx context.Context, db *sql.DB) error {
	steps, err := migrations()
	if err != nil {
		return err
	}
	return migrateTo(ctx, db, steps)
}

func migrateTo(ctx context.Context, db *sql.DB, steps []step) error {
	taken, version, err := taken(ctx, db, steps)
	if err != nil {
		return err
	}
	newest := 0
	known := make(map[string]bool)
	for _, s := range steps {
		newest, known[s.name] = max(newest, s.number), true
	}
	for name := range taken {
		if !known[name] {
			return fmt.Errorf("it has %s: %w", name, ErrNewer)
		}
	}
	if version > newest {
		return fmt.Errorf("version %d, known is %d: %w", version, newest, ErrNewer)
	}
	for _, s := range steps {
		if taken[s.name] {
			continue
		}
		taken[s.name], version = true, max(version, s.number)
		if err := carryOut(ctx, db, s, taken, version); err != nil {
			return fmt.Errorf("migration %s: %w", s.name, err)
		}
	}
	return nil
}

// taken are the names of the steps that a registry has taken, and the highest
// number of them (PRAGMA user_version). A registry from before names were noted
// has taken those up to its number.
func taken(ctx context.Context, db *sql.DB, steps []step) (map[string]bool, int, error) {
	names := make(map[string]bool)
	var version, noted int
	err := errors.Join(db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version),
		db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'migration'").Scan(&noted))
	if err != nil {
		return nil, 0, err
	}
	if noted == 0 {
		for _, s := range steps {
			if s.number <= version {
				names[s.name] = true
			}
		}
		return names, version, nil
	}
	err = each(ctx, db, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		names[name] = true
		return err
	}, "SELECT name FROM migration")
	return names, version, err
}

// carryOut takes one step, and notes all that are taken with it.
func carryOut(ctx context.Context, db *sql.DB, s step, taken map[string]bool, version int) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, s.text+"\nCREATE TABLE IF NOT EXISTS migration (name TEXT PRIMARY KEY) WITHOUT ROWID;"+
		fmt.Sprintf("\nPRAGMA user_version = %d;", version))
	for name := range taken {
		if err == nil {
			_, err = tx.ExecContext(ctx, "INSERT OR IGNORE INTO migration (name) VALUES (?)", name)
		}
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}
