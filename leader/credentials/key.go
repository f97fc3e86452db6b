package credentials

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// keyBytes is the length of a key: AES-256.
const keyBytes = 32

// sealed begins what is sealed besides the cluster's name, so that nothing that
// the same key sealed for another purpose is taken for credentials.
const sealed = "accumulus credentials 1\n"

// key seals and opens.
type key struct {
	id   string // first 64 bits of its SHA-256, hex
	aead cipher.AEAD
}

// keys are those of a key file: the first seals, all open.
type keys []key

func newKey(raw []byte) (key, error) {
	block, err := aes.NewCipher(raw)
	if err != nil {
		return key{}, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return key{}, err
	}
	sum := sha256.Sum256(raw)
	return key{hex.EncodeToString(sum[:8]), aead}, nil
}

// seal is nonce and ciphertext. The cluster's name is bound to it: what is moved
// to another cluster does not open.
func (k key) seal(cluster string, plain []byte) ([]byte, error) {
	nonce := make([]byte, k.aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return k.aead.Seal(nonce, nonce, plain, []byte(sealed+cluster)), nil
}

func (k key) open(cluster string, text []byte) ([]byte, error) {
	n := k.aead.NonceSize()
	if len(text) < n {
		return nil, errors.New("it is cut short")
	}
	return k.aead.Open(nil, text[:n], text[n:], []byte(sealed+cluster))
}

// find is the key of that id.
func (ks keys) find(id string) (key, bool) {
	for _, k := range ks {
		if k.id == id {
			return k, true
		}
	}
	return key{}, false
}

// readKeys reads a file of keys, one a line in base64. A file that is in the
// leader's own directory must be its owner's alone; one from elsewhere, such as
// a mounted Secret, has the modes that its mount gives it.
func readKeys(path string, private bool) (keys, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read credentials key: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > 64<<10 {
		return nil, fmt.Errorf("read credentials key: %s is no file of keys", path)
	}
	if private && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("credentials key %s can be read by others (mode %04o): run chmod 600 on it, and if they may have read it, replace it", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read credentials key: %w", err)
	}
	var all keys
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(raw) != keyBytes { // the error's text would repeat the key
			return nil, fmt.Errorf("credentials key %s: line %d is not %d bytes in base64, as `openssl rand -base64 %d` makes them", path, n, keyBytes, keyBytes)
		}
		k, err := newKey(raw)
		if err != nil {
			return nil, fmt.Errorf("credentials key %s: line %d: %w", path, n, err)
		}
		all = append(all, k)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("credentials key %s holds no key: make one with `openssl rand -base64 %d`", path, keyBytes)
	}
	return all, nil
}

// makeKey writes a random key that its owner alone can read, whole or not at
// all, and never over one that is there.
func makeKey(path string) error {
	raw := make([]byte, keyBytes)
	if _, err := rand.Read(raw); err != nil {
		return fmt.Errorf("make credentials key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make credentials key: %w", err)
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".key-*") // mode 0600
	if err != nil {
		return fmt.Errorf("make credentials key: %w", err)
	}
	_, err = file.WriteString(base64.StdEncoding.EncodeToString(raw) + "\n")
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Link(file.Name(), path) // unlike a rename, it does not replace
	}
	if errors.Is(err, fs.ErrExist) {
		err = nil // somebody was faster
	}
	if err := errors.Join(err, os.Remove(file.Name())); err != nil {
		return fmt.Errorf("make credentials key: %w", err)
	}
	return nil
}
