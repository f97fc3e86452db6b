package books

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math/big"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/processors"
)

//go:embed statement.html
var statementPage string

var statementTemplate = template.Must(template.New("statement").Funcs(template.FuncMap{
	"day":      func(t time.Time, zone string) string { return inZone(t, zone, time.DateOnly) },
	"last":     func(t time.Time, zone string) string { return inZone(t.Add(-1), zone, time.DateOnly) },
	"moment":   func(t time.Time, zone string) string { return inZone(t, zone, "2006-01-02 15:04 MST") },
	"charged":  func(l Line) bool { return l.Kind != KindCorrection && l.Kind != KindRefund },
	"id":       statementID,
	"credit":   func(kind string) bool { return kind == CreditNoteKind },
	"namely":   namely,
	"quantity": func(l Line) string { return strings.TrimSpace(shortened(l.PricingQuantity) + " " + l.Unit) },
	"words":    words,
	"place":    placed,
	"percent":  inPercent,
	"money":    padded,
}).Parse(statementPage))

func inZone(t time.Time, zone, layout string) string {
	location, err := time.LoadLocation(zone)
	if err != nil {
		location = time.UTC
	}
	return t.In(location).Format(layout)
}

// namely says what a line is of, beside its rate.
func namely(l Line) string {
	text := ""
	if of := l.Match.String(); of != "" {
		text += ", " + of
	}
	if l.Slot != "" {
		text += ", " + l.Slot
	}
	if l.Tier > 0 {
		text += fmt.Sprintf(", tier %d", l.Tier)
	}
	if l.Estimate {
		text += ", closed with an estimate"
	}
	return text
}

// words are what a customer reads of a line's resource.
func words(resource string) string {
	text := processors.Resource(resource).Words()
	if name, fee := strings.CutPrefix(resource, "fee:"); fee {
		text = "fee: " + name
	}
	if text == "" {
		text = strings.ReplaceAll(resource, "_", " ")
	}
	first, size := utf8.DecodeRuneInString(text)
	if _, extended := processors.Resource(resource).ExtendedName(); extended {
		return text // a name
	}
	return string(unicode.ToUpper(first)) + text[size:]
}

// placed is CLUSTER/NAMESPACE, in words where no pod carries it.
func placed(name string) string {
	cluster, namespace, _ := strings.Cut(name, "/")
	called, meaning := schema.NamespaceWords(namespace)
	if called == "" {
		return name
	}
	return cluster + ": " + called + ", " + meaning
}

// shortened is a quantity with six decimals at most; the line itself has all.
func shortened(quantity string) string {
	exact, ok := new(big.Rat).SetString(quantity)
	_, decimals, _ := strings.Cut(quantity, ".")
	if !ok || len(decimals) <= 6 {
		return quantity
	}
	return exact.FloatString(6)
}

// padded is an amount with all decimals that its currency has.
func padded(amount, currency string) string {
	places, known := processors.CurrencyExponent(currency)
	exact, ok := new(big.Rat).SetString(amount)
	_, decimals, _ := strings.Cut(amount, ".")
	if !known || !ok || len(decimals) >= int(places) {
		return amount
	}
	return exact.FloatString(int(places))
}

// inPercent is a share, such as 0.9987, in percent.
func inPercent(share string) string {
	exact, ok := new(big.Rat).SetString(share)
	if !ok {
		return share
	}
	text := exact.Mul(exact, big.NewRat(100, 1)).FloatString(2)
	return strings.TrimSuffix(text, ".00") + " %"
}

// HTML is the statement as a page that needs nothing else, for the screen and for
// paper.
func (s Statement) HTML() ([]byte, error) {
	var out bytes.Buffer
	if err := statementTemplate.Execute(&out, s); err != nil {
		return nil, fmt.Errorf("write statement %s: %w", s.ID, err)
	}
	return out.Bytes(), nil
}
