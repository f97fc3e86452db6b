package api

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/leader/helm"
	"github.com/accumulus-metering/accumulus/leader/installer"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

func (l *leader) Installation(_ context.Context, cluster string) (registry.Installation, error) {
	if cluster == "nowhere" || cluster == "old" {
		return registry.Installation{}, registry.ErrNotFound
	}
	return registry.Installation{Cluster: cluster, State: registry.InstallFailed, Step: "access", Class: "wrong-ca", Hint: "what to do"}, nil
}

func (l *leader) Upgrade(_ context.Context, cluster string, asked installer.Change) (registry.Installation, error) {
	switch {
	case cluster == "nowhere", cluster == "old":
		return registry.Installation{}, registry.ErrNotFound
	case cluster == "gitops":
		return registry.Installation{}, installer.ErrNotManaged
	case asked.Version == "9.0.0":
		return registry.Installation{}, installer.ErrVersion
	case asked.Values["bad"] != nil:
		return registry.Installation{}, fmt.Errorf("%w: bad", helm.ErrValues)
	}
	return registry.Installation{Cluster: cluster}, l.did("upgrade %s %q adopt %t %v", cluster, asked.Version, asked.Adopt, asked.Values)
}

func (l *leader) Upgrades(context.Context) ([]registry.Upgrade, error) { return nil, nil }

func (l *leader) StartUpgrade(_ context.Context, plan registry.UpgradePlan, by string) (registry.Upgrade, error) {
	if plan.Canaries < 0 {
		return registry.Upgrade{}, installer.ErrPlan
	}
	if plan.WaveSize == 99 {
		return registry.Upgrade{}, installer.ErrRunning
	}
	return registry.Upgrade{ID: 1}, l.did("upgrade all %+v by %s", plan, by)
}

func (l *leader) StopUpgrade(_ context.Context, id int64, by string) (registry.Upgrade, error) {
	return registry.Upgrade{ID: id}, l.did("stop %d by %s", id, by)
}

func (l *leader) ResumeUpgrade(_ context.Context, id int64) (registry.Upgrade, error) {
	if id == 7 {
		return registry.Upgrade{}, fmt.Errorf("upgrade 7: %w", registry.ErrNotFound)
	}
	return registry.Upgrade{ID: id}, l.did("resume %d", id)
}

// TestInstallationRoutes: what is asked reaches the installer, and what it
// refuses has a status and says what to do.
func TestInstallationRoutes(t *testing.T) {
	s, l := newServer(t, false)
	for _, test := range []struct {
		method, path, body string
		status             int
		want               string // what was changed
		says               string
	}{
		{"GET", "/api/v1/clusters/a/installation", "", 200, "", `"class": "wrong-ca"`},
		{"GET", "/api/v1/clusters/nowhere/installation", "", 404, "", "accumulus cluster list"},
		{"GET", "/api/v1/clusters/old/installation", "", 404, "", "reached by its url"},
		{"POST", "/api/v1/clusters/old/upgrade", "", 404, "", "reached by its url"},
		{"POST", "/api/v1/clusters/a/upgrade", "", 202, `upgrade a "" adopt false map[]`, ""},
		{"POST", "/api/v1/clusters/a/upgrade?adopt=true&version=1.0.0", "", 202, `upgrade a "1.0.0" adopt true map[]`, ""},
		{"POST", "/api/v1/clusters/a/upgrade", `{"adopt":true,"values":{"logLevel":"debug"}}`, 202, `upgrade a "" adopt true map[logLevel:debug]`, ""},
		{"POST", "/api/v1/clusters/a/upgrade?adopt=true", `{"adopt":true}`, 400, "", "not in both"},
		{"POST", "/api/v1/clusters/a/upgrade?adopt=yes", "", 400, "", ""},
		{"POST", "/api/v1/clusters/a/upgrade", `{"unknown":true}`, 422, "", ""},
		{"POST", "/api/v1/clusters/a/upgrade", `{"values":{"bad":1}}`, 422, "", "values.yaml"},
		{"POST", "/api/v1/clusters/a/upgrade?version=9.0.0", "", 422, "", "Leave the version out"},
		{"POST", "/api/v1/clusters/gitops/upgrade", "", 409, "", "gitops"},
		{"POST", "/api/v1/clusters/nowhere/upgrade", "", 404, "", "accumulus cluster list"},
		{"GET", "/api/v1/upgrades", "", 200, "", `"upgrades": []`},
		{"POST", "/api/v1/upgrades", `{"canary":["a"],"soak":"1h","waveSize":5}`, 202, "upgrade all {Version: Canary:[a] Canaries:0 WaveSize:5 Soak:3600000000000 MaxFailures:0} by operator", ""},
		{"POST", "/api/v1/upgrades", `{"canaries":-1}`, 422, "", "waveSize"},
		{"POST", "/api/v1/upgrades", `{"waveSize":99}`, 409, "", "/stop"},
		{"POST", "/api/v1/upgrades", `{"soak":"often"}`, 422, "", ""},
		{"POST", "/api/v1/upgrades/3/stop", "", 202, "stop 3 by operator", ""},
		{"POST", "/api/v1/upgrades/3/resume", "", 202, "resume 3", ""},
		{"POST", "/api/v1/upgrades/7/resume", "", 404, "", ""},
		{"POST", "/api/v1/upgrades/x/stop", "", 400, "", "GET /api/v1/upgrades"},
	} {
		answer := call(s, test.method, test.path, operatorToken, test.body)
		body, changed := text(t, answer), strings.Join(l.changed(), ";")
		if answer.StatusCode != test.status || changed != test.want || !strings.Contains(body, test.says) {
			t.Errorf("%s %s %s: %d, changed %q: %s", test.method, test.path, test.body, answer.StatusCode, changed, body)
		}
	}
}
