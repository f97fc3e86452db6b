package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPost(t *testing.T) {
	status, got := http.StatusNoContent, ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization") + " " + r.Header.Get("Content-Type")
		http.Error(w, "no thanks, and more than is kept", status)
	}))
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	request := Request{URL: server.URL + "/hidden", TokenFile: token, Header: map[string]string{"Content-Type": "application/json"}, Body: []byte("{}"), Said: 9}
	for _, test := range []struct {
		status         int
		refusal, again string
	}{{200, "", ""}, {400, "400 Bad Request: no thanks", ""}, {408, "", "408"}, {429, "", "429"}, {503, "", "503"}} {
		status = test.status
		refusal, err := Post(t.Context(), server.Client(), request)
		if refusal != test.refusal || (err != nil) != (test.again != "") || err != nil && !strings.Contains(err.Error(), test.again) {
			t.Errorf("%d: refusal %q, %v", test.status, refusal, err)
		}
	}
	if got != "Bearer secret application/json" {
		t.Errorf("it was asked with %q", got)
	}
	server.Close()
	if _, err := Post(t.Context(), http.DefaultClient, request); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("nobody there: %v", err)
	}
	request.TokenFile += ".gone"
	if _, err := Post(t.Context(), http.DefaultClient, request); !os.IsNotExist(unwrapped(err)) {
		t.Errorf("without the token's file: %v", err)
	}
}

func TestCheckURL(t *testing.T) {
	for text, said := range map[string]string{"https://hooks.example/a": "", "http://127.0.0.1:9000": "", "hook": "want http", "ftp://a/b": "want http", "https://": "want http",
		"": "want http", "https://me:secret@a/b": "token belongs in a file", "://": "want http"} {
		err := CheckURL(text)
		if (err != nil) != (said != "") || err != nil && (!strings.Contains(err.Error(), said) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestEventID: parts stand apart, and the id is what receivers have from before.
func TestEventID(t *testing.T) {
	if EventID("a", "b") == EventID("ab") || EventID("a", "") == EventID("a") {
		t.Error("different events have one id")
	}
	sum := sha256.Sum256([]byte("4:acme|2:eu|"))
	if got, want := EventID("acme", "eu"), hex.EncodeToString(sum[:]); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func unwrapped(err error) error {
	if inner, ok := err.(interface{ Unwrap() error }); ok {
		return inner.Unwrap()
	}
	return err
}
