package allocation

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// monthNodes are how many nodes each cluster's ledger has.
const monthNodes = 5

// ledger is all minutes of the month of the first cluster, received and folded by the
// registry, and its quarters rated; then the other clusters get the same rows.
func (m *month) ledger() {
	ctx := m.b.Context()
	nodes, objects := make([]string, monthNodes), make([]influxsync.Point, monthNodes)
	for i := range nodes {
		nodes[i] = fmt.Sprint("n", i+1)
		objects[i] = influxsync.NewPoint(schema.Object.Name, map[string]string{schema.Cluster: monthCluster(0), schema.Kind: "Node", "name": nodes[i], "uid": nodes[i]},
			map[string]influxsync.Value{"spec": influxsync.Str("{}"), "reason": influxsync.Str("added"), "valid_from": influxsync.Int(m.window.From.Add(-day).UnixNano()), "valid_to": influxsync.Int(0)}, m.window.From)
	}
	m.check(m.books.PutObjects(ctx, objects))
	for _, table := range schema.Pulled {
		if !table.EachMinute() {
			continue
		}
		for at := m.window.From.Add(-day); !at.After(m.window.To); at = at.Add(day) { // it is not the clusters' first day
			var windows []influxsync.Confirmed
			for minute := at; minute.Before(schema.Earlier(at.Add(day), m.window.To.Add(time.Minute))); minute = minute.Add(time.Minute) {
				windows = append(windows, influxsync.Confirmed{Values: nodes, Entry: influxsync.Entry{Cluster: monthCluster(0), Table: table.Name, Revision: 1, Rows: 500, Coverage: 1000,
					Window: schema.WindowAt(minute, schema.Minute), Time: minute.Add(75 * time.Second), Hash: fmt.Sprintf("%x", minute.Unix()), Reason: "settled"}})
			}
			last := windows[len(windows)-1]
			mark := influxsync.Mark{Store: "store-" + monthCluster(0), Time: last.Time, Hash: last.Hash}
			m.check(m.books.Received(ctx, monthCluster(0), table.Name, registry.Receipt{Mark: mark, Windows: windows}, nil))
		}
	}
	for at := m.window.From; at.Before(m.window.To); at = at.Add(schema.Quarter) {
		m.check(m.books.Done(ctx, registry.Due{Processor: registry.ProcessorCost, Scope: monthCluster(0), Quarter: at}, "x", nil))
	}
	for more := true; more; {
		folded, err := m.books.FoldLedger(ctx, m.clk.Now())
		m.check(err)
		more = folded.More
	}
	m.check(m.books.Close())
	m.copyLedger()
	m.open()
}

// copyLedger gives all clusters the ledger of the first.
func (m *month) copyLedger() {
	db, err := sql.Open("sqlite3", m.file)
	m.check(err)
	defer func() { m.check(db.Close()) }()
	for table, column := range map[string]string{"ledger_day": "cluster", "ledger": "cluster", "node_number": "cluster", "kube_object": "cluster", "mark": "cluster", "fingerprint": "scope"} {
		rows, err := db.Query("SELECT name FROM pragma_table_info(?) WHERE name <> ?", table, column)
		m.check(err)
		columns := ""
		for rows.Next() {
			var name string
			m.check(rows.Scan(&name))
			columns += ", " + name
		}
		m.check(rows.Err())
		for c := 1; c < *monthClusters; c++ {
			_, err := db.Exec("INSERT OR IGNORE INTO "+table+" ("+column+columns+") SELECT ?"+columns+" FROM "+table+" WHERE "+column+" = ?", monthCluster(c), monthCluster(0))
			m.check(err)
		}
	}
}

// BenchmarkCompletenessMonth is what arrived of a month of all clusters: as an answer
// of usage tells it, and as allocation and exports ask for it.
func BenchmarkCompletenessMonth(b *testing.B) {
	m := newMonth(b)
	_, real := m.open()
	window := stamp(m.window.From) + "," + stamp(m.window.To)
	b.Run("usage", func(b *testing.B) {
		m.laps(b, func() {}, func() {
			answer, err := real.Usage(b.Context(), query.Request{Window: window, Aggregate: []usage.Key{usage.Cluster}, Completeness: true})
			if m.check(err); len(answer.Incomplete) > 0 {
				m.b.Fatalf("incomplete: %v", answer.Incomplete[0])
			}
		})
	})
	b.Run("clusters", func(b *testing.B) { // as accumulus cluster status asks, for each
		m.laps(b, func() {}, func() {
			for c := range *monthClusters {
				answer, err := real.Completeness(b.Context(), monthCluster(c), window)
				if m.check(err); !answer.Complete || answer.Totals.Expected != 3*monthNodes**monthDays*1440 || answer.Totals.Rated != answer.Totals.Expected {
					m.b.Fatalf("%s: %+v", answer.Cluster, answer.Totals)
				}
			}
		})
	})
	b.Run("sectors", func(b *testing.B) {
		m.laps(b, func() {}, func() {
			sectors, err := real.Sectors(b.Context(), m.window, 0)
			if m.check(err); len(sectors) != 1 || !sectors[0].Complete {
				m.b.Fatalf("%+v", sectors)
			}
		})
	})
}
