package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// mostDays bounds the days of clusters that one question reads from files.
const mostDays = 100

// Minutes answers queries of the minute database also for days whose rows are in the
// archive alone. It is safe for concurrent use.
type Minutes struct {
	dir      string
	registry *registry.Registry
	live     *influxsync.Database
}

// NewMinutes reads the store's minute database, and the archive in dir. It does no
// I/O.
func NewMinutes(dir string, reg *registry.Registry, live *influxsync.Database) *Minutes {
	return &Minutes{dir: dir, registry: reg, live: live}
}

// piece is a part of a window that is read from one place.
type piece struct {
	schema.Window
	day *registry.ArchivedDay // nil: from the store
}

// Query is that of the store, with rows of the archive in the place of those that the
// store has no more. Of such days it knows rows as they are, sum and distinct. A sum
// beyond 2^63 is an error, and so is a question that reads more than 100 days of
// clusters from files (*usage.InputError).
func (m *Minutes) Query(ctx context.Context, q influxsync.Query, each func(influxsync.Point) error) error {
	gone, err := m.gone(ctx, q)
	if err != nil {
		return err
	}
	if len(gone) == 0 {
		return m.fromStore(ctx, q, each)
	}
	if len(gone) > mostDays {
		return usage.Wrong("window", q.Window.String(), fmt.Sprintf("%d days of clusters in it are in the archive alone, and at most %d are read for one answer: ask for a shorter window, for one cluster, or by what has no pods", len(gone), mostDays))
	}
	if q.Limit > 0 || q.Descending || len(q.Holds) > 0 || !slices.Contains([]string{"", "sum", "distinct"}, q.Aggregate) {
		return fmt.Errorf("query %s: the archive cannot answer such a statement", q.From)
	}
	merged := &merging{query: q, rows: make(map[string]*mergedRow), each: each}
	if cluster(q) == "" {
		err = m.byCluster(ctx, q, gone, merged)
	} else {
		err = m.pieces(ctx, q, gone, merged)
	}
	if err == nil {
		err = m.unmoved(ctx, q, gone)
	}
	if err != nil {
		return err
	}
	return merged.flush()
}

// ErrMoved is a question whose rows went into the archive while it was answered.
var ErrMoved = errors.New("rows were moved into the archive meanwhile: ask again")

// fromStore asks the store alone, of which nothing that is asked for is gone.
func (m *Minutes) fromStore(ctx context.Context, q influxsync.Query, each func(influxsync.Point) error) error {
	if err := m.live.Query(ctx, q, each); err != nil {
		return err
	}
	return m.unmoved(ctx, q, nil)
}

// unmoved is ErrMoved where days of the query are gone of which that was not known
// before: the store was asked for their rows, and may have had a part of them.
func (m *Minutes) unmoved(ctx context.Context, q influxsync.Query, known []registry.ArchivedDay) error {
	gone, err := m.gone(ctx, q)
	if err != nil {
		return err
	}
	for _, d := range gone {
		if !slices.ContainsFunc(known, func(o registry.ArchivedDay) bool { return o.Cluster == d.Cluster && o.Day.Equal(d.Day) }) {
			return ErrMoved
		}
	}
	return nil
}

// gone are the days that the query touches and that the store does not have.
func (m *Minutes) gone(ctx context.Context, q influxsync.Query) ([]registry.ArchivedDay, error) {
	if q.Window.From.IsZero() || q.Window.To.IsZero() {
		return nil, nil
	}
	days, err := m.registry.Archived(ctx, cluster(q), schema.Window{From: q.Window.From.UTC().Truncate(dayLength), To: q.Window.To})
	return slices.DeleteFunc(days, func(d registry.ArchivedDay) bool {
		return !d.Gone || !slices.ContainsFunc(minuteTables(d.Cluster), func(t schema.Table) bool { return t.Name == q.From })
	}), err
}

// cluster is the one that a query is about, or "".
func cluster(q influxsync.Query) string {
	for _, c := range q.Where {
		if c.Tag == schema.Cluster && !c.Prefix {
			return c.Value
		}
	}
	return ""
}

// byCluster asks for each cluster apart, for each has other days in the archive.
func (m *Minutes) byCluster(ctx context.Context, q influxsync.Query, gone []registry.ArchivedDay, into *merging) error {
	clusters, err := m.registry.Known(ctx)
	if err != nil {
		return err
	}
	clusters = append(clusters, schema.BoxCluster)
	for _, d := range gone { // one that was cleared may be known no more
		clusters = append(clusters, d.Cluster)
	}
	slices.Sort(clusters)
	for _, name := range slices.Compact(clusters) {
		of := q
		of.Where = append(slices.Clone(q.Where), influxsync.Condition{Tag: schema.Cluster, Value: name})
		own := slices.DeleteFunc(slices.Clone(gone), func(d registry.ArchivedDay) bool { return d.Cluster != name })
		if err := m.pieces(ctx, of, own, into); err != nil {
			return err
		}
	}
	return nil
}

// pieces reads a window of one cluster, each part from where it is.
func (m *Minutes) pieces(ctx context.Context, q influxsync.Query, gone []registry.ArchivedDay, into *merging) error {
	for _, part := range cut(q.Window, gone) {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if part.day == nil {
			of := q
			of.Window = part.Window
			err = m.live.Query(ctx, of, into.add)
		} else {
			err = m.archived(q, part, into)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cut cuts a window at the days, which are in order.
func cut(w schema.Window, gone []registry.ArchivedDay) []piece {
	var parts []piece
	at := w.From
	for i := range gone {
		day := schema.Window{From: schema.Later(gone[i].Day, w.From), To: schema.Earlier(gone[i].Day.Add(dayLength), w.To)}
		if at.Before(day.From) {
			parts = append(parts, piece{Window: schema.Window{From: at, To: day.From}})
		}
		parts, at = append(parts, piece{day, &gone[i]}), day.To
	}
	if at.Before(w.To) {
		parts = append(parts, piece{Window: schema.Window{From: at, To: w.To}})
	}
	return parts
}

// archived reads a part of a day from its file.
func (m *Minutes) archived(q influxsync.Query, part piece, into *merging) error {
	d, err := OpenRevision(m.dir, part.day.Cluster, part.day.Day, part.day.Revision, nil)
	if err != nil {
		return err
	}
	if d.Hash != part.day.Manifest {
		return fmt.Errorf("archive of %s on %s: the manifest is not the one that was recorded: %w", part.day.Cluster, d.Manifest.Day, ErrDamaged)
	}
	return d.RowsIn(q.From, part.Window, func(p influxsync.Point) error {
		for _, c := range q.Where {
			if !c.Keeps(p.Tag(c.Tag)) {
				return nil
			}
		}
		return into.add(project(q, p))
	})
}

// project is what a query selects of a row: fields and tags that are grouped by.
func project(q influxsync.Query, p influxsync.Point) influxsync.Point {
	out := influxsync.Point{Table: p.Table, Time: p.Time}
	for _, tag := range p.Tags {
		if slices.Contains(q.Group, tag.Key) || slices.Contains(q.Group, "*") {
			out.Tags = append(out.Tags, tag)
		}
	}
	for _, field := range p.Fields {
		if len(q.Select) == 0 || slices.Contains(q.Select, field.Name) {
			out.Fields = append(out.Fields, field)
		}
	}
	return out
}

// merging puts rows of several places into the answer of one query.
type merging struct {
	query influxsync.Query
	rows  map[string]*mergedRow // by tags and time
	each  func(influxsync.Point) error
}

type mergedRow struct {
	key    string
	point  influxsync.Point // without fields
	fields map[string]influxsync.Value
	values map[influxsync.Value]bool // of a distinct
}

// bucket is the time of the answer's row that a row goes into.
func (m *merging) bucket(at time.Time) time.Time {
	if m.query.Every <= 0 {
		return m.query.Window.From
	}
	every, ns := int64(m.query.Every), at.UnixNano()
	rest := ns % every
	if rest < 0 {
		rest += every
	}
	return time.Unix(0, ns-rest).UTC()
}

// add counts a row, or passes it on where the query is for rows.
func (m *merging) add(p influxsync.Point) error {
	if m.query.Aggregate == "" {
		return m.each(p)
	}
	p.Time = m.bucket(p.Time)
	var key strings.Builder
	for _, tag := range p.Tags {
		key.WriteString(tag.Key + "\x00" + tag.Value + "\x00")
	}
	name := key.String() + p.Time.Format("20060102150405.000000000")
	row := m.rows[name]
	if row == nil {
		row = &mergedRow{key: key.String(), point: influxsync.Point{Table: p.Table, Tags: p.Tags, Time: p.Time},
			fields: make(map[string]influxsync.Value), values: make(map[influxsync.Value]bool)}
		m.rows[name] = row
	}
	for _, field := range p.Fields {
		if m.query.Aggregate == "distinct" {
			row.values[field.Value] = true
			row.fields[field.Name] = field.Value
			continue
		}
		if field.Value.Type != schema.Integer {
			return fmt.Errorf("sum of %s: only integers are added up", field.Name)
		}
		sum, err := usage.Add(row.fields[field.Name].Int(), field.Value.Int())
		if err != nil {
			return fmt.Errorf("sum of %s: %w", field.Name, err)
		}
		row.fields[field.Name] = influxsync.Int(sum)
	}
	return nil
}

// flush gives the answer's rows, by tags and time.
func (m *merging) flush() error {
	rows := make([]*mergedRow, 0, len(m.rows))
	for _, row := range m.rows {
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b *mergedRow) int {
		return cmp.Or(strings.Compare(a.key, b.key), a.point.Time.Compare(b.point.Time))
	})
	for _, row := range rows {
		p := row.point
		for name, value := range row.fields {
			p.Fields = append(p.Fields, influxsync.FieldValue{Name: name, Value: value})
		}
		p.Sort()
		if m.query.Aggregate != "distinct" {
			if err := m.each(p); err != nil {
				return err
			}
			continue
		}
		values := make([]influxsync.Value, 0, len(row.values))
		for value := range row.values {
			values = append(values, value)
		}
		slices.SortFunc(values, func(a, b influxsync.Value) int {
			return cmp.Or(strings.Compare(a.Str(), b.Str()), cmp.Compare(a.Int(), b.Int()))
		})
		for _, value := range values {
			p.Fields = []influxsync.FieldValue{{Name: m.query.Select[0], Value: value}}
			if err := m.each(p); err != nil {
				return err
			}
		}
	}
	return nil
}
