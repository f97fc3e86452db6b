package deploy_test

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/deploy"
	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files anew")

// release is a chart with values, as somebody installs it.
type release struct {
	name, chart, values string
}

// releases are the rendered ones: each value of the charts is set in one of them.
func releases(t *testing.T) []release {
	t.Helper()
	files, err := filepath.Glob("testdata/*.values.yaml")
	if err != nil || len(files) < 6 {
		t.Fatal(files, err)
	}
	var all []release
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".values.yaml")
		all = append(all, release{name, strings.SplitN(name, "-", 2)[0], string(text)})
	}
	return all
}

// load reads a chart as the installer does: from the embedded files.
func load(t *testing.T, name string) *chart.Chart {
	t.Helper()
	root := "charts/" + name
	var files []*loader.BufferedFile
	err := fs.WalkDir(deploy.Charts, root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := deploy.Charts.ReadFile(path)
		files = append(files, &loader.BufferedFile{Name: strings.TrimPrefix(path, root+"/"), Data: text})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := loader.LoadFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

func parse(t *testing.T, values string) map[string]any {
	t.Helper()
	parsed := map[string]any{}
	if err := yaml.Unmarshal([]byte(values), &parsed); err != nil {
		t.Fatal(err)
	}
	return parsed
}

// render is what helm template does: schema, templates, no server.
func render(t *testing.T, r release) (map[string]string, error) {
	t.Helper()
	loaded := load(t, r.chart)
	options := chartutil.ReleaseOptions{Name: loaded.Name(), Namespace: "accumulus", Revision: 1, IsInstall: true}
	values, err := chartutil.ToRenderValues(loaded, parse(t, r.values), options, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.Render(loaded, values)
}

// manifest is all files of a release in order.
func manifest(t *testing.T, r release) string {
	t.Helper()
	files, err := render(t, r)
	if err != nil {
		t.Fatalf("%s: %v", r.name, err)
	}
	var text bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if body := strings.TrimSpace(files[name]); body != "" && filepath.Base(name) != "_helpers.tpl" {
			_, _ = fmt.Fprintf(&text, "# %s\n%s\n", name, body)
		}
	}
	return random.ReplaceAllString(text.String(), "$1: RANDOM")
}

// random are tokens that a chart made.
var random = regexp.MustCompile(`(?m)^(  [a-z-]+): [A-Za-z0-9+/]{56,}={0,2}$`)

func TestChartsRenderAsBefore(t *testing.T) {
	for _, r := range releases(t) {
		got := manifest(t, r)
		file := filepath.Join("testdata", r.name+".golden")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s: if that is meant, run go test ./deploy -update\n%s", r.name, diff)
		}
	}
}

func TestChartsPassHelmsLint(t *testing.T) {
	for _, r := range append(releases(t), release{name: "defaults", chart: "follower"}, release{name: "defaults", chart: "leader"}) {
		linted := lint.AllWithKubeVersion(filepath.Join("charts", r.chart), parse(t, r.values), "accumulus", nil)
		for _, message := range linted.Messages {
			if message.Severity > support.InfoSev {
				t.Errorf("%s %s: %v", r.chart, r.name, message)
			}
		}
	}
}
