package roots

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestClient(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	base := &http.Client{}
	if same, err := Client(base, ""); err != nil || same != base {
		t.Errorf("without a file: %v, %v", same, err)
	}
	if _, err := base.Get(server.URL); err == nil {
		t.Error("control: the system's roots trust a server of a test")
	}
	trusting, err := Client(base, file)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := trusting.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close() // it has none
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Client(base, file); err == nil || !strings.Contains(err.Error(), "holds no certificate") {
		t.Errorf("a file without one: %v", err)
	}
	if _, err := Client(base, file+".gone"); !os.IsNotExist(err) {
		t.Errorf("a file that is not there: %v", err)
	}
}
