package bucket

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/focus"
	"github.com/minio/minio-go/v7"
)

// store is a Sink with what a test has to see of it.
type store struct {
	focus.Sink
	read func(t *testing.T, name string) (text string, there bool)
}

// TestConformance runs one suite on the directory and on a real S3 server.
func TestConformance(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) store{"directory": openDir, "versitygw": openServer} {
		t.Run(name, func(t *testing.T) { conform(t, open(t)) })
	}
}

func conform(t *testing.T, s store) {
	put := func(name, text string) error { return s.Put(t.Context(), file(t, name, text)) }
	want := func(name, text string, there bool) {
		t.Helper()
		if got, found := s.read(t, name); found != there || got != text {
			t.Errorf("%s: %q, there %v; want %q, %v", name, got, found, text, there)
		}
	}
	const dir = "focus/1.4/billing_period=2026-11"
	for name, text := range map[string]string{dir + "/part-0000.csv": "a", dir + "/part-0001.csv": "b", dir + "/manifest.json": "{}", dir + "/part-notes.txt": "mine",
		"focus/1.4/billing_period=2026-110/part-0000.csv": "another", dir + "/empty.json": ""} {
		if err := put(name, text); err != nil {
			t.Fatal(err)
		}
		want(name, text, true)
	}
	if err := put(dir+"/part-0000.csv", "replaced"); err != nil {
		t.Fatal(err)
	}
	want(dir+"/part-0000.csv", "replaced", true)
	if err := s.Prune(t.Context(), dir, []string{dir + "/part-0000.csv"}); err != nil {
		t.Fatal(err)
	}
	want(dir+"/part-0000.csv", "replaced", true)
	want(dir+"/part-0001.csv", "", false)
	want(dir+"/part-notes.txt", "mine", true)
	want("focus/1.4/billing_period=2026-110/part-0000.csv", "another", true)
	changed := file(t, dir+"/part-0002.csv", "changed")
	changed.SHA256 = hex.EncodeToString(make([]byte, 32))
	if err := s.Put(t.Context(), changed); err == nil {
		t.Error("a file was taken that is not what its SHA-256 says")
	}
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB
	if err := put(dir+"/part-0003.parquet", string(large)); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.read(t, dir+"/part-0003.parquet"); got != string(large) {
		t.Errorf("a large file came as %d bytes", len(got))
	}
}

func file(t *testing.T, name, text string) focus.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(text))
	return focus.File{Name: name, Path: path, Bytes: int64(len(text)), SHA256: hex.EncodeToString(sum[:])}
}

func openDir(t *testing.T) store {
	dir := t.TempDir()
	return store{focus.Dir(dir), func(t *testing.T, name string) (string, bool) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return string(text), err == nil
	}}
}

// program is the S3 server that `make servers` puts there.
const program = "../../build/versitygw"

const (
	accessKey = "test-access-key"
	secretKey = "test-secret-key-0123456789"
)

// openServer starts versitygw over a directory. Without the program the test is
// skipped, or fails where the environment says CI=true.
func openServer(t *testing.T) store {
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v: run make servers", err)
		}
		t.Skipf("%v: run make servers", err)
	}
	address := startServer(t)
	config := Config{URL: "http://" + address + "/exports/accumulus", CredentialsFile: credentialsFile(t, secretKey)}
	b := eventually(t, config)
	if sum, err := b.Sum(t.Context(), "none"); err != nil || sum != "" {
		t.Errorf("an object that is not there: %q, %v", sum, err)
	}
	shelved(t, b)
	wrong, err := Open(Config{URL: config.URL, CredentialsFile: credentialsFile(t, "another")}, http.DefaultTransport)
	if err != nil {
		t.Fatal(err)
	}
	if err := wrong.Put(t.Context(), file(t, "x", "y")); err == nil {
		t.Error("a wrong signature was taken")
	}
	return store{b, func(t *testing.T, name string) (string, bool) {
		t.Helper()
		sum, err := b.Sum(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if sum == "" {
			return "", false
		}
		object, err := b.client.GetObject(t.Context(), b.bucket, b.prefix+"/"+name, minio.GetObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = object.Close() }()
		text, err := io.ReadAll(object)
		if err != nil {
			t.Fatal(err)
		}
		if got := sha256.Sum256(text); hex.EncodeToString(got[:]) != sum {
			t.Errorf("%s: the object says SHA-256 %s, and has %x", name, sum, got)
		}
		return string(text), true
	}}
}

// shelved puts files there, lists them and reads them back.
func shelved(t *testing.T, b *Bucket) {
	t.Helper()
	const name = "edge-a/2026/11/27/manifest.json"
	for _, f := range []focus.File{file(t, name, "{}"), file(t, "edge-a/2026/11/27/pod-1.parquet", "rows")} {
		if err := b.PutFile(t.Context(), f.Name, f.Path, f.SHA256, f.Bytes); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	if err := b.List(t.Context(), func(name string) error { names = append(names, name); return nil }); err != nil || len(names) != 2 || names[0] != name {
		t.Errorf("list: %v %v", names, err)
	}
	var text bytes.Buffer
	if err := b.Fetch(t.Context(), name, &text); err != nil || text.String() != "{}" {
		t.Errorf("fetch: %q %v", text.String(), err)
	}
	if err := b.Fetch(t.Context(), "none", &text); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("fetch what is not there: %v", err)
	}
	for _, name := range names {
		if err := b.client.RemoveObject(t.Context(), b.bucket, b.prefix+"/"+name, minio.RemoveObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func startServer(t *testing.T) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "exports"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var output bytes.Buffer
	server := exec.CommandContext(ctx, program, "--port", address, "--access", accessKey, "--secret", secretKey, "posix", "--sidecar", t.TempDir(), root)
	server.Stdout, server.Stderr = &output, &output
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = server.Wait() // it was killed
		if t.Failed() {
			t.Logf("the server said:\n%s", output.String())
		}
	})
	return address
}

func credentialsFile(t *testing.T, secret string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credentials")
	text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", accessKey, secret)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// eventually opens the bucket when the server listens.
func eventually(t *testing.T, config Config) *Bucket {
	t.Helper()
	server, _, _, err := config.parts()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", server.Host)
		if err == nil {
			_ = connection.Close()
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the server does not listen: %v", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	b, err := Open(config, http.DefaultTransport)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestValidate names what is wrong, and never a secret.
func TestValidate(t *testing.T) {
	for _, wrong := range []string{"", "s3://bucket", "https://host", "https://key:secret@host/bucket", "https://host/bucket?x=y"} {
		if err := (Config{URL: wrong, CredentialsFile: "f"}).Validate(); err == nil {
			t.Errorf("%q is a bucket", wrong)
		}
	}
	if err := (Config{URL: "https://host:9000/bucket/a/b", CredentialsFile: "f"}).Validate(); err != nil {
		t.Error(err)
	}
	if err := (Config{URL: "https://host/bucket"}).Validate(); err == nil {
		t.Error("a bucket without credentials is one")
	}
}
