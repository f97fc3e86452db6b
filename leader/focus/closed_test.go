package focus

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/cockroachdb/apd/v3"
	"github.com/google/go-cmp/cmp"
)

// ledger has a closed November of acme: usage, a fee, a minimum, a credit for heat,
// a correction of October and, later, a credit note.
type ledger struct{}

var closedMonth = schema.Window{From: time.Date(2026, 10, 31, 23, 0, 0, 0, time.UTC), To: time.Date(2026, 11, 30, 23, 0, 0, 0, time.UTC)}

func (ledger) List(_ context.Context, customer, period string) ([]books.Period, error) {
	p := books.Period{Customer: "acme", Period: "2026-11", State: books.StateClosed, From: closedMonth.From, To: closedMonth.To, Zone: "Europe/Amsterdam"}
	p.Closed = &books.Done{By: "anna", At: closedMonth.To.Add(time.Hour)}
	if customer != "" && customer != "acme" || period != "" && period != "2026-11" {
		return nil, nil
	}
	return []books.Period{p}, nil
}

func (ledger) Issued(context.Context, string) ([]books.Statement, error) {
	line := func(id, kind, resource string, quantity, base int64, unit, price, cost string, shares ...books.Share) books.Line {
		return books.Line{ID: "acme/" + id, Kind: kind, Customer: "acme", Period: "2026-11", ChargePeriod: "2026-11", ChargeFrom: closedMonth.From, ChargeTo: closedMonth.To,
			Resource: resource, Rate: resource, List: "standard", Version: "standard@always#1", Quantity: quantity, Base: base, PricingQuantity: "1", Unit: unit,
			ListUnitPrice: price, UnitPrice: price, ListCost: cost, Cost: cost, Currency: "EUR", Shares: shares}
	}
	share := func(namespace string, quantity int64, cost string) books.Share {
		return books.Share{Cluster: "edge-a", Namespace: namespace, Project: "web", Quantity: quantity, ListCost: cost, Cost: cost}
	}
	late := line("6", books.KindCorrection, "cpu_used", -3_600_000_000, 3_600_000_000, "core-hour", "0.5", "-0.50", share("shop", -3_600_000_000, "-0.50"))
	late.ChargePeriod, late.ChargeFrom, late.ChargeTo, late.Statement, late.Reason = "2026-10", closedMonth.From.AddDate(0, -1, 0), closedMonth.From, 1, "late rows"
	foreign := line("7", books.KindUsage, "memory_max", 3600<<20, 3600<<20, "GiB-hour", "0.7", "0.64", share("shop", 3600<<20, "0.64"))
	foreign.PriceCurrency, foreign.PriceCost, foreign.PriceListCost, foreign.ExchangeRate, foreign.ExchangeMonth, foreign.ExchangeSource = "USD", "0.70", "0.70", "0.914", "2026-11", "European Central Bank"
	refund := line("8", books.KindRefund, "refund", 0, 0, "", "0", "-1.00")
	refund.Statement = 2
	return []books.Statement{{Customer: "acme", Kind: books.StatementKind, ID: "acme-0002", Number: 2, Period: "2026-11", From: closedMonth.From, To: closedMonth.To, Zone: "Europe/Amsterdam", Total: "13.14", Lines: []books.Line{
		line("1", books.KindUsage, "cpu_used", 9_000_000_000, 3_600_000_000, "core-hour", "0.5", "1.25", share("shop", 5_000_000_000, "0.69"), share("blog", 4_000_000_000, "0.56")),
		line("2", books.KindFee, "fee:platform", 30*86400000, 0, "month", "10", "10.00"), line("3", books.KindMinimum, "minimum", 1, 0, "period", "2.00", "2.00"),
		line("4", books.KindUsage, "heat_credit", 3_600_000_000, 3_600_000_000, "kWh", "0.25", "-0.25", share("shop", 3_600_000_000, "-0.25")), late, foreign}},
		{Customer: "acme", Kind: books.CreditNoteKind, ID: "acme-0003", Number: 3, Period: "2026-11", Refers: 2, From: closedMonth.From, To: closedMonth.To, Zone: "Europe/Amsterdam", Total: "-1.00", Lines: []books.Line{refund}}}, nil
}

// Used is nothing: no days of that ledger are kept.
func (ledger) Used(context.Context, string, string) ([]books.Use, error) { return nil, nil }

// TestClosedMonth: what is closed is rows of its lines' shares, which hold every rule
// of rows and come to the statements; the others are open; a re-run is the same.
func TestClosedMonth(t *testing.T) {
	w := newWorld(t)
	source := Closed{Ledger: ledger{}, Open: w.source(), Parties: w.source().Parties}
	for _, version := range []Version{V14, V12} {
		var runs []map[string]string
		for range 2 {
			dir := t.TempDir()
			prepared, err := Prepare(t.Context(), source, Request{Period: "2026-11", Customer: "acme", RequireComplete: true}, Options{Version: version, Compression: None})
			if err != nil {
				t.Fatal(err)
			}
			if err := prepared.Send(t.Context(), Dir(dir)); err != nil {
				t.Fatal(err)
			}
			if err := prepared.Close(); err != nil {
				t.Fatal(err)
			}
			runs = append(runs, read(t, dir))
		}
		if diff := cmp.Diff(runs[0], runs[1]); diff != "" {
			t.Errorf("%s: a re-run differs: %s", version, diff)
		}
		sums := map[string]*apd.Decimal{}
		closed := false
		for name, text := range runs[0] {
			closed = closed || strings.Contains(name, "billing_periods") && strings.Contains(text, "Closed") && !strings.Contains(text, "Open")
			if !strings.Contains(name, "CostAndUsage") && !strings.Contains(name, "part-0000") || strings.Contains(name, "billing_periods") || !strings.HasSuffix(name, ".csv") {
				continue
			}
			for _, row := range records(t, text) {
				cost, _, err := apd.NewFromString(row["BilledCost"])
				if err != nil {
					t.Fatal(err)
				}
				add(sums, row["InvoiceId"], cost)
				if (row["ChargeClass"] == "Correction") != (row["ChargePeriodEnd"] == "2026-10-31T23:00:00Z") {
					t.Errorf("%s: class %q of the charge until %s", version, row["ChargeClass"], row["ChargePeriodEnd"])
				}
			}
		}
		if diff := cmp.Diff(map[string]string{"acme-0002": "13.14", "acme-0003": "-1"}, texts(sums)); diff != "" || !closed {
			t.Errorf("%s: closed %t, by invoice %s", version, closed, diff)
		}
	}
	open := map[string]bool{}
	if _, err := source.Rows(t.Context(), Request{Period: "2026-11"}, func(r *Row) error {
		if !r.InvoiceID.Valid {
			open[r.BillingAccountID] = true
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if open["acme"] || len(open) == 0 {
		t.Errorf("open accounts %v", open)
	}
}

// TestClosedLinesInAScope: closed lines are of all that a customer has, so who may see
// a part of it is told what is open, which is cut to his scope.
func TestClosedLinesInAScope(t *testing.T) {
	w := newWorld(t)
	source := Closed{Ledger: ledger{}, Open: w.source(), Parties: w.source().Parties}
	closed := func(scope usage.Scope) (rows int) {
		t.Helper()
		if _, err := source.Rows(query.Within(t.Context(), scope), Request{Period: "2026-11", Customer: "acme"}, func(r *Row) error {
			if r.InvoiceID.Valid {
				rows++
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return rows
	}
	if got := closed(usage.Scope{Customers: []string{"acme"}, Namespaces: []string{"shop"}}); got != 0 {
		t.Errorf("%d closed rows for who sees one namespace", got)
	}
	if got := closed(usage.Scope{Customers: []string{"acme"}}); got == 0 { // the control
		t.Error("no closed rows for who sees the customer")
	}
}

// TestPricesOfAnotherCurrency: billed in one, priced in another, with the rate by
// which the one comes from the other.
func TestPricesOfAnotherCurrency(t *testing.T) {
	w := newWorld(t)
	statements, err := ledger{}.Issued(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	line := statements[0].Lines[5]
	r, err := Closed{Parties: w.source().Parties}.row(statements[0], line, line.Shares[0])
	if err != nil {
		t.Fatal(err)
	}
	plain := func(d *apd.Decimal) string {
		var reduced apd.Decimal
		reduced.Reduce(d)
		return reduced.Text('f')
	}
	got := []string{r.BillingCurrency, r.PricingCurrency, plain(r.FxRate), r.FxSource.Value, plain(r.ContractedUnitPrice), plain(r.inPricing(r.ContractedUnitPrice, scalePrice)), plain(r.BilledCost), plain(r.ContractedCost)}
	if diff := cmp.Diff([]string{"EUR", "USD", "0.914", "European Central Bank", "0.6398", "0.7", "0.64", "0.6398"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestFeeOfAPartOfAMonth: how much of a month a fee is for has more decimals than a
// column of FOCUS; an export of a customer who began in the month is none the less one.
func TestFeeOfAPartOfAMonth(t *testing.T) {
	line := books.Line{Kind: books.KindFee, Resource: "fee:platform", Rate: "fee:platform", PricingQuantity: "0.001620370370", Unit: "month",
		ListUnitPrice: "250", UnitPrice: "250", ListCost: "0.41", Cost: "0.41", Currency: "EUR"}
	p, err := productOfLine(line)
	if err != nil {
		t.Fatal(err)
	}
	r := Row{BilledCost: apd.New(41, -2)}
	if err := (Closed{}).charge(&r, line, books.Share{}, p); err != nil {
		t.Fatal(err)
	}
	quantity := column{Name: "PricingQuantity", Type: Decimal, Scale: scaleQuantity}
	if err := quantity.checkNumber(r.PricingQuantity); err != nil || r.PricingQuantity.Text('f') != "0.00162037" {
		t.Errorf("%s: %v", r.PricingQuantity, err)
	}
	if d, err := decimalOf(line.PricingQuantity + "37"); err != nil || quantity.checkNumber(d) == nil { // control
		t.Errorf("a quantity of all decimals is taken: %v", err)
	}
}
