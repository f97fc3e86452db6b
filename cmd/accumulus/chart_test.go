package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// argument is a flag in a rendered chart.
var argument = regexp.MustCompile(`(?m)^        - "?--([a-z0-9-]+)`)

// TestChartsFlagsAreTaken: what the leader's chart gives on the command line is
// understood by this binary.
func TestChartsFlagsAreTaken(t *testing.T) {
	files, err := filepath.Glob("../../deploy/testdata/leader-*.golden")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	flags := newLeader(&app{getenv: func(string) string { return "" }}).Flags()
	seen := make(map[string]bool)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "        - leader\n") {
			t.Errorf("%s: the command is not leader", file)
		}
		for _, match := range argument.FindAllStringSubmatch(string(text), -1) {
			seen[match[1]] = true
			if flags.Lookup(match[1]) == nil {
				t.Errorf("%s: the leader has no flag --%s", filepath.Base(file), match[1])
			}
		}
	}
	if len(seen) < 15 {
		t.Errorf("only %d flags were found in the charts: %v", len(seen), seen)
	}
}
