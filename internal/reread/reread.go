// Package reread tells when files that somebody else keeps, such as a mounted
// Secret, are others than before, and serves a certificate as its files are now.
//
// It asks the file system when it is asked itself, and starts nothing. A file
// that is missing for a moment, or cannot be read as what it should be, changes
// nothing: what was read before stays.
package reread

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
)

// Files are looked at together. The zero value has none.
type Files struct {
	paths []string
	infos []os.FileInfo // at the last look; nil: it was not there
}

// Look looks at files for the first time. It is called before they are read: what
// is written in between is then a change.
func Look(paths ...string) Files {
	f := Files{paths: paths, infos: make([]os.FileInfo, len(paths))}
	f.Changed()
	return f
}

// Changed says whether a file is another one than at the last look.
func (f *Files) Changed() bool {
	changed := false
	for i, path := range f.paths {
		info, err := os.Stat(path)
		if err != nil || same(info, f.infos[i]) {
			continue
		}
		f.infos[i], changed = info, true
	}
	return changed
}

func same(a, b os.FileInfo) bool {
	return b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// KeyPair is a server's certificate and its key. It is safe for concurrent use.
type KeyPair struct {
	certificate, key string
	log              *slog.Logger

	mu    sync.Mutex
	files Files
	held  *tls.Certificate
}

// OpenKeyPair reads the PEM files of a certificate and its key.
func OpenKeyPair(certificate, key string, log *slog.Logger) (*KeyPair, error) {
	k := &KeyPair{certificate: certificate, key: key, log: log, files: Look(certificate, key)}
	held, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("read the server's certificate: %w", err)
	}
	k.held = &held
	return k, nil
}

// Certificate is what tls.Config.GetCertificate asks for at each handshake. Files
// that do not go together, because only one was written yet, are read again at the
// next change.
func (k *KeyPair) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.files.Changed() {
		return k.held, nil
	}
	held, err := tls.LoadX509KeyPair(k.certificate, k.key)
	if err != nil {
		k.log.Warn("a changed certificate is not taken", "file", k.certificate, "err", err)
		return k.held, nil
	}
	k.log.Info("certificate was read again", "file", k.certificate)
	k.held = &held
	return k.held, nil
}

// Word is what stands in a file, such as a token, without the white space around
// it. It is safe for concurrent use.
type Word struct {
	path string

	mu    sync.Mutex
	files Files
	held  string
}

// NewWord is that of a file, which is read when it is asked for.
func NewWord(path string) *Word {
	return &Word{path: path, files: Files{[]string{path}, make([]os.FileInfo, 1)}}
}

// Get is the word as it is now. A file that is empty, or cannot be read, leaves the
// one before; it is an error where there is none.
func (w *Word) Get() (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.files.Changed() && w.held != "" {
		return w.held, nil
	}
	text, err := os.ReadFile(w.path)
	if word := strings.TrimSpace(string(text)); err == nil && word != "" {
		w.held = word
	}
	switch {
	case w.held != "":
		return w.held, nil
	case err != nil:
		return "", err
	}
	return "", fmt.Errorf("%s is empty", w.path)
}
