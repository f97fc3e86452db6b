package identity

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestAccessFileIsReadAgain: a change holds from the next request on; what cannot be
// taken changes nothing, is logged and counted, and is mended by the next change.
func TestAccessFileIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.yaml")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	known := func(c Config) (Directory, error) {
		if len(c.OIDC) > 0 {
			return nil, errors.New("its CA cannot be read")
		}
		return Directory{someone{"anna", nil}}, nil
	}
	var log bytes.Buffer
	put("limits: {principal: 1}")
	f, err := OpenFile(path, known, slog.New(slog.NewTextHandler(&log, nil)), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	issuer := "oidc: [{issuer: https://id.example.net, audience: a, roles: [{claim: x, role: viewer}]}]"
	for _, step := range []struct {
		text      string
		principal float64
		proxies   int
		says      string
		stale     float64
	}{
		{"limits: {principal: 2}\nproxies: [10.0.0.0/8]", 2, 1, "was read again", 0},
		{"limits: {principal: 3}\nproxies: [everybody]", 2, 1, "give a network", 1},
		{"limts: {}", 2, 1, "limts", 1},
		{issuer, 2, 1, "its CA", 1},
		{"limits: {principal: 4}", 4, 0, "was read again", 0},
	} {
		log.Reset()
		put(step.text)
		rules := f.Rules()
		if rules.Limits.Principal != step.principal || len(rules.Proxies) != step.proxies || !strings.Contains(log.String(), step.says) || testutil.ToFloat64(f.stale) != step.stale {
			t.Errorf("%s: %+v, stale %g, said %s", step.text, rules, testutil.ToFloat64(f.stale), &log)
		}
		if log.Reset(); f.Rules().Limits.Principal != step.principal || log.Len() > 0 {
			t.Errorf("%s: an unchanged file says %s", step.text, &log)
		}
		if who, err := f.Who(t.Context(), "x"); err != nil {
			t.Errorf("%s: %v %v", step.text, who, err)
		}
	}
	if got := testutil.ToFloat64(f.reads.WithLabelValues("refused")); got != 3 {
		t.Errorf("refused %g times", got)
	}
	if _, err := OpenFile(filepath.Join(t.TempDir(), "none"), known, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err == nil {
		t.Error("a file that is not there is taken at the start")
	}
}
