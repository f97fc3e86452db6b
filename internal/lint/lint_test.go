// Package lint holds the laws of the source text that no compiler checks: the
// direction of imports, and that the time comes from one injected clock.
package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/accumulus-metering/accumulus"
	root   = "../.."
)

// layers are the directories that a directory may import, besides itself and
// internal/. cmd stands above all; deploy and dashboards import nothing.
var layers = map[string][]string{
	"cmd":        {"leader", "follower", "processors", "influxsync", "deploy", "dashboards"},
	"leader":     {"processors", "influxsync", "deploy", "dashboards"},
	"follower":   {"processors", "influxsync"},
	"processors": {"influxsync"},
	"influxsync": {},
	"deploy":     {},
	"dashboards": {},
}

// internals say what each package of internal/ may import: they are the ground.
var internals = map[string][]string{
	"internal/clock":     {},
	"internal/ordered":   {},
	"internal/decimal":   {},
	"internal/schema":    {},
	"internal/lint":      {},
	"internal/plural":    {},
	"internal/reread":    {},
	"internal/review":    {"internal/clock"},
	"internal/roots":     {},
	"internal/settings":  {},
	"internal/sheet":     {},
	"internal/images":    {}, // a command of its own
	"internal/simulator": {"follower/reading", "internal/clock"},
	"internal/stress":    {"internal/clock"},
	"internal/webhook":   {},
	// Both APIs' questions and answers; processors for the currencies' decimals.
	"internal/usage": {"internal/schema", "processors"},
	// Test support, and the commands that it runs: test clusters and what is in them.
	"internal/kubetest":          {"internal/clock"},
	"internal/kubetest/cluster":  {"internal/kubetest"},
	"internal/kubetest/hyper":    {},
	"internal/kubetest/pause":    {},
	"internal/kubetest/workload": {},
	// A command of its own, which no other package imports.
	"internal/bench/sync": {"influxsync", "internal/bench", "internal/clock", "internal/schema"},
}

// speaksInfluxDB are the directories that import InfluxDB's own modules. The
// benchmark compares influxsync with InfluxDB's client.
var speaksInfluxDB = map[string]bool{"follower": true, "internal/bench/sync": true}

// installs is the only package of the product that imports Helm.
const installs = "leader/helm"

// beside are packages of internal/ that stand beside the product, put it
// together as cmd does, and are imported by cmd and by tests alone.
var beside = map[string]bool{"internal/chaos": true, "internal/demo": true, "internal/e2e": true, "internal/e2e/kube": true, "internal/kubetest": true, "internal/kubetest/cluster": true, "internal/simulator": true}

type source struct {
	path string // relative to the root, with slashes
	test bool
	file *ast.File
	fset *token.FileSet
}

func (s source) dir() string { return filepath.ToSlash(filepath.Dir(s.path)) }
func (s source) top() string { return strings.SplitN(s.path, "/", 2)[0] }

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && (name == "testdata" || name == "bin" || (strings.HasPrefix(name, ".") && name != "..")) {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		all = append(all, source{filepath.ToSlash(relative), strings.HasSuffix(name, "_test.go"), file, fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("found %d files below %s", len(all), root)
	}
	return all
}

// forbidden says why a file at dir must not import path, or "".
func forbidden(dir, path string) string {
	target, ours := strings.CutPrefix(path, module+"/")
	if !ours || target == dir {
		return ""
	}
	top := strings.SplitN(dir, "/", 2)[0]
	if beside[target] && top != "cmd" && !beside[dir] {
		return target + " is for cmd and for tests"
	}
	if _, ground := internals[dir]; !ground && beside[dir] {
		return ""
	}
	if top == "internal" {
		for _, allowed := range internals[dir] {
			if target == allowed {
				return ""
			}
		}
		return dir + " may import only what internal/lint lists for it"
	}
	targetTop := strings.SplitN(target, "/", 2)[0]
	if targetTop == "internal" || targetTop == top {
		return ""
	}
	for _, allowed := range layers[top] {
		if targetTop == allowed {
			return ""
		}
	}
	return top + " stands below or beside " + targetTop
}

func TestImportsRunOneWay(t *testing.T) {
	for _, src := range sources(t) {
		if src.test {
			continue
		}
		for _, spec := range src.file.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			if why := forbidden(src.dir(), path); why != "" {
				t.Errorf("%s imports %s: %s", src.path, path, why)
			}
			if strings.HasPrefix(path, "github.com/influxdata/") && src.top() != "influxsync" && !speaksInfluxDB[src.dir()] {
				t.Errorf("%s imports %s: only influxsync speaks InfluxDB", src.path, path)
			}
			if strings.HasPrefix(path, "helm.sh/") && src.dir() != installs {
				t.Errorf("%s imports %s: only %s knows Helm", src.path, path, installs)
			}
		}
	}
}

func TestForbiddenImportsAreSeen(t *testing.T) {
	for _, bad := range [][2]string{
		{"influxsync", "leader/registry"},
		{"processors", "leader"},
		{"follower/meter", "leader/fleet"},
		{"leader/api", "internal/simulator"},
		{"internal/clock", "influxsync"},
		{"leader", "internal/demo"},
		{"internal/simulator", "leader"},
		{"deploy", "leader"},
	} {
		if forbidden(bad[0], module+"/"+bad[1]) == "" {
			t.Errorf("%s may import %s", bad[0], bad[1])
		}
	}
}

// wallClock are the functions of package time that ask the machine.
var wallClock = map[string]bool{"Now": true, "Since": true, "Until": true, "Sleep": true, "After": true,
	"AfterFunc": true, "Tick": true, "NewTicker": true, "NewTimer": true}

func wallClockCalls(file *ast.File, fset *token.FileSet) []token.Position {
	name := ""
	for _, spec := range file.Imports {
		if spec.Path.Value == `"time"` {
			name = "time"
			if spec.Name != nil {
				name = spec.Name.Name
			}
		}
	}
	if name == "" {
		return nil
	}
	var found []token.Position
	ast.Inspect(file, func(node ast.Node) bool {
		selector, ok := node.(*ast.SelectorExpr)
		if !ok || !wallClock[selector.Sel.Name] {
			return true
		}
		if ident, ok := selector.X.(*ast.Ident); ok && ident.Name == name {
			found = append(found, fset.Position(selector.Pos()))
		}
		return true
	})
	return found
}

func TestOneClock(t *testing.T) {
	for _, src := range sources(t) {
		if src.test || src.dir() == "internal/clock" || src.file.Name.Name == "main" {
			continue
		}
		for _, position := range wallClockCalls(src.file, src.fset) {
			t.Errorf("%s: the time comes from the injected clock.Clock", position)
		}
	}
}

func TestWallClockCallsAreSeen(t *testing.T) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "x.go", `package x
import clockwork "time"
var at = clockwork.Now
func f() { <-clockwork.After(1) }`, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := wallClockCalls(file, fset); len(got) != 2 {
		t.Errorf("found %v, want two calls", got)
	}
}
