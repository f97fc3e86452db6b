package follower

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// role is what a bearer token may do.
type role uint8

const (
	nobody role = iota
	viewer      // status, SELECT
	leader      // the same, and writing results
)

// tokens are the hashes of both tokens.
type tokens struct{ leader, viewer [sha256.Size]byte }

// openTokens reads the tokens, or makes those that are not there.
func (f *Follower) openTokens() error {
	leaderToken, err := openToken(f.config.LeaderToken, f.config.LeaderTokenFile())
	if err != nil {
		return err
	}
	viewerToken, err := openToken(f.config.ViewerToken, filepath.Join(f.config.Dir, "viewer.token"))
	if err != nil {
		return err
	}
	if leaderToken == viewerToken {
		return errors.New("leader's and viewer's token are the same")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens = tokens{leader: sha256.Sum256([]byte(leaderToken)), viewer: sha256.Sum256([]byte(viewerToken))}
	return nil
}

// LeaderTokenFile is where the leader's token stands.
func (c Config) LeaderTokenFile() string {
	if c.LeaderToken != "" {
		return c.LeaderToken
	}
	return filepath.Join(c.Dir, "leader.token")
}

func openToken(configured, own string) (string, error) {
	path := configured
	if path == "" {
		path = own
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && configured == "" {
		return makeToken(path)
	}
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if len(token) < 16 {
		return "", fmt.Errorf("read token: %s holds fewer than 16 characters", path)
	}
	return token, nil
}

// makeToken writes a random token that only its owner can read, whole or not
// at all.
func makeToken(path string) (string, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("make token: %w", err)
	}
	random := make([]byte, 32)
	if _, err := rand.Read(random); err != nil {
		return "", fmt.Errorf("make token: %w", err)
	}
	token := base64.RawURLEncoding.EncodeToString(random)
	if err := os.WriteFile(path+".new", []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("make token: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return "", fmt.Errorf("make token: %w", err)
	}
	return token, nil
}

// roleOf is the role of a request's bearer token. Hashes are compared in
// constant time.
func (f *Follower) roleOf(r *http.Request) role {
	given := r.Header.Get(schema.AuthorizationHeader)
	if given == "" {
		given = r.Header.Get("Authorization")
	}
	scheme, token, _ := strings.Cut(given, " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return nobody
	}
	f.mu.Lock()
	known := f.tokens
	f.mu.Unlock()
	if known == (tokens{}) {
		return nobody
	}
	hash := sha256.Sum256([]byte(strings.TrimSpace(token)))
	switch {
	case subtle.ConstantTimeCompare(hash[:], known.leader[:]) == 1:
		return leader
	case subtle.ConstantTimeCompare(hash[:], known.viewer[:]) == 1:
		return viewer
	}
	return nobody
}
