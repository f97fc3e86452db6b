package client

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

func TestTokenFileThatHoldsNone(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		fine bool
	}{
		"a token":       {"abc_DEF-123\n", true},
		"empty":         {"", false},
		"two lines":     {"root:x:0:0\nbin:x:1:1\n", false},
		"binary":        {"\x7fELF\x00", false},
		"not ASCII":     {"schlüssel", false},
		"several words": {"Bearer abc", false},
	} {
		path := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := New(Config{TokenFile: path})
		if (err == nil) != test.fine {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (!strings.Contains(err.Error(), path) || test.text != "" && strings.Contains(err.Error(), test.text)) {
			t.Errorf("%s: %v: want the file's name and nothing of its content", name, err)
		}
	}
}

// TestClusterNamesLeadNowhereElse: a name that would be another address is
// refused before anything is asked, and a redirect is no success.
func TestClusterNamesLeadNowhereElse(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		http.Redirect(w, r, "/elsewhere", http.StatusMovedPermanently)
	}))
	defer server.Close()
	c, err := New(Config{Server: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "..", "x/../edge-a", "a?b", "a#b", "a%2fb", "Ä"} {
		_, err := c.Completeness(t.Context(), name, "")
		if name == "" || name == "." || name == ".." {
			_, draft := c.DraftBook(t.Context(), name, "2026-11", "dora")
			_, month := c.DraftBook(t.Context(), "acme", name, "dora")
			_, history := c.Chain(t.Context(), name)
			if draft == nil || month == nil || history == nil || asked > 0 {
				t.Errorf("the books of %q: %v, %v, %v, asked %d times", name, draft, month, history, asked)
			}
		}
		if add, remove := c.AddCluster(t.Context(), name, fleet.Cluster{}), c.RemoveCluster(t.Context(), name, false); err == nil || add == nil || remove == nil || asked > 0 {
			t.Errorf("%q: %v, %v, %v, asked %d times", name, err, add, remove, asked)
		}
	}
	if err := c.RemoveCluster(t.Context(), "edge-a", false); err == nil || asked != 1 {
		t.Errorf("a redirect: %v, asked %d times", err, asked)
	}
}

// TestHintsAreOfTheCommandLine: where the API says what to send, the command
// line says what to type.
func TestHintsAreOfTheCommandLine(t *testing.T) {
	for want, problem := range map[string]api.Problem{
		"Add --all.":  {Hint: "Send {}.", Command: "Add --all."},
		"Try --help.": {Hint: "Try --help."},
	} {
		if got := Hint(&Error{Problem: problem}); got != want {
			t.Errorf("%+v: %q, want %q", problem, got, want)
		}
	}
}
