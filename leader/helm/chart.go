package helm

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"
)

// ErrValues are values that the chart does not take.
var ErrValues = errors.New("values do not fit the chart")

// Chart is the files of a chart. Helm changes a loaded chart while it works, so
// each operation loads it anew.
type Chart struct {
	Name    string
	Version string
	Digest  string // of names and contents of all files, 32 hex digits
	files   []*loader.BufferedFile
}

// Load reads the chart that fsys has at its root and checks that it can be
// loaded.
func Load(fsys fs.FS) (Chart, error) {
	var c Chart
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		c.files = append(c.files, &loader.BufferedFile{Name: path.Clean(name), Data: content})
		return nil
	})
	if err != nil {
		return Chart{}, fmt.Errorf("read chart: %w", err)
	}
	slices.SortFunc(c.files, func(a, b *loader.BufferedFile) int { return cmp.Compare(a.Name, b.Name) })
	loaded, err := c.load()
	if err != nil {
		return Chart{}, err
	}
	if err := loaded.Validate(); err != nil {
		return Chart{}, fmt.Errorf("check chart: %w", err)
	}
	if len(loaded.CRDObjects()) > 0 {
		return Chart{}, fmt.Errorf("check chart %s: it has CRDs, which Helm neither upgrades nor removes", loaded.Name())
	}
	sum := sha256.New()
	for _, file := range c.files {
		fmt.Fprintf(sum, "%d %d %s", len(file.Name), len(file.Data), file.Name)
		sum.Write(file.Data)
	}
	c.Name, c.Version, c.Digest = loaded.Name(), loaded.Metadata.Version, short(sum.Sum(nil))
	return c, nil
}

// load is a chart that the caller may change.
func (c Chart) load() (*chart.Chart, error) {
	files := make([]*loader.BufferedFile, len(c.files))
	for i, file := range c.files {
		files[i] = &loader.BufferedFile{Name: file.Name, Data: slices.Clone(file.Data)}
	}
	loaded, err := loader.LoadFiles(files)
	if err != nil {
		return nil, fmt.Errorf("load chart: %w", err)
	}
	return loaded, nil
}

// short is a digest that fits into a label's value.
func short(sum []byte) string { return hex.EncodeToString(sum[:16]) }

// Values are what a chart is rendered with. They are kept in the cluster, in
// every revision of the release: no secret belongs in them.
type Values map[string]any

// Digest is the same for equal values, 32 hex digits.
func (v Values) Digest() (string, error) {
	text, err := json.Marshal(v) // sorts keys
	if err != nil {
		return "", fmt.Errorf("write values: %w", err)
	}
	sum := sha256.Sum256(text)
	return short(sum[:]), nil
}

// With are the values with others over them: maps are merged, all else is
// replaced. Neither is changed.
func (v Values) With(above map[string]any) Values { return over(v, above) }

func over(below, above map[string]any) map[string]any {
	merged := make(map[string]any, len(below)+len(above))
	maps.Copy(merged, below)
	for key, value := range above {
		upper, ok := value.(map[string]any)
		lower, also := merged[key].(map[string]any)
		if ok && also {
			value = over(lower, upper)
		}
		merged[key] = value
	}
	return merged
}

// copied are values of their own, with the types that JSON has: Helm changes
// what it is given.
func (v Values) copied() (map[string]any, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write values: %w", err)
	}
	fresh := map[string]any{}
	if v == nil {
		return fresh, nil
	}
	err = json.Unmarshal(text, &fresh)
	return fresh, err
}

// Render is the manifest that the chart makes of the values, as `helm template`
// shows it; hooks and notes are left out. Errors: ErrValues.
func Render(c Chart, release, namespace string, values Values) (string, error) {
	loaded, err := c.load()
	if err != nil {
		return "", err
	}
	given, err := values.copied()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrValues, err)
	}
	if err := chartutil.ProcessDependenciesWithMerge(loaded, given); err != nil {
		return "", fmt.Errorf("%w: %w", ErrValues, err)
	}
	options := chartutil.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}
	capabilities := chartutil.DefaultCapabilities.Copy()
	all, err := chartutil.ToRenderValues(loaded, given, options, capabilities)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrValues, err)
	}
	files, err := engine.Render(loaded, all)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrValues, err)
	}
	for name := range files {
		if base := path.Base(name); base == "NOTES.txt" || base[0] == '_' {
			delete(files, name)
		}
	}
	_, manifests, err := releaseutil.SortManifests(files, capabilities.APIVersions, releaseutil.InstallOrder)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrValues, err)
	}
	text := ""
	for _, m := range manifests {
		text += fmt.Sprintf("---\n# Source: %s\n%s\n", m.Name, m.Content)
	}
	return text, nil
}
