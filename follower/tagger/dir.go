package tagger

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// MaxSeedBytes bounds the text of a seed. A ConfigMap holds at most 1 MiB.
const MaxSeedBytes = 8 << 20

// ErrNoSeed is a seed's directory that holds no *.sql file.
var ErrNoSeed = errors.New("no *.sql file")

// file is one file of a seed.
type file struct{ name, text string }

// readDir reads the *.sql files of a directory in the order of their names,
// and the hash of names and texts. A mounted ConfigMap is swapped whole by the
// symlink ..data; the files are read behind it, so that two versions never mix.
func readDir(dir string) ([]file, string, error) {
	const tries = 3
	for range tries {
		behind, err := target(dir)
		if err != nil {
			return nil, "", err
		}
		files, hash, err := readFiles(behind)
		now, nowErr := target(dir)
		if nowErr == nil && now == behind {
			return files, hash, err
		}
	}
	return nil, "", fmt.Errorf("read seed %s: it changed while it was read, %d times", dir, tries)
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

func readFiles(dir string) ([]file, string, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, "", fmt.Errorf("read seed: %w", err)
	}
	var files []file
	size := 0
	hash := sha256.New()
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, ".sql") || strings.HasPrefix(name, ".") {
			continue
		}
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil {
			return nil, "", fmt.Errorf("read seed: %w", err)
		}
		if size += int(info.Size()); !info.Mode().IsRegular() || size > MaxSeedBytes {
			return nil, "", fmt.Errorf("read seed %s: not a regular file, or more than %d bytes in all", path, MaxSeedBytes)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, "", fmt.Errorf("read seed: %w", err)
		}
		files = append(files, file{name: name, text: string(text)})
		_, _ = fmt.Fprintf(hash, "%d:%s%d:%s", len(name), name, len(text), text)
	}
	if len(files) == 0 {
		return nil, "", fmt.Errorf("read seed %s: %w", dir, ErrNoSeed)
	}
	return files, hex.EncodeToString(hash.Sum(nil)), nil
}
