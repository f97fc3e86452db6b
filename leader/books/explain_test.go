package books

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/registry"
)

// TestExplainAndVerify: each closed line is recomputed from its file alone, also
// where rows per pod are gone; and each change of a file is found, even one that is
// signed.
func TestExplainAndVerify(t *testing.T) {
	w, _ := randomWorld(t, rand.New(rand.NewPCG(3, 7)), "Europe/Amsterdam", "2026-10")
	s := w.close("acme", "2026-10")
	ctx := t.Context()
	w.podsSince = time.Date(2026, 10, 20, 0, 0, 0, 0, time.UTC)
	key := signer{w.private}
	for number := int64(1); number <= int64(s.LineCount); number++ {
		file, err := w.Explain(ctx, "acme", number)
		if err != nil {
			t.Fatal(err)
		}
		e, findings, err := VerifyExplanation(file, key.BookKey())
		if err != nil || len(findings) < 5 {
			t.Fatalf("line %d: %v %v", number, findings, err)
		}
		for _, f := range findings {
			if !f.Holds {
				t.Errorf("line %s (%s %s): %s: %s", e.Line.ID, e.Line.Kind, e.Line.Rate, f.What, f.Detail)
			}
		}
		if e.Line.Kind == KindUsage && (len(e.NoPods) == 0 || !strings.Contains(findings[len(findings)-1].Detail, "had been deleted")) {
			t.Errorf("line %s: days without pods %v", e.Line.ID, e.NoPods)
		}
	}
	if _, err := w.Explain(ctx, "acme", int64(s.LineCount)+1); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("a line that is not there: %v", err)
	}
	file, err := w.Explain(ctx, "acme", 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(e *Explanation)
		what   string
	}{
		"a sum":         {func(e *Explanation) { e.Days[3].Sums.Groups[0].Quantities["cpu_used"]++ }, "rating of the days' sums"},
		"a day less":    {func(e *Explanation) { e.Days = e.Days[1:] }, "rating of the days' sums"},
		"a pod":         {func(e *Explanation) { e.Days[len(e.Days)-1].Pods[0].Quantity-- }, "pods of the days"},
		"a price":       {func(e *Explanation) { e.Lists[0].Spec = bytes.Replace(e.Lists[0].Spec, []byte("0."), []byte("1."), 1) }, "price lists"},
		"the line":      {func(e *Explanation) { e.Line.Cost = "0.01" }, "place in the chain"},
		"a link":        {func(e *Explanation) { e.Links[1].Text = strings.Replace(e.Links[1].Text, "quantity", "quantitz", 1) }, "place in the chain"},
		"no links":      {func(e *Explanation) { e.Links = nil }, "place in the chain"},
		"the statement": {func(e *Explanation) { e.Statement.Text += " " }, "statement"},
	} {
		for _, resign := range []bool{false, true} {
			changed := rewritten(t, file, test.change, key, resign)
			_, findings, err := VerifyExplanation(changed, key.BookKey())
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			wrong := map[string]bool{}
			for _, f := range findings {
				wrong[f.What] = wrong[f.What] || !f.Holds
			}
			if !wrong[test.what] || wrong["signature of the file"] == resign {
				t.Errorf("%s, signed again %t: %+v", name, resign, findings)
			}
		}
	}
	if _, _, err := VerifyExplanation([]byte("x"), nil); err == nil {
		t.Error("no file was read")
	}
	if _, findings, err := VerifyExplanation(file, make([]byte, 32)); err != nil || findings[0].Holds {
		t.Errorf("another leader's key: %v %v", findings, err)
	}
}

// rewritten is a file with something changed, and signed again or not.
func rewritten(t *testing.T, file []byte, change func(e *Explanation), key signer, resign bool) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	var signed signedExplanation
	var e Explanation
	if err := json.Unmarshal(body, &signed); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(signed.Text), &e); err != nil {
		t.Fatal(err)
	}
	change(&e)
	if signed.Text, err = canonical(e); err != nil {
		t.Fatal(err)
	}
	if resign {
		signed.Signature = key.SignBook(explanationMessage(signed.Text))
	}
	out, err := pressed(signed)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func FuzzVerifyExplanation(f *testing.F) {
	good, _ := pressed(signedExplanation{Text: `{"format":"accumulus-explanation/1"}`})
	f.Add(good)
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, file []byte) {
		_, findings, err := VerifyExplanation(file, nil)
		if err == nil && findings[0].Holds {
			t.Errorf("a file of chance holds")
		}
	})
}

// TestExplainCorrections: a correction is computed anew from its file alone, also the
// second one of a line and after later revisions; and each change of the file is found.
func TestExplainCorrections(t *testing.T) {
	w := newWorld(t, december, small("Europe/Amsterdam")...)
	ctx := t.Context()
	w.close("acme", "2026-11")
	at := time.Date(2026, 11, 20, 10, 7, 0, 0, time.UTC)
	for i, cpu := range []int64{7_200_000_000, 3_600_000_000} {
		w.later("edge-a", "shop", at.Add(time.Duration(i)*time.Hour), cpu)
		if _, err := w.Apply(ctx, "acme", "2026-11", "dora", "rows that came late"); err != nil {
			t.Fatal(err)
		}
	}
	w.later("edge-a", "shop", at.Add(5*time.Hour), 99_000_000_000) // after both: the days are others now
	w.clock.Set(time.Date(2027, 1, 3, 0, 0, 0, 0, time.UTC))
	w.close("acme", "2026-12")
	key := signer{w.private}
	var corrections []int64
	for _, link := range w.chain("acme").Lines {
		if strings.Contains(link.Text, `"kind":"correction"`) {
			corrections = append(corrections, link.Seq)
		}
	}
	if len(corrections) != 2 {
		t.Fatalf("corrections %v", corrections)
	}
	for _, number := range corrections {
		file, err := w.Explain(ctx, "acme", number)
		if err != nil {
			t.Fatal(err)
		}
		_, findings, err := VerifyExplanation(file, key.BookKey())
		if err != nil {
			t.Fatal(err)
		}
		last := findings[len(findings)-1]
		for _, f := range findings {
			if !f.Holds {
				t.Errorf("line %d: %s: %s", number, f.What, f.Detail)
			}
		}
		if !strings.Contains(last.Detail, "30 days of clusters, less") {
			t.Errorf("line %d: %s", number, last.Detail)
		}
		for name, change := range map[string]func(e *Explanation){
			"a sum":     func(e *Explanation) { e.Days[19].Sums.Groups[0].Quantities["cpu_used"] += 3_600_000_000 },
			"billed":    func(e *Explanation) { e.Billed[0].Quantity++ },
			"less":      func(e *Explanation) { e.Billed = e.Billed[1:] },
			"the price": func(e *Explanation) { e.Lists[0].Spec = bytes.Replace(e.Lists[0].Spec, []byte("0.03"), []byte("0.04"), 1) },
		} {
			_, findings, err := VerifyExplanation(rewritten(t, file, change, key, true), key.BookKey())
			if err != nil {
				t.Fatal(err)
			}
			wrong := false
			for _, f := range findings {
				wrong = wrong || !f.Holds
			}
			if !wrong {
				t.Errorf("line %d: %s was changed, and nothing is found: %+v", number, name, findings)
			}
		}
	}
}
