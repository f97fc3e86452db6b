package follower

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
	"github.com/influxdata/influxql"
)

func TestReadOnly(t *testing.T) {
	for _, tc := range []struct {
		db, text string
		want     bool
	}{
		{"minute", "SELECT * FROM pod", true},
		{"minute", `SELECT sum("a") FROM "pod" WHERE time > 0 GROUP BY *; SHOW MEASUREMENTS`, true},
		{"facts", "SELECT a FROM (SELECT sum(a) AS a FROM run GROUP BY uid)", true},
		{"results", `SELECT a FROM "results"."autogen"."energy"`, true},
		{"minute", "SELECT a FROM /.*/", true},
		{"minute", "SHOW TAG VALUES ON minute FROM pod WITH KEY = namespace", true},
		{"minute", "SHOW FIELD KEYS", true},
		{"minute", "SHOW TAG KEYS", true},
		{"minute", "SHOW SERIES", true},
		{"", "SHOW DATABASES", true},

		{"raw", "SELECT * FROM raw", false},
		{"_internal", "SELECT * FROM x", false},
		{"", "SELECT * FROM minute.autogen.pod", false},
		{"minute", "SELECT * INTO other FROM pod", false},
		{"minute", "SELECT * FROM raw.autogen.raw", false},
		{"minute", "SELECT * FROM raw..raw", false},
		{"minute", "SELECT * FROM pod, raw..raw", false},
		{"minute", "SELECT a FROM (SELECT a FROM raw..raw)", false},
		{"minute", "SELECT a FROM (SELECT a FROM (SELECT a FROM pod, raw../.*/))", false},
		{"minute", "SELECT * FROM pod; DROP DATABASE minute", false},
		{"minute", "SHOW MEASUREMENTS ON raw", false},
		{"minute", "SHOW TAG KEYS FROM raw..raw", false},
		{"minute", "SHOW TAG VALUES ON raw WITH KEY = node", false},
		{"minute", "SHOW FIELD KEYS ON raw", false},
		{"minute", "SHOW SERIES ON raw", false},
		{"minute", "SHOW USERS", false},
		{"minute", "SHOW QUERIES", false},
		{"minute", "SHOW STATS", false},
		{"minute", "DELETE FROM pod", false},
		{"minute", "DROP SERIES FROM pod", false},
		{"minute", "CREATE DATABASE x", false},
		{"minute", "KILL QUERY 1", false},
		{"minute", "GRANT ALL TO x", false},
		{"minute", "EXPLAIN ANALYZE SELECT * FROM raw..raw", false},
		{"minute", "ALTER RETENTION POLICY autogen ON minute DURATION 1h", false},
		{"minute", "", false},
		{"minute", "SELECT", false},
		{"minute", strings.Repeat("SELECT a FROM (", 10) + "SELECT a FROM pod" + strings.Repeat(")", 10), true},
		{"minute", strings.Repeat("SELECT a FROM (", 11) + "SELECT a FROM pod" + strings.Repeat(")", 11), false},
		{"minute", "SELECT * /* FROM raw.. */ FROM pod", true},
		{"minute", "SELECT * FROM pod -- ; DROP DATABASE minute", true},
		{"minute", "SELECT * FROM \"raw\"", true}, // a table of that name
		{"minute", "SELECT * FROM \"raw\"..\"raw\"", false},
		{"minute", "SELECT * FROM \"minute\".\"\".\"pod\"", true},
		{"minute", "SELECT * FROM minute.other.pod", true},
		{"minute", "SELECT * FROM raw..pod, minute..pod", false},
		{"minute", "SELECT * FROM raw.autogen./.*/", false},
		{"minute", "SELECT a INTO raw..x FROM (SELECT a FROM pod)", false},
		{"minute", "SELECT a FROM (SELECT a INTO x FROM pod)", false},
		{"minute", "SHOW MEASUREMENTS ON minute WITH MEASUREMENT =~ /.*/", true},
		{"minute", "SHOW TAG VALUES FROM minute..pod, raw..raw WITH KEY = node", false},
		{"minute", "SHOW SERIES FROM raw..raw", false},
		{"minute", "SHOW FIELD KEYS FROM raw..raw", false},
		{"minute", "SHOW SERIES CARDINALITY", false},
		{"minute", "SHOW TAG VALUES EXACT CARDINALITY WITH KEY = node", false},
		{"minute", "SHOW RETENTION POLICIES", true},
		{"minute", "SHOW RETENTION POLICIES ON minute", true},
		{"minute", "SHOW RETENTION POLICIES ON raw", false},
		{"minute", "SHOW CONTINUOUS QUERIES", false},
		{"minute", "SHOW SHARDS", false},
		{"minute", "SHOW DIAGNOSTICS", false},
		{"minute", "SHOW SUBSCRIPTIONS", false},
		{"minute", "SHOW GRANTS FOR x", false},
		{"minute", "EXPLAIN SELECT * FROM pod", false},
		{"minute", "CREATE CONTINUOUS QUERY x ON minute BEGIN SELECT sum(a) INTO y FROM pod GROUP BY time(1m) END", false},
		{"minute", "SELECT sum(a) FROM pod GROUP BY time(1s)", true},
		{"minute", "SELECT sum(a) FROM pod GROUP BY time(1ns)", false},
		{"minute", "SELECT b FROM (SELECT sum(a) AS b FROM pod GROUP BY time(999ms))", false},
		{"minute", "SELECT " + strings.Repeat("a, ", 900) + "a FROM pod", true},
		{"minute", "SELECT " + strings.Repeat("a, ", 1000) + "a FROM pod", false},
		{"minute", "SELECT * FROM " + strings.Repeat("pod, ", 1000) + "pod", false},
		{"minute", "SELECT a FROM pod WHERE " + strings.Repeat("a = 1 OR ", 90) + "a = 1", true},
		{"minute", "SELECT a FROM pod WHERE " + strings.Repeat("a = 1 OR ", 900) + "a = 1", false},
		{"minute", "SELECT " + strings.Repeat("abs(", 500) + "max(a)" + strings.Repeat(")", 500) + " FROM pod", false},
		{"minute", strings.Repeat("SELECT a FROM pod;", 501), false},
		{"minute ", "SELECT a FROM pod", false},
		{"MINUTE", "SELECT a FROM pod", false},
		{"minute", "SELECT a FROM pod WHERE b = '" + strings.Repeat("x", maxStatement) + "'", false},
	} {
		if err := readOnly(tc.db, tc.text); (err == nil) != tc.want {
			t.Errorf("db %q: %s: %v, want allowed: %t", tc.db, tc.text, err, tc.want)
		}
	}
}

// FuzzReadOnly: what is allowed names no other database and changes nothing, as
// it is and as the parser would write it for another server.
func FuzzReadOnly(f *testing.F) {
	f.Add("SELECT a FROM (SELECT a FROM raw..raw)")
	f.Add("SELECT * INTO x FROM pod")
	f.Add(`SHOW TAG VALUES ON "minute" FROM "minute"."autogen"./p.*/ WITH KEY IN (a, "b") WHERE c = 'd' LIMIT 1`)
	f.Add("SELECT mean(a) FROM pod WHERE b =~ /x|y/ AND time > now() - 1h GROUP BY time(1m), * fill(previous) tz('Europe/Amsterdam')")
	f.Add("SHOW MEASUREMENTS WITH MEASUREMENT =~ /.*/; SELECT 1 FROM /* ; */ pod -- x")
	f.Fuzz(func(t *testing.T, text string) {
		if readOnly("minute", text) != nil {
			return
		}
		parsed, err := influxql.ParseQuery(text)
		if err != nil {
			t.Fatalf("allowed, but it does not parse: %s: %v", text, err)
		}
		for _, statement := range parsed.Statements {
			if written := statement.String(); !strings.HasPrefix(written, "SELECT ") && !strings.HasPrefix(written, "SHOW ") {
				t.Errorf("allowed: %s", written)
			}
			influxql.WalkFunc(statement, func(node influxql.Node) {
				if m, ok := node.(*influxql.Measurement); ok && m.Database != "" && m.Database != "minute" {
					t.Errorf("allowed: %s reads %s", text, m.Database)
				}
				if target, ok := node.(*influxql.Target); ok && target != nil {
					t.Errorf("allowed: %s writes", text)
				}
			})
		}
		upper := strings.ToUpper(strings.TrimLeft(text, " \t\r\n;-/*"))
		for _, verb := range []string{"DROP", "DELETE", "CREATE", "ALTER", "GRANT", "REVOKE", "KILL", "SET"} {
			if strings.HasPrefix(upper, verb) && !strings.Contains(text, "--") && !strings.Contains(text, "/*") {
				t.Errorf("allowed: %s", text)
			}
		}
	})
}

func TestRolesOverHTTP(t *testing.T) {
	clk := clock.NewManual(epoch.Add(time.Hour))
	r := start(t, t.TempDir(), clk, nil)
	r.tickTo(clk.Now().Add(3 * time.Minute))
	row := "energy,cluster=edge energy_active_millijoules=5i 1793534400000000000\n"
	query := "/query?db=minute&q=" + url.QueryEscape("SELECT count(*) FROM pod")
	for _, tc := range []struct {
		method, path, body     string
		anonymous, view, leads int
	}{
		{"GET", "/api/v1/status", "", 401, 200, 200},
		{"POST", "/api/v1/status", "", 405, 405, 405},
		{"GET", query, "", 401, 200, 200},
		{"POST", query, "", 401, 200, 200},
		{"GET", "/query?db=raw&q=SELECT+*+FROM+raw", "", 401, 403, 403},
		{"POST", "/query?db=minute&q=DROP+MEASUREMENT+pod", "", 401, 403, 403},
		{"GET", "/query?db=minute&q=SHOW+MEASUREMENTS&q=DROP+MEASUREMENT+pod", "", 401, 400, 400},
		{"GET", "/query?db=minute&db=raw&q=SELECT+*+FROM+raw", "", 401, 400, 400},
		{"POST", "/write?db=results", row, 401, 403, 204},
		{"POST", "/write?db=results&precision=ns", row, 401, 403, 204},
		{"POST", "/write?db=results&precision=s", row, 401, 403, 400},
		{"POST", "/write?db=results&precision=ns&precision=ns", row, 401, 403, 400},
		{"POST", "/write?db=results&precision=&precision=s", row, 401, 403, 400},
		{"POST", "/write?db=results&rp=autogen", row, 401, 403, 400},
		{"POST", "/write?db=results&rp=", row, 401, 403, 204},
		{"POST", "/write?db=results&rp=&rp=odd", row, 401, 403, 400},
		{"POST", "/write?db=results&consistency=any", row, 401, 403, 204},
		{"POST", "/write?db=results&epoch=s", row, 401, 403, 400},
		{"POST", "/write?db=results&%zz", row, 401, 403, 400},
		{"POST", "/write?db=minute", row, 401, 403, 403},
		{"POST", "/write?db=results&db=minute", row, 401, 403, 403},
		{"POST", "/write", row, 401, 403, 403},
		{"GET", "/write?db=results", "", 405, 405, 405},
		{"POST", "/write?db=results", "no line protocol", 401, 403, 400},
		{"GET", "/ping", "", 401, 204, 204},
		{"GET", "/debug/pprof/", "", 404, 404, 404},
		{"GET", "/api/v2/query", "", 404, 404, 404},
	} {
		got := []int{}
		for _, token := range []string{"", r.token("viewer"), r.token("leader")} {
			request, err := http.NewRequest(tc.method, r.server.URL+tc.path, strings.NewReader(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			if token != "" {
				request.Header.Set("Authorization", "Bearer "+token)
			}
			request.Header.Set(schema.FenceHeader, "1")
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			got = append(got, response.StatusCode)
		}
		if diff := cmp.Diff([]int{tc.anonymous, tc.view, tc.leads}, got); diff != "" {
			t.Errorf("%s %s as nobody, viewer, leader (-want +got):\n%s", tc.method, tc.path, diff)
		}
	}
}

// TestLeaderOverThePort uses what a leader uses: the store's client.
func TestLeaderOverThePort(t *testing.T) {
	clk := clock.NewManual(epoch.Add(time.Hour))
	r := start(t, t.TempDir(), clk, nil)
	r.tickTo(clk.Now().Add(2 * time.Minute))
	server := r.client(r.token("leader"))
	if err := server.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	id, err := influxsync.StoreID(t.Context(), server.Database(schema.MinuteDB))
	if err != nil || id != r.Status().Store {
		t.Errorf("store id %q, %v; want %q", id, err, r.Status().Store)
	}
	results := server.Database(schema.ResultsDB)
	want := influxsync.NewPoint("energy", map[string]string{"cluster": "edge", "pod": "a b,c"},
		map[string]influxsync.Value{"energy_active_millijoules": influxsync.Int(1 << 60)}, epoch)
	if err := results.Write(t.Context(), []influxsync.Point{want}); err != nil {
		t.Fatal(err)
	}
	var got []influxsync.Point
	err = results.TimeQuery(t.Context(), "energy", schema.Window{}, nil, func(p influxsync.Point) error {
		p.Table = "energy"
		got = append(got, p)
		return nil
	})
	if err != nil || len(got) != 1 || got[0].Hash() != want.Hash() {
		t.Errorf("results %v, %v; want %v", got, err, want)
	}
	var refused *influxsync.WriteError
	if err := server.Database(schema.MinuteDB).Write(t.Context(), []influxsync.Point{want}); !errors.As(err, &refused) || refused.Status != http.StatusForbidden {
		t.Errorf("writing minutes over the port: %v", err)
	}
	if err := server.Create(t.Context(), "other"); err == nil {
		t.Error("a database was created over the port")
	}
	r.stop()
	if r.Handler() == nil || r.Status().Open {
		t.Error("open after it stopped")
	}
}

func TestTrust(t *testing.T) {
	now := epoch
	for name, tc := range map[string]struct {
		trust   *trust
		settled time.Time
		want    bool
	}{
		"local":                     {trust: &trust{local: true}, want: true},
		"nobody told":               {trust: &trust{}, want: false},
		"told":                      {trust: &trust{known: true, offset: -30 * time.Second}, want: true},
		"off":                       {trust: &trust{known: true, offset: 31 * time.Second}, want: false},
		"local but told to be off":  {trust: &trust{local: true, known: true, offset: -time.Hour}, want: false},
		"before the settled":        {trust: &trust{known: true}, settled: now.Add(time.Minute), want: false},
		"local, before the settled": {trust: &trust{local: true}, settled: now.Add(time.Minute), want: false},
	} {
		if got := tc.trust.check(now, tc.settled) == ""; got != tc.want {
			t.Errorf("%s: trusted %t, want %t", name, got, tc.want)
		}
	}
}
