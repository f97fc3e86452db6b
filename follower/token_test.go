package follower

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// withTokens is a follower that has opened its tokens and nothing else.
func withTokens(config Config) (*Follower, error) {
	f := &Follower{config: config, log: slog.New(slog.DiscardHandler)}
	return f, f.openTokens()
}

func (f *Follower) roleOfToken(token string) role {
	request := httptest.NewRequest(http.MethodGet, "/", nil)
	request.Header.Set("Accumulus-Authorization", "Bearer "+token)
	return f.roleOf(request)
}

// put replaces a file as a mounted Secret is replaced: another file takes its name.
func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".next", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".next", path); err != nil {
		t.Fatal(err)
	}
}

func TestTokensAreMadeOnce(t *testing.T) {
	config := Config{Dir: filepath.Join(t.TempDir(), "deep")}
	f, err := withTokens(config)
	if err != nil {
		t.Fatal(err)
	}
	made := make(map[string]bool)
	for path, want := range map[string]role{config.LeaderTokenFile(): leader, config.ViewerTokenFile(): viewer} {
		text, err := os.ReadFile(path)
		if err != nil || len(text) < 40 || made[string(text)] {
			t.Fatalf("token %q, %v", text, err)
		}
		made[string(text)] = true
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		again, err := withTokens(config)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range []*Follower{f, again} {
			if got := f.roleOfToken(strings.TrimSpace(string(text))); got != want {
				t.Errorf("role %d, want %d", got, want)
			}
		}
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	one := filepath.Join(dir, "one")
	put(t, one, "the-only-token-there-is\n")
	for name, test := range map[string]struct{ text, want string }{
		"nothing":     {"\n", "holds none"},
		"short":       {"short\n", "fewer than 16"},
		"not a word":  {"the only token there is\n", "one word"},
		"not text":    {strings.Repeat("\xff\x00", 20), "one word"},
		"three":       {strings.Repeat("a-token-of-the-leader\n", 3), "3 tokens"},
		"the other's": {"the-only-token-there-is", "the same"},
	} {
		path := filepath.Join(dir, "leader")
		put(t, path, test.text)
		if _, err := withTokens(Config{Dir: dir, LeaderToken: path, ViewerToken: one}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	if _, err := withTokens(Config{Dir: dir, LeaderToken: filepath.Join(dir, "absent")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a configured file that is absent: %v", err)
	}
}

// TestTokensAreRotated: from the old token over both to the new one, without a
// restart, there is always one that is taken; what is none changes nothing.
func TestTokensAreRotated(t *testing.T) {
	dir := t.TempDir()
	leaders, viewers := filepath.Join(dir, "leader"), filepath.Join(dir, "viewer")
	const before, after, watches = "the-old-token-of-the-leader", "the-new-token-of-the-leader", "the-token-of-the-viewer"
	put(t, leaders, before+"\n")
	put(t, viewers, watches+"\n")
	f, err := withTokens(Config{Dir: dir, LeaderToken: leaders, ViewerToken: viewers})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name, text string
		old, new   role
	}{
		{"at first", before + "\n", leader, nobody},
		{"both", before + "\n" + after + "\n", leader, leader},
		{"a slip: none", "", leader, leader},
		{"a slip: the viewer's", watches, leader, leader},
		{"the new one", after, nobody, leader},
	} {
		put(t, leaders, step.text)
		if old, new := f.roleOfToken(before), f.roleOfToken(after); old != step.old || new != step.new {
			t.Errorf("%s: roles %d and %d, want %d and %d", step.name, old, new, step.old, step.new)
		}
		if got := f.roleOfToken(watches); got != viewer {
			t.Errorf("%s: the viewer's role is %d", step.name, got)
		}
	}
	if err := os.Remove(leaders); err != nil {
		t.Fatal(err)
	}
	if got := f.roleOfToken(after); got != leader {
		t.Errorf("with the file gone: role %d; the last tokens are to stay", got)
	}
}
