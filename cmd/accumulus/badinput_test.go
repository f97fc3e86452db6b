package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWrongFilesAreErrors that say what is wrong with them; none is taken for an empty one.
func TestWrongFilesAreErrors(t *testing.T) {
	l := &leader{}
	file := filepath.Join(t.TempDir(), "empty.yaml")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]string{
		"apply --yes -f " + file:                                      "no object is in",
		"prices apply --yes -f " + file:                               "no object is in",
		"archive list --dir " + file + ".gone":                        "no such file",
		"verify " + file:                                              "no file of `accumulus explain`",
		"archive verify --dir " + file + ".gone":                      "read the archive: stat",
		"prices history standard":                                     "accumulus prices has no command \"history\"",
		"books draft --customer= --period 2026-11 --as dora":          "a name that the request needs is empty",
		"books draft --customer .. --period 2026-11 --as dora":        "is no name",
		"books rerate --customer acme --period 2026-11 --reason late": "--reason goes with --apply",
	} {
		out, code := l.run(t, "", strings.Fields(command)...)
		if code == 0 || !strings.Contains(out, want) {
			t.Errorf("%s: code %d, %s, want %q", command, code, out, want)
		}
	}
}
