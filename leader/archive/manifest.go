package archive

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
)

// manifestFormat names the form of a manifest.
const manifestFormat = "accumulus-archive/1"

// Manifest is what a revision of a day consists of.
type Manifest struct {
	Format   string    `json:"format"`
	Cluster  string    `json:"cluster"`
	Day      string    `json:"day"`      // YYYY-MM-DD, UTC
	Revision int64     `json:"revision"` // of the day, from 1
	Sequence int64     `json:"sequence"` // of the cluster's manifests, from 1
	Made     time.Time `json:"made"`     // what has come by then is in it
	// State is a fingerprint of all that the day is of: the ledger's windows, the
	// fingerprints of what was computed, the registry's objects.
	State string `json:"state"`
	// Unsettled is why the day had not settled, where it was archived for a period that
	// was closed before; "" where it had.
	Unsettled string `json:"unsettled,omitempty"`
	// Previous is the hash of the cluster's manifest before this one; "" for the first.
	Previous string  `json:"previous"`
	Tables   []Table `json:"tables"`
}

// Table is a file of a day.
type Table struct {
	Name        string `json:"name"`
	Measurement string `json:"measurement"` // table that the rows are hashed with
	File        string `json:"file"`
	Rows        int64  `json:"rows"`
	Bytes       int64  `json:"bytes"`
	SHA256      string `json:"sha256"`
	// Digest is the sum mod 2^64 of the rows' hashes, in hex: the sum of those of the
	// windows, which stand in the table window.
	Digest string `json:"digest"`
}

// Rows of all tables.
func (m Manifest) Rows() int64 {
	var sum int64
	for _, t := range m.Tables {
		sum += t.Rows
	}
	return sum
}

// Bytes of all files.
func (m Manifest) Bytes() int64 {
	var sum int64
	for _, t := range m.Tables {
		sum += t.Bytes
	}
	return sum
}

// Table is the one of a name.
func (m Manifest) Table(name string) (Table, bool) {
	i := slices.IndexFunc(m.Tables, func(t Table) bool { return t.Name == name })
	if i < 0 {
		return Table{}, false
	}
	return m.Tables[i], true
}

// Begins is the day's start.
func (m Manifest) Begins() (time.Time, error) { return ParseDay(m.Day) }

// ParseDay reads a day, YYYY-MM-DD, UTC.
func ParseDay(text string) (time.Time, error) {
	day, err := time.ParseInLocation(time.DateOnly, text, time.UTC)
	if err != nil {
		return day, fmt.Errorf("day %q: want one such as 2026-11-27", text)
	}
	return day, nil
}

// signedManifest is a manifest's file. The signature is over the compact text of the
// manifest, so that it survives being indented.
type signedManifest struct {
	Manifest  json.RawMessage `json:"manifest"`
	PublicKey string          `json:"publicKey"` // base64
	Signature string          `json:"signature"` // base64, ed25519 over manifestMessage
}

// Signer signs manifests: the leader's key.
type Signer interface {
	SignBook(message []byte) []byte
	BookKey() ed25519.PublicKey
}

// hashOf is the hash by which the next manifest knows this one.
func hashOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func manifestMessage(text []byte) []byte {
	return []byte("accumulus archive manifest\n" + hashOf(text))
}

// sign is the manifest's file, and its hash.
func sign(m Manifest, signer Signer) (file []byte, hash string, err error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, "", err
	}
	file, err = json.MarshalIndent(signedManifest{Manifest: text, PublicKey: base64.StdEncoding.EncodeToString(signer.BookKey()),
		Signature: base64.StdEncoding.EncodeToString(signer.SignBook(manifestMessage(text)))}, "", "  ")
	return append(file, '\n'), hashOf(text), err
}

// Errors of what is read.
var (
	// ErrAbsent is a day, a revision or a table that the archive does not have.
	ErrAbsent = errors.New("it is not in the archive")
	// ErrSignature is a manifest that the key has not signed as it is.
	ErrSignature = errors.New("the signature does not hold: another key signed it, or it was changed")
	// ErrDamaged is a file that is not what its manifest says.
	ErrDamaged = errors.New("it is not what the manifest says")
)

// maxManifest bounds a manifest's file.
const maxManifest = 1 << 20

// readManifest reads a manifest and checks its signature; key nil takes the one in
// the file. It returns the key, too.
func readManifest(path string, key ed25519.PublicKey) (Manifest, string, ed25519.PublicKey, error) {
	body, err := readBounded(path)
	if err != nil {
		return Manifest{}, "", nil, err
	}
	m, hash, key, err := parseManifest(body, key)
	if err != nil {
		return m, "", nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return m, hash, key, nil
}

func readBounded(path string) ([]byte, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), ErrAbsent)
	}
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(file, maxManifest+1))
	if err = errors.Join(err, file.Close()); err == nil && len(body) > maxManifest {
		err = fmt.Errorf("%s has more than %d bytes: %w", filepath.Base(path), maxManifest, ErrDamaged)
	}
	return body, err
}

// parseManifest reads the bytes of a manifest's file.
func parseManifest(body []byte, key ed25519.PublicKey) (m Manifest, hash string, by ed25519.PublicKey, err error) {
	var signed signedManifest
	if err := json.Unmarshal(body, &signed); err != nil {
		return m, "", nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	var text bytes.Buffer
	if err := json.Compact(&text, signed.Manifest); err != nil {
		return m, "", nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	own, err := base64.StdEncoding.DecodeString(signed.PublicKey)
	if err != nil || len(own) != ed25519.PublicKeySize {
		return m, "", nil, fmt.Errorf("%w: its public key is no key", ErrDamaged)
	}
	if key == nil {
		key = own
	}
	signature, err := base64.StdEncoding.DecodeString(signed.Signature)
	if err != nil || !ed25519.Verify(key, manifestMessage(text.Bytes()), signature) {
		return m, "", nil, ErrSignature
	}
	if err := json.Unmarshal(text.Bytes(), &m); err != nil {
		return m, "", nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if m.Format != manifestFormat {
		return m, "", nil, fmt.Errorf("its form is %q, and this program reads %s", m.Format, manifestFormat)
	}
	for _, t := range m.Tables {
		if t.File != filepath.Base(t.File) || t.File == "" || t.File[0] == '.' {
			return m, "", nil, fmt.Errorf("%w: %q is no name of a file beside it", ErrDamaged, t.File)
		}
	}
	return m, hashOf(text.Bytes()), key, nil
}

func digestText(d influxsync.Digest) string { return fmt.Sprintf("%016x", uint64(d)) }

func parseDigest(text string) (influxsync.Digest, error) {
	n, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		return 0, fmt.Errorf("digest %q: %w", text, ErrDamaged)
	}
	return influxsync.Digest(n), nil
}

func sortNumbers(numbers []int64) { slices.Sort(numbers) }
