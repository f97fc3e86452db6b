package books

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// basis is what a correction comes of: the closed period's days as they were known
// when it was applied, and what was billed for it until then.
type basis struct {
	Days      []basisDay        `json:"days"`
	Billed    []Line            `json:"billed"`
	Currency  string            `json:"currency,omitempty"`
	Exchanges []rating.Exchange `json:"exchanges,omitempty"`

	days     []registry.BookDay
	seen     registry.BookSeen // of the customer
	withheld []Withheld        // by the last correction of the period
}

// basisDay is a day as the basis keeps it.
type basisDay struct {
	Cluster     string    `json:"cluster"`
	From        time.Time `json:"from"`
	To          time.Time `json:"to"`
	Revision    int64     `json:"revision"`
	Fingerprint string    `json:"fingerprint"`
	Expected    int64     `json:"expected"`
	Received    int64     `json:"received"`
	Complete    bool      `json:"complete"`
	Gaps        string    `json:"gaps"`
	Cells       []byte    `json:"cells"`
}

func (of basis) pack() ([]byte, error) {
	for _, d := range of.days {
		of.Days = append(of.Days, basisDay{d.Cluster, d.Window.From, d.Window.To, d.Revision, d.Fingerprint, d.Expected, d.Received, d.Complete, d.Gaps, d.Cells})
	}
	return packJSON("what a correction comes of", of)
}

func unpackBasis(packed []byte) (basis, error) {
	of, err := unpackJSON[basis]("what a correction comes of", packed)
	if err != nil {
		return of, err
	}
	for _, d := range of.Days {
		of.days = append(of.days, registry.BookDay{Cluster: d.Cluster, Window: schema.Window{From: d.From.UTC(), To: d.To.UTC()}, Revision: d.Revision,
			Fingerprint: d.Fingerprint, Expected: d.Expected, Received: d.Received, Complete: d.Complete, Gaps: d.Gaps, Cells: d.Cells})
	}
	return of, nil
}

// explainCorrection adds what a correction's line was computed from. Corrections that
// were applied before that was kept have none.
func (b *Books) explainCorrection(ctx context.Context, c Calendar, statement int64, e *Explanation) error {
	corrections, err := b.registry.BookCorrections(ctx, c.Customer, c.Period)
	if err != nil {
		return err
	}
	for _, one := range corrections {
		var applied Correction
		if err := json.Unmarshal([]byte(one.Text), &applied); err != nil {
			return fmt.Errorf("correction %d of %s: %w", one.ID, c.Customer, err)
		}
		mine := slices.ContainsFunc(applied.Lines, func(l Line) bool {
			return l.identity() == e.Line.identity() && l.Cost == e.Line.Cost && l.Quantity == e.Line.Quantity
		})
		if one.Statement != statement || !mine {
			continue
		}
		packed, err := b.registry.BookBasis(ctx, one.ID)
		if errors.Is(err, registry.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		of, err := unpackBasis(packed)
		if err != nil {
			return err
		}
		for _, l := range of.Billed {
			if l.identity() == e.Line.identity() {
				e.Billed = append(e.Billed, l)
			}
		}
		e.Currency, e.Exchanges = of.Currency, of.Exchanges
		versions := make(map[string]bool)
		for _, d := range of.days {
			day, err := explainedDay(c, d, e.Line)
			if err != nil {
				return err
			}
			for version := range day.Sums.Held {
				versions[version] = true
			}
			e.Days = append(e.Days, day)
		}
		return b.explainLists(ctx, versions, e)
	}
	return nil
}

// verifyCorrection computes a correction's line anew: what its days come to, less what
// was billed.
func (e Explanation) verifyCorrection() Finding {
	const what = "what the correction comes of"
	if len(e.Days) == 0 {
		return Finding{what, true, "not in the file: it was applied before that was kept, with the reason " + fmt.Sprintf("%q", e.Line.Reason)}
	}
	rated, err := e.rate()
	if err != nil {
		return Finding{what, false, err.Error()}
	}
	for i := range e.Billed {
		if id := e.Billed[i].ID; id != "" && !slices.ContainsFunc(e.Corrected, func(l registry.BookLine) bool {
			text, err := canonical(e.Billed[i])
			return err == nil && lineID(e.Line.Customer, l.Seq) == id && l.Text == text
		}) {
			return Finding{what, false, "line " + id + " was billed with another text"}
		}
	}
	mine := slices.DeleteFunc(rated, func(l Line) bool { return l.identity() != e.Line.identity() })
	closed := Period{Customer: e.Line.Customer, Period: e.Line.ChargePeriod, progress: progress{Currency: e.Line.Currency, Statement: e.Line.Statement}}
	lines, err := differences(mine, e.Billed, closed)
	if err != nil || len(lines) != 1 {
		return Finding{what, false, fmt.Sprintf("its days come to %s of it: %v", plural.Of(len(lines), "line", "lines"), err)}
	}
	got, err := lines[0].withheldAs(e.Line)
	if err != nil {
		return Finding{what, false, err.Error()}
	}
	same := got.Quantity == e.Line.Quantity && got.Cost == e.Line.Cost && got.ListCost == e.Line.ListCost && slices.Equal(got.Shares, e.Line.Shares)
	detail := fmt.Sprintf("%d days of clusters, less %s that were billed, come to %s %s, %s %s", len(e.Days), plural.Of(len(e.Billed), "line", "lines"), got.PricingQuantity, got.Unit, got.Cost, got.Currency)
	if !same {
		detail += fmt.Sprintf("; the line says %s %s, %s", e.Line.PricingQuantity, e.Line.Unit, e.Line.Cost)
	}
	return Finding{what, same, detail}
}
