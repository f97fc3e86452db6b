package api

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestQuarantinePages(t *testing.T) {
	s, _ := newServer(t, false)
	var seen []int64
	page := ""
	for {
		var list QuarantineList
		answer := call(s, "GET", "/api/v1/quarantine?limit=2"+page, viewerToken, "")
		if err := json.Unmarshal([]byte(text(t, answer)), &list); err != nil {
			t.Fatal(err)
		}
		if len(list.Counts) != 1 {
			t.Errorf("counts %+v", list.Counts)
		}
		for _, row := range list.Rows {
			seen = append(seen, row.ID)
		}
		if list.Next == "" {
			break
		}
		page = "&page=" + list.Next
	}
	if diff := cmp.Diff([]int64{3, 2, 1}, seen); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"kind=odd", "limit=0", "limit=x", "page=-1", "namespace=x", "kind=foreign&kind=refused", "table=pods", "class=odd", "cluster=nowhere"} {
		want := 400
		if bad == "cluster=nowhere" {
			want = 404
		}
		if answer := call(s, "GET", "/api/v1/quarantine?"+bad, viewerToken, ""); answer.StatusCode != want {
			t.Errorf("%s: %d", bad, answer.StatusCode)
		}
	}
}

// TestWhatAChangeOfTheQuarantineMeans: it is said in the body or in the
// parameters, and never by leaving everything out.
func TestWhatAChangeOfTheQuarantineMeans(t *testing.T) {
	s, l := newServer(t, false)
	const replay, discard = "/api/v1/quarantine/replay", "/api/v1/quarantine/discard"
	for _, c := range []struct {
		path, body string
		status     int
		want       string // in what was changed, or in the answer
	}{
		{replay, `{"cluster":"edge-a","ids":[1,2]}`, 200, "Cluster:edge-a Table: Kind: Class: IDs:[1 2]"},
		{replay + "?cluster=edge-a&class=type-conflict&ids=1,%202", "", 200, "Class:type-conflict IDs:[1 2]"},
		{replay + "?all=true", "", 200, "All:true"},
		{discard, `{"table":"pod","reason":"a test's"}`, 200, "Table:pod Kind: Class: IDs:[] All:false}: a test's by operator"},
		{discard + "?all=true&reason=why", "", 200, "All:true}: why"},
		{replay, "", 422, "all=true"},
		{replay, "{}", 422, "say which rows"},
		{replay + "?all=false", "", 422, "say which rows"},
		{replay + "?all=yes", "", 400, "true or false"},
		{replay + "?cluster=a", `{"all":true}`, 400, "not in both"},
		{replay + "?ids=1,x", "", 400, "numbers"},
		{replay, `{"cluster":"edge-a","namespace":"x"}`, 422, "unknown field"},
		{replay, `{"kind":"odd"}`, 400, "foreign or refused"},
		{replay + "?reason=x&all=true", "", 400, "reason"},
		{discard, `{"all":true}`, 422, "Say why"},
		{discard, `{"reason":"x"}`, 422, "say which rows"},
		{replay, `{"ids":[503]}`, 503, "2 rows were taken"},
		{replay, `{"ids":[403]}`, 409, "token"},
		{replay, `{"ids":[422]}`, 422, "discard it"},
		{replay, `{"ids":[404]}`, 404, "row 9"},
		{replay, `{"cluster":"nowhere"}`, 404, "accumulus cluster list"},
		{replay, `{"cluster":"old"}`, 200, "Cluster:old"}, // removed: its rows may be here
		{replay + "?cluster=nowhere", "", 404, "nowhere"},
		{replay, `{"table":"pods"}`, 400, "node, pod, container, volume, object, run"},
		{replay, `{"class":"retentoin"}`, 400, "type-conflict, retention, malformed, series-limit, too-large"},
		{replay, `{"class":"busy"}`, 400, "use one of"},
		{replay, `{"cluster":"edge-a","ids":[]}`, 400, "name at least one"},
		{replay + "?cluster=edge-a&ids=", "", 400, "name at least one"},
		{replay + "?cluster=&table=pod", "", 400, "leave it out"},
		{discard, `{"cluster":"edge-a","ids":[],"reason":"x"}`, 400, "name at least one"},
		{discard, `{"cluster":"nowhere","reason":"x"}`, 404, "nowhere"},
		{discard, `{"table":"pods","reason":"x"}`, 400, "use one of"},
		{discard, `{"ids":[2,9,7,9],"reason":"x"}`, 404, "no rows [7 9]"},
		{discard, `{"ids":[2,3],"reason":"x"}`, 200, "IDs:[2 3]"},
	} {
		answer := call(s, "POST", c.path, operatorToken, c.body)
		told := text(t, answer)
		changes := strings.Join(l.changed(), "; ")
		if answer.StatusCode != c.status || (c.status == 200) != (changes != "") {
			t.Errorf("%s %s: %d, changed %q; want %d\n%s", c.path, c.body, answer.StatusCode, changes, c.status, told)
		}
		if !strings.Contains(changes+told, c.want) {
			t.Errorf("%s %s: %q, %s; want %q", c.path, c.body, changes, told, c.want)
		}
	}
}

func TestAuditAsksForWhatWasSaid(t *testing.T) {
	s, l := newServer(t, false)
	const path = "/api/v1/clusters/edge-a/audit"
	for _, c := range []struct {
		path, body string
		status     int
		want       string
	}{
		{path, "", 200, `audit edge-a [2026-11-22T12:00:00Z, 2026-11-23T12:00:00Z) "" repair false`},
		{path + "?window=yesterday&table=pod&repair=true", "", 200, `audit edge-a [2026-11-22T00:00:00Z, 2026-11-23T00:00:00Z) "pod" repair true`},
		{path + "?repair=maybe", "", 400, "true or false"},
		{path + "?window=soon", "", 400, "use 1h"},
		{path + "?table=nowhere", "", 400, "pod"},
		{"/api/v1/clusters/nowhere/audit", "", 404, "nowhere"},
		{path, `{"window":"1h"}`, 400, "reads no body"},
		{path + "?window=1h", " ", 400, "reads no body"},
	} {
		answer := call(s, "POST", c.path, operatorToken, c.body)
		told := strings.Join(l.changed(), "; ") + text(t, answer)
		if answer.StatusCode != c.status || !strings.Contains(told, c.want) {
			t.Errorf("%s: %d %s; want %d %q", c.path, answer.StatusCode, told, c.status, c.want)
		}
	}
}
