package fleet

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

var day = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// sample is a small fleet in which one box holds nodes of two customers.
func sample() []Object {
	return []Object{
		NewObject("acme", Customer{DisplayName: "ACME", TimeZone: "Europe/Amsterdam", Currency: "EUR"}),
		NewObject("globex", Customer{Currency: "USD"}),
		NewObject("alpha", Cluster{Customer: "acme", URL: "https://127.0.0.1:9443"}),
		NewObject("beta", Cluster{Customer: "globex", URL: "https://127.0.0.1:9444"}),
		NewObject("box-1", Box{Site: "Almere", OverheadWatts: 12.5, IdlePolicy: IdleEqual}),
		NewObject("box-2", Box{}),
		NewObject("d1540", Hardware{CPUType: "xeon-d-1540", RAMType: "ddr4", DiskType: "ssd", Cores: 16, MemoryBytes: 1<<60 + 1, IdleWatts: 30, MaxWatts: 80}),
		NewObject("alpha.n1", Node{Cluster: "alpha", Node: "n1", Box: "box-1", Hardware: "d1540"}),
		NewObject("alpha.n2", Node{Cluster: "alpha", Node: "n2", Box: "box-2", Hardware: "d1540"}),
		NewObject("beta.n1", Node{Cluster: "beta", Node: "n1", Box: "box-1", Hardware: "d1540"}),
		NewObject("box-1.main", Meter{Box: "box-1", Driver: DriverHTTPJSON, URL: "http://127.0.0.1:9100", Interval: Duration(30 * time.Second),
			Fields: MeterFields{Counter: FieldRef{Path: "a.0.b", Unit: "kWh"}}}),
		NewObject("web", Assignment{Namespace: "web-*", Project: "shop", Labels: map[string]string{"app": "web"}}),
		NewObject("default", PriceList{Currency: "EUR", Rates: []Rate{{Resource: "cpu_used", Price: "0.0250"}, {Resource: "energy", Unit: "kWh", Price: "0.31"}}}),
		NewObject("globex", PriceList{Currency: "USD", Customers: []string{"globex"}, Rates: []Rate{{Resource: "cpu_used", Price: "0.03"}}}),
		NewObject("beta", PriceList{Currency: "USD", Clusters: []string{"beta"}}).Since(day).Until(day.AddDate(0, 1, 0)),
	}
}

func TestSampleIsValid(t *testing.T) {
	if err := Validate(sample(), nil); err != nil {
		t.Error(err)
	}
}

func TestEncodeDecodeRoundTrip(t *testing.T) {
	text, err := Encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	var want []Object
	for _, o := range sample() {
		o.Spec = o.Spec.named(o.Name())
		want = append(want, o)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeYAML(t *testing.T) {
	const text = `# a comment before everything
---
apiVersion: accumulus.dev/v1
kind: PriceList
metadata: {name: eur}
validFrom: 2026-11-01
validTo: "2026-12-01T01:00:00+01:00"
spec:
  currency: EUR
  rates:
  - {resource: cpu_used, price: "0.025"}
---
---
{"apiVersion": "accumulus.dev/v1", "kind": "Box", "metadata": {"name": "b"}, "spec": {"overheadWatts": 12.5}}
`
	want := []Object{
		NewObject("eur", PriceList{Name: "eur", Currency: "EUR", Rates: []Rate{{Resource: "cpu_used", Price: "0.025"}}}).
			Since(day).Until(day.AddDate(0, 1, 0)),
		NewObject("b", Box{Name: "b", OverheadWatts: 12.5}),
	}
	got, err := Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeNamesWhatIsWrong(t *testing.T) {
	doc := func(kind, more string) string {
		return "apiVersion: accumulus.dev/v1\nkind: " + kind + "\nmetadata: {name: x}\n" + more
	}
	tests := map[string]struct{ text, want string }{
		"unknown field in spec": {doc("Box", "spec: {sight: A}"), `Box/x: spec: json: unknown field "sight"`},
		"unknown field":         {doc("Box", "validUntil: 2026-11-01"), `unknown field "validUntil"`},
		"unknown kind":          {doc("Bax", ""), `"Bax" is none of`},
		"other version":         {"apiVersion: v1\nkind: Box\nmetadata: {name: x}", `apiVersion: "v1" is not`},
		"doubled key":           {doc("Box", "spec: {site: A, site: B}"), `already set`},
		"price as a number":     {doc("PriceList", "spec: {currency: EUR, rates: [{resource: energy, price: 0.3}]}"), `want quoted text`},
		"duration as a number":  {doc("Meter", "spec: {interval: 10}"), `want text such as`},
		"no time":               {doc("Box", "validFrom: yesterday"), `Box/x: validFrom: "yesterday" is neither`},
		"a list":                {"- a\n- b", `document 2: is no object`},
		"a word":                {"hello", `document 2: is no object`},
		"no YAML":               {doc("Box", "spec: [}"), `document 2`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			good := doc("Box", "") + "\n---\n"
			_, err := Decode([]byte(good + test.text + "\n---\n" + doc("Nonsense", "")))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			if err != nil && !strings.Contains(err.Error(), "document 3") {
				t.Errorf("the error does not name every wrong document: %v", err)
			}
		})
	}
}

func TestValidateListsEverything(t *testing.T) {
	long := strings.Repeat("x", 254)
	objects := []Object{
		NewObject("Upper", Box{OverheadWatts: -1, IdlePolicy: "fair"}),
		NewObject(long, Box{}),
		NewObject("c", Cluster{URL: "ftp://host", Customer: "nobody"}),
		NewObject("d", Cluster{URL: "http://user:pw@host"}),
		NewObject("e", Cluster{URL: "https://host/?a=b", ClientCertFile: "cert"}),
		NewObject("f", Cluster{URL: "http://host", ClientCertFile: "cert", ClientKeyFile: "key", PullInterval: Duration(2 * time.Hour)}),
		NewObject("g", Cluster{URL: "https://host/api/v1/proxy", ClientKeyFile: "key"}),
		NewObject("o", Cluster{URL: "http://host", Via: "tunnel", Manage: "leader"}),
		NewObject("q", Cluster{URL: "http://host", Via: ViaServiceProxy, TokenFile: "token", Manage: "nobody"}),
		NewObject("r", Cluster{Via: ViaServiceProxy, Manage: ManageGitOps, HeaderFile: "headers", Compress: true}), // as it must be
		NewObject(long[:63], Cluster{Via: ViaServiceProxy}), NewObject(long[:64], Cluster{Via: ViaServiceProxy}), NewObject(long[:65], Cluster{URL: "http://host:65535"}),
		NewObject("s", Cluster{URL: "https://host:65536"}), NewObject("t", Cluster{URL: "https://host:0"}),
		NewObject("n", Node{Cluster: "c", Node: "N_1", Box: "nowhere", Hardware: "none"}),
		NewObject("h", Hardware{IdleWatts: 90, MaxWatts: 80, Cores: -1}),
		NewObject("m", Meter{Box: "nowhere", Driver: "smoke", URL: "http://"}),
		NewObject("m2", Meter{Box: "", Driver: DriverHTTPJSON, URL: "http://h", Fields: MeterFields{Counter: FieldRef{Path: "a", Unit: "cal"}}}),
		NewObject("a", Assignment{Namespace: "[", Cluster: "gone"}),
		NewObject("p", PriceList{Currency: "eur", Rates: []Rate{{Resource: "gpu", Price: "1"}, {Resource: "energy", Unit: "MWh", Price: "-1"},
			{Resource: "energy", Price: "a"}, {Resource: "node_hours", Price: "NaN"}}}),
		NewObject("cu", Customer{Currency: "EURO", TimeZone: "Mars/Olympus"}),
		NewObject("b", Box{}).Since(day).Until(day),
		NewObject("twice", Box{}), NewObject("twice", Box{Site: "A"}),
		NewObject("m3", Meter{Box: "b", Driver: DriverShellyGen1, URL: "http://h", Interval: 1}),
		NewObject("v", Box{}).Since(day).Until(day.AddDate(0, 0, 2)),
		NewObject("v", Box{}).Since(day.AddDate(0, 0, 1)),
		{APIVersion: APIVersion, Kind: KindBox, Metadata: Metadata{Name: "empty"}},
		{APIVersion: "v2", Kind: KindBox, Metadata: Metadata{Name: "kind"}, Spec: Customer{}},
	}
	want := []string{
		"Box/Upper: metadata.name", "Box/Upper: spec.overheadWatts", "Box/Upper: spec.idlePolicy", "Box/" + long + ": metadata.name",
		"Cluster/c: spec.url", "Cluster/c: spec.customer", "Cluster/d: spec.url",
		"Cluster/e: spec.url", "Cluster/e: spec.clientKeyFile", "Cluster/f: spec.pullInterval: must lie", "Cluster/f: spec.clientCertFile: needs a url", "Cluster/g: spec.clientCertFile",
		`Cluster/o: spec.via: "tunnel" is none`, "Cluster/o: spec.manage: is for clusters via", "Cluster/q: spec.url: is not used via", "Cluster/q: spec.tokenFile",
		"Cluster/q: spec.manage", "Cluster/" + long[:64] + ": metadata.name: has more than 63", "Cluster/s: spec.url: \"https://host:65536\" has the port 65536", "Cluster/t: spec.url", "Node/n: spec.node", "Node/n: spec.box", "Node/n: spec.hardware",
		"Hardware/h: spec.idleWatts", "Hardware/h: spec.cores", "Meter/m: spec.box", "Meter/m: spec.driver", "Meter/m: spec.url",
		"Meter/m2: spec.box", "Meter/m2: spec.fields.counter.unit", "Assignment/a: spec.customer", "Assignment/a: spec.namespace",
		"Assignment/a: spec.cluster", "PriceList/p: spec.currency", "PriceList/p: spec.rates[gpu].resource",
		"PriceList/p: spec.rates[energy].unit", "PriceList/p: spec.rates[energy].price: -1 is negative", "PriceList/p: spec.rates[energy].resource",
		`PriceList/p: spec.rates[energy].price: "a"`, "PriceList/p: spec.rates[node_hours].price", "Customer/cu: spec.currency",
		"Customer/cu: spec.timeZone", "Box/b: validTo", "Box/twice: metadata.name", "Meter/m3: spec.interval", "Box/v: validFrom", "Box/empty: spec", "Box/kind: apiVersion", "Box/kind: kind",
	}
	err := Validate(objects, nil)
	if err == nil {
		t.Fatal("no error")
	}
	for _, line := range want {
		if !strings.Contains(err.Error(), line) {
			t.Errorf("nothing about %q", line)
		}
	}
	if problems := err.(Problems); len(problems) != len(want) {
		t.Errorf("%d problems, want %d:\n%v", len(problems), len(want), err)
	}
}

func TestPricesAreBounded(t *testing.T) {
	for price, fine := range map[Decimal]bool{
		"0": true, "0.000000000000000001": true, "999999999999999999": true, "1e17": true, "1e-18": true,
		"1e18": false, "1e400": false, "1e99999": false, "1e-19": false, "1e-99999": false, "Infinity": false,
		Decimal(strings.Repeat("9", 100_000)): false, Decimal("0." + strings.Repeat("0", 200)): false,
	} {
		err := Validate([]Object{NewObject("p", PriceList{Currency: "EUR", Rates: []Rate{{Resource: "energy", Price: price}}})}, nil)
		if (err == nil) != fine {
			t.Errorf("%.30s: %v", price, err)
		}
		if err != nil && len(err.Error()) > 300 {
			t.Errorf("%.30s: the error has %d characters", price, len(err.Error()))
		}
	}
}

// BenchmarkValidateNodes checks about as many nodes as a request can hold.
func BenchmarkValidateNodes(b *testing.B) {
	objects := []Object{NewObject("alpha", Cluster{URL: "http://h"})}
	for i := range 20_000 {
		name := "n" + strconv.Itoa(i)
		objects = append(objects, NewObject("alpha."+name, Node{Cluster: "alpha", Node: name}))
	}
	for b.Loop() {
		if err := Validate(objects, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func TestValidateAgainstExisting(t *testing.T) {
	existing := sample()
	tests := map[string]struct {
		object Object
		want   string
	}{
		"refers to what exists":    {NewObject("alpha.n9", Node{Cluster: "alpha", Node: "n9", Box: "box-1"}), ""},
		"a node twice":             {NewObject("other", Node{Cluster: "alpha", Node: "n1"}), "is Node/alpha.n1 already"},
		"the same node again":      {NewObject("alpha.n1", Node{Cluster: "alpha", Node: "n1"}), ""},
		"a second default list":    {NewObject("second", PriceList{Currency: "EUR"}), "is the default already"},
		"a customer's second list": {NewObject("second", PriceList{Currency: "EUR", Customers: []string{"globex"}}), "bound to PriceList/globex already"},
		"a cluster's next list":    {NewObject("next", PriceList{Currency: "EUR", Clusters: []string{"beta"}}).Since(day.AddDate(0, 1, 0)), ""},
		"a cluster's second list":  {NewObject("next", PriceList{Currency: "EUR", Clusters: []string{"beta"}}).Since(day.AddDate(0, 0, 3)), "bound to PriceList/beta already"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := Validate([]Object{test.object}, existing)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
	ended := NewObject("old", Box{}).Until(day)
	late := NewObject("alpha.n9", Node{Cluster: "alpha", Node: "n9", Box: "old"}).Since(day)
	if err := Validate([]Object{late}, append(existing, ended)); err == nil || !strings.Contains(err.Error(), "does not hold in") {
		t.Errorf("error %v of a node in a box that has gone", err)
	}
}

func TestDiff(t *testing.T) {
	old := []Object{NewObject("b", Box{Site: "A", OverheadWatts: 1}), NewObject("same", Box{}), NewObject("gone", Box{}),
		NewObject("p", PriceList{Currency: "EUR", Rates: []Rate{{Resource: "energy", Price: "0.3"}}})}
	now := []Object{NewObject("b", Box{Site: "B"}), NewObject("same", Box{}), NewObject("new", Box{}).Since(day),
		NewObject("p", PriceList{Currency: "EUR", Rates: []Rate{{Resource: "energy", Price: "0.31"}}})}
	want := `~ Box/b
    spec.overheadWatts: 1 → (none)
    spec.site: "A" → "B"
- Box/gone
+ Box/new from 2026-11-01T00:00:00Z
~ PriceList/p
    spec.rates.0.price: "0.3" → "0.31"
1 added, 2 changed, 1 removed, 1 unchanged
`
	diff := Compare(old, now)
	if d := cmp.Diff(want, diff.String()); d != "" {
		t.Error(d)
	}
	if diff.Empty() || !Compare(old, old).Empty() {
		t.Error("Empty is wrong")
	}
	big := NewObject("h", Hardware{MemoryBytes: 1 << 60})
	if Compare([]Object{big}, []Object{NewObject("h", Hardware{MemoryBytes: 1<<60 + 1})}).Empty() {
		t.Error("two large integers that differ by one are the same")
	}
}

func names[T Spec](list []T, name func(T) string) string {
	var all []string
	for _, v := range list {
		all = append(all, name(v))
	}
	return strings.Join(all, " ")
}

func TestFleetLookups(t *testing.T) {
	f := New(day, sample())
	nodeName := func(n Node) string { return n.Name }
	got := map[string]string{
		"nodes of alpha":        names(f.NodesOfCluster("alpha"), nodeName),
		"nodes of box-1":        names(f.NodesOfBox("box-1"), nodeName),
		"boxes of alpha":        names(f.BoxesOfCluster("alpha"), func(b Box) string { return b.Name }),
		"boxes of beta":         names(f.BoxesOfCluster("beta"), func(b Box) string { return b.Name }),
		"clusters of box-1":     strings.Join(f.ClustersOfBox("box-1"), " "),
		"customers of box-1":    strings.Join(f.CustomersOfBox("box-1"), " "),
		"meters of box-1":       names(f.MetersOfBox("box-1"), func(m Meter) string { return m.Name }),
		"all clusters":          names(f.Clusters(), func(c Cluster) string { return c.Name }),
		"meters of a bare box":  names(f.MetersOfBox("box-2"), func(m Meter) string { return m.Name }),
		"customers of no box":   strings.Join(f.CustomersOfBox("none"), " "),
		"assignments in effect": names(f.Assignments(), func(a Assignment) string { return a.Name }),
	}
	want := map[string]string{
		"nodes of alpha": "alpha.n1 alpha.n2", "nodes of box-1": "alpha.n1 beta.n1", "boxes of alpha": "box-1 box-2", "boxes of beta": "box-1",
		"clusters of box-1": "alpha beta", "customers of box-1": "acme globex", "meters of box-1": "box-1.main", "all clusters": "alpha beta",
		"meters of a bare box": "", "customers of no box": "", "assignments in effect": "web",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n, ok := f.Node("alpha", "n2"); !ok || n.Box != "box-2" {
		t.Errorf("node alpha/n2 is %+v, %v", n, ok)
	}
	if _, ok := f.Node("beta", "n2"); ok {
		t.Error("node beta/n2 exists")
	}
	if mw, ok := f.MaxMilliwatts("box-1"); !ok || mw != 172_500 {
		t.Errorf("box-1 draws at most %d mW, %v; want 172500", mw, ok)
	}
	if _, ok := f.MaxMilliwatts("none"); ok {
		t.Error("a box that is not there has a greatest power")
	}
}

func TestPriceListBinding(t *testing.T) {
	during, after := New(day, sample()), New(day.AddDate(0, 2, 0), sample())
	tests := []struct {
		f                 *Fleet
		cluster, customer string
		want              string
	}{
		{during, "alpha", "acme", "default"}, {during, "alpha", "globex", "globex"}, {during, "beta", "globex", "beta"},
		{during, "beta", "acme", "beta"}, {after, "beta", "globex", "globex"}, {after, "unknown", "", "default"},
	}
	for _, test := range tests {
		list, ok := test.f.PriceListFor(test.cluster, test.customer)
		if !ok || list.Name != test.want {
			t.Errorf("%s of %s: %q, %v; want %q", test.cluster, test.customer, list.Name, ok, test.want)
		}
	}
	if _, ok := New(day, nil).PriceListFor("alpha", "acme"); ok {
		t.Error("a fleet without price lists has one")
	}
	if list, _ := during.PriceListFor("alpha", "acme"); list.Rates[0].Price != "0.0250" {
		t.Errorf("the price was rewritten: %q", list.Rates[0].Price)
	}
}

func TestAssign(t *testing.T) {
	rules := []Object{
		NewObject("alpha", Cluster{Customer: "acme", URL: "http://h"}),
		NewObject("all", Assignment{Customer: "rest"}),
		NewObject("star", Assignment{Namespace: "*", Customer: "star"}),
		NewObject("glob", Assignment{Namespace: "web-*", Customer: "glob"}),
		NewObject("longer", Assignment{Namespace: "web-shop-*", Customer: "longer"}),
		NewObject("exact", Assignment{Namespace: "web-shop-eu", Project: "eu"}),
		NewObject("cluster", Assignment{Cluster: "beta", Namespace: "web-*", Customer: "beta-web"}),
		NewObject("label", Assignment{Labels: map[string]string{"team": "x"}, Customer: "x", User: "ann"}),
		NewObject("first", Assignment{Priority: 10, Namespace: "vip", Customer: "vip"}),
		NewObject("late", Assignment{Priority: 99, Customer: "late"}).Since(day.AddDate(1, 0, 0)),
	}
	none := schema.Unassigned
	tests := []struct {
		cluster, namespace string
		labels             map[string]string
		want               Assigned
	}{
		{"alpha", "db", nil, Assigned{"star", none, none}},
		{"alpha", "web-1", nil, Assigned{"glob", none, none}},
		{"beta", "web-1", nil, Assigned{"beta-web", none, none}},
		{"alpha", "web-shop-us", nil, Assigned{"longer", none, none}},
		{"alpha", "web-shop-eu", nil, Assigned{"acme", "eu", none}},
		{"gamma", "web-shop-eu", nil, Assigned{none, "eu", none}},
		{"alpha", "web-shop-eu", map[string]string{"team": "x", "app": "y"}, Assigned{"x", none, "ann"}},
		{"alpha", "web-shop-eu", map[string]string{"team": "z"}, Assigned{"acme", "eu", none}},
		{"alpha", "vip", map[string]string{"team": "x"}, Assigned{"vip", none, none}},
		{"alpha", schema.SystemNamespace, nil, Assigned{"star", none, none}},
	}
	for seed := range uint64(20) { // the order of the objects does not matter
		rng := rand.New(rand.NewPCG(seed, 1))
		rng.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
		f := New(day, rules)
		for _, test := range tests {
			if diff := cmp.Diff(test.want, f.Assign(test.cluster, test.namespace, test.labels)); diff != "" {
				t.Errorf("%s/%s %v: %s", test.cluster, test.namespace, test.labels, diff)
			}
		}
	}
	if got := New(day, nil).Assign("alpha", "db", nil); got != (Assigned{none, none, none}) {
		t.Errorf("without rules: %+v", got)
	}
}

func FuzzDecode(f *testing.F) {
	text, err := Encode(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("---\n--- x\nkind: Box"))
	f.Add([]byte("{\"kind\": \"Box\", \"apiVersion\": \"accumulus.dev/v1\", \"metadata\": {\"name\": \"b\"}, \"spec\": null}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		objects, err := Decode(text)
		if err != nil {
			return
		}
		_ = Validate(objects, nil)
		again, err := Encode(objects)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(again)
		if err != nil {
			t.Fatalf("%v in\n%s", err, again)
		}
		if !Compare(objects, back).Empty() && Validate(objects, nil) == nil {
			t.Errorf("changed by a round trip:\n%s", Compare(objects, back))
		}
	})
}
