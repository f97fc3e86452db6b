package books

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/prometheus/client_golang/prometheus"
)

// as is a context of a caller who shows a token.
func as(t *testing.T, via string) context.Context {
	return identity.With(t.Context(), identity.Principal{Name: "operator", Role: identity.Operator, Via: via})
}

// TestApprovalTakesTwoWhoAreKnown: with a token that several may have nobody approves,
// and what was drafted with it was drafted by nobody in particular.
func TestApprovalTakesTwoWhoAreKnown(t *testing.T) {
	w := newWorld(t, december, small("UTC")...)
	shared, own := as(t, identity.ViaFile), as(t, identity.ViaToken)
	reviewed := func(ctx context.Context) {
		t.Helper()
		if _, err := w.Draft(ctx, "acme", "2026-11", "dora"); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Review(ctx, "acme", "2026-11", "dora"); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name            string
		drafted, approv context.Context
		by, hint        string
	}{
		{"both with the token that several have", shared, shared, "anna", "accumulus token create anna --role billing"},
		{"the approval with it", own, shared, "anna", "accumulus token create anna --role billing"},
		{"the demo's viewer", own, as(t, identity.ViaDemo), "", "accumulus token create anna --role billing"},
		{"the draft with it", shared, own, "anna", "draft it again with a token of his own"},
		{"one person with a token of his own", own, own, "Dora", "another person"},
	} {
		reviewed(test.drafted)
		_, err := w.Approve(test.approv, "acme", "2026-11", test.by)
		if told, ok := errors.AsType[*Error](err); !ok || told.Kind != ErrFourEyes || !strings.Contains(told.Hint+told.Command, test.hint) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	reviewed(own)
	p, err := w.Approve(own, "acme", "2026-11", "anna")
	if err != nil || p.Approved.OnePerson || p.Approved.Claimed {
		t.Errorf("two who are known: %+v %v", p.Approved, err)
	}
}

// TestOnePersonIsOnRecord: who lets one person do both has that in the chain.
func TestOnePersonIsOnRecord(t *testing.T) {
	for _, test := range []struct {
		name      string
		via       string
		approver  string
		onePerson bool
	}{{"alone", identity.ViaFile, "dora", true}, {"alone, by name", identity.ViaToken, "dora", true}, {"two persons", identity.ViaToken, "anna", false}} {
		w := newWorld(t, december, small("UTC")...)
		var err error
		if w.Books, err = New(Config{OnePerson: true, Archive: w.archive}, w.reg, w, signer{w.private}, w.clock, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err != nil {
			t.Fatal(err)
		}
		ctx := as(t, test.via)
		if _, err := w.Draft(ctx, "acme", "2026-11", "dora"); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Review(ctx, "acme", "2026-11", "dora"); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Approve(ctx, "acme", "2026-11", test.approver); err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if _, err := w.Close(ctx, "acme", "2026-11", CloseRequest{By: test.approver}); err != nil {
			t.Fatal(err)
		}
		chain := w.chain("acme")
		for i, link := range chain.Lines {
			if strings.Contains(link.Text, `"onePerson":true`) != test.onePerson {
				t.Errorf("%s: line %d: %s", test.name, i+1, link.Text)
			}
		}
		if text := chain.Statements[0].Text; strings.Contains(text, `"onePerson":true`) != test.onePerson || strings.Contains(text, `"claimed":true`) != (test.via == identity.ViaFile) {
			t.Errorf("%s: %s", test.name, text)
		}
		s, err := w.Statement(t.Context(), "acme", "2026-11", 0)
		if err != nil {
			t.Fatal(err)
		}
		if page, err := s.HTML(); err != nil || strings.Contains(string(page), "alone: the operator lets one person") != test.onePerson {
			t.Errorf("%s: %v\n%s", test.name, err, page)
		}
		// Control: who takes the word out of the statement is found.
		if test.onePerson {
			chain.Statements[0].Text = strings.Replace(chain.Statements[0].Text, `,"onePerson":true`, "", 1)
			var broken *BrokenError
			if _, err := Verify(chain); !errors.As(err, &broken) {
				t.Errorf("%s: taken out: %v", test.name, err)
			}
		}
	}
}

// TestOutliersCountFromTheFirstDay: of a customer who began in the month no day is called
// an outlier because there was nothing before; a day that is one still is; and who began
// a few days ago is named as not judged.
func TestOutliersCountFromTheFirstDay(t *testing.T) {
	began := time.Date(2026, 11, 19, 0, 0, 0, 0, time.UTC)
	w := newWorld(t, december, fleet.NewObject("acme", fleet.Customer{}),
		fleet.NewObject("edge-a", fleet.Cluster{Customer: "acme", URL: "http://127.0.0.1:1"}).Since(began),
		fleet.NewObject("edge-b", fleet.Cluster{Customer: "acme", URL: "http://127.0.0.1:2"}).Since(time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)),
		fleet.NewObject("old", fleet.Cluster{Customer: "acme", URL: "http://127.0.0.1:3"}),
		fleet.NewObject("standard", prices(fleet.Rate{Resource: "cpu_used", Price: "0.03"})))
	w.namespaces["old"] = []string{"steady"}
	w.later("edge-a", "shop", time.Date(2026, 11, 24, 10, 7, 0, 0, time.UTC), 1<<40)
	if _, err := w.Draft(t.Context(), "acme", "2026-11", "dora"); err != nil {
		t.Fatal(err)
	}
	r, err := w.Look(t.Context(), "acme", "2026-11")
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Outliers) != 1 || r.Outliers[0].Day != "2026-11-24" || r.Outliers[0].Namespace != "shop" || r.Outliers[0].Resource != "cpu_used" {
		t.Errorf("outliers %+v", r.Outliers)
	}
	if len(r.NotJudged) != 1 || r.NotJudged[0] != "edge-b/lab since 2026-11-27" || r.Preview != "" {
		t.Errorf("not judged %q, preview %q", r.NotJudged, r.Preview)
	}
	// Control: with the days before its first as 0, each of its days is one.
	rates := make([]float64, 28)
	for i := 16; i < 28; i++ {
		rates[i] = 1
	}
	if _, deviations := outlying(rates); deviations[20] == 0 {
		t.Error("the control finds nothing: the test sees nothing")
	}
}

// TestWhoVouchesForAFailureIsKnown: who records a failure, or takes its dismissal back,
// does not approve its refund, so he does neither with a token that several may have.
func TestWhoVouchesForAFailureIsKnown(t *testing.T) {
	w := failedWorld(t, died.Add(-time.Hour))
	shared, own := as(t, identity.ViaFile), as(t, identity.ViaToken)
	request := FailureRequest{Cluster: "edge-a", Node: "n1", At: died.Add(-2 * time.Hour), Reason: "its power supply burnt", By: "bob"}
	if _, err := w.RecordFailure(shared, request); !errors.Is(err, ErrFourEyes) {
		t.Errorf("recorded with a token that several may have: %v", err)
	}
	f, err := w.RecordFailure(own, request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.DismissFailure(shared, f.ID, "bob", "it was drained"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ReinstateFailure(shared, f.ID, "bob", "it was another one"); !errors.Is(err, ErrFourEyes) {
		t.Errorf("reinstated with a token that several may have: %v", err)
	}
	if f, err = w.ReinstateFailure(own, f.ID, "bob", "it was another one"); err != nil || !f.Counts {
		t.Errorf("%+v, %v", f, err)
	}
}
