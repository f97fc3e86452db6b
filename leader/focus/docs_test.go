package focus

import (
	"os"
	"regexp"
	"testing"
)

// TestDocs: docs/focus.md says of every column what it is filled with.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/focus.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range allColumns() {
		if !regexp.MustCompile(`(?m)^\| [^|]*\b` + c.Name + `\b[^|]*\| .`).Match(text) {
			t.Errorf("docs/focus.md does not say what %s is filled with", c.Name)
		}
	}
}
