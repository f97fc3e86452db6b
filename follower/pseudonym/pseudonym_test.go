package pseudonym

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPseudonyms(t *testing.T) {
	dir := t.TempDir()
	config := Config{KeyFile: write(t, filepath.Join(dir, "key"), "0123456789abcdef\n"), Path: filepath.Join(dir, "state", "names.db"), Own: "accumulus"}
	open := func() *Table {
		t.Helper()
		table := New(config)
		if err := table.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		return table
	}
	table := open()
	shop := table.Alias("Namespace", "", "shop")
	web := table.Alias("Deployment", "shop", "web")
	for _, other := range []string{table.Alias("Pod", "shop", "web"), table.Alias("Deployment", "tools", "web"), table.Alias("Deployment", "sho", "pweb"), shop} {
		if other == web {
			t.Errorf("two names have the pseudonym %s", web)
		}
	}
	if !strings.HasPrefix(web, Prefix) || len(web) != len(Prefix)+20 || web != table.Alias("Deployment", "shop", "web") {
		t.Errorf("pseudonym %q", web)
	}
	for _, name := range []string{"kube-system", "accumulus"} {
		if got := table.Alias("Namespace", "", name); got != name {
			t.Errorf("namespace %s is called %s", name, got)
		}
	}
	resolve := func(table *Table, pseudonym string, want Name) {
		t.Helper()
		if got, ok, err := table.Resolve(t.Context(), pseudonym); err != nil || got != want || ok != (want != Name{}) {
			t.Errorf("%s stands for %+v, %v, %v, want %+v", pseudonym, got, ok, err, want)
		}
	}
	resolve(table, web, Name{"Deployment", "shop", "web"})
	if err := table.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	resolve(table, web, Name{"Deployment", "shop", "web"})
	resolve(table, "anon-x", Name{})
	resolve(table, "web", Name{})
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	table = open()
	resolve(table, shop, Name{"Namespace", "", "shop"})
	if got := table.Alias("Deployment", "shop", "web"); got != web {
		t.Errorf("after a restart %s is %s", web, got)
	}
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(config.Path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the table's file: %v, %v", info, err)
	}
	write(t, config.KeyFile, "another key of 20 b.")
	if err := New(config).Open(t.Context()); err == nil || !strings.Contains(err.Error(), "another key") || strings.Contains(err.Error(), "20 b") {
		t.Errorf("another key: %v", err)
	}
	write(t, config.KeyFile, "short")
	if err := New(config).Open(t.Context()); err == nil || strings.Contains(err.Error(), "short") {
		t.Errorf("a short key: %v", err)
	}
}
