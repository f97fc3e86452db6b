package rules

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/focus"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/cockroachdb/apd/v3"
)

var (
	november = focus.BillingPeriod(2026, time.November, time.UTC)
	formats  = []focus.Compression{focus.None, focus.Gzip, focus.Parquet}
)

func num(text string) *apd.Decimal {
	d, _, err := apd.NewFromString(text)
	if err != nil {
		panic(err)
	}
	return d
}

// metered is a charge for usage.
func metered(hour int) *focus.Row {
	from := november.From.Add(time.Duration(hour) * time.Hour)
	r := &focus.Row{BillingAccountID: "acme", BillingAccountName: focus.Some("Acme, Inc."), BillingAccountType: focus.Some("Customer"), BillingCurrency: "EUR",
		BillingPeriodStart: november.From, BillingPeriodEnd: november.To, ChargePeriodStart: from, ChargePeriodEnd: from.Add(time.Hour),
		ChargeCategory: "Usage", ChargeFrequency: focus.Some("Usage-Based"), ChargeDescription: focus.Some("8.25 Core-Hours"), PricingCategory: focus.Some("Standard"),
		ConsumedQuantity: num("8.25"), ConsumedUnit: focus.Some("Core-Hours"), ServiceCategory: "Compute", ServiceSubcategory: "Containers", ServiceName: "Kubernetes Compute",
		InvoiceIssuerName: "Accumulus", ServiceProviderName: "Accumulus", HostProviderName: "Datacentre North",
		RegionID: focus.Some("ams"), RegionName: focus.Some("Amsterdam"), ResourceID: focus.Some("ams-03/shop"), ResourceName: focus.Some("shop"), ResourceType: focus.Some("Namespace"),
		SubAccountID: focus.Some("ams-03"), SubAccountName: focus.Some("ams-03"), SubAccountType: focus.Some("Cluster"),
		SkuID: focus.Some("cpu_used"), SkuMeter: focus.Some("CPU used"), SkuPriceID: focus.Some("standard/cpu_used/EUR/0.03"),
		SkuPriceDetails: focus.KeyValue{"x_PriceList": "standard"}, Tags: focus.KeyValue{"team": "web", "spot": true}, DataCoverage: num("1")}
	r.Price(num("0.03"), num("0.027"), num("8.25"), "Core-Hours", true)
	return r
}

// unpriced takes what a row that is no usage does not have.
func unpriced(r *focus.Row, category, amount string) *focus.Row {
	r.ChargeCategory, r.ChargeFrequency = category, focus.Some("One-Time")
	r.ListUnitPrice, r.ContractedUnitPrice, r.PricingQuantity, r.ConsumedQuantity = nil, nil, nil, nil
	r.PricingUnit, r.ConsumedUnit, r.PricingCategory, r.SkuID, r.SkuMeter, r.SkuPriceID, r.SkuPriceDetails = focus.Text{}, focus.Text{}, focus.Text{}, focus.Text{}, focus.Text{}, focus.Text{}, nil
	r.ListCost, r.ContractedCost, r.EffectiveCost, r.BilledCost = num(amount), num(amount), num(amount), num(amount)
	return r
}

// charges are rows of every kind that is written.
func charges() []*focus.Row {
	rows := []*focus.Row{metered(0), metered(1)}
	unbilled := metered(2) // nobody's
	unbilled.BilledCost, unbilled.EffectiveCost, unbilled.BillingAccountID = num("0"), num("0"), "unassigned"
	energy := metered(3)
	energy.ServiceName, energy.ServiceCategory, energy.ServiceSubcategory = "Energy", "Other", "Other (Other)"
	energy.SkuID, energy.SkuMeter, energy.SkuPriceID = focus.Some("energy"), focus.Some("energy"), focus.Some("standard/energy/EUR/0.31")
	energy.ConsumedQuantity, energy.ConsumedUnit = num("0.0123"), focus.Some("Kilowatt-Hours")
	energy.Price(num("0.31"), num("0.31"), num("0.0123"), "Kilowatt-Hours", true)
	energy.EnergyKilowattHours, energy.Co2eKilograms, energy.MeasurementKind = num("0.0123"), num("0.004"), focus.Some("Measured")
	late := metered(0) // of October
	late.ChargeClass, late.ChargePeriodStart, late.ChargePeriodEnd = focus.Some("Correction"), november.From.Add(-2*time.Hour), november.From.Add(-time.Hour)
	bare := metered(4)
	bare.RegionID, bare.RegionName, bare.ResourceName, bare.Tags, bare.BillingAccountName = focus.Text{}, focus.Text{}, focus.Text{}, nil, focus.Some("Acme, Inc.")
	node := metered(5) // split, of which one part follows
	node.SplitOriginID, node.EffectiveCost = focus.Some("node-1/5"), num("0")
	part := metered(5)
	part.SplitOriginID, part.AllocatedMethodID = focus.Some("node-1/5"), focus.Some("accumulus:max-request-usage:v1")
	part.AllocatedResourceID, part.AllocatedResourceName = focus.Some("uid-1"), focus.Some("shop/web-1")
	part.AllocatedTags = focus.KeyValue{"team": "web", "spot": true, "app": "web"}
	part.AllocatedMethodDetails = []focus.AllocatedElement{{Ratio: num("0.25"), Unit: "Core-Hours", Quantity: num("2")}}
	part.ConsumedQuantity = num("2.0625")
	part.Price(num("0.03"), num("0.027"), num("2.0625"), "Core-Hours", false)
	part.EffectiveCost = part.ContractedCost
	return append(rows, unbilled, energy, late, bare, node, part,
		unpriced(metered(6), "Tax", "12.5"), unpriced(metered(7), "Credit", "-0.75"), unpriced(metered(8), "Adjustment", "-0.004"))
}

// rows is a Source of given rows.
type rows []*focus.Row

func (rows) State(context.Context, focus.Request) (focus.State, error) {
	return focus.State{Sectors: []query.Sector{{Window: november, Complete: true, Updated: november.To}},
		Periods: []focus.Period{{Start: november.From, End: november.To, Created: november.From, Updated: november.To, Closed: true, Issuer: "Accumulus"}}}, nil
}

func (r rows) Rows(_ context.Context, _ focus.Request, yield func(*focus.Row) error) ([]focus.LeftOut, error) {
	for _, row := range r {
		if err := yield(row); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// written are the data files of an export of the rows, read back from the disk.
func written(t *testing.T, v focus.Version, c focus.Compression, source rows) (usage, periods Table) {
	t.Helper()
	p, err := focus.Prepare(t.Context(), source, focus.Request{Period: "2026-11"}, focus.Options{Version: v, Compression: c, Generator: "test", Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := p.Send(t.Context(), focus.Dir(dir)); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	read := func(sub string) Table {
		table, err := ReadFile(filepath.Join(dir, "focus", string(v), sub, "billing_period=2026-11", "part-0000"+c.Extension()))
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	return read(""), read("billing_periods")
}

func model(t *testing.T) Model {
	t.Helper()
	text, err := os.ReadFile("testdata/focus-1.2.json")
	if err != nil {
		t.Fatal(err)
	}
	m, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return m.Mend()
}

// TestFocus12 runs every static rule of 1.2, MUST and SHOULD, over the files, as if every
// applicability criterion held. With -v it names each rule that did not run.
func TestFocus12(t *testing.T) {
	m := model(t)
	for id, why := range Mended() {
		t.Logf("run as its words say, not as published: %s: %s", id, why)
	}
	for _, c := range formats {
		usage, _ := written(t, focus.V12, c, charges())
		report := m.Run(usage, nil)
		must, ran := 0, 0
		for _, result := range report.Results {
			if rule := m.Rules[result.Rule]; rule.Static && rule.must() {
				must++
				if result.Skipped == "" {
					ran++
				}
			}
		}
		t.Logf("%s: %d of %d rules ran, among them %d of the %d that are static and MUST", c, len(report.Ran()), len(m.Rules), ran, must)
		for _, broken := range report.Broken() {
			t.Errorf("%s: %s", c, broken)
		}
		for _, skipped := range report.Skipped() {
			if c == formats[0] {
				t.Logf("not run: %s", skipped)
			}
			if rule := m.Rules[skipped.Rule]; rule.Static && rule.must() && !slices.Contains(partsDynamic, skipped.Rule) && !strings.HasPrefix(skipped.Skipped, "an alternative") {
				t.Errorf("%s: a static MUST rule did not run: %s", c, skipped)
			}
		}
	}
}

// partsDynamic are static rules with nothing in them that a program can check:
// attributes that no check function stands for.
var partsDynamic = []string{"ColumnHandling-A-009-M", "DiscountHandling-A-000-C", "DiscountHandling-A-002-C", "DiscountHandling-A-005-C", "DiscountHandling-A-008-C",
	"NullHandling-A-000-M", "DateTimeFormat-A-003-M"}

// TestCriteria: what does not apply is skipped, with its criterion.
func TestCriteria(t *testing.T) {
	usage, _ := written(t, focus.V12, focus.None, charges())
	report := model(t).Run(usage, []string{"REGION_SUPPORTED"})
	for _, skipped := range report.Skipped() {
		if skipped.Rule == "AvailabilityZone-C-001-M" && strings.Contains(skipped.Skipped, "AVAILABILITY_ZONE_SUPPORTED") {
			return
		}
	}
	t.Error("rules of availability zones ran where there are none")
}

// set is a break of a table.
type set struct {
	row    int
	column string
	to     Cell
}

func (s set) apply(table Table) Table {
	broken := Table{Columns: slices.Clone(table.Columns)}
	for _, row := range table.Rows {
		broken.Rows = append(broken.Rows, slices.Clone(row))
	}
	i, ok := table.index(s.column)
	if !ok {
		panic("no column " + s.column)
	}
	broken.Rows[s.row][i] = s.to
	return broken
}

// TestBroken12: each check function, broken in one row, is told with the
// published id.
func TestBroken12(t *testing.T) {
	m := model(t)
	usage, _ := written(t, focus.V12, focus.None, charges())
	value, null := func(text string) Cell { return Cell{Text: text} }, Cell{Null: true}
	cases := map[string]struct {
		rule  string
		apply func(Table) Table
	}{
		"ColumnPresent":                   {"CostAndUsage-D-006-M", func(x Table) Table { return without(x, "BilledCost") }},
		"TypeString":                      {"BillingAccountId-C-002-M", func(x Table) Table { return typed(x, "BillingAccountId", "integer") }},
		"TypeDecimal":                     {"BilledCost-C-001-M", func(x Table) Table { return typed(x, "BilledCost", "integer") }},
		"TypeDateTime":                    {"ChargePeriodStart-C-001-M", func(x Table) Table { return typed(x, "ChargePeriodStart", "text") }},
		"FormatString":                    {"BillingAccountId-C-003-M", set{0, "BillingAccountId", value("\xff")}.apply},
		"FormatNumeric":                   {"BilledCost-C-002-M", set{0, "BilledCost", value("1,000.0")}.apply},
		"FormatDateTime":                  {"ChargePeriodEnd-C-002-M", set{0, "ChargePeriodEnd", value("2026-11-01T01:00:00+01:00")}.apply},
		"FormatCurrency":                  {"BillingCurrency-C-003-M", set{0, "BillingCurrency", value("euro")}.apply},
		"FormatUnit":                      {"PricingUnit-C-003-O", set{0, "PricingUnit", value("core hours")}.apply},
		"FormatKeyValue":                  {"Tags-C-001-M", set{0, "Tags", value(`{"a":{"b":1}}`)}.apply},
		"CheckNationalCurrency":           {"BillingCurrency-C-006-M", set{0, "BillingCurrency", value("eur")}.apply},
		"CheckDecimalValue":               {"BilledCost-C-004-M", set{0, "BilledCost", value("+-1")}.apply},
		"CheckValue":                      {"ListUnitPrice-C-004-C", set{8, "ListUnitPrice", value("1.0")}.apply},
		"CheckNotValue":                   {"BilledCost-C-003-M", set{0, "BilledCost", null}.apply},
		"CheckNotValue (of a value)":      {"ChargeFrequency-C-004-C", set{0, "ChargeCategory", value("Purchase")}.apply},
		"CheckSameValue":                  {"", nil}, // the only rule is a MAY
		"CheckNotSameValue (a condition)": {"BilledCost-C-005-C", set{0, "ProviderName", value("Somebody")}.apply},
		"CheckGreaterOrEqualThanValue":    {"ListUnitPrice-C-008-M", set{8, "ListUnitPrice", value("-1.0")}.apply},
		"ColumnByColumnEqualsColumnValue": {"ListCost-C-009-C", set{0, "ListCost", value("0.25")}.apply},
		"CheckDistinctCount":              {"SkuPriceId-C-008-M", set{0, "SkuId", value("other")}.apply},
		"OR":                              {"ChargeCategory-C-003-M", set{0, "ChargeCategory", value("Gift")}.apply},
		"OR of ANDs":                      {"ServiceSubcategory-C-004-M", set{0, "ServiceCategory", value("Web")}.apply},
		"AND of rules":                    {"RegionName-C-000-C", set{0, "RegionName", null}.apply},
		"CheckModelRule":                  {"CostAndUsage-D-000-M", set{0, "BilledCost", null}.apply},
		"a condition":                     {"ResourceType-C-005-C", set{0, "ResourceType", null}.apply},
		"an attribute":                    {"CurrencyFormat-A-000-C", set{0, "BillingCurrency", value("euro")}.apply},
	}
	for name, c := range cases {
		if c.apply == nil {
			continue
		}
		if report := m.Run(c.apply(usage), nil); !report.Breaks(c.rule) {
			t.Errorf("%s: %s is not told; told are %v", name, c.rule, report.Broken())
		}
	}
	for _, function := range Functions() {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(cases)), func(name string) bool { return strings.HasPrefix(name, function) }) {
			t.Errorf("check function %s has no broken case", function)
		}
	}
}

// TestFunctions: the model asks for no check function that is not there.
func TestFunctions(t *testing.T) {
	m := model(t)
	var walk func(c Check)
	walk = func(c Check) {
		if !slices.Contains(Functions(), c.Function) {
			t.Errorf("check function %q is not known", c.Function)
		}
		for _, item := range c.Items {
			walk(item)
		}
	}
	for id, rule := range m.Rules {
		if !rule.Static {
			continue
		}
		walk(rule.Requirement)
		if rule.Condition != nil {
			walk(*rule.Condition)
		}
		for _, child := range rule.Requirement.children() {
			if _, ok := m.Rules[child]; !ok {
				t.Errorf("%s hangs on %s, which is none", id, child)
			}
		}
	}
}

func without(table Table, column string) Table {
	i, _ := table.index(column)
	left := Table{Columns: slices.Delete(slices.Clone(table.Columns), i, i+1)}
	for _, row := range table.Rows {
		left.Rows = append(left.Rows, slices.Delete(slices.Clone(row), i, i+1))
	}
	return left
}

func typed(table Table, column, to string) Table {
	changed := Table{Columns: slices.Clone(table.Columns), Rows: table.Rows}
	i, _ := table.index(column)
	changed.Columns[i].Type, changed.Columns[i].Typed = to, true
	return changed
}

func columns14(t *testing.T) Columns {
	t.Helper()
	text, err := os.ReadFile("testdata/focus-1.4.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseColumns(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestFocus14 holds the files of 1.4 against its columns.
func TestFocus14(t *testing.T) {
	c := columns14(t)
	for _, format := range formats {
		usage, periods := written(t, focus.V14, format, charges())
		for set, table := range map[string]Table{"Cost and Usage": usage, "Billing Period": periods} {
			report := c.Run(set, table, nil)
			t.Logf("%s, %s: %d checks ran, %d did not", format, set, len(report.Ran()), len(report.Skipped()))
			for _, skipped := range report.Skipped() {
				t.Logf("not run: %s", skipped)
			}
			for _, broken := range report.Broken() {
				t.Errorf("%s, %s: %s", format, set, broken)
			}
			if len(c.Datasets[set]) == 0 || len(report.Ran()) < len(c.Datasets[set]) {
				t.Errorf("%s, %s: %d checks ran over %d columns", format, set, len(report.Ran()), len(c.Datasets[set]))
			}
		}
	}
}

// TestBroken14: each kind of check, broken in one row, is told.
func TestBroken14(t *testing.T) {
	c := columns14(t)
	usage, periods := written(t, focus.V14, focus.None, charges())
	value, null := func(text string) Cell { return Cell{Text: text} }, Cell{Null: true}
	for rule, broken := range map[string]Table{
		"present:BilledCost":          without(usage, "BilledCost"),
		"condition:RegionId":          without(usage, "RegionId"),
		"type:BilledCost":             typed(usage, "BilledCost", "integer"),
		"null:ServiceProviderName":    set{0, "ServiceProviderName", null}.apply(usage),
		"allowed:ChargeCategory":      set{0, "ChargeCategory", value("Gift")}.apply(usage),
		"range:ListUnitPrice":         set{0, "ListUnitPrice", value("-1.0")}.apply(usage),
		"format:PricingUnit":          set{0, "PricingUnit", value("kWh")}.apply(usage),
		"format:Tags":                 set{0, "Tags", value(`{"a":1,"a":2}`)}.apply(usage),
		"format:BillingCurrency":      set{0, "BillingCurrency", value("eur")}.apply(usage),
		"format:ChargePeriodStart":    set{0, "ChargePeriodStart", value("2026-11-01")}.apply(usage),
		"format:BilledCost":           set{0, "BilledCost", value("1 000")}.apply(usage),
		"parent:ServiceSubcategory":   set{0, "ServiceCategory", value("Web")}.apply(usage),
		"own:Coverage":                renamed(usage, "x_DataCoverage", "Coverage"),
		"allowed:BillingPeriodStatus": set{0, "BillingPeriodStatus", value("Shut")}.apply(periods),
	} {
		name := "Cost and Usage"
		if len(broken.Columns) == 6 {
			name = "Billing Period"
		}
		if report := c.Run(name, broken, nil); !report.Breaks(rule) {
			t.Errorf("%s is not told; told are %v", rule, report.Broken())
		}
	}
	report := c.Run("Cost and Usage", without(usage, "RegionId"), func(condition string) bool { return !strings.Contains(condition, "region") })
	if report.Breaks("condition:RegionId") {
		t.Error("a column is missed whose condition does not hold")
	}
}

func renamed(table Table, from, to string) Table {
	changed := Table{Columns: slices.Clone(table.Columns), Rows: table.Rows}
	i, _ := table.index(from)
	changed.Columns[i].Name = to
	return changed
}

// TestSame: the three kinds of files say the same.
func TestSame(t *testing.T) {
	plain, _ := written(t, focus.V14, focus.None, charges())
	for _, c := range formats[1:] {
		other, _ := written(t, focus.V14, c, charges())
		if len(other.Rows) != len(plain.Rows) || len(other.Columns) != len(plain.Columns) {
			t.Fatalf("%s has %d rows of %d columns, want %d of %d", c, len(other.Rows), len(other.Columns), len(plain.Rows), len(plain.Columns))
		}
		for i, row := range plain.Rows {
			for j, want := range row {
				if got := other.Rows[i][j]; got.Null != want.Null || !equals(got.Text, want.Text) {
					t.Errorf("%s, row %d, %s: %+v, want %+v", c, i+1, plain.Columns[j].Name, got, want)
				}
			}
			if other.Columns[0].Name != plain.Columns[0].Name {
				t.Errorf("%s begins with %s", c, other.Columns[0].Name)
			}
		}
	}
}
