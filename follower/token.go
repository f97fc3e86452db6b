package follower

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/accumulus-metering/accumulus/internal/reread"
)

// role is what a bearer token may do.
type role uint8

const (
	nobody role = iota
	viewer      // status, SELECT
	leader      // the same, and writing results
)

// tokens are those of both roles. A file is read again when it has changed, so
// that a token can be replaced without a restart and without a moment in which
// neither the old nor the new one is taken: the leader's file may hold both.
type tokens struct {
	mu             sync.Mutex
	leader, viewer tokenFile
}

// tokenFile is a file of tokens, one a line.
type tokenFile struct {
	path   string
	most   int // tokens at a time
	file   reread.Files
	hashes [][sha256.Size]byte
}

// openTokens reads the tokens, or makes those that are not there.
func (f *Follower) openTokens() error {
	made := &tokens{leader: tokenFile{path: f.config.LeaderTokenFile(), most: 2}, viewer: tokenFile{path: f.config.ViewerTokenFile(), most: 1}}
	for _, file := range []struct {
		*tokenFile
		own bool
	}{{&made.leader, f.config.LeaderToken == ""}, {&made.viewer, f.config.ViewerToken == ""}} {
		if _, err := os.Stat(file.path); file.own && errors.Is(err, os.ErrNotExist) {
			if err := makeToken(file.path); err != nil {
				return err
			}
		}
		file.file = reread.Look(file.path)
		if err := file.read(); err != nil {
			return err
		}
	}
	if made.leader.shares(made.viewer) {
		return errSameToken
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens = made
	return nil
}

var errSameToken = errors.New("leader's and viewer's token are the same")

// LeaderTokenFile is where the leader's token stands.
func (c Config) LeaderTokenFile() string {
	return cmp.Or(c.LeaderToken, filepath.Join(c.Dir, "leader.token"))
}

// ViewerTokenFile is where the viewer's token stands.
func (c Config) ViewerTokenFile() string {
	return cmp.Or(c.ViewerToken, filepath.Join(c.Dir, "viewer.token"))
}

// read reads the file.
func (t *tokenFile) read() error {
	text, err := os.ReadFile(t.path)
	if err != nil {
		return fmt.Errorf("read token: %w", err)
	}
	var hashes [][sha256.Size]byte
	for line := range strings.Lines(string(text)) {
		token := strings.TrimSpace(line)
		switch {
		case token == "":
			continue
		case len(token) < 16:
			return fmt.Errorf("read token: %s holds one of fewer than 16 characters", t.path)
		case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
			return fmt.Errorf("read token: %s holds a line that is no token, which is one word without accents", t.path)
		}
		hashes = append(hashes, sha256.Sum256([]byte(token)))
	}
	if len(hashes) == 0 {
		return fmt.Errorf("read token: %s holds none", t.path)
	}
	if len(hashes) > t.most {
		return fmt.Errorf("read token: %s holds %d tokens, at most %d are taken", t.path, len(hashes), t.most)
	}
	t.hashes = hashes
	return nil
}

// has compares with every token, in constant time each.
func (t *tokenFile) has(hash [sha256.Size]byte) bool {
	found := 0
	for _, known := range t.hashes {
		found |= subtle.ConstantTimeCompare(hash[:], known[:])
	}
	return found == 1
}

func (t *tokenFile) shares(other tokenFile) bool { return slices.ContainsFunc(t.hashes, other.has) }

// refresh takes over files that have changed. Of one that cannot be taken the old
// tokens stay, so that a slip does not lock the leader out.
func (t *tokens) refresh(log *slog.Logger) {
	for _, one := range []struct {
		file, other *tokenFile
	}{{&t.leader, &t.viewer}, {&t.viewer, &t.leader}} {
		if !one.file.file.Changed() {
			continue
		}
		next := *one.file
		err := next.read()
		if err == nil && next.shares(*one.other) {
			err = errSameToken
		}
		if err != nil {
			log.Warn("a changed token file is not taken", "file", next.path, "err", err)
			next.hashes = one.file.hashes
		} else {
			log.Info("tokens were read again", "file", next.path, "tokens", len(next.hashes))
		}
		*one.file = next
	}
}

// makeToken writes a random token that only its owner can read, whole or not
// at all.
func makeToken(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make token: %w", err)
	}
	random := make([]byte, 32)
	if _, err := rand.Read(random); err != nil {
		return fmt.Errorf("make token: %w", err)
	}
	token := base64.RawURLEncoding.EncodeToString(random)
	if err := os.WriteFile(path+".new", []byte(token+"\n"), 0o600); err != nil {
		return fmt.Errorf("make token: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("make token: %w", err)
	}
	return nil
}

// roleOf is the role of a request, by the token that it carries.
func (f *Follower) roleOf(r *http.Request) role {
	given := credentialOf(r)
	role := f.roleWith(given.token)
	if given.ofViewer && role == leader { // the user viewer is not let in by another's password
		return nobody
	}
	return role
}

// roleWith is the role of who has a token.
func (f *Follower) roleWith(token string) role {
	if token == "" {
		return nobody
	}
	f.mu.Lock()
	known := f.tokens
	f.mu.Unlock()
	if known == nil {
		return nobody
	}
	hash := sha256.Sum256([]byte(token))
	known.mu.Lock()
	defer known.mu.Unlock()
	known.refresh(f.log)
	switch {
	case known.leader.has(hash):
		return leader
	case known.viewer.has(hash):
		return viewer
	}
	return nobody
}
