package influxsync

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTokenOfAFile: the token that is sent is the one that stands in the file now;
// without one nothing is sent, and the error names the file.
func TestTokenOfAFile(t *testing.T) {
	var got []string
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusNoContent)
	}))
	defer target.Close()
	path := filepath.Join(t.TempDir(), "token")
	server, err := New(Config{URL: target.URL, TokenFile: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), path) || len(got) > 0 {
		t.Errorf("without the file: %v, sent %v", err, got)
	}
	for _, token := range []string{"first\n", "the next one"} {
		if err := os.WriteFile(path+".new", []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		if err := server.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"Bearer first", "Bearer the next one"}; strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("sent %q, want %q", got, want)
	}
}
