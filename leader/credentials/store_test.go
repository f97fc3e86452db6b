package credentials

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

var now = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func openRegistry(t *testing.T, dir string) *registry.Registry {
	t.Helper()
	r, err := registry.Open(t.Context(), filepath.Join(dir, "registry.db"), clock.NewManual(now))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func openStore(t *testing.T, config Config, r Registry, log *bytes.Buffer) *Store {
	t.Helper()
	s, err := Open(t.Context(), config, r, clock.NewManual(now), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newKeyLine(b byte) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, keyBytes)) + "\n"
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSealedAtRest: what is put in comes out, after a restart too, and stands in
// no file of the leader's directory, nor in its log, nor in a printed record.
func TestSealedAtRest(t *testing.T) {
	dir := t.TempDir()
	r := openRegistry(t, dir)
	var log bytes.Buffer
	s := openStore(t, Config{Dir: dir}, r, &log)
	if _, _, err := s.Get(t.Context(), "alpha"); !errors.Is(err, ErrNone) {
		t.Errorf("%v, want none", err)
	}
	record := Record{Kubeconfig: []byte(good), ClusterID: "uid", Tokens: []string{"canary-of-the-follower"}}
	if err := s.Put(t.Context(), "alpha", record); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, KeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info, err)
	}
	s = openStore(t, Config{Dir: dir}, r, &log)
	got, _, err := s.Get(t.Context(), "alpha")
	if err != nil || !bytes.Contains(got.Kubeconfig, []byte("canary-token")) || got.Tokens[0] != "canary-of-the-follower" {
		t.Errorf("%d bytes, %v", len(got.Kubeconfig), err)
	}
	for _, said := range []string{fmt.Sprint(got), fmt.Sprintf("%+v %#v %s", got, got, got), log.String()} {
		if strings.Contains(said, "canary") {
			t.Errorf("said: %s", said)
		}
	}
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "record", got)
	if strings.Contains(log.String(), "canary") {
		t.Errorf("logged: %s", log.String())
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"canary", base64.StdEncoding.EncodeToString([]byte(good))[:40], "192.0.2.1"} {
			if bytes.Contains(text, []byte(word)) {
				t.Errorf("%s holds %q", file.Name(), word)
			}
		}
	}
}

// TestPutRefuses: what Check refuses is not stored, nor are the credentials of
// another cluster in place of one's own.
func TestPutRefuses(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, Config{Dir: dir}, openRegistry(t, dir), new(bytes.Buffer))
	put := func(record Record) error { return s.Put(t.Context(), "alpha", record) }
	if err := put(Record{Kubeconfig: []byte(strings.Replace(good, "token:", "tokenFile:", 1))}); !errors.Is(err, ErrRefused) {
		t.Errorf("%v, want refused", err)
	}
	if err := put(Record{}); !errors.Is(err, ErrRefused) {
		t.Errorf("nothing: %v, want refused", err)
	}
	if err := put(Record{Kubeconfig: []byte(good), ClusterID: "one", Tokens: []string{"t"}}); err != nil {
		t.Fatal(err)
	}
	if err := put(Record{Kubeconfig: []byte(good), ClusterID: "two"}); !errors.Is(err, ErrOther) {
		t.Errorf("%v, want refused: another cluster", err)
	}
	if err := put(Record{Kubeconfig: []byte(strings.Replace(good, "canary-token", "renewed", 1))}); err != nil {
		t.Fatal(err)
	}
	got, _, err := s.Get(t.Context(), "alpha")
	if err != nil || got.ClusterID != "one" || len(got.Tokens) != 1 || !bytes.Contains(got.Kubeconfig, []byte("renewed")) {
		t.Errorf("after a renewal: cluster %q, %d tokens, %v", got.ClusterID, len(got.Tokens), err)
	}
	if err := s.Remove(t.Context(), "alpha"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RESTConfig(t.Context(), "alpha"); !errors.Is(err, ErrNone) {
		t.Errorf("%v, want none", err)
	}
}

// TestKeyIsReplaced: a new first line seals what the old one opens; then the old
// one can go.
func TestKeyIsReplaced(t *testing.T) {
	dir := t.TempDir()
	r, path := openRegistry(t, dir), filepath.Join(dir, "keys")
	var log bytes.Buffer
	for step, lines := range []string{newKeyLine(1), newKeyLine(2) + newKeyLine(1), "# the old one is gone\n" + newKeyLine(2)} {
		s := openStore(t, Config{Dir: dir, KeyPath: writeFile(t, path, lines)}, r, &log)
		if step == 0 {
			if err := s.Put(t.Context(), "alpha", Record{Kubeconfig: []byte(good)}); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := s.Get(t.Context(), "alpha"); err != nil {
			t.Errorf("step %d: %v", step, err)
		}
	}
	if log.Len() > 0 {
		t.Errorf("logged: %s", log.String())
	}
	if _, err := os.Stat(filepath.Join(dir, KeyFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a default key was made beside the given one: %v", err)
	}
}

// TestWrongKeyOverwritesNothing: with another key, or none, nothing is read and
// nothing written; the right one finds all as it was.
func TestWrongKeyOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	r, path := openRegistry(t, dir), filepath.Join(dir, KeyFile)
	if err := openStore(t, Config{Dir: dir}, r, new(bytes.Buffer)).Put(t.Context(), "alpha", Record{Kubeconfig: []byte(good)}); err != nil {
		t.Fatal(err)
	}
	before, err := r.Credential(t.Context(), "alpha")
	if err != nil {
		t.Fatal(err)
	}
	right, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, spoil := range []struct {
		name string
		do   func()
	}{
		{"another key", func() { writeFile(t, path, newKeyLine(9)) }},
		{"no key", func() { _ = os.Remove(path) }},
	} {
		name := spoil.name
		spoil.do()
		var log bytes.Buffer
		s := openStore(t, Config{Dir: dir}, r, &log)
		if _, err := s.RESTConfig(t.Context(), "alpha"); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v, want that of the key", name, err)
		}
		if err := s.Put(t.Context(), "alpha", Record{Kubeconfig: []byte(good)}); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "put") {
			t.Errorf("%s: %v, want nothing overwritten and what to do", name, err)
		}
		if !strings.Contains(log.String(), "level=ERROR") {
			t.Errorf("%s: logged %q", name, log.String())
		}
		after, err := r.Credential(t.Context(), "alpha")
		if err != nil || !bytes.Equal(after.Sealed, before.Sealed) || after.Revision != before.Revision {
			t.Errorf("%s: the record was changed, %v", name, err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("another key was made: %v", err)
	}
	writeFile(t, path, string(right))
	if _, _, err := openStore(t, Config{Dir: dir}, r, new(bytes.Buffer)).Get(t.Context(), "alpha"); err != nil {
		t.Error(err)
	}
}

func TestKeyFilesThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	r, path := openRegistry(t, dir), filepath.Join(dir, "keys")
	for name, text := range map[string]string{"empty": "\n# nothing\n", "short": "Y2FuYXJ5\n", "no base64": "canary!\n"} {
		_, err := Open(t.Context(), Config{Dir: dir, KeyPath: writeFile(t, path, text)}, r, clock.NewManual(now), slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "openssl rand") || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "Y2Fu") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Chmod(writeFile(t, filepath.Join(dir, KeyFile), newKeyLine(1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Dir: dir}, r, clock.NewManual(now), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by others: %v", err)
	}
	if _, err := Open(t.Context(), Config{Dir: dir, KeyPath: filepath.Join(dir, "absent")}, r, clock.NewManual(now), slog.New(slog.DiscardHandler)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

// moved gives one cluster's record out as another's, or changes a bit of it.
type moved struct {
	Registry
	change func(*registry.Sealed)
}

func (m moved) Credential(ctx context.Context, _ string) (registry.Sealed, error) {
	s, err := m.Registry.Credential(ctx, "alpha")
	m.change(&s)
	return s, err
}

// TestSealIsOfOneCluster: who can write the registry cannot give one cluster the
// credentials of another, nor change any.
func TestSealIsOfOneCluster(t *testing.T) {
	dir := t.TempDir()
	r := openRegistry(t, dir)
	s := openStore(t, Config{Dir: dir}, r, new(bytes.Buffer))
	if err := s.Put(t.Context(), "alpha", Record{Kubeconfig: []byte(good)}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*registry.Sealed){
		"moved":   func(s *registry.Sealed) { s.Cluster = "beta" },
		"changed": func(s *registry.Sealed) { s.Sealed[len(s.Sealed)-1] ^= 1 },
		"cut":     func(s *registry.Sealed) { s.Sealed = s.Sealed[:5] },
	} {
		s.registry = moved{r, change}
		if _, _, err := s.Get(t.Context(), "beta"); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v, want it not opened", name, err)
		}
	}
}
