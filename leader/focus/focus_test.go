package focus

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/cockroachdb/apd/v3"
	"github.com/google/go-cmp/cmp"
)

// world is an engine and a fleet: each step that begins in a question's window has
// the same charges.
type world struct {
	fleet   *fleet.Fleet
	settled time.Time
	price   string
	holes   bool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	objects := []fleet.Object{
		fleet.NewObject("acme", fleet.Customer{DisplayName: "Acme, Inc.", TimeZone: "Europe/Amsterdam", Currency: "EUR"}),
		fleet.NewObject("kathmandu", fleet.Customer{TimeZone: "Asia/Kathmandu", Currency: "EUR"}),
		fleet.NewObject("ams-03", fleet.Cluster{Provider: "Datacentre North", Region: "ams", URL: "http://127.0.0.1:1"}),
	}
	snapshot := fleet.New(time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC), objects)
	return &world{fleet: snapshot, settled: time.Date(2026, 12, 10, 0, 0, 0, 0, time.UTC), price: "0.0310"}
}

func (w *world) Fleet(context.Context, time.Time) (*fleet.Fleet, error) { return w.fleet, nil }
func (w *world) Settled(context.Context) (time.Time, error)             { return w.settled, nil }

func (w *world) Sectors(_ context.Context, window schema.Window, step time.Duration) ([]query.Sector, error) {
	var all []query.Sector
	for at := window.From; at.Before(window.To); {
		b := usage.Bucket(window, step, at)
		all = append(all, query.Sector{Window: b, Complete: !w.holes && !b.To.After(w.settled), Updated: b.To.Add(time.Minute)})
		at = b.To
	}
	return all, nil
}

func (w *world) Charges(_ context.Context, request query.ChargeRequest) ([]query.Charges, error) {
	list := fleet.PriceList{Name: "standard", Currency: "EUR", Rates: []fleet.Rate{{Resource: "cpu_used", Price: fleet.Decimal(w.price)}, {Resource: "energy", Price: "0.25"}}}
	line := func(r processors.Resource, quantity int64, price string) query.Charge {
		value, _ := new(big.Rat).SetString(price)
		return query.Charge{Resource: r, Quantity: quantity, List: &list, ListPrice: fleet.Decimal(price), Price: fleet.Decimal(price), UnitPrice: value.Mul(value, big.NewRat(1, r.Base()))}
	}
	var all []query.Charges
	for at := request.Window.From; at.Before(request.Window.To); {
		b := usage.Bucket(request.Window, max(request.Step, time.Hour), at)
		at = b.To
		for _, customer := range []string{"", "acme", "kathmandu"} {
			if !usage.KeepsAll(request.Filter, query.Customer, customer) {
				continue
			}
			var sums usage.Sums
			sums[usage.EnergyActive], sums[usage.EnergyIdle], sums[usage.CPU], sums[usage.Uptime] = 7_200_000, 3_600_000, 7_000_000_000, b.Length().Milliseconds()
			energy, _ := sums.Energy()
			row := query.Row{Key: map[string]string{"customer": customer, "cluster": "ams-03", "namespace": "shop", "project": "web", "workload": "Deployment/web", "pod": "web-1", "container": "app", "label:app": "web"},
				From: b.From, To: b.To, Coverage: 0.75, Quality: "measured", Sums: sums}
			labels := map[string]string{"app": "web", "annotation:x/y": "z"}
			if !request.Labels {
				labels = nil
			}
			all = append(all, query.Charges{Row: row, Labels: labels, CarbonKnown: true, CarbonMicrograms: 1_000_000, HeatKnown: true, HeatMillijoules: 1_800_000,
				Lines: []query.Charge{line(processors.CPUUsed, 7_000_000_000, w.price), line(processors.Energy, energy, "0.25"),
					{Resource: processors.MemoryUsed, Quantity: 1 << 22}, {Resource: processors.NetworkReceive, Quantity: 5, Excluded: true}}})
		}
	}
	return all, nil
}

func (w *world) source() Showback {
	return Showback{Engine: w, Fleet: w, Parties: Parties{Provider: "Cloud Co-op"}}
}

// exported writes a month into a new directory and reads it all back.
func (w *world) exported(t *testing.T, request Request, options Options) map[string]string {
	t.Helper()
	dir := t.TempDir()
	w.into(t, dir, request, options)
	return read(t, dir)
}

func (w *world) into(t *testing.T, dir string, request Request, options Options) Manifest {
	t.Helper()
	options.Scratch = t.TempDir()
	p, err := Prepare(t.Context(), w.source(), request, options)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Send(t.Context(), Dir(dir)); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return p.Manifest
}

func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func records(t *testing.T, text string) []map[string]string {
	t.Helper()
	all, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]string
	for _, record := range all[1:] {
		row := make(map[string]string)
		for i, name := range all[0] {
			row[name] = record[i]
		}
		rows = append(rows, row)
	}
	return rows
}

const november = "focus/1.4/billing_period=2026-11/"

// TestAgain: a re-run gives the same bytes in every kind of file.
func TestAgain(t *testing.T) {
	w := newWorld(t)
	for _, c := range []Compression{Gzip, None, Parquet} {
		options := Options{Version: V14, Compression: c, Generator: "test"}
		first, second := w.exported(t, Request{Period: "2026-11"}, options), w.exported(t, Request{Period: "2026-11"}, options)
		if diff := cmp.Diff(first, second); diff != "" {
			t.Errorf("%s differs: %.300s", c, diff)
		}
		want := []string{november + "manifest.json", november + "metadata.json", november + "part-0000" + c.Extension(), "focus/1.4/billing_periods/billing_period=2026-11/part-0000" + c.Extension()}
		for _, name := range want {
			if first[name] == "" {
				t.Errorf("%s: no file %s", c, name)
			}
		}
		if len(first) != len(want) {
			t.Errorf("%s: %d files, want %d", c, len(first), len(want))
		}
	}
}

// TestRows: what a row of showback has in it.
func TestRows(t *testing.T) {
	w := newWorld(t)
	files := w.exported(t, Request{Period: "2026-11"}, Options{Version: V14, Compression: None})
	rows := records(t, files[november+"part-0000.csv"])
	got := make(map[string]map[string]string)
	for _, row := range rows {
		if id := row["BillingAccountId"] + "/" + row["SkuId"]; got[id] == nil {
			got[id] = row
		}
	}
	for column, want := range map[string]string{"BillingAccountName": "Acme, Inc.", "BillingPeriodStart": "2026-10-31T23:00:00Z", "BillingPeriodEnd": "2026-11-30T23:00:00Z",
		"ChargePeriodStart": "2026-10-31T23:00:00Z", "ChargePeriodEnd": "2026-11-01T00:00:00Z", "PricingQuantity": "1.944444444", "ListUnitPrice": "0.031",
		"ListCost": "0.060277777764", "BilledCost": "0.060277777764", "EffectiveCost": "0.060277777764", "SkuPriceId": "standard/cpu_used/EUR/0.031",
		"PricingUnit": "Core-Hours", "HostProviderName": "Datacentre North", "ServiceProviderName": "Cloud Co-op", "InvoiceIssuerName": "Cloud Co-op", "RegionId": "ams",
		"Tags": `{"accumulus/project":"web"}`, "InvoiceId": "", "x_DataCoverage": "0.75", "x_EnergyKilowattHours": ""} {
		if got["acme/cpu_used"][column] != want {
			t.Errorf("%s is %q, want %q", column, got["acme/cpu_used"][column], want)
		}
	}
	for column, want := range map[string]string{"x_EnergyKilowattHours": "0.003", "x_EnergyActiveKilowattHours": "0.002", "x_EnergyIdleKilowattHours": "0.001", "x_Co2eKilograms": "0.001",
		"x_GridCarbonIntensityGramsPerKilowattHour": "333.333333", "x_HeatKilowattHours": "0.0005", "x_EnergyCost": "0.00075", "x_MeasurementKind": "Measured"} {
		if got["acme/energy"][column] != want {
			t.Errorf("%s is %q, want %q", column, got["acme/energy"][column], want)
		}
	}
	if row := got[Unassigned+"/cpu_used"]; row["BilledCost"] != "0.0" || row["EffectiveCost"] != "0.0" || row["ListCost"] == "0.0" || row["BillingPeriodStart"] != "2026-11-01T00:00:00Z" {
		t.Errorf("nobody's usage: %v", row)
	}
	if row := got["kathmandu/cpu_used"]; row["BillingPeriodStart"] != "2026-10-31T18:15:00Z" || row["BillingPeriodEnd"] != "2026-11-30T18:15:00Z" {
		t.Errorf("Kathmandu's month is %s to %s", row["BillingPeriodStart"], row["BillingPeriodEnd"])
	}
	var manifest Manifest
	if err := json.Unmarshal([]byte(files[november+"manifest.json"]), &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest.Rows != len(rows) || len(manifest.LeftOut) != 2 || manifest.LeftOut[0].Reason != "no price" || !manifest.Complete {
		t.Errorf("manifest %+v", manifest)
	}
	sum := new(big.Rat)
	for _, row := range rows {
		cost, _ := new(big.Rat).SetString(row["ListCost"])
		sum.Add(sum, cost)
	}
	if total, _ := new(big.Rat).SetString(manifest.Totals["EUR"]); total == nil || total.Cmp(sum) != 0 {
		t.Errorf("the manifest's total %s is not the rows' sum %s", manifest.Totals["EUR"], sum.FloatString(24))
	}
}

// TestMonths: every hour of a customer's month is in it once, also where the month
// has a day of 25 hours.
func TestMonths(t *testing.T) {
	w := newWorld(t)
	for customer, hours := range map[string]int{"acme": 31*24 + 1, "": 31 * 24} {
		files := w.exported(t, Request{Period: "2026-10", Step: time.Hour}, Options{Version: V14, Compression: None})
		seen := make(map[string]int)
		for _, row := range records(t, files["focus/1.4/billing_period=2026-10/part-0000.csv"]) {
			if row["SkuId"] == "cpu_used" && row["BillingAccountId"] == map[string]string{"": Unassigned, "acme": "acme"}[customer] {
				seen[row["ChargePeriodStart"]]++
			}
		}
		if len(seen) != hours {
			t.Errorf("%q has %d hours in October, want %d", customer, len(seen), hours)
		}
		for at, n := range seen {
			if n != 1 {
				t.Errorf("%q: %s is there %d times", customer, at, n)
			}
		}
	}
}

// TestOneCustomer: only that customer's rows, in a directory of its own.
func TestOneCustomer(t *testing.T) {
	files := newWorld(t).exported(t, Request{Period: "2026-11", Customer: "acme"}, Options{Version: V12, Compression: None})
	for _, row := range records(t, files["focus/1.2/billing_account=acme/billing_period=2026-11/part-0000.csv"]) {
		if row["BillingAccountId"] != "acme" || row["ProviderName"] != "Cloud Co-op" {
			t.Fatalf("a row of %q by %q", row["BillingAccountId"], row["ProviderName"])
		}
	}
}

// TestIncomplete: what has a gap or has not settled is told, and not written where
// all of it is wanted.
func TestIncomplete(t *testing.T) {
	w := newWorld(t)
	w.settled = time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	files := w.exported(t, Request{Period: "2026-11"}, Options{Version: V14, Compression: None})
	var m Metadata
	if err := json.Unmarshal([]byte(files[november+"metadata.json"]), &m); err != nil {
		t.Fatal(err)
	}
	complete := 0
	for _, sector := range m.Recency[0].TimeSectors {
		if sector.TimeSectorComplete {
			complete++
		}
	}
	if m.Recency[0].DatasetInstanceComplete || complete != 20 { // 31 October, 19 days
		t.Errorf("complete %v, %d sectors", m.Recency[0].DatasetInstanceComplete, complete)
	}
	_, err := Prepare(t.Context(), w.source(), Request{Period: "2026-11", RequireComplete: true}, Options{Version: V14, Scratch: t.TempDir()})
	var incomplete *IncompleteError
	if !errors.As(err, &incomplete) || incomplete.First != "2026-11-20T00:00:00Z" {
		t.Errorf("an incomplete month: %v", err)
	}
}

// TestPrune: a run that writes other files leaves none of the former run.
func TestPrune(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	w.into(t, dir, Request{Period: "2026-11"}, Options{Version: V14, Compression: None, PartBytes: 20_000})
	before := read(t, dir)
	if before[november+"part-0003.csv"] == "" {
		t.Fatalf("one part: the bound on a part is not kept")
	}
	if err := os.WriteFile(filepath.Join(dir, november, "part-notes.txt"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.into(t, dir, Request{Period: "2026-11"}, Options{Version: V14, Compression: Parquet})
	after := read(t, dir)
	for name := range after {
		if strings.HasSuffix(name, ".csv") {
			t.Errorf("%s is still there", name)
		}
	}
	if after[november+"part-notes.txt"] != "mine" {
		t.Error("a file that is no export's was removed")
	}
}

// TestUnpack: what came over the wire is what the manifest says, or is refused.
func TestUnpack(t *testing.T) {
	p, err := Prepare(t.Context(), newWorld(t).source(), Request{Period: "2026-11"}, Options{Version: V14, Compression: Gzip, Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	var archive bytes.Buffer
	packed := NewTar(&archive)
	if err := errors.Join(p.Send(t.Context(), packed), packed.Close()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := Fetch(t.Context(), bytes.NewReader(archive.Bytes()), Dir(dir)); err != nil {
		t.Fatal(err)
	}
	if len(read(t, dir)) != len(p.Names()) {
		t.Errorf("%d files came, want %d", len(read(t, dir)), len(p.Names()))
	}
	broken := bytes.Clone(archive.Bytes())
	broken[600] ^= 1 // in the first file
	if _, err := Unpack(bytes.NewReader(broken), t.TempDir()); err == nil || !strings.Contains(err.Error(), "not what the manifest says") {
		t.Errorf("a changed file: %v", err)
	}
	if _, err := Unpack(bytes.NewReader(archive.Bytes()[:2048]), t.TempDir()); err == nil {
		t.Error("half an archive was taken")
	}
	if _, err := Dir(dir).place("../x"); err == nil {
		t.Error("a file outside was taken")
	}
}

// TestChecks: each rule over a row, broken, is told with its id, the row and the
// column.
func TestChecks(t *testing.T) {
	num := func(text string) *apd.Decimal { d, _, _ := apd.NewFromString(text); return d }
	for rule, broken := range map[string]func(r *Row){
		"BilledCost MUST NOT be null":              func(r *Row) { r.BilledCost = nil },
		"BillingAccountId (value)":                 func(r *Row) { r.BillingAccountID = "" },
		"ServiceName (value)":                      func(r *Row) { r.ServiceName = "N/A" },
		"ChargeCategory (value)":                   func(r *Row) { r.ChargeCategory = "Gift" },
		"BillingCurrency (value)":                  func(r *Row) { r.BillingCurrency = "euro" },
		"PricingUnit (value)":                      func(r *Row) { r.PricingUnit = Some("kWh") },
		"ChargePeriodStart (value)":                func(r *Row) { r.ChargePeriodStart = r.ChargePeriodStart.Add(1) },
		"PricingQuantity (value)":                  func(r *Row) { r.Price(num("1"), num("1"), num("0.12345678901"), "GB", true) },
		"ChargePeriodEnd (exclusive)":              func(r *Row) { r.ChargePeriodEnd = r.ChargePeriodStart },
		"BillingPeriodEnd (exclusive)":             func(r *Row) { r.BillingPeriodEnd = r.BillingPeriodStart },
		"ChargePeriod (inside the billing period)": func(r *Row) { r.ChargePeriodStart = r.BillingPeriodStart.Add(-time.Hour) },
		"PricingQuantity-C-005-C":                  func(r *Row) { r.PricingQuantity = nil },
		"SkuId-C-005-C":                            func(r *Row) { r.SkuID = Text{} },
		"ListUnitPrice-C-004-C":                    func(r *Row) { r.ChargeCategory = categoryTax },
		"PricingUnit-C-004-C":                      func(r *Row) { r.PricingUnit = Text{} },
		"ConsumedQuantity-C-003-C":                 func(r *Row) { r.ChargeCategory = categoryCredit },
		"ConsumedQuantity-C-006-C":                 func(r *Row) { r.ConsumedQuantity = nil },
		"ConsumedUnit-C-004-C":                     func(r *Row) { r.ConsumedUnit = Text{} },
		"ListUnitPrice-C-008-M":                    func(r *Row) { r.Price(num("-1"), num("1"), num("1"), "GB", true) },
		"PricingQuantity (sign)": func(r *Row) {
			r.ChargeCategory, r.ConsumedQuantity, r.ConsumedUnit = categoryAdjustment, nil, Text{}
			r.Price(num("1"), num("1"), num("-1"), "GB", true)
		},
		"ListCost-C-009-C":            func(r *Row) { r.ListCost = num("0.06") },
		"ContractedUnitPrice-C-011-C": func(r *Row) { r.ContractedCost = num("0.06") },
		"EffectiveCost-C-010-C":       func(r *Row) { r.EffectiveCost = num("0") },
		"EffectiveCost-C-005-C": func(r *Row) {
			r.ChargeCategory, r.ChargeFrequency, r.ConsumedQuantity, r.ConsumedUnit = categoryPurchase, Some("One-Time"), nil, Text{}
		},
		"PricingCurrency (rate)":     func(r *Row) { r.PricingCurrency = "USD" },
		"ResourceType-C-003-C":       func(r *Row) { r.ResourceType = Text{} },
		"ResourceName-C-004-C":       func(r *Row) { r.ResourceName = r.ResourceID },
		"SubAccountName-C-003-C":     func(r *Row) { r.SubAccountName = Text{} },
		"RegionName-C-003-C":         func(r *Row) { r.RegionName = Text{} },
		"SkuPriceDetails-C-004-C":    func(r *Row) { r.SkuPriceDetails = KeyValue{"tariff": "x"} },
		"Tags (keys)":                func(r *Row) { r.Tags = KeyValue{"a": ""} },
		"Tags (value)":               func(r *Row) { r.Tags = KeyValue{"a": []string{"b"}} },
		"ServiceSubcategory-C-004-M": func(r *Row) { r.ServiceSubcategory = "Caching" },
		"ServiceName-C-005-C":        func(r *Row) { r.ServiceCategory, r.ServiceSubcategory = "Storage", "Block Storage" },
		"SkuPriceId-C-008-M":         func(r *Row) { r.SkuID = Some("other") },
		"Allocated (together)":       func(r *Row) { r.AllocatedMethodID = Some("m") },
		"AllocatedMethodDetails (schema)": func(r *Row) {
			r.AllocatedMethodID, r.AllocatedResourceID, r.AllocatedResourceName = Some("m"), Some("r"), Some("n")
			r.AllocatedMethodDetails = []AllocatedElement{{Ratio: num("1.5")}}
		},
		"EffectiveCost (of what is split)": func(r *Row) { r.SplitOriginID = Some("node") },
	} {
		w := newWorld(t)
		var first, second *Row
		_, err := w.source().Rows(t.Context(), Request{Period: "2026-11"}, func(r *Row) error {
			if r.BillingAccountID != "acme" || r.SkuID.Value != "cpu_used" {
				return nil
			}
			first, second = second, r
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		checks := newChecker(V14)
		if _, err := checks.check(first); err != nil {
			t.Fatalf("a whole row: %v", err)
		}
		broken(second)
		_, err = checks.check(second)
		var told *RowError
		if !errors.As(err, &told) || told.Rule != rule || told.Row != 2 {
			t.Errorf("%s: told %v", rule, err)
		}
	}
}

// TestUnits holds units against the specification's words.
func TestUnits(t *testing.T) {
	for _, right := range []string{"Requests", "Core-Hours", "GiB-Hours", "GB", "GB/Hour", "Kilowatt-Hours", "1000 Tokens", "Units/3 Months", "Node-Months", "b", "Unit-Hours", "KiB"} {
		if err := CheckUnit(right); err != nil {
			t.Error(err)
		}
	}
	for _, wrong := range []string{"kWh", "core-hours", "Core-Hour", "hours", "GB-Hour", "0 Tokens", "Core Hours-", "", "Gb/hour"} {
		if CheckUnit(wrong) == nil {
			t.Errorf("%q is a unit", wrong)
		}
	}
}

// TestNumbers: decimals are exact, pointed and rounded half to even.
func TestNumbers(t *testing.T) {
	for in, want := range map[string]string{"3": "3.0", "1E+2": "100.0", "-0.750": "-0.75", "0E-9": "0.0", "1E-9": "0.000000001"} {
		d, _, err := apd.NewFromString(in)
		if err != nil || pointed(d) != want {
			t.Errorf("%s is written %s, want %s", in, pointed(d), want)
		}
	}
	for in, want := range map[[2]int64]string{{1, 3}: "0.33", {-1, 3}: "-0.33", {1, 8}: "0.12", {3, 8}: "0.38", {-1, 8}: "-0.12", {5, 1}: "5"} {
		if got := plainDecimal(fromRat(big.NewRat(in[0], in[1]), 2)); got != want {
			t.Errorf("%d/%d is %s, want %s", in[0], in[1], got, want)
		}
	}
}

// TestOpenCost: the order of OpenCost's columns, a row per day and container.
func TestOpenCost(t *testing.T) {
	w := newWorld(t)
	p, err := PrepareOpenCost(t.Context(), w, Request{Period: "2026-11", Customer: "acme"}, Options{Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	dir := t.TempDir()
	if err := p.Send(t.Context(), Dir(dir)); err != nil {
		t.Fatal(err)
	}
	text := read(t, dir)["opencost/customer=acme/2026-11.csv"]
	want := strings.Join(OpenCostHeader, ",") + "\n2026-11-01,shop,deployment,web,web-1,app,0.081019,0,0,0,0,0,0,0,0.060277778,0,0,0,0,0.061027778\n"
	if !strings.HasPrefix(text, want) || strings.Count(text, "\n") != 31 {
		t.Errorf("got %.400s\nwant %s", text, want)
	}
	labelled, err := PrepareOpenCost(t.Context(), w, Request{Period: "2026-11", Customer: "acme", Labels: []string{"*", "app", "team"}}, Options{Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = labelled.Close() }()
	if err := labelled.Send(t.Context(), Dir(dir)); err != nil {
		t.Fatal(err)
	}
	text = read(t, dir)["opencost/customer=acme/2026-11.csv"]
	if !strings.Contains(text, "TotalCost,Labels,Label_app,Label_team\n") || !strings.Contains(text, `0.061027778,"{""app"":""web""}",web,`+"\n") {
		t.Errorf("with labels: %.300s", text)
	}
	var archive bytes.Buffer
	packed := NewTar(&archive)
	if err := errors.Join(p.Send(t.Context(), packed), packed.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Fetch(t.Context(), &archive, Dir(t.TempDir())); err != nil {
		t.Error(err)
	}
	if _, err := PrepareOpenCost(t.Context(), w, Request{Period: "november"}, Options{}); err == nil {
		t.Error("a period that is none was exported")
	}
}

// FuzzUnpack: no archive makes it panic or write outside.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, archive []byte) {
		if p, err := Unpack(bytes.NewReader(archive), t.TempDir()); err == nil {
			_ = p.Close()
		}
	})
}
