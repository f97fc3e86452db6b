package client

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
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
