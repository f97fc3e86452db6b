package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/meters"
)

func TestShowMeters(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out, output: asTable}
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	err := a.showMeters([]meters.Status{
		{Meter: "plug", Box: "rack", LastTime: at, Counted: 12, LagSeconds: 3605.4, Correlation: 0.984},
		{Meter: "pdu", Box: "site/hall", Counted: 1, Refused: 2, Origin: "integrated", Error: "the counter went back by 5 mJ"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1h0m5s (r=0.98)", "by itself", "integrated", "the counter went back by 5 mJ", "site/hall"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, &out)
		}
	}
}

// The agent's file holds Meter objects; what else stands in it is the leader's, and
// a mistake is told before anything is read.
func TestReadMeters(t *testing.T) {
	read := func(text string) (string, error) {
		path := filepath.Join(t.TempDir(), "meters.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		found, err := (&app{}).readMeters(path)
		names := ""
		for _, m := range found {
			names += m.Name + " " + m.Driver + ";"
		}
		return names, err
	}
	const head = "apiVersion: accumulus.dev/v1\nkind: Meter\nmetadata: {name: m}\nspec: "
	names, err := read("apiVersion: accumulus.dev/v1\nkind: Box\nmetadata: {name: b}\nspec: {}\n---\n" + head + `{box: b, driver: tasmota, url: "http://192.0.2.1"}`)
	if err != nil || names != "m tasmota;" {
		t.Errorf("%q, %v", names, err)
	}
	for text, want := range map[string]string{head + "{box: b, driver: tasmota}": "spec.url", head + "{box: b, drive: tasmota}": `unknown field "drive"`, "a: [": "read "} {
		if _, err := read(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
