package reread

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// newPair is a certificate of a name, and its key, as PEM.
func newPair(t *testing.T, name string) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Unix(1<<33, 0)}
	made, err := x509.CreateCertificate(rand.Reader, of, of, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})
}

func TestFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	var none Files
	files := Look(path)
	if none.Changed() || files.Changed() {
		t.Error("nothing is there, and it changed")
	}
	write(t, path, []byte("a"))
	if !files.Changed() || files.Changed() {
		t.Error("one that comes is one change")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if files.Changed() {
		t.Error("missing counts as a change")
	}
	write(t, path, []byte("b"))
	if !files.Changed() {
		t.Error("another one is no change")
	}
}

// TestKeyPair: a pair that is replaced is served from the next handshake on; half
// of one, or nonsense, leaves the one before.
func TestKeyPair(t *testing.T) {
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if _, err := OpenKeyPair(certificate, key, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("opened without files")
	}
	put := func(path string, text []byte) { t.Helper(); write(t, path, text) }
	firstCertificate, firstKey := newPair(t, "first")
	put(certificate, firstCertificate)
	put(key, firstKey)
	pair, err := OpenKeyPair(certificate, key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	want := func(name string) {
		t.Helper()
		served, err := pair.Certificate(nil)
		if err != nil || served.Leaf.Subject.CommonName != name {
			t.Errorf("served %v, want %s, %v", served.Leaf.Subject, name, err)
		}
	}
	want("first")
	nextCertificate, nextKey := newPair(t, "next")
	put(certificate, nextCertificate)
	want("first")
	put(key, nextKey)
	want("next")
	put(certificate, []byte("nonsense"))
	want("next")
	if err := os.Remove(certificate); err != nil {
		t.Fatal(err)
	}
	want("next")
}

func TestWord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	word := NewWord(path)
	want := func(text string) {
		t.Helper()
		if got, err := word.Get(); got != text || (err == nil) != (text != "") {
			t.Errorf("%q, %v, want %q", got, err, text)
		}
	}
	want("")
	write(t, path, nil)
	want("")
	write(t, path, []byte(" first\n"))
	want("first")
	write(t, path, []byte("next\n"))
	want("next")
	write(t, path, []byte("\n"))
	want("next")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	want("next")
}
