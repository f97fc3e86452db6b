package books

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// Finding is one thing that was looked at in an explanation.
type Finding struct {
	What   string `json:"what"`
	Holds  bool   `json:"holds"`
	Detail string `json:"detail"`
}

// VerifyExplanation recomputes a file of Explain with nothing but the file: its
// signature, the line's place in the chain, its statement, the price lists'
// versions, the rating of the days' sums, and the pods that these are of. key is the
// public key that is trusted; nil takes the file's own. An error is a file that
// cannot be read.
func VerifyExplanation(file []byte, key ed25519.PublicKey) (Explanation, []Finding, error) {
	var e Explanation
	z, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		return e, nil, fmt.Errorf("read explanation: it is no file of `accumulus explain`: %w", err)
	}
	body, err := io.ReadAll(io.LimitReader(z, maxUnpacked))
	var signed signedExplanation
	if err == nil {
		err = json.Unmarshal(body, &signed)
	}
	if err == nil {
		err = json.Unmarshal([]byte(signed.Text), &e)
	}
	if err != nil {
		return e, nil, fmt.Errorf("read explanation: it is no whole file of `accumulus explain`: %w", err)
	}
	if e.Format != explanationFormat {
		return e, nil, fmt.Errorf("read explanation: its form is %q, and this program reads %s", e.Format, explanationFormat)
	}
	detail := "by the key that was given"
	if key == nil {
		key, detail = signed.PublicKey, "by the key in the file: give the leader's with --public-key to know whose it is"
	}
	valid := len(key) == ed25519.PublicKeySize && ed25519.Verify(key, explanationMessage(signed.Text), signed.Signature)
	if !valid {
		detail = "it is not signed by that key, or was changed"
	}
	findings := []Finding{{"signature of the file", valid, detail}}
	findings = append(findings, e.verifyChain(key)...)
	findings = append(findings, e.verifySeal()...)
	switch e.Line.Kind {
	case KindRefund:
		return e, append(findings, Finding{"rating", true, "not recomputed: the line is a refund, with the reason " + strconv.Quote(e.Line.Reason)}), nil
	case KindCorrection:
		if len(e.Days) > 0 {
			findings = append(findings, e.verifyLists())
		}
		return e, append(findings, e.verifyCorrection()), nil
	}
	findings = append(findings, e.verifyLists(), e.verifyRating())
	if e.Line.ofPods() {
		findings = append(findings, e.verifyPods())
	}
	if len(e.Meters) > 0 {
		findings = append(findings, e.verifyMeters())
	}
	return e, findings, nil
}

// verifyChain looks at the line's links and its statement.
func (e Explanation) verifyChain(key ed25519.PublicKey) []Finding {
	const what = "place in the chain"
	if len(e.Links) == 0 {
		return []Finding{{what, false, "the file has no line of the statement"}}
	}
	chain := Chain{Customer: e.Line.Customer, PublicKey: key}
	found := false
	previous := e.Links[0].Previous
	lines := make([]Line, len(e.Links))
	for i, link := range e.Links {
		var err error
		if lines[i], err = verifyLink(chain, link, e.Links[0].Seq+int64(i), previous); err != nil {
			return []Finding{{what, false, err.Error()}}
		}
		previous = link.Hash
		text, err := canonical(e.Line)
		found = found || err == nil && text == link.Text
	}
	if !found {
		return []Finding{{what, false, "the line is none of its statement's"}}
	}
	findings := []Finding{{what, true, fmt.Sprintf("line %s, one of %d of statement %d; hashes and signatures hold", e.Line.ID, len(lines), e.Statement.Number)}}
	var s Statement
	switch {
	case !ed25519.Verify(key, statementMessage(e.Line.Customer, e.Statement.Number, e.Statement.Text), e.Statement.Signature):
		return append(findings, Finding{"statement", false, "its signature does not hold, or its text was changed"})
	case json.Unmarshal([]byte(e.Statement.Text), &s) != nil || s.Head != previous || s.FirstLine != e.Links[0].Seq || s.LineCount != len(lines):
		return append(findings, Finding{"statement", false, "it has other lines"})
	}
	sum, err := total(lines)
	rest, err2 := minus(sum, s.Total)
	holds := err == nil && err2 == nil && isZero(rest)
	return append(findings, Finding{"statement", holds, fmt.Sprintf("its lines come to %s %s, its total is %s", sum, s.Currency, s.Total)})
}

// verifySeal holds the archived days of the period against their digest in the
// statement. One from before there were such has none.
func (e Explanation) verifySeal() []Finding {
	const what = "archived days"
	var s Statement
	if json.Unmarshal([]byte(e.Statement.Text), &s) != nil || s.Archive == nil {
		return nil // what cannot be read, the statement's own finding says
	}
	if err := VerifySeal(s, Seal{Days: e.Sealed}); err != nil {
		return []Finding{{what, false, err.Error()}}
	}
	detail := plural.Of(len(e.Sealed), "day of a cluster", "days of clusters") + " with the hashes of their manifests come to the statement's digest"
	if s.Archive.Unsettled > 0 {
		detail += fmt.Sprintf("; %d had not settled", s.Archive.Unsettled)
	}
	return []Finding{{what, true, detail}}
}

// verifyLists holds each version of a price list against its text.
func (e Explanation) verifyLists() Finding {
	var who []string
	for _, l := range e.Lists {
		sum := sha256.Sum256(l.Spec)
		if _, hash, ok := strings.Cut(l.Version, "#"); !ok || hash != fmt.Sprintf("%x", sum[:4]) {
			return Finding{"price lists", false, l.Version + " has another text than when it was used"}
		}
		who = append(who, fmt.Sprintf("%s by %s at %s", l.Version, l.By, l.Recorded.Format(time.RFC3339)))
	}
	return Finding{"price lists", len(who) > 0, strings.Join(who, "; ")}
}

// verifyRating rates the days again.
func (e Explanation) verifyRating() Finding {
	const what = "rating of the days' sums"
	lines, err := e.rate()
	if err != nil {
		return Finding{what, false, err.Error()}
	}
	for _, line := range lines {
		if line.identity() != e.Line.identity() {
			continue
		}
		same := line.Quantity == e.Line.Quantity && line.Cost == e.Line.Cost && line.ListCost == e.Line.ListCost && line.UnitPrice == e.Line.UnitPrice && slices.Equal(line.Shares, e.Line.Shares)
		detail := fmt.Sprintf("%d days of clusters come to %s %s, %s %s", len(e.Days), line.PricingQuantity, line.Unit, line.Cost, line.Currency)
		if !same {
			detail += fmt.Sprintf("; the line says %s %s, %s", e.Line.PricingQuantity, e.Line.Unit, e.Line.Cost)
		}
		return Finding{what, same, detail}
	}
	return Finding{what, false, "the days come to no such line"}
}

// rate makes the lines of the days.
func (e Explanation) rate() ([]Line, error) {
	zone, err := time.LoadLocation(e.Zone)
	if err != nil {
		return nil, err
	}
	c := Calendar{Customer: e.Line.Customer, Period: e.Line.ChargePeriod, Window: schema.Window{From: e.From, To: e.To}, Zone: zone}
	t := newTally()
	for _, d := range e.Days {
		packed, err := d.Sums.pack()
		if err != nil {
			return nil, err
		}
		day := registry.BookDay{Customer: c.Customer, Cluster: d.Cluster, Window: schema.Window{From: d.From, To: d.To}, Complete: d.Complete, Gaps: "[]", Cells: packed}
		if err := t.add(day); err != nil {
			return nil, err
		}
	}
	rated, err := charge(c, t, e.Currency, e.Exchanges, e.plan)
	return rated.Lines, err
}

func (e Explanation) plan(version string) (*rating.Plan, error) {
	for _, l := range e.Lists {
		if l.Version != version {
			continue
		}
		spec, err := fleet.DecodeSpec(fleet.KindPriceList, l.Name, l.Spec)
		if err != nil {
			return nil, err
		}
		return compile(spec.(fleet.PriceList), version, e.Line.Customer, nil)
	}
	return nil, fmt.Errorf("price list %s is not in the file", version)
}

// verifyPods holds each day's sums by namespace against its pods.
func (e Explanation) verifyPods() Finding {
	const what = "pods of the days"
	compared, without := 0, 0
	for _, d := range e.Days {
		if len(d.Pods) == 0 {
			if len(d.Sums.Groups) > 0 {
				without++
			}
			continue
		}
		if namespace, rest := d.unexplained(e.Line.Resource); rest != 0 {
			return Finding{what, false, fmt.Sprintf("%s of %s on %s: the pods come to %d stored units less than its sum", namespace, d.Cluster, d.Date, rest)}
		}
		compared++
	}
	detail := "the pods of " + plural.Of(compared, "day", "days") + " come to their sums"
	if without > 0 {
		detail += "; of " + plural.Of(without, "day", "days") + " the rows per pod had been deleted or revised when the file was made"
	}
	return Finding{what, true, detail}
}
