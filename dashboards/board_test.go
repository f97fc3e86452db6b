package dashboards_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/dashboards"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

var start = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// fullRow is a row of a table with every tag and every field.
func fullRow(table schema.Table, when time.Time) influxsync.Point {
	tags, fields := make(map[string]string), make(map[string]influxsync.Value)
	for _, tag := range table.Tags {
		tags[tag] = tag + "-1"
	}
	if _, ok := tags[schema.PriceKind]; ok {
		tags[schema.PriceKind] = "sale"
	}
	for _, field := range table.Fields {
		fields[field.Name] = influxsync.Int(60_000)
		if field.Type == schema.String {
			fields[field.Name] = influxsync.Str(schema.Measured)
		}
	}
	return influxsync.NewPoint(table.Name, tags, fields, when)
}

// fill makes the tables that boards read, in the product's engine or in one of the
// InfluxDB servers that somebody may have in its place.
func fill(t *testing.T, server *influxsync.Server) {
	t.Helper()
	if err := server.Create(t.Context(), schema.MinuteDB, schema.QuarterDB); err != nil {
		t.Fatal(err)
	}
	for _, table := range []schema.Table{schema.NodeMinute, schema.PodMinute, schema.EnergyMinute, schema.BoxMinute,
		schema.UsageQuarter, schema.EnergyQuarter, schema.NodeQuarter, schema.BoxQuarter, schema.CostQuarter} {
		rows := []influxsync.Point{fullRow(table, start), fullRow(table, start.Add(table.Grain))}
		if err := server.Database(table.DB).Write(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
	}
}

var timeFilter = fmt.Sprintf("time >= %d AND time < %d", start.UnixNano(), start.Add(time.Hour).UnixNano())

// answers counts the rows that a query gives that hold a value.
func answers(t *testing.T, server *influxsync.Server, text string) (int, error) {
	t.Helper()
	rows := 0
	err := server.Database(schema.MinuteDB).Select(t.Context(), text, func(p influxsync.Point) error {
		if len(p.Fields) > 0 {
			rows++
		}
		return nil
	})
	return rows, err
}

func TestEveryQueryFindsRows(t *testing.T) {
	t.Run("embedded", func(t *testing.T) { everyQuery(t, influxtest.New(t)) })
	for _, kind := range influxtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			server, err := influxtest.Start(t, kind, influxtest.Options{}).Server()
			if err != nil {
				t.Fatal(err)
			}
			everyQuery(t, server)
		})
	}
}

func everyQuery(t *testing.T, server *influxsync.Server) {
	t.Helper()
	fill(t, server)
	queries, err := dashboards.Queries()
	if err != nil || len(queries) < 15 {
		t.Fatalf("%d queries, %v", len(queries), err)
	}
	for _, query := range queries {
		text := query.Fill(timeFilter)
		if left := regexp.MustCompile(`\$(\{|\w)`).FindString(text); left != "" {
			t.Errorf("%s: %s is not filled in: %s", query.Panel, left, text)
		}
		if rows, err := answers(t, server, text); err != nil || rows == 0 {
			t.Errorf("%s: %d rows, %v:\n%s", query.Panel, rows, err, text)
		}
	}
	// The control: a query of a field that nobody writes finds nothing.
	if rows, _ := answers(t, server, `SELECT sum("cpu_seconds") FROM "minute".."node" WHERE `+timeFilter); rows != 0 {
		t.Errorf("a field that is not there gives %d rows", rows)
	}
}

// panel is what the rules below look at.
type panel struct {
	ID          int             `json:"id"`
	Type        string          `json:"type"`
	Title       string          `json:"title"`
	Description string          `json:"description"`
	Datasource  json.RawMessage `json:"datasource"`
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct {
		Datasource json.RawMessage `json:"datasource"`
	} `json:"targets"`
	FieldConfig struct {
		Defaults struct {
			Unit       string          `json:"unit"`
			Thresholds json.RawMessage `json:"thresholds"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
}

func TestBoardsKeepTheRules(t *testing.T) {
	files, err := fs.Glob(dashboards.FS, "*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	uids := make(map[string]string)
	for _, name := range files {
		text, err := dashboards.FS.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var b struct {
			UID, Title string
			ID         *int
			Inputs     json.RawMessage `json:"__inputs"`
			Panels     []panel
		}
		if err := json.Unmarshal(text, &b); err != nil {
			t.Fatal(err)
		}
		if b.UID == "" || b.Title == "" || b.ID != nil || b.Inputs != nil || uids[b.UID] != "" {
			t.Errorf("%s: wants a uid of its own and a title, no id and no __inputs", name)
		}
		uids[b.UID] = name
		checkPanels(t, name, b.Panels)
	}
}

func checkPanels(t *testing.T, name string, panels []panel) {
	const source = `{"type":"influxdb","uid":"${datasource}"}`
	compact := func(raw json.RawMessage) string { return strings.Join(strings.Fields(string(raw)), "") }
	ids, cells := make(map[int]bool), make(map[[2]int]string)
	for _, p := range panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("%s: panel %d %q: no id of its own or no title", name, p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if x >= 24 || cells[[2]int{x, y}] != "" {
					t.Fatalf("%s: %q lies over %q or outside", name, p.Title, cells[[2]int{x, y}])
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" || p.Type == "text" {
			continue
		}
		if p.Description == "" || p.FieldConfig.Defaults.Unit == "" || p.FieldConfig.Defaults.Thresholds == nil || compact(p.Datasource) != source {
			t.Errorf("%s: %q: wants a description, a unit, thresholds and the data source's variable", name, p.Title)
		}
		for _, target := range p.Targets {
			if compact(target.Datasource) != source {
				t.Errorf("%s: %q: a target without the data source's variable", name, p.Title)
			}
		}
	}
}
