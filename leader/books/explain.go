package books

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
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
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// explanationFormat names the form of an explanation's text.
const explanationFormat = "accumulus-explanation/1"

// Explanation is what a closed line comes from.
type Explanation struct {
	Format string    `json:"format"`
	Made   time.Time `json:"made"`
	Line   Line      `json:"line"`

	// Links are all lines of the line's statement, as they stand in the chain.
	Links     []registry.BookLine `json:"links"`
	Statement IssuedStatement     `json:"statement"`
	// Corrected are the links that a correction corrects.
	Corrected []registry.BookLine `json:"corrected,omitempty"`

	From      time.Time         `json:"from"` // of the period in which it was used
	To        time.Time         `json:"to"`
	Zone      string            `json:"timeZone"`
	Currency  string            `json:"customerCurrency,omitempty"` // "" is the list's
	Exchanges []rating.Exchange `json:"exchanges,omitempty"`

	Lists []ExplainedList `json:"priceLists,omitempty"`
	Days  []ExplainedDay  `json:"days,omitempty"`
	// NoPods are the days, as CLUSTER DATE, of which the rows per pod do not come to the
	// sums any more: they were deleted, or revised since the close.
	NoPods []string `json:"daysWithoutPods,omitempty"`
	// Objects are the nodes, boxes, hardware and meters of the clusters, as they were
	// in the period.
	Objects []fleet.Object `json:"objects,omitempty"`
}

// ExplainedList is a version of a price list, with who recorded it.
type ExplainedList struct {
	Version  string          `json:"version"`
	Name     string          `json:"name"`
	Spec     json.RawMessage `json:"spec"`
	By       string          `json:"recordedBy"`
	Recorded time.Time       `json:"recordedAt"`
}

// ExplainedDay is a sealed day, of the line's resource.
type ExplainedDay struct {
	Cluster     string    `json:"cluster"`
	Date        string    `json:"date"`
	From        time.Time `json:"from"`
	To          time.Time `json:"to"`
	Revision    int64     `json:"revision"`
	Fingerprint string    `json:"fingerprint"`
	Expected    int64     `json:"expected"`
	Received    int64     `json:"received"`
	Complete    bool      `json:"complete"`
	Gaps        []string  `json:"gaps,omitempty"`
	Sums        sheet     `json:"sums"`
	Pods        []PodUse  `json:"pods,omitempty"`
}

// PodUse is what a pod used of the line's resource in a day.
type PodUse struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"` // "" is what has no pod, such as volumes
	Hardware  string `json:"hardware,omitempty"`
	Quantity  int64  `json:"quantity"`
	CoveredMs int64  `json:"coveredMs"`
	UptimeMs  int64  `json:"uptimeMs"`
}

// signedExplanation is an explanation as it travels, in gzip.
type signedExplanation struct {
	Text      string `json:"text"`
	PublicKey []byte `json:"publicKey"`
	Signature []byte `json:"signature"`
}

func explanationMessage(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return fmt.Appendf(nil, "accumulus book explanation\n%x", sum)
}

// Explain is what a closed line comes from, as one signed file: gzip of JSON. Error:
// registry.ErrNotFound.
func (b *Books) Explain(ctx context.Context, customer string, number int64) ([]byte, error) {
	e, err := b.explanation(ctx, customer, number)
	if err != nil {
		return nil, fmt.Errorf("explain line %s: %w", lineID(customer, number), err)
	}
	text, err := canonical(e)
	if err != nil {
		return nil, err
	}
	return pressed(signedExplanation{text, b.signer.BookKey(), b.signer.SignBook(explanationMessage(text))})
}

func pressed(s signedExplanation) ([]byte, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err = z.Write(body)
	err = errors.Join(err, z.Close())
	return out.Bytes(), err
}

func (b *Books) explanation(ctx context.Context, customer string, number int64) (Explanation, error) {
	e := Explanation{Format: explanationFormat, Made: b.now()}
	chain, err := b.Chain(ctx, customer)
	if err != nil {
		return e, err
	}
	if number < 1 || number > int64(len(chain.Lines)) {
		return e, fmt.Errorf("%s has the lines 1 to %d: %w", customer, len(chain.Lines), registry.ErrNotFound)
	}
	link := chain.Lines[number-1]
	if err := json.Unmarshal([]byte(link.Text), &e.Line); err != nil {
		return e, err
	}
	for _, other := range chain.Lines {
		if other.Statement == link.Statement {
			e.Links = append(e.Links, other)
		}
		if slices.Contains(e.Line.Corrects, lineID(customer, other.Seq)) {
			e.Corrected = append(e.Corrected, other)
		}
	}
	if link.Statement < 1 || link.Statement > int64(len(chain.Statements)) {
		return e, fmt.Errorf("statement %d: %w", link.Statement, registry.ErrNotFound)
	}
	e.Statement = chain.Statements[link.Statement-1]
	c, err := b.calendar(ctx, customer, e.Line.ChargePeriod)
	if err != nil {
		return e, err
	}
	e.From, e.To, e.Zone = c.From, c.To, c.Zone.String()
	if e.Line.Kind == KindCorrection || e.Line.Kind == KindRefund {
		return e, nil
	}
	if e.Currency, e.Exchanges, err = b.exchange(ctx, c); err != nil {
		return e, err
	}
	return e, b.explainDays(ctx, c, &e)
}

// explainDays adds the days, with their pods, the price lists and the facts.
func (b *Books) explainDays(ctx context.Context, c Calendar, e *Explanation) error {
	versions, clusters := make(map[string]bool), make(map[string]bool)
	own := c.days()
	var days []registry.BookDay
	err := b.registry.BookDays(ctx, c.Customer, c.Window, true, func(d registry.BookDay) error {
		if slices.Contains(own, d.Window) {
			days = append(days, d)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, d := range days {
		one, err := explainedDay(c, d, e.Line)
		if err != nil {
			return err
		}
		for version := range one.Sums.Held {
			versions[version] = true
		}
		clusters[d.Cluster] = true
		if e.Line.Kind == KindUsage {
			if one.Pods, err = b.pods(ctx, c, d, e.Line); err != nil {
				return err
			}
			if _, rest := one.unexplained(e.Line.Resource); rest != 0 {
				one.Pods, e.NoPods = nil, append(e.NoPods, d.Cluster+" "+one.Date)
			}
		}
		e.Days = append(e.Days, one)
	}
	for _, version := range sortedKeys(versions) {
		_, list, err := b.kept(ctx, version)
		if err != nil {
			return err
		}
		e.Lists = append(e.Lists, ExplainedList{Version: version, Name: list.Name, Spec: json.RawMessage(list.Spec), By: list.By, Recorded: list.At})
	}
	return b.explainFacts(ctx, c.Window, clusters, e)
}

// explainedDay is a day with the quantities that count for a line.
func explainedDay(c Calendar, d registry.BookDay, line Line) (ExplainedDay, error) {
	one := ExplainedDay{Cluster: d.Cluster, Date: c.date(d.Window), From: d.Window.From, To: d.Window.To, Revision: d.Revision, Fingerprint: d.Fingerprint,
		Expected: d.Expected, Received: d.Received, Complete: d.Complete}
	s, err := unpackSheet(d.Cells)
	if err != nil {
		return one, err
	}
	if err := json.Unmarshal([]byte(d.Gaps), &one.Gaps); err != nil {
		return one, fmt.Errorf("gaps of %s: %w", d.Cluster, err)
	}
	one.Sums.Held = s.Held
	for _, g := range s.Groups {
		for resource := range g.Quantities {
			if line.Kind != KindMinimum && string(resource) != line.Resource {
				delete(g.Quantities, resource)
			}
		}
		if len(g.Quantities) > 0 {
			one.Sums.Groups = append(one.Sums.Groups, g)
		}
	}
	return one, nil
}

// pods are what a day's pods used of a line's resource, of those whose account the
// customer is.
func (b *Books) pods(ctx context.Context, c Calendar, d registry.BookDay, line Line) ([]PodUse, error) {
	parts, err := b.parts(ctx, d.Window)
	if err != nil {
		return nil, err
	}
	var uses []PodUse
	at := make(map[PodUse]int)
	for _, p := range parts {
		cells, err := b.engine.PodCells(ctx, d.Cluster, nil, p.Window, 0)
		if err != nil {
			return nil, err
		}
		for _, cell := range cells {
			quantity := cell.Quantities[processors.Resource(line.Resource)]
			if quantity == 0 || account(p.fleet, d.Cluster, cell.Customer) != c.Customer {
				continue
			}
			id := PodUse{Namespace: cell.Namespace, Pod: cell.Pod, Hardware: cell.Hardware}
			i, known := at[id]
			if !known {
				i = len(uses)
				at[id] = i
				uses = append(uses, id)
			}
			u := &uses[i]
			u.Quantity, u.CoveredMs, u.UptimeMs = u.Quantity+quantity, u.CoveredMs+cell.Covered, u.UptimeMs+cell.Uptime
		}
	}
	slices.SortFunc(uses, func(x, y PodUse) int {
		return strings.Compare(x.Namespace+keySeparator+x.Pod+keySeparator+x.Hardware, y.Namespace+keySeparator+y.Pod+keySeparator+y.Hardware)
	})
	return uses, nil
}

// unexplained is the first namespace whose pods do not come to its sum, and by how
// much they are less; 0 where there is none.
func (d ExplainedDay) unexplained(resource string) (string, int64) {
	sums := make(map[string]int64)
	for _, g := range d.Sums.Groups {
		sums[g.Namespace] += g.Quantities[processors.Resource(resource)]
	}
	for _, pod := range d.Pods {
		sums[pod.Namespace] -= pod.Quantity
	}
	for _, namespace := range sortedKeys(sums) {
		if rest := sums[namespace]; rest != 0 {
			return namespace, rest
		}
	}
	return "", 0
}

// explainFacts adds the nodes of the clusters, and the boxes, hardware and meters
// that these have.
func (b *Books) explainFacts(ctx context.Context, w schema.Window, clusters map[string]bool, e *Explanation) error {
	boxes, hardware := make(map[string]bool), make(map[string]bool)
	for _, kind := range []fleet.Kind{fleet.KindCluster, fleet.KindNode, fleet.KindBox, fleet.KindHardware, fleet.KindMeter} {
		versions, err := b.registry.History(ctx, kind, w)
		if err != nil {
			return err
		}
		for _, o := range versions {
			switch spec := o.Spec.(type) {
			case fleet.Cluster:
				if !clusters[o.Name()] {
					continue
				}
				o.Spec = fleet.Cluster{Customer: spec.Customer, Provider: spec.Provider, Region: spec.Region, URL: "http://withheld.invalid"}
			case fleet.Node:
				if !clusters[spec.Cluster] {
					continue
				}
				boxes[spec.Box], hardware[spec.Hardware] = true, true
			case fleet.Box:
				if !boxes[o.Name()] {
					continue
				}
			case fleet.Hardware:
				if !hardware[o.Name()] {
					continue
				}
			case fleet.Meter:
				if !boxes[spec.Box] || spec.Box == "" {
					continue
				}
				o.Spec = fleet.Meter{Box: spec.Box, Driver: spec.Driver, AccuracyClass: spec.AccuracyClass, StepJoules: spec.StepJoules}
			}
			e.Objects = append(e.Objects, o)
		}
	}
	return nil
}

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
		return e, nil, fmt.Errorf("read explanation: %w", err)
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
	if e.Line.Kind == KindCorrection || e.Line.Kind == KindRefund {
		return e, append(findings, Finding{"rating", true, "not recomputed: the line is a " + e.Line.Kind + ", with the reason " + strconv.Quote(e.Line.Reason)}), nil
	}
	findings = append(findings, e.verifyLists(), e.verifyRating())
	if e.Line.Kind == KindUsage {
		findings = append(findings, e.verifyPods())
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
	zone, err := time.LoadLocation(e.Zone)
	if err != nil {
		return Finding{what, false, err.Error()}
	}
	c := Calendar{Customer: e.Line.Customer, Period: e.Line.ChargePeriod, Window: schema.Window{From: e.From, To: e.To}, Zone: zone}
	t := newTally()
	for _, d := range e.Days {
		packed, err := d.Sums.pack()
		if err != nil {
			return Finding{what, false, err.Error()}
		}
		day := registry.BookDay{Customer: c.Customer, Cluster: d.Cluster, Window: schema.Window{From: d.From, To: d.To}, Complete: d.Complete, Gaps: "[]", Cells: packed}
		if err := t.add(day); err != nil {
			return Finding{what, false, err.Error()}
		}
	}
	rated, err := charge(c, t, e.Currency, e.Exchanges, e.plan)
	if err != nil {
		return Finding{what, false, err.Error()}
	}
	for _, line := range rated.Lines {
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
