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
	known := func(c Config, _ prometheus.Registerer) (Directory, error) {
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

// TestMetricsOfTheAccessFile: those of who knows callers are served as long as he does.
// A file that is refused after he was made changes nothing, and one without him ends them.
func TestMetricsOfTheAccessFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.yaml")
	put := func(text string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	made := 0.0
	known := func(c Config, metrics prometheus.Registerer) (Directory, error) {
		if c.Limits.Principal == 9 {
			return nil, nil
		}
		reviews := prometheus.NewCounter(prometheus.CounterOpts{Name: "reviews_total"})
		made++
		reviews.Add(made)
		if err := metrics.Register(reviews); err != nil || c.Limits.Principal == 3 {
			return nil, errors.Join(err, errors.New("another of them cannot be made"))
		}
		return nil, nil
	}
	metrics := prometheus.NewPedanticRegistry()
	served := func() float64 {
		t.Helper()
		all, err := metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range all {
			if one.GetName() == "reviews_total" {
				return one.GetMetric()[0].GetCounter().GetValue()
			}
		}
		return 0
	}
	put("limits: {principal: 1}")
	f, err := OpenFile(path, known, slog.New(slog.DiscardHandler), metrics)
	if err != nil || served() != 1 {
		t.Fatalf("serves those of file %g, %v", served(), err)
	}
	for _, step := range []struct {
		text         string
		served, made float64
	}{
		{"limits: {principal: 2}", 2, 2},
		{"limits: {principal: 3}", 2, 3}, // made, and then refused
		{"limits: {principal: 4}", 4, 4},
		{"limits: {principal: 9}", 0, 4},
		{"limits: {principal: 5}", 5, 5},
	} {
		put(step.text)
		if f.Rules(); served() != step.served || made != step.made {
			t.Errorf("%s: serves those of file %g of %g, want %g of %g", step.text, served(), made, step.served, step.made)
		}
	}
	// The control: who registers the new one where the old one is, before the file is
	// taken, serves what is not in force.
	shared := prometheus.NewRegistry()
	f, err = OpenFile(path, func(c Config, _ prometheus.Registerer) (Directory, error) {
		again := prometheus.NewCounter(prometheus.CounterOpts{Name: "reviews_total"})
		var there prometheus.AlreadyRegisteredError
		if err := shared.Register(again); errors.As(err, &there) {
			shared.Unregister(there.ExistingCollector)
			return nil, errors.Join(shared.Register(again), errors.New("another of them cannot be made"))
		}
		again.Inc() // the one in force has been asked
		return nil, nil
	}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	put("limits: {principal: 3}")
	if f.Rules().Limits.Principal == 3 {
		t.Error("it is taken")
	}
	if n, err := testutil.GatherAndCount(shared, "reviews_total"); err != nil || n != 1 {
		t.Fatalf("%d, %v", n, err)
	}
	if err := testutil.GatherAndCompare(shared, strings.NewReader("# HELP reviews_total \n# TYPE reviews_total counter\nreviews_total 0\n")); err != nil {
		t.Errorf("the control keeps those in force: %v", err)
	}
}
