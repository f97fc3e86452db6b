package tagger

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Bounds of a seed: a ConfigMap holds at most 1 MiB, another volume more.
const (
	MaxSeedBytes   = 16 << 20 // its text
	MaxPackedBytes = 4 << 20  // packed
)

// What is wrong with a seed's directory.
var (
	ErrNoSeed   = errors.New("neither " + schema.SeedFile + " nor a *.sql file")
	ErrUnsigned = errors.New("not signed by the leader whose public key is configured")
)

// file is one file of a seed.
type file struct{ name, text string }

// found is what a directory holds: a packed seed with its signature, or plain
// files.
type found struct {
	packed, signature []byte
	plain             []file
	hash              string // of all of it
}

// readDir reads a seed's directory. A mounted ConfigMap is swapped whole by the
// symlink ..data; the files are read behind it, so that two versions never mix.
func readDir(dir string) (found, error) {
	const tries = 3
	for range tries {
		behind, err := target(dir)
		if err != nil {
			return found{}, err
		}
		all, err := readFiles(behind)
		now, nowErr := target(dir)
		if nowErr == nil && now == behind {
			return all, err
		}
	}
	return found{}, fmt.Errorf("read seed %s: it changed while it was read, %d times", dir, tries)
}

// target is the directory that holds the files: what ..data points to, or dir.
func target(dir string) (string, error) {
	data := filepath.Join(dir, "..data")
	if _, err := os.Lstat(data); errors.Is(err, os.ErrNotExist) {
		return dir, nil
	}
	behind, err := filepath.EvalSymlinks(data)
	if err != nil {
		return "", fmt.Errorf("read seed: %w", err)
	}
	return behind, nil
}

// readFiles reads the packed seed where there is one, else the *.sql files in
// the order of their names.
func readFiles(dir string) (found, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return found{}, fmt.Errorf("read seed: %w", err)
	}
	var all found
	size := 0
	hash := sha256.New()
	take := func(name string, most int) ([]byte, error) {
		path := filepath.Join(dir, name)
		content, err := readFile(path, most-size)
		if err != nil {
			return nil, fmt.Errorf("read seed: %w", err)
		}
		size += len(content)
		_, _ = fmt.Fprintf(hash, "%d:%s%d:%s", len(name), name, len(content), content)
		return content, nil
	}
	for _, entry := range entries {
		if entry.Name() != schema.SeedFile {
			continue
		}
		if all.packed, err = take(schema.SeedFile, MaxPackedBytes); err != nil {
			return found{}, err
		}
		all.signature, err = take(schema.SeedSignatureFile, MaxPackedBytes)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return found{}, err
		}
		all.hash = hex.EncodeToString(hash.Sum(nil))
		return all, nil
	}
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, ".sql") || strings.HasPrefix(name, ".") {
			continue
		}
		text, err := take(name, MaxSeedBytes)
		if err != nil {
			return found{}, err
		}
		all.plain = append(all.plain, file{name: name, text: string(text)})
	}
	if len(all.plain) == 0 {
		return found{}, fmt.Errorf("read seed %s: %w", dir, ErrNoSeed)
	}
	all.hash = hex.EncodeToString(hash.Sum(nil))
	return all, nil
}

// readFile reads a regular file of at most so many bytes.
func readFile(path string, most int) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > int64(most) {
		return nil, fmt.Errorf("%s: not a regular file, or too large", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(content) > most {
		return nil, fmt.Errorf("%s: too large", path)
	}
	return content, nil
}

// files are the seed's texts. With a public key only a packed seed that is
// signed for the cluster is unpacked at all.
func (f found) files(cluster string, key ed25519.PublicKey) ([]file, error) {
	if key != nil {
		switch {
		case f.packed == nil:
			return nil, fmt.Errorf("seed: plain *.sql files: %w", ErrUnsigned)
		case f.signature == nil:
			return nil, fmt.Errorf("seed: no %s: %w", schema.SeedSignatureFile, ErrUnsigned)
		case !ed25519.Verify(key, schema.SeedMessage(cluster, f.packed), f.signature):
			return nil, fmt.Errorf("seed: the signature is not one for cluster %q: %w", cluster, ErrUnsigned)
		}
	}
	if f.packed == nil {
		return f.plain, nil
	}
	text, err := unpack(f.packed)
	if err != nil {
		return nil, fmt.Errorf("unpack seed: %w", err)
	}
	return []file{{name: schema.SeedFile, text: text}}, nil
}

// unpack is the text, of which no more is unpacked than a seed may have.
func unpack(packed []byte) (string, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return "", err
	}
	var text strings.Builder
	n, err := io.Copy(&text, io.LimitReader(r, MaxSeedBytes+1))
	if err != nil {
		return "", err
	}
	if n > MaxSeedBytes {
		return "", fmt.Errorf("more than %d bytes", MaxSeedBytes)
	}
	return text.String(), nil
}
