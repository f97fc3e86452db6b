package influxsync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// GetTables are the names of the database's tables. A database that does not
// exist is ErrNotFound, though the server says that it has no tables.
func (d *Database) GetTables(ctx context.Context) ([]string, error) {
	var names []string
	err := d.Select(ctx, "SHOW MEASUREMENTS", func(p Point) error {
		if name, ok := p.Field("name"); ok {
			names = append(names, name.Str())
		}
		return nil
	})
	if err == nil && len(names) == 0 {
		err = d.exists(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	return names, nil
}

func (d *Database) exists(ctx context.Context) error {
	names, err := d.server.Databases(ctx)
	if err == nil && !slices.Contains(names, d.name) {
		err = fmt.Errorf("database %s: %w", d.name, ErrNotFound)
	}
	return err
}

// errTwoTypes: a field has different types in different shards.
var errTwoTypes = errors.New("has two types")

// GetTable is a table as the database describes it: its tags and its fields,
// all of them optional, without a grain. A table without rows is ErrNotFound.
// A field that has different types in different shards is an error.
func (d *Database) GetTable(ctx context.Context, name string) (schema.Table, error) {
	table := schema.Table{Name: name, DB: d.name}
	quoted, err := quoteIdent(name)
	if err != nil {
		return table, fmt.Errorf("describe table: %w", err)
	}
	types := map[string]schema.Type{"integer": schema.Integer, "float": schema.Float, "string": schema.String, "boolean": schema.Boolean}
	err = d.Select(ctx, "SHOW FIELD KEYS FROM "+quoted, func(p Point) error {
		key, _ := p.Field("fieldKey")
		kind, _ := p.Field("fieldType")
		fieldType, ok := types[kind.Str()]
		if !ok {
			return fmt.Errorf("field %q has type %q", key.Str(), kind.Str())
		}
		if n := len(table.Fields); n > 0 && table.Fields[n-1].Name == key.Str() {
			return fmt.Errorf("field %q: %w", key.Str(), errTwoTypes)
		}
		table.Fields = append(table.Fields, schema.Field{Name: key.Str(), Type: fieldType, Optional: true})
		return nil
	})
	if err != nil {
		return table, fmt.Errorf("describe table %s: %w", name, err)
	}
	err = d.Select(ctx, "SHOW TAG KEYS FROM "+quoted, func(p Point) error {
		key, _ := p.Field("tagKey")
		table.Tags = append(table.Tags, key.Str())
		return nil
	})
	if err != nil {
		return table, fmt.Errorf("describe table %s: %w", name, err)
	}
	if len(table.Fields) == 0 {
		return table, fmt.Errorf("describe table %s: %w", name, ErrNotFound)
	}
	return table, nil
}

// Clear removes the rows of a table that meet all conditions, or all rows,
// with their series. A table that does not exist is none.
func (d *Database) Clear(ctx context.Context, table string, where []Condition) error {
	b := &builder{}
	b.text("DROP SERIES FROM ")
	b.ident(table)
	separator := " WHERE "
	for _, c := range where {
		b.text(separator)
		separator = " AND "
		b.ident(c.Tag) // this statement knows tags only, and no ::tag
		b.text(" = ")
		b.literal(c.Value)
	}
	if b.err != nil {
		return fmt.Errorf("clear table %s: %w", table, b.err)
	}
	if err := d.server.execute(ctx, d.name, b.String()); err != nil {
		return fmt.Errorf("clear table %s: %w", table, err)
	}
	return nil
}

// clearAtOnce bounds the values that one statement names.
const clearAtOnce = 200

// ClearAny removes the rows of a table whose tag has one of the values, with their
// series.
func (d *Database) ClearAny(ctx context.Context, table, tag string, values []string) error {
	for part := range slices.Chunk(values, clearAtOnce) {
		b := &builder{}
		b.text("DROP SERIES FROM ")
		b.ident(table)
		separator := " WHERE "
		for _, value := range part {
			b.text(separator)
			separator = " OR "
			b.ident(tag)
			b.text(" = ")
			b.literal(value)
		}
		if b.err != nil {
			return fmt.Errorf("clear table %s: %w", table, b.err)
		}
		if err := d.server.execute(ctx, d.name, b.String()); err != nil {
			return fmt.Errorf("clear table %s: %w", table, err)
		}
	}
	return nil
}

// Delete removes the rows of a table in the window that meet all conditions. A table
// that does not exist is none. The engine looks at each of their series; the space is
// free when it has next merged the files.
func (d *Database) Delete(ctx context.Context, table string, where []Condition, w schema.Window) error {
	if w.From.IsZero() || w.To.IsZero() {
		return fmt.Errorf("delete from table %s: a window with two ends is needed", table)
	}
	b := &builder{}
	b.text("DELETE FROM ")
	b.ident(table)
	b.text(" WHERE ")
	for _, c := range where {
		b.ident(c.Tag) // this statement knows no ::tag
		b.text(" = ")
		b.literal(c.Value)
		b.text(" AND ")
	}
	b.text("time >= " + strconv.FormatInt(nanoseconds(w.From), 10) + " AND time < " + strconv.FormatInt(nanoseconds(w.To), 10))
	if b.err != nil {
		return fmt.Errorf("delete from table %s: %w", table, b.err)
	}
	if err := d.server.execute(ctx, d.name, b.String()); err != nil {
		return fmt.Errorf("delete from table %s in %s: %w", table, w, err)
	}
	return nil
}

// AddDownsample makes a continuous query, for tables of others: the settled
// series of this project come from explicit statements instead. Each field is
// named, so that names, types and tags stay: integers are summed, floats
// averaged, of strings and booleans the last is taken. Each field of to must
// be one of from. It runs by the server's wall clock, from the time it is made
// on, where the server runs continuous queries at all. A query of that name
// with another text is an error.
func (d *Database) AddDownsample(ctx context.Context, name string, from, to schema.Table, every time.Duration) error {
	statement, err := d.downsample(name, from, to, every)
	if err == nil {
		err = d.server.execute(ctx, d.name, statement)
	}
	if err != nil {
		return fmt.Errorf("add downsample %s: %w", name, err)
	}
	return nil
}

func (d *Database) downsample(name string, from, to schema.Table, every time.Duration) (string, error) {
	if every <= 0 || len(to.Fields) == 0 {
		return "", fmt.Errorf("a step and fields are needed")
	}
	have := make(map[string]schema.Type)
	for _, field := range from.Fields {
		have[field.Name] = field.Type
	}
	target := to.DB
	if target == "" {
		target = d.name
	}
	aggregate := map[schema.Type]string{schema.Integer: "sum", schema.Float: "mean", schema.String: "last", schema.Boolean: "last"}
	b := &builder{}
	b.text("CREATE CONTINUOUS QUERY ")
	b.ident(name)
	b.text(" ON ")
	b.ident(d.name)
	b.text(" BEGIN SELECT ")
	for i, field := range to.Fields {
		if kind, ok := have[field.Name]; !ok || kind != field.Type {
			return "", fmt.Errorf("table %s has no field %s of that type", from.Name, field.Name)
		}
		if i > 0 {
			b.text(", ")
		}
		b.text(aggregate[field.Type] + "(")
		b.ident(field.Name)
		b.text(") AS ")
		b.ident(field.Name)
	}
	b.text(" INTO ")
	for _, part := range []string{target, "autogen", to.Name} {
		b.ident(part)
		b.text(".")
	}
	statement := strings.TrimSuffix(b.String(), ".")
	b.Reset()
	b.text(statement + " FROM ")
	b.ident(from.Name)
	b.text(" GROUP BY time(" + strconv.FormatInt(int64(every), 10) + "ns), * END")
	return b.String(), b.err
}
