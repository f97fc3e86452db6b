package prices

import (
	"bytes"
	"flag"
	"fmt"
	"math/big"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
	"github.com/cockroachdb/apd/v3"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the lines of docs/prices.md")

const docs = "../../docs/prices.md"

var block = regexp.MustCompile("(?s)```(yaml|usage|lines)\n(.*?)```")

// TestDocs: each example of docs/prices.md costs what stands there.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	var list, used string
	examples := 0
	written := block.ReplaceAllFunc(text, func(found []byte) []byte {
		parts := block.FindSubmatch(found)
		switch body := string(parts[2]); string(parts[1]) {
		case "yaml":
			list = body
			objects, err := fleet.Decode([]byte(body))
			if err != nil {
				t.Fatalf("%s\n%v", body, err)
			}
			if err := fleet.Validate(objects, nil); err != nil {
				t.Fatalf("%s\n%v", body, err)
			}
		case "usage":
			used = body
		case "lines":
			examples++
			got := linesOf(t, list, used)
			if diff := cmp.Diff(body, got); diff != "" && !*update {
				t.Errorf("%s (-update writes it)\n%s", strings.Join(strings.Fields(list)[:6], " "), diff)
			}
			return []byte("```lines\n" + got + "```")
		}
		return found
	})
	if examples < 9 {
		t.Errorf("%d examples", examples)
	}
	if *update && !bytes.Equal(written, text) {
		if err := os.WriteFile(docs, written, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// linesOf rates an example: October 2026 in UTC.
func linesOf(t *testing.T, list, used string) string {
	t.Helper()
	objects, err := fleet.Decode([]byte(list))
	if err != nil {
		t.Fatal(err)
	}
	compilable, err := objects[0].Spec.(fleet.PriceList).Rating("1")
	if err != nil {
		t.Fatal(err)
	}
	series := make(map[string]rating.Series)
	in := rating.Input{Period: schema.Window{From: time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}}
	plan, err := rating.Compile(compilable, "", series)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(used) {
		words := strings.Fields(line)
		if words[0] == "series" {
			if series[words[1]] == nil {
				series[words[1]] = make(rating.Series)
			}
			slots, err := ParseSlots("text/csv", []byte("from,to,price\n"+strings.Join(words[2:], ",")))
			if err != nil {
				t.Fatal(err)
			}
			for _, slot := range slots {
				if err := series[words[1]].Put(slot.From, slot.To, slot.Value); err != nil {
					t.Fatal(err)
				}
			}
			continue
		}
		resource := processors.Resource(words[0])
		amount, ok := new(big.Rat).SetString(words[1])
		if amount.Mul(amount, big.NewRat(resource.Base(), 1)); !ok || !amount.IsInt() {
			t.Fatalf("%s: no whole stored quantity", line)
		}
		u := rating.Usage{Quantities: processors.Quantities{resource: amount.Num().Int64()}}
		at := in.Period.From
		for _, word := range words[2:] {
			name, value, _ := strings.Cut(word, "=")
			switch name {
			case "at":
				if at, err = time.Parse(time.RFC3339, value); err != nil {
					t.Fatal(err)
				}
			case "region":
				u.Facts.Region = value
			case "provider":
				u.Facts.Provider = value
			case "key":
				u.Key = value
			default:
				t.Fatalf("%s: %q", line, word)
			}
		}
		u.Slot = plan.SlotAt(at)
		in.Usage = append(in.Usage, u)
	}
	result, err := plan.Charges(in)
	if err != nil {
		t.Fatal(err)
	}
	return shownLines(t, result.Lines)
}

func shownLines(t *testing.T, lines []rating.Line) string {
	t.Helper()
	var out strings.Builder
	plain := func(d *apd.Decimal) string { return d.Text('f') }
	for _, l := range lines {
		what := l.Rate
		if l.Slot != "" {
			what += " " + l.Slot
		}
		if l.Tier > 0 {
			what += fmt.Sprintf(" tier %d", l.Tier)
		}
		fmt.Fprintf(&out, "%s: %s %s · %s = %s %s", what, plain(&l.PricingQuantity), l.Unit, plain(&l.ContractedUnitPrice), plain(&l.ContractedCost), l.Currency)
		if l.ListCost.Cmp(&l.ContractedCost) != 0 {
			fmt.Fprintf(&out, " (list %s = %s)", plain(&l.ListUnitPrice), plain(&l.ListCost))
		}
		if l.OperatorCost != nil {
			fmt.Fprintf(&out, " (costs the operator %s = %s)", plain(l.CostPrice), plain(l.OperatorCost))
		}
		out.WriteString("\n")
		for _, share := range l.Shares {
			if share.Key != "" {
				fmt.Fprintf(&out, "  %s: %s\n", share.Key, plain(&share.ContractedCost))
			}
		}
	}
	total, err := rating.Total(lines)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&out, "total %s %s\n", plain(&total), lines[0].Currency)
	return out.String()
}
