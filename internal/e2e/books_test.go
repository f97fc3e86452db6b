package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/google/go-cmp/cmp"
)

// The month that TestBooks closes: the fleet runs over its end, in UTC.
const billed = "2026-11"

var monthEnds = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)

// pricesOfBooks are told over HTTP, by somebody who may change prices alone.
const pricesOfBooks = `apiVersion: accumulus.dev/v1
kind: PriceList
metadata: {name: standard}
spec:
  currency: EUR
  rates:
  - {resource: cpu_used, price: "1.20"}
  - {resource: memory, price: "0.40"}
  - {resource: energy, price: "31"}
  - {resource: "fee:platform", per: month, price: "250"}
`

// TestBooks takes a month through its life on a running leader, over HTTP, by what the
// command line is built on, with a token for each person: prices, usage, draft, review,
// the approval of another one, a close with something missing, rows that come late, their
// correction, explanations that are verified without the leader, an export that gives the
// same bytes again, and the statement that bills the correction.
func TestBooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, simulator.Steady(monthEnds.Add(-2*time.Hour)), monthEnds.Add(-70*time.Minute), time.Minute)
	dora, anna := w.centre.person("dora"), w.centre.person("anna")
	changed, err := dora.ApplyChange(t.Context(), []byte(pricesOfBooks), false, client.Change{Reason: "prices of the winter"})
	if err != nil || len(changed.Changes) == 0 {
		t.Fatalf("prices: %+v %v", changed, err)
	}
	w.up()
	w.run(monthEnds.Add(-25 * time.Minute))
	checkPreview(t, dora)
	w.site("steady").link.Store(false)
	w.run(monthEnds.Add(15 * time.Minute))
	checkClose(t, w.centre, dora, anna)
	before, err := dora.Chain(t.Context(), "acme")
	w.check(err)
	w.site("steady").link.Store(true)
	w.run(monthEnds.Add(25 * time.Minute))
	w.centre.again()
	made := checkLateRows(t, dora)
	after, err := dora.Chain(t.Context(), "acme")
	w.check(err)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("a correction changes what is closed: %s", diff)
	}
	t.Run("explain and verify", func(t *testing.T) { checkExplained(t, dora, len(after.Lines)) })
	t.Run("export", func(t *testing.T) { checkSameBytes(t, dora) })
	t.Run("statement of the correction", func(t *testing.T) { checkBilled(t, w, dora, anna, made) })
}

// person is a client with a named token of the role billing.
func (c *centre) person(name string) *client.Client {
	c.Helper()
	made, err := c.client.CreateToken(c.Context(), api.TokenRequest{Wish: identity.Wish{Name: name, Role: "billing"}})
	c.check(err)
	file := filepath.Join(c.world.dir, name+".token")
	c.check(os.WriteFile(file, []byte(string(made.Secret)+"\n"), 0o600))
	own, err := client.New(client.Config{Server: c.url, TokenFile: file})
	c.check(err)
	return own
}

// refused says that an error is the leader's, with a status and a hint.
func refused(t *testing.T, what string, err error, status int, hint string) {
	t.Helper()
	var told *client.Error
	if !errors.As(err, &told) || told.Problem.Status != status || !strings.Contains(client.Hint(err), hint) {
		t.Errorf("%s: %v (%q), want %d and a hint with %q", what, err, client.Hint(err), status, hint)
	}
}

// checkPreview: of a month that goes on there is a draft and a look, and no more.
func checkPreview(t *testing.T, dora *client.Client) {
	t.Helper()
	d, err := dora.DraftBook(t.Context(), "acme", billed, "")
	if err != nil || d.Drafted.By != "dora" || d.Drafted.Claimed || !strings.Contains(d.Preview, "2026-12-01T00:00:00Z") {
		t.Fatalf("draft of a month that goes on: %+v %v", d.Period, err)
	}
	if r, err := dora.LookAtBook(t.Context(), "acme", billed); err != nil || !strings.Contains(r.Preview, "not for approval") {
		t.Errorf("preview %q %v", r.Preview, err)
	}
	_, err = dora.ReviewBook(t.Context(), "acme", billed, "")
	refused(t, "review of a month that goes on", err, http.StatusConflict, "is a preview")
}

// checkClose takes the month from a draft to its statement, by four eyes.
func checkClose(t *testing.T, c *centre, dora, anna *client.Client) {
	t.Helper()
	ctx := t.Context()
	d, err := dora.DraftBook(ctx, "acme", billed, "dora")
	if err != nil || len(d.Lines) < 4 || d.Currency != "EUR" || len(d.Waiting) != 0 || d.Rated.Complete() || d.Preview != "" {
		t.Fatalf("draft %+v %v", d, err)
	}
	if _, err := dora.ReviewBook(ctx, "acme", billed, "dora"); err != nil {
		t.Fatal(err)
	}
	_, err = dora.ApproveBook(ctx, "acme", billed, "")
	refused(t, "approval by who drafted it", err, http.StatusForbidden, "another person")
	_, err = dora.ApproveBook(ctx, "acme", billed, "anna")
	refused(t, "approval in another's name", err, http.StatusForbidden, `"by"`)
	_, err = c.client.ApproveBook(ctx, "acme", billed, "anna")
	refused(t, "approval with the token that several have", err, http.StatusForbidden, "accumulus token create anna --role billing")
	p, err := anna.ApproveBook(ctx, "acme", billed, "")
	if err != nil || p.Approved.By != "anna" || p.Approved.OnePerson {
		t.Fatalf("approved %+v %v", p, err)
	}
	_, err = anna.CloseBook(ctx, "acme", billed, books.CloseRequest{})
	refused(t, "close without what is missing", err, http.StatusUnprocessableEntity, "--estimate-reason")
	s, err := anna.CloseBook(ctx, "acme", billed, books.CloseRequest{Reason: "the link is down"})
	if err != nil || s.ID != "acme-0001" || s.Total != d.Total || s.LineCount != len(d.Lines) || s.Estimate == nil {
		t.Fatalf("statement %+v %v", s, err)
	}
}

// checkLateRows: what came after the close is a correction, once.
func checkLateRows(t *testing.T, dora *client.Client) books.Correction {
	t.Helper()
	ctx := t.Context()
	shown, err := dora.Rerate(ctx, "acme", billed)
	if err != nil || len(shown.Lines) == 0 || len(shown.Waiting) > 0 || shown.Applied {
		t.Fatalf("what has changed: %+v %v", shown, err)
	}
	for range 2 {
		if _, err := dora.CorrectBook(ctx, "acme", billed, "", "rows that came late"); err != nil {
			t.Fatal(err)
		}
	}
	if again, err := dora.Rerate(ctx, "acme", billed); err != nil || len(again.Lines) != 0 || again.Before != shown.After {
		t.Errorf("after the correction: %+v %v", again, err)
	}
	return shown
}

// checkExplained: the file of each line holds without the leader, and one that was
// changed does not.
func checkExplained(t *testing.T, dora *client.Client, lines int) {
	text, err := dora.SeedKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	for number := range int64(lines) {
		file, err := dora.ExplainLine(t.Context(), "acme", number+1)
		if err != nil {
			t.Fatal(err)
		}
		e, findings, err := books.VerifyExplanation(file, key)
		if err != nil || len(findings) < 4 {
			t.Errorf("line %d: %+v %v", number+1, findings, err)
		}
		for _, f := range findings {
			if !f.Holds {
				t.Errorf("line %s (%s): %s: %s", e.Line.ID, e.Line.Rate, f.What, f.Detail)
			}
		}
		other := bytes.Clone(key)
		other[0] ^= 1
		if _, findings, err := books.VerifyExplanation(file, other); err == nil && findings[0].Holds {
			t.Errorf("line %s holds by another key", e.Line.ID)
		}
	}
	chain, err := dora.Chain(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := books.Verify(chain); err != nil {
		t.Error(err)
	}
	chain.Lines[1].Text = strings.Replace(chain.Lines[1].Text, `"cost":"`, `"cost":"1`, 1)
	var broken *books.BrokenError
	if _, err := books.Verify(chain); !errors.As(err, &broken) || broken.Line != "acme/2" {
		t.Errorf("a changed line: %v", err)
	}
}

// checkSameBytes: an export of the closed month is the same each time.
func checkSameBytes(t *testing.T, dora *client.Client) {
	values := url.Values{"period": {billed}, "format": {"focus"}, "customer": {"acme"}, "compression": {"parquet"}}
	first, err := dora.ExportFiles(t.Context(), values)
	if err != nil || len(first) == 0 {
		t.Fatalf("%d bytes, %v", len(first), err)
	}
	again, err := dora.ExportFiles(t.Context(), values)
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("%d bytes, then %d others: %v", len(first), len(again), err)
	}
}

// checkBilled takes the cluster out of the fleet, lets the next month end, and closes it:
// its statement has the correction, and the chain holds.
func checkBilled(t *testing.T, w *world, dora, anna *client.Client, made books.Correction) {
	ctx := t.Context()
	w.check(w.centre.client.RemoveCluster(ctx, "steady", false))
	w.site("steady").down()
	for _, gone := range []struct {
		kind fleet.Kind
		name string
	}{{fleet.KindMeter, "meter-a"}, {fleet.KindBox, "box-a"}} { // or a month of its quarters is due
		_, err := w.centre.leader.Registry().Remove(ctx, gone.kind, gone.name, "test")
		w.check(err)
	}
	w.clock.Set(time.Date(2027, 1, 1, 0, 30, 0, 0, time.UTC))
	w.centre.rest()
	w.centre.again()
	d, err := dora.DraftBook(ctx, "acme", "2026-12", "")
	if err != nil || len(d.Waiting) > 0 {
		t.Fatalf("draft %+v %v", d, err)
	}
	if _, err := dora.ReviewBook(ctx, "acme", "2026-12", "dora"); err != nil {
		t.Fatal(err)
	}
	if _, err := anna.ApproveBook(ctx, "acme", "2026-12", ""); err != nil {
		t.Fatal(err)
	}
	request := books.CloseRequest{}
	if !d.Rated.Complete() {
		request.Reason = "the cluster left the fleet"
	}
	if _, err := anna.CloseBook(ctx, "acme", "2026-12", request); err != nil {
		t.Fatal(err)
	}
	text, err := dora.Statement(ctx, "acme", "2026-12", "", "json")
	if err != nil {
		t.Fatal(err)
	}
	var s books.Statement
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	corrections := 0
	for _, l := range s.Lines {
		if l.Kind == books.KindCorrection {
			corrections++
			if l.Statement != 1 || l.ChargePeriod != billed || l.Reason != "rows that came late" || l.By != "dora" || len(l.Corrects) == 0 {
				t.Errorf("correction %+v", l)
			}
		}
	}
	if s.Number != 2 || corrections != len(made.Lines) || !sameMoney(s.Corrections, made.Total) {
		t.Errorf("statement %d has %d corrections of %s, want %d of %s", s.Number, corrections, s.Corrections, len(made.Lines), made.Total)
	}
	chain, err := dora.Chain(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	if found, err := books.Verify(chain); err != nil || found.Statements != 2 {
		t.Errorf("%+v %v", found, err)
	}
}
