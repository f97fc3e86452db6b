package influxtest

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Kind is a server that `make servers` puts into build/ of this module.
type Kind string

// The servers that are not this process's own.
const (
	Distribution Kind = "influxd-1.6"    // of the distribution's package
	Release      Kind = "influxd-1.8.10" // built from its module
)

// Kinds are all of them.
var Kinds = []Kind{Distribution, Release}

var errMissing = errors.New("run make servers")

// Binary is the path of the program, or an error that says how to get it.
func (k Kind) Binary() (string, error) {
	root, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		parent := filepath.Dir(root)
		if parent == root {
			return "", fmt.Errorf("no go.mod above the working directory, which build/%s stands beside", k)
		}
		root = parent
	}
	path := filepath.Join(root, "build", string(k))
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("no build/%s: %w", k, errMissing)
	}
	return path, nil
}

// Options are lines of a server's configuration by section and key, as in
// "http.max-row-limit": "100"; texts have their quotation marks. They come
// before what a test's server has otherwise.
type Options map[string]string

// text is the configuration of a server in dir: quiet, alone, on a loopback
// port, with the index that the product uses, and the server's own defaults.
func (o Options) text(dir string, port int) string {
	lines := map[string]string{
		"meta.dir":                       strconv.Quote(filepath.Join(dir, "meta")),
		"meta.logging-enabled":           "false",
		"data.dir":                       strconv.Quote(filepath.Join(dir, "data")),
		"data.wal-dir":                   strconv.Quote(filepath.Join(dir, "wal")),
		"data.index-version":             `"tsi1"`,
		"data.series-id-set-cache-size":  "0", // it loses series: docs/operations.md
		"data.query-log-enabled":         "false",
		"http.bind-address":              strconv.Quote("127.0.0.1:" + strconv.Itoa(port)),
		"http.log-enabled":               "false",
		"monitor.store-enabled":          "false",
		"continuous_queries.log-enabled": "false",
	}
	maps.Copy(lines, o)
	var b strings.Builder
	b.WriteString("reporting-disabled = true\nbind-address = \"127.0.0.1:0\"\n")
	section := ""
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		of, key, _ := strings.Cut(name, ".")
		if of != section {
			section = of
			fmt.Fprintf(&b, "[%s]\n", section)
		}
		fmt.Fprintf(&b, "%s = %s\n", key, lines[name])
	}
	return b.String()
}
