package books

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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
	// Billed are the lines that a correction is the difference to: what was billed, and
	// earlier corrections of it. Its days are those that it was computed from.
	Billed []Line `json:"billed,omitempty"`

	From      time.Time         `json:"from"` // of the period in which it was used
	To        time.Time         `json:"to"`
	Zone      string            `json:"timeZone"`
	Currency  string            `json:"customerCurrency,omitempty"` // "" is the list's
	Exchanges []rating.Exchange `json:"exchanges,omitempty"`

	Lists []ExplainedList `json:"priceLists,omitempty"`
	Days  []ExplainedDay  `json:"days,omitempty"`
	// NoPods are the days, as CLUSTER DATE, of which the rows per pod, in the store or in
	// the archive, do not come to the sums any more: they were revised since the close.
	NoPods []string `json:"daysWithoutPods,omitempty"`
	// Meters are the readings of the boxes' meters, of a line of energy.
	Meters []ExplainedBox `json:"meterReadings,omitempty"`
	// Sealed are the archived days that the statement's period rests on.
	Sealed []registry.SealedDay `json:"archivedDays,omitempty"`
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
	// Archive are the archived UTC days that it touches, which have its minute rows.
	Archive []ExplainedArchive `json:"archive,omitempty"`
}

// ExplainedArchive is an archived day: `accumulus archive show` has the manifest.
type ExplainedArchive struct {
	Day      string `json:"day"`
	Revision int64  `json:"revision"`
	Manifest string `json:"manifest"` // its hash
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
	if len(chain.Lines) == 0 {
		return e, fmt.Errorf("%s has no closed line: %w", customer, registry.ErrNotFound)
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
	if e.Sealed, err = b.registry.BookSeal(ctx, customer, link.Statement); err != nil {
		return e, err
	}
	c, err := b.calendar(ctx, customer, e.Line.ChargePeriod)
	if err != nil {
		return e, err
	}
	e.From, e.To, e.Zone = c.From, c.To, c.Zone.String()
	switch e.Line.Kind {
	case KindRefund:
		return e, nil
	case KindCorrection:
		return e, b.explainCorrection(ctx, c, link.Statement, &e)
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
		if one.Archive, err = b.archivedDays(ctx, d); err != nil {
			return err
		}
		if err := b.explainMeters(ctx, d, e); err != nil {
			return err
		}
		if e.Line.ofPods() {
			if one.Pods, err = b.pods(ctx, c, d, e.Line); err != nil {
				return err
			}
			if _, rest := one.unexplained(e.Line.Resource); rest != 0 {
				one.Pods, e.NoPods = nil, append(e.NoPods, d.Cluster+" "+one.Date)
			}
		}
		e.Days = append(e.Days, one)
	}
	if err := b.explainLists(ctx, versions, e); err != nil {
		return err
	}
	return b.explainFacts(ctx, c.Window, clusters, e)
}

// explainLists adds versions of price lists.
func (b *Books) explainLists(ctx context.Context, versions map[string]bool, e *Explanation) error {
	for _, version := range sortedKeys(versions) {
		_, list, err := b.kept(ctx, version)
		if err != nil {
			return err
		}
		e.Lists = append(e.Lists, ExplainedList{Version: version, Name: list.Name, Spec: json.RawMessage(list.Spec), By: list.By, Recorded: list.At})
	}
	return nil
}

// archivedDays are the archived days that a day in the customer's zone touches.
func (b *Books) archivedDays(ctx context.Context, d registry.BookDay) ([]ExplainedArchive, error) {
	archived, err := b.registry.Archived(ctx, d.Cluster, schema.Window{From: d.Window.From.UTC().Truncate(24 * time.Hour), To: d.Window.To})
	var list []ExplainedArchive
	for _, day := range archived {
		list = append(list, ExplainedArchive{day.Day.Format(time.DateOnly), day.Revision, day.Manifest})
	}
	return list, err
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
	one.Sums.Held, one.Sums.Shared = s.Held, s.Shared
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
			if quantity == 0 || p.fleet.Billed(d.Cluster, cell.Customer) != c.Customer {
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

// ofPods says whether pods used what the line is of.
func (l Line) ofPods() bool {
	switch processors.Resource(l.Resource) {
	case processors.UsefulHeat, processors.CPUIdle, processors.MemoryIdle:
		return false
	}
	return l.Kind == KindUsage
}

// unexplained is the first namespace whose pods do not come to its sum, and by how
// much they are less; 0 where there is none. What a namespace carries of others, and
// a namespace of which others carry something, have no pods to compare with.
func (d ExplainedDay) unexplained(resource string) (string, int64) {
	sums := make(map[string]int64)
	for _, g := range d.Sums.Groups {
		if g.Origin == "" && !slices.Contains(d.Sums.Shared, g.Namespace) {
			sums[g.Namespace] += g.Quantities[processors.Resource(resource)]
		}
	}
	for _, pod := range d.Pods {
		if !slices.Contains(d.Sums.Shared, pod.Namespace) {
			sums[pod.Namespace] -= pod.Quantity
		}
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
