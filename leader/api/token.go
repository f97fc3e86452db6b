package api

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/accumulus-metering/accumulus/internal/reread"
	"github.com/accumulus-metering/accumulus/leader/identity"
)

// Secret is a token. It prints as ***.
type Secret string

// String hides the secret.
func (Secret) String() string { return "***" }

// GoString hides the secret.
func (Secret) GoString() string { return "***" }

// Role is what a caller may do, and whom a route lets in.
type Role = identity.Role

// The roles, as the table of routes writes them: the least role that is needed,
// with those that stand apart beside it, such as Viewer|Tenant.
const (
	Nobody   = identity.Nobody
	Viewer   = identity.Viewer
	Billing  = identity.Billing
	Operator = identity.Operator
	Tenant   = identity.Tenant
	Feeder   = identity.Meters
)

// Tokens are the bearer tokens of the roles. An empty one lets nobody in.
type Tokens struct {
	Operator, Viewer, Meters Secret
}

var errSameToken = errors.New("two roles have the same token: put another one into one of the files")

// distinct says whether no two roles have the same token.
func (t Tokens) distinct() bool {
	all := slices.DeleteFunc([]Secret{t.Operator, t.Viewer, t.Meters}, func(s Secret) bool { return s == "" })
	slices.Sort(all)
	return len(slices.Compact(slices.Clone(all))) == len(all)
}

// Names of the token files in the leader's directory.
const (
	OperatorFile = "operator.token"
	ViewerFile   = "viewer.token"
	MetersFile   = "meters.token"
)

// TokenFiles name files of tokens that somebody else keeps. "" is the file in
// the leader's directory, made at the first start.
type TokenFiles struct {
	Operator, Viewer, Meters string
}

// In names the files in a leader's directory for those that are not given.
func (f TokenFiles) In(dir string) TokenFiles {
	return TokenFiles{Operator: cmp.Or(f.Operator, filepath.Join(dir, OperatorFile)), Viewer: cmp.Or(f.Viewer, filepath.Join(dir, ViewerFile)),
		Meters: cmp.Or(f.Meters, filepath.Join(dir, MetersFile))}
}

// EnsureTokens reads the tokens of the given files, and those in dir for which
// none is given; it makes what is missing in dir, at random and readable by its
// owner alone. A file in dir that others can read is an error: a token that may
// have been read by others is none.
func EnsureTokens(dir string, given TokenFiles) (Tokens, error) {
	files := given.In(dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Tokens{}, fmt.Errorf("make token directory: %w", err)
	}
	operator, err := token(given.Operator, files.Operator)
	if err != nil {
		return Tokens{}, err
	}
	viewer, err := token(given.Viewer, files.Viewer)
	if err != nil {
		return Tokens{}, err
	}
	meters, err := token(given.Meters, files.Meters)
	if err != nil {
		return Tokens{}, err
	}
	return Tokens{Operator: operator, Viewer: viewer, Meters: meters}, nil
}

func token(given, own string) (Secret, error) {
	if given != "" {
		return ReadToken(given)
	}
	return ensureToken(own)
}

func ensureToken(path string) (Secret, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeToken(path)
	}
	if err != nil {
		return "", fmt.Errorf("look at token file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("token file %s can be read by others (mode %04o): run chmod 600 on it, or delete it to get a new token", path, info.Mode().Perm())
	}
	return ReadToken(path)
}

// ReadToken reads a token that somebody else keeps, such as a mounted Secret:
// its file has the mode that its mount gives it.
func ReadToken(path string) (Secret, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read token file: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if len(token) < 16 {
		return "", fmt.Errorf("token file %s holds fewer than 16 characters: put a longer token there, or delete it where the leader made it", path)
	}
	if len(token) > longestToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("token file %s holds no token, which is one word of at most %d characters without accents: put one there, or delete it where the leader made it", path, longestToken)
	}
	return Secret(token), nil
}

// longestToken is far above what a header may carry beside others.
const longestToken = 4096

// makeToken writes 256 random bits. The file is made in one piece, so that a
// crash leaves no empty token behind.
func makeToken(path string) (Secret, error) {
	var bits [32]byte
	if _, err := rand.Read(bits[:]); err != nil {
		return "", fmt.Errorf("make token: %w", err)
	}
	token := base64.RawURLEncoding.EncodeToString(bits[:])
	file, err := os.CreateTemp(filepath.Dir(path), ".token-*") // mode 0600
	if err != nil {
		return "", fmt.Errorf("make token file: %w", err)
	}
	_, err = file.WriteString(token + "\n")
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("write token file: %w", err), os.Remove(file.Name()))
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return "", fmt.Errorf("name token file: %w", err)
	}
	return Secret(token), nil
}

// doorkeeper tells who calls.
type doorkeeper struct {
	digests         map[Role][sha256.Size]byte // of the roles that have a token
	anonymousViewer bool                       // loopback without a token is a viewer: the demo
}

func newDoorkeeper(tokens Tokens, anonymousViewer bool) doorkeeper {
	d := doorkeeper{digests: make(map[Role][sha256.Size]byte), anonymousViewer: anonymousViewer}
	for role, token := range map[Role]Secret{Operator: tokens.Operator, Viewer: tokens.Viewer, Feeder: tokens.Meters} {
		if token != "" {
			d.digests[role] = sha256.Sum256([]byte(token))
		}
	}
	return d
}

// bearer is the token that a request carries, "" for none that is one.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// who is a caller by the tokens of the files: they are named as their roles. It
// compares digests of equal length in constant time. A wrong token is nobody, also
// where no token would be a viewer.
func (d doorkeeper) who(r *http.Request) identity.Principal {
	if r.Header.Get("Authorization") == "" && d.anonymousViewer && fromLoopback(r) {
		return identity.Principal{Name: "demo", Role: Viewer, Via: identity.ViaDemo}
	}
	role := d.role(bearer(r))
	if role == Nobody {
		return identity.Anonymous
	}
	return identity.Principal{Name: role.String(), Role: role, Via: identity.ViaFile}
}

func (d doorkeeper) role(token string) Role {
	digest := sha256.Sum256([]byte(token))
	found := Nobody
	for role, known := range d.digests { // all of them: the time says nothing
		if subtle.ConstantTimeCompare(digest[:], known[:]) == 1 {
			found = role
		}
	}
	return found
}

// door is the doorkeeper of the tokens as their files are now.
type door struct {
	files     TokenFiles
	anonymous bool
	log       *slog.Logger

	mu      sync.Mutex
	changes reread.Files
	tokens  Tokens
	keeper  doorkeeper
}

func newDoor(config Config, log *slog.Logger) *door {
	d := &door{files: config.TokenFiles, anonymous: config.Demo, log: log, tokens: config.Tokens, keeper: newDoorkeeper(config.Tokens, config.Demo)}
	if config.TokenFiles != (TokenFiles{}) {
		d.changes = reread.Look(config.TokenFiles.Operator, config.TokenFiles.Viewer, config.TokenFiles.Meters)
		d.read() // they may be others than when the Tokens were read
	}
	return d
}

// who is a request's caller, by the files.
func (d *door) who(r *http.Request) identity.Principal {
	d.mu.Lock()
	if d.changes.Changed() {
		d.read()
	}
	keeper := d.keeper
	d.mu.Unlock()
	return keeper.who(r)
}

// read takes over the tokens of the files. Where one cannot be taken all stay as
// they are, so that a slip locks nobody out.
func (d *door) read() {
	next := d.tokens
	var errs []error
	for _, of := range []struct {
		path string
		into *Secret
	}{{d.files.Operator, &next.Operator}, {d.files.Viewer, &next.Viewer}, {d.files.Meters, &next.Meters}} {
		if of.path == "" {
			continue
		}
		token, err := ReadToken(of.path)
		errs = append(errs, err)
		*of.into = token
	}
	if !next.distinct() {
		errs = append(errs, errSameToken)
	}
	if err := errors.Join(errs...); err != nil {
		d.log.Warn("changed tokens are not taken", "err", err)
		return
	}
	if next != d.tokens {
		d.tokens, d.keeper = next, newDoorkeeper(next, d.anonymous)
		d.log.Info("tokens were read again")
	}
}

// fromLoopback is a request from this machine that was also sent to it by a
// loopback name and through no proxy: a page of another site whose name was
// pointed at 127.0.0.1 carries that site's name as Host.
func fromLoopback(r *http.Request) bool {
	if r.Header.Get("Sec-Fetch-Site") == "cross-site" { // another site's page, which could not read the answer but can make work
		return false
	}
	for _, header := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Forwarded", "Via"} {
		if r.Header.Get(header) != "" {
			return false
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !isLoopback(host) {
		return false
	}
	name := r.Host
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		name = host
	}
	return isLoopback(strings.Trim(name, "[]"))
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
