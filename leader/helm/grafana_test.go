package helm

import (
	"encoding/json"
	"io/fs"
	"testing"

	"github.com/accumulus-metering/accumulus/dashboards"
	"github.com/accumulus-metering/accumulus/deploy"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// source is what Grafana reads of a data source's file; it ignores what else
// stands there, which the test does not.
type source struct {
	Name           string            `json:"name"`
	UID            string            `json:"uid"`
	Type           string            `json:"type"`
	Access         string            `json:"access"`
	IsDefault      bool              `json:"isDefault"`
	URL            string            `json:"url"`
	User           string            `json:"user"`
	Database       string            `json:"database"` // what Grafana before 9.4 reads
	JSONData       map[string]string `json:"jsonData"`
	SecureJSONData map[string]string `json:"secureJsonData"`
}

type sources struct {
	APIVersion  int      `json:"apiVersion"`
	Datasources []source `json:"datasources"`
}

type providers struct {
	APIVersion int `json:"apiVersion"`
	Providers  []struct {
		Name           string            `json:"name"`
		Folder         string            `json:"folder"`
		Type           string            `json:"type"`
		AllowUIUpdates bool              `json:"allowUiUpdates"`
		Options        map[string]string `json:"options"`
	} `json:"providers"`
}

// grafana: with all of its Grafana options the leader's chart is taken by an API
// server, twice; its ConfigMaps hold the boards as they are in dashboards/, and the
// files that Grafana provisions data source and boards from. Grafana itself is not
// run: its image is in no registry that tests may ask.
func (r *real) grafana(t *testing.T) {
	files, err := fs.Sub(deploy.Charts, "charts/leader")
	if err != nil {
		t.Fatal(err)
	}
	chart, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	values := Values{"persistence": map[string]any{"enabled": false}, "influxdb": map[string]any{"url": "http://influx:8086"}, "grafana": map[string]any{
		"dashboards": map[string]any{"enabled": true}, "datasource": map[string]any{"enabled": true, "user": "reader"},
		"server": map[string]any{"enabled": true, "datasourcePassword": map[string]any{"existingSecret": "reader"}}}}
	c := r.client(t, "grafana", nil)
	for _, change := range []string{Installed, Unchanged} {
		if result, err := c.Ensure(t.Context(), chart, values, Options{}); err != nil || result.Change != change {
			t.Fatalf("%+v, %v, want %s", result, err, change)
		}
	}
	maps, err := r.kube.CoreV1().ConfigMaps("grafana").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found, own, settings := make(map[string]string), make(map[string]string), make(map[string]string)
	for _, m := range maps.Items {
		for key, text := range m.Data {
			switch {
			case m.Labels["grafana_dashboard"] == "1":
				found[key] = text + "\n"
			case m.Name == "accumulus-grafana-grafana-boards":
				own[key] = text + "\n"
			case m.Labels["grafana_datasource"] == "1":
				settings["sidecar "+key] = text
			case m.Name == "accumulus-grafana-grafana":
				settings[key] = text
			}
		}
	}
	names, err := fs.Glob(dashboards.FS, "*.json")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	boards := make(map[string]string)
	for _, name := range names {
		text, err := dashboards.FS.ReadFile(name)
		if err != nil || !json.Valid(text) {
			t.Fatalf("%s: %v", name, err)
		}
		boards[name] = string(text)
	}
	if diff := cmp.Diff(boards, found); diff != "" {
		t.Errorf("boards for a sidecar (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(boards, own); diff != "" {
		t.Errorf("boards of its own Grafana (-want +got):\n%s", diff)
	}
	checkProvisioning(t, settings)
}

// checkProvisioning reads the files strictly.
func checkProvisioning(t *testing.T, settings map[string]string) {
	t.Helper()
	reader := source{Name: "Accumulus", UID: "accumulus", Type: "influxdb", Access: "proxy", URL: "http://influx:8086", User: "reader", Database: "minute",
		JSONData: map[string]string{"dbName": "minute", "httpMode": "POST", "timeInterval": "60s"}}
	for file, with := range map[string]struct {
		password  string
		isDefault bool
	}{"sidecar accumulus.yaml": {"$ACCUMULUS_INFLUXDB_PASSWORD", false}, "datasource.yaml": {"$__file{/secrets/datasource/password}", true}} {
		want := reader
		want.IsDefault, want.SecureJSONData = with.isDefault, map[string]string{"password": with.password}
		var got sources
		if err := yaml.UnmarshalStrict([]byte(settings[file]), &got); err != nil {
			t.Errorf("%s: %v\n%s", file, err, settings[file])
		}
		if diff := cmp.Diff(sources{1, []source{want}}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
	var got providers
	if err := yaml.UnmarshalStrict([]byte(settings["boards.yaml"]), &got); err != nil || got.APIVersion != 1 || len(got.Providers) != 1 || got.Providers[0].Options["path"] != "/boards" {
		t.Errorf("boards.yaml: %+v, %v\n%s", got, err, settings["boards.yaml"])
	}
}
