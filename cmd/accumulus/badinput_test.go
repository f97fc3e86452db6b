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
		"apply --yes -f " + file:               "no object is in",
		"prices apply --yes -f " + file:        "no object is in",
		"archive list --dir " + file + ".gone": "no such file",
		"verify " + file:                       "no file of `accumulus explain`",
	} {
		out, code := l.run(t, "", strings.Fields(command)...)
		if code == 0 || !strings.Contains(out, want) {
			t.Errorf("%s: code %d, %s, want %q", command, code, out, want)
		}
	}
}
