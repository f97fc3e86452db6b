package main

import (
	"strings"
	"testing"
)

const upgradesJSON = `{"upgrades":[{"id":7,"version":"1.1.0","state":"stopped","message":"1 of 3 clusters failed, and it stops after 1","wave":1,
	"created":"2026-11-23T12:00:00Z","clusters":[{"cluster":"a","state":"done"},{"cluster":"b","wave":1,"state":"failed"},{"cluster":"c","wave":2,"state":"waiting"}]}]}`

// TestUpgrades: what is asked of the leader, and what is said of it.
func TestUpgrades(t *testing.T) {
	for args, want := range map[string]struct {
		asked, says string
		code        int
	}{
		"cluster upgrades start --canary a --canary b --soak 1h --wave-size 5": {`POST /api/v1/upgrades {"version":"","canary":["a","b"],"waveSize":5,"soak":"1h0m0s","maxFailures":1}`, "upgrade 7 of 1 clusters to 1.1.0 has begun", 0},
		"cluster upgrades start --canaries 2 --max-failures 3":                 {`POST /api/v1/upgrades {"version":"","canaries":2,"maxFailures":3}`, "has begun", 0},
		"cluster upgrades stop 7":                                              {"POST /api/v1/upgrades/7/stop", "is stopped", 0},
		"cluster upgrades resume 7":                                            {"POST /api/v1/upgrades/7/resume", "goes on", 0},
		"cluster upgrades stop seven":                                          {"", "give the number", 1},
		"cluster remove a --yes --force":                                       {"DELETE /api/v1/clusters/a?force=true", "was removed", 0},
	} {
		l := &leader{}
		got, code := l.run(t, "", strings.Fields(args)...)
		if asked := strings.Join(l.asked, ";"); strings.TrimSpace(asked) != want.asked || !strings.Contains(got, want.says) || (code != 0) != (want.code != 0) {
			t.Errorf("%s: asked %q, code %d: %s", args, asked, code, got)
		}
	}
}
