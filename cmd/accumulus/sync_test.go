package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const quarantineJSON = `{"counts":[{"cluster":"edge-a","table":"pod","kind":"foreign","rows":1,"discarded":0},{"cluster":"edge-a","table":"pod","kind":"refused","class":"type-conflict","rows":2,"discarded":1}],"rows":[
{"id":9,"cluster":"edge-a","table":"pod","kind":"refused","reason":"partial write: field type conflict: input field \"cpu\" on measurement \"pod\" is type integer, already exists as type float dropped=1","from":"2026-11-23T10:00:00Z","to":"2026-11-23T10:01:00Z","class":"type-conflict","line":"pod,cluster=edge-a cpu=5i 1","first":"2026-11-23T10:02:00Z","last":"2026-11-23T10:02:00Z","seen":1},
{"id":8,"cluster":"edge-a","table":"pod","kind":"refused","reason":"partial write: field type conflict dropped=1","from":"2026-11-23T10:00:00Z","to":"2026-11-23T10:01:00Z","class":"type-conflict","line":"pod,cluster=edge-a cpu=6i 1","first":"2026-11-23T10:02:00Z","last":"2026-11-23T10:02:00Z","seen":1,"discarded":"2026-11-23T10:05:00Z","discardedBy":"operator","discardedFor":"a test's row"},
{"id":2,"cluster":"edge-a","table":"pod","kind":"foreign","reason":"the row names another cluster","point":{"tags":{"cluster":"z"}},"first":"2026-11-23T10:02:00Z","last":"2026-11-23T10:04:00Z","seen":7}]}`

const auditJSON = `{"cluster":"edge-a","from":"2026-11-22T11:00:00Z","to":"2026-11-23T11:00:00Z","at":"2026-11-23T11:00:10Z","tables":[
{"table":"node","windows":1440,"rows":4320,"ok":1440,"findings":[{"kind":"rows-missing","from":"2026-11-23T10:00:00Z","to":"2026-11-23T10:02:00Z","windows":2,"expected":6,"found":4,"message":"the centre has 2 rows, the ledger 3","repaired":true}]},
{"table":"pod","windows":1440,"rows":14400,"ok":1439,"findings":[{"kind":"rows-missing","from":"2026-11-23T10:00:00Z","to":"2026-11-23T10:01:00Z","windows":1,"expected":10,"found":9,"message":"the centre has 9 rows, the ledger 10"},
{"kind":"not-at-source","from":"2026-11-22T11:00:00Z","to":"2026-11-22T12:00:00Z","windows":60,"expected":600,"found":600,"message":"it came from store s1","information":true}],"repair":["[2026-11-23T10:00:00Z, 2026-11-23T10:01:00Z): not repaired: source gave 0 rows"]},
{"table":"run","windows":0,"rows":0,"ok":0,"findings":[],"source":"connection refused"}]}`

// TestAuditSaysWhetherAllAgrees: by its exit code too.
func TestAuditSaysWhetherAllAgrees(t *testing.T) {
	l := &leader{}
	got, code := l.run(t, "", "sync", "audit", "--cluster", "edge-a", "--window", "yesterday", "--table", "pod", "--repair")
	if code != 1 || !strings.HasSuffix(l.asked[0], "POST /api/v1/clusters/edge-a/audit?repair=true&table=pod&window=yesterday ") {
		t.Errorf("exit code %d, asked %v", code, l.asked)
	}
	golden(t, "audit", got)
	if out, code := l.run(t, "", "sync", "audit", "--cluster", "edge-a", "-o", "json"); code != 1 || !strings.Contains(out, `"kind": "rows-missing"`) {
		t.Errorf("as JSON: %d %s", code, out)
	}
	if out, code := l.run(t, "", "sync", "audit"); code != 1 || !strings.Contains(out, "cluster") {
		t.Errorf("without a cluster: %d %s", code, out)
	}
}

// TestQuarantineChangesAskForWhatWasSaid: nothing is sent that does not say
// which rows, and giving up asks first.
func TestQuarantineChangesAskForWhatWasSaid(t *testing.T) {
	discard := `POST /api/v1/quarantine/discard {"cluster":"edge-a","class":"retention","reason":"too old"} `
	for name, c := range map[string]struct {
		input string
		args  string
		asked []string
		code  int
		says  string
	}{
		"replay ids":        {"", "sync replay --id 1,2 --id 3", []string{`POST /api/v1/quarantine/replay {"ids":[1,2,3]} `}, 1, "2 rows were taken"},
		"replay all":        {"", "sync replay --all", []string{`POST /api/v1/quarantine/replay {"all":true} `}, 1, "Error: the store refused rows again; they stay in the quarantine: 1 row"},
		"replay as JSON":    {"", "sync replay --all -o json", []string{`POST /api/v1/quarantine/replay {"all":true} `}, 1, `"accepted": 2`},
		"replay, no value":  {"", "sync replay --cluster= --table pod", nil, 1, "--cluster has no value"},
		"replay nothing":    {"", "sync replay", nil, 1, "--all"},
		"discard":           {"", "sync discard --cluster edge-a --class retention --reason too\u00a0old --yes", []string{strings.Replace(discard, "too old", "too\u00a0old", 1)}, 0, "3 rows"},
		"discard, asked":    {"y\n", "sync discard --cluster edge-a --class retention --reason x", []string{strings.Replace(discard, "too old", "x", 1)}, 0, "cluster edge-a, class retention?"},
		"discard, no":       {"n\n", "sync discard --cluster edge-a --reason x", nil, 1, "nothing was changed"},
		"discard, nobody":   {"", "sync discard --cluster edge-a --reason x", nil, 1, "--yes"},
		"discard, no why":   {"", "sync discard --cluster edge-a --yes", nil, 1, "--reason"},
		"discard nothing":   {"", "sync discard --reason x --yes", nil, 1, "--all"},
		"list, what it was": {"", "sync quarantine --cluster edge-a --kind refused --limit 7", []string{"GET /api/v1/quarantine?cluster=edge-a&kind=refused&limit=7 "}, 0, "edge-a"},
		"list, wrong limit": {"", "sync quarantine --limit 0", nil, 1, "above 0"},
	} {
		t.Run(name, func(t *testing.T) {
			l := &leader{}
			out, code := l.run(t, c.input, strings.Split(c.args, " ")...)
			if code != c.code || !strings.Contains(out, c.says) {
				t.Errorf("exit code %d, want %d with %q: %s", code, c.code, c.says, out)
			}
			if diff := cmp.Diff(c.asked, l.asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}
