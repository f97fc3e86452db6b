package seed

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// KeyFile is the name of the leader's key in its directory.
const KeyFile = "seed.key"

// pemType of the key's file, as `openssl genpkey -algorithm ed25519` writes it.
const pemType = "PRIVATE KEY"

// Key signs seeds. It does not print itself.
type Key struct{ private ed25519.PrivateKey }

// String hides the key.
func (Key) String() string { return "***" }

// GoString hides the key.
func (Key) GoString() string { return "***" }

// ReadKey reads a key from a PEM file (PKCS #8, ed25519).
func ReadKey(path string) (Key, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Key{}, fmt.Errorf("read the seeds' key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemType {
		return Key{}, fmt.Errorf("read the seeds' key: %s holds no PEM block %q: make one with openssl genpkey -algorithm ed25519", path, pemType)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return Key{}, fmt.Errorf("read the seeds' key: %s: %w", path, err)
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return Key{}, fmt.Errorf("read the seeds' key: %s holds a key of another kind: make one with openssl genpkey -algorithm ed25519", path)
	}
	return Key{private}, nil
}

// EnsureKey reads KeyFile in dir and makes it when it is missing, readable by
// its owner alone. A file that others can read is an error.
func EnsureKey(dir string) (Key, error) {
	path := filepath.Join(dir, KeyFile)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return makeKey(dir)
	case err != nil:
		return Key{}, fmt.Errorf("look at the seeds' key: %w", err)
	case info.Mode().Perm()&0o077 != 0:
		return Key{}, fmt.Errorf("key file %s can be read by others (mode %04o): run chmod 600 on it, or delete it to get a new key, which every follower must be told", path, info.Mode().Perm())
	}
	return ReadKey(path)
}

func makeKey(dir string) (Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("make the seeds' key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return Key{}, fmt.Errorf("make the seeds' key: %w", err)
	}
	if err := write(dir, KeyFile, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})); err != nil {
		return Key{}, fmt.Errorf("make the seeds' key: %w", err)
	}
	return Key{private}, nil
}

// Public is the key by which followers know the seeds, as their flag
// --seed-public-key and the chart's value seed.publicKey take it.
func (k Key) Public() string {
	return base64.StdEncoding.EncodeToString(k.private.Public().(ed25519.PublicKey))
}

// Signed is a seed as it travels.
type Signed struct {
	Cluster    string `json:"cluster"`
	Version    string `json:"version"`
	Generation int64  `json:"generation,string"`
	Packed     []byte `json:"packed"`    // gzip of the text
	Signature  []byte `json:"signature"` // ed25519 over schema.SeedMessage
}

// Sign packs and signs a seed: the same seed gives the same bytes.
func (k Key) Sign(s Seed) (Signed, error) {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression) // its header has no time
	if err == nil {
		_, err = io.WriteString(w, s.Text)
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		return Signed{}, fmt.Errorf("pack seed of %s: %w", s.Cluster, err)
	}
	return Signed{Cluster: s.Cluster, Version: s.Version, Generation: s.Generation, Packed: packed.Bytes(),
		Signature: ed25519.Sign(k.private, schema.SeedMessage(s.Cluster, packed.Bytes()))}, nil
}

// Write puts the seed and its signature into a directory, which it makes. A
// follower that reads between the two files takes neither and looks again.
func (s Signed) Write(dir string) error {
	err := write(dir, schema.SeedFile, s.Packed)
	if err == nil {
		err = write(dir, schema.SeedSignatureFile, s.Signature)
	}
	if err != nil {
		return fmt.Errorf("write seed of %s: %w", s.Cluster, err)
	}
	return nil
}

// generation is that of a packed seed which this key signed for the cluster;
// false for anything else.
func (k Key) generation(cluster string, packed, signature []byte) (int64, bool) {
	if !ed25519.Verify(k.private.Public().(ed25519.PublicKey), schema.SeedMessage(cluster, packed), signature) {
		return 0, false
	}
	text, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return 0, false
	}
	const before, after = "INSERT INTO meta VALUES ('generation', '", "');"
	lines := bufio.NewScanner(text)
	for range 20 { // it stands among the first lines
		if !lines.Scan() {
			return 0, false
		}
		if number, ok := strings.CutPrefix(lines.Text(), before); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(number, after), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
