package fleet

import (
	"fmt"
	"maps"
	"math"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

type reporter = func(field, format string, args ...any)

// maxPriceDigits bounds a price on either side of its decimal point: exact sums
// carry every digit.
const maxPriceDigits = 18

// minMeterInterval is the shortest time between two readings of a meter.
const minMeterInterval = time.Second

// maxWatts is far above what one unit draws; a larger figure is a slip of the
// unit.
const maxWatts = 1e6

// maxEmbodiedKg is far above what one node's making emits; a larger figure is a
// slip of the unit.
const maxEmbodiedKg = 1e6

// checkCurrency reports what is no currency.
func checkCurrency(report reporter, field, code string) {
	switch {
	case !currencyForm.MatchString(code):
		report(field, "%q is not three capital letters (ISO 4217)", code)
	case !processors.KnownCurrency(code):
		report(field, "%q is no currency of ISO 4217, such as EUR", code)
	}
}

func (c Customer) check(report reporter) {
	if c.Currency != "" {
		checkCurrency(report, "currency", c.Currency)
	}
	if _, err := time.LoadLocation(c.TimeZone); err != nil || c.TimeZone == "Local" {
		report("timeZone", "%q is no IANA time zone", c.TimeZone)
	}
}

func (c Customer) references() []reference { return nil }

func (c Cluster) check(report reporter) {
	checkOneOf(report, "via", c.Via, "", ViaServiceProxy)
	checkOneOf(report, "manage", c.Manage, "", ManageLeader, ManageGitOps)
	if d := time.Duration(c.PullInterval); d < 0 || d > time.Hour {
		report("pullInterval", "must lie between 0 and 1h")
	}
	if c.Via == ViaServiceProxy {
		for _, own := range []struct{ field, value string }{{"url", c.URL}, {"tokenFile", c.TokenFile}, {"caFile", c.CAFile},
			{"clientCertFile", c.ClientCertFile}, {"clientKeyFile", c.ClientKeyFile}} {
			if own.value != "" {
				report(own.field, "is not used via %s: the leader's credentials of the cluster say it; leave it out", ViaServiceProxy)
			}
		}
		return
	}
	if c.Manage != "" {
		report("manage", "is for clusters via %s: by url the leader does not reach the cluster itself", ViaServiceProxy)
	}
	c.checkLink(report)
}

// checkLink checks what a cluster that is reached by URL needs.
func (c Cluster) checkLink(report reporter) {
	checkURL(report, c.URL)
	if u, err := url.Parse(c.URL); err == nil && (u.RawQuery != "" || u.Fragment != "") {
		report("url", "%q has a query or a fragment, which would not be kept", c.URL)
	}
	if c.ClientCertFile != "" && c.ClientKeyFile == "" {
		report("clientKeyFile", "is empty, but clientCertFile is given: give both or none")
	}
	if c.ClientKeyFile != "" && c.ClientCertFile == "" {
		report("clientCertFile", "is empty, but clientKeyFile is given: give both or none")
	}
	if c.ClientCertFile != "" && strings.HasPrefix(c.URL, "http:") {
		report("clientCertFile", "needs a url that begins with https")
	}
}

func (c Cluster) references() []reference {
	return []reference{{"customer", KindCustomer, c.Customer}}
}

func (b Box) check(report reporter) {
	checkWatts(report, "overheadWatts", b.OverheadWatts)
	checkOneOf(report, "idlePolicy", b.IdlePolicy, "", IdleEqual, IdleRequests, IdleUsage, IdleNone)
	if !(b.HeatFraction >= 0 && b.HeatFraction <= 1) {
		report("heatFraction", "%v is not between 0 and 1", b.HeatFraction)
	}
}

// HeatMicro is HeatFraction in 1e-6.
func (b Box) HeatMicro() int64 {
	if b.HeatFraction == 0 {
		return 1_000_000
	}
	return int64(math.Round(b.HeatFraction * 1e6))
}

func (b Box) references() []reference { return nil }

func (h Hardware) check(report reporter) {
	checkWatts(report, "idleWatts", h.IdleWatts)
	checkWatts(report, "maxWatts", h.MaxWatts)
	if h.MaxWatts != 0 && h.IdleWatts > h.MaxWatts {
		report("idleWatts", "%v is more than maxWatts %v", h.IdleWatts, h.MaxWatts)
	}
	h.checkCurve(report)
	if !(h.EmbodiedKg >= 0 && h.EmbodiedKg <= maxEmbodiedKg) {
		report("embodiedKg", "%v is not between 0 and %v", h.EmbodiedKg, maxEmbodiedKg)
	}
	if !(h.LifetimeYears >= 0 && h.LifetimeYears <= 50) {
		report("lifetimeYears", "%v is not between 0 and 50", h.LifetimeYears)
	}
	if (h.EmbodiedKg > 0) != (h.LifetimeYears > 0) {
		report("lifetimeYears", "embodiedKg and lifetimeYears need each other: give both or none")
	}
	if h.Cores < 0 {
		report("cores", "%d is negative", h.Cores)
	}
	if h.MemoryBytes < 0 {
		report("memoryBytes", "%d is negative", h.MemoryBytes)
	}
}

func (h Hardware) checkCurve(report reporter) {
	for i, p := range h.Curve {
		field := fmt.Sprintf("curve[%d]", i)
		if !(p.Load >= 0 && p.Load <= 100) {
			report(field+".load", "%v is not between 0 and 100 %%", p.Load)
		}
		checkWatts(report, field+".watts", p.Watts)
		if i > 0 && p.Load <= h.Curve[i-1].Load {
			report(field+".load", "%v does not follow %v: name the loads in rising order, each once", p.Load, h.Curve[i-1].Load)
		}
	}
	if len(h.Curve) > 0 && !slices.ContainsFunc(h.Curve, func(p LoadWatts) bool { return p.Watts > 0 }) {
		report("curve", "has no watts above 0")
	}
	if h.Year != 0 && (h.Year < 1990 || h.Year > 2200) {
		report("year", "%d is no year of a server", h.Year)
	}
}

func (h Hardware) references() []reference { return nil }

func (n Node) check(report reporter) {
	checkSet(report, "cluster", n.Cluster)
	if !nameForm.MatchString(n.Node) || len(n.Node) > maxName {
		report("node", "%q is no name of a node", n.Node)
	}
}

func (n Node) references() []reference {
	return []reference{{"cluster", KindCluster, n.Cluster}, {"box", KindBox, n.Box}, {"hardware", KindHardware, n.Hardware}}
}

func (a Assignment) check(report reporter) {
	if a.Customer == "" && a.Project == "" && a.User == "" {
		report("customer", "is empty, as are project and user: the rule assigns nothing")
	}
	if _, err := path.Match(a.Namespace, ""); err != nil {
		report("namespace", "%q is no pattern", a.Namespace)
	}
}

func (a Assignment) references() []reference {
	return []reference{{"cluster", KindCluster, a.Cluster}, {"customer", KindCustomer, a.Customer}}
}

func (p PriceList) check(report reporter) {
	checkCurrency(report, "currency", p.Currency)
	p.checkExclude(report)
	p.checkSharing(report)
	fine := true
	tell := func(field, format string, args ...any) {
		fine = false
		report(field, format, args...)
	}
	seen := make(map[string]bool)
	for _, rate := range p.Rates {
		rate.check(tell)
		field := rateField(rate)
		if id := field + rate.Mode; seen[id] {
			tell(field+".resource", "has two prices")
		} else {
			seen[id] = true
		}
	}
	if fine && currencyForm.MatchString(p.Currency) {
		p.checkRating(report)
	}
}

// check checks a rate by itself: its resource, unit and price.
func (r Rate) check(report reporter) {
	field := rateField(r)
	unit, known := UnitOf(r.Resource)
	kind, of, named := strings.Cut(r.Resource, ":")
	switch {
	case rating.IsFee(processors.Resource(r.Resource)) && nameForm.MatchString(of):
		unit = r.Per
	case rating.Moded(r.Resource) && (!named || nameForm.MatchString(of)):
		unit = units[kind]
	case !known:
		report(field+".resource", "is none of %v, cpu, memory, ephemeral, volume, volume_claimed:CLASS, volume_used:CLASS, network_receive:CLASS, network_transmit:CLASS, extended:NAME, fee:NAME", resources())
		return
	case !ofForm(kind, of):
		report(field+".resource", "is of what no cluster has: %q is no name of a %s", of, map[bool]string{true: "resource, such as nvidia.com/gpu", false: "class"}[kind == "extended"])
	}
	if r.Unit != "" && r.Unit != unit {
		report(field+".unit", "%q is not %q", r.Unit, unit)
	}
	if r.Price == "" {
		return
	}
	if price, err := r.Price.Value(); err != nil {
		report(field+".price", "%v", err)
	} else if price.Negative {
		report(field+".price", "%s is negative", r.Price)
	} else if price.Exponent < -maxPriceDigits || price.NumDigits()+int64(price.Exponent) > maxPriceDigits {
		report(field+".price", "has more than %d digits before or after the point", maxPriceDigits)
	}
}

// units of the names that have modes.
var units = map[string]string{"cpu": "core-hour", "memory": "GiB-hour", "ephemeral": "GiB-hour", "volume": "GiB-hour"}

// ofForm says whether a cluster can have what a price is for: a storage class, or
// a resource that pods request.
func ofForm(kind, of string) bool {
	switch {
	case len(of) > maxName:
		return false
	case of == "":
		return true
	case kind == "extended":
		return extendedForm.MatchString(of)
	}
	return nameForm.MatchString(of)
}

func (p PriceList) checkExclude(report reporter) {
	for i, pattern := range p.Exclude {
		if _, err := path.Match(pattern, ""); err != nil || !patternForm.MatchString(pattern) {
			report(fmt.Sprintf("exclude[%d]", i), "%q is no pattern for a namespace, nor %s", pattern, MeteringNamespace)
		}
	}
}

func (p PriceList) references() []reference {
	var refs []reference
	for _, name := range p.Clusters {
		refs = append(refs, reference{"clusters", KindCluster, name})
	}
	for _, name := range p.Customers {
		refs = append(refs, reference{"customers", KindCustomer, name})
	}
	for _, discount := range p.Discounts {
		for _, name := range discount.Customers {
			refs = append(refs, reference{"discounts.customers", KindCustomer, name})
		}
	}
	for _, rate := range p.Rates {
		refs = append(refs, reference{"rates.match.hardware", KindHardware, rate.matching().Hardware})
	}
	return refs
}

// resources are the names in Units, sorted.
func resources() []string {
	return slices.Sorted(maps.Keys(Units))
}

func checkSet(report reporter, field, value string) {
	if value == "" {
		report(field, "is empty")
	}
}

func checkOneOf(report reporter, field, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		report(field, "%q is none of %q", value, allowed)
	}
}

func checkURL(report reporter, text string) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		report("url", "%q is no URL", text)
	case u.Scheme != "http" && u.Scheme != "https":
		report("url", "%q has the scheme %q, not http or https", text, u.Scheme)
	case u.Host == "":
		report("url", "%q names no host", text)
	case !portForm(u.Port()):
		report("url", "%q has the port %s, which is none of 1 to 65535", text, u.Port())
	case u.User != nil:
		report("url", "carries a password; use tokenFile")
	}
}

// portForm is no port, or one that there may be.
func portForm(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return text == "" || err == nil && port > 0
}

func checkWatts(report reporter, field string, watts float64) {
	if !(watts >= 0 && watts <= maxWatts) {
		report(field, "%v is not between 0 and %v", watts, maxWatts)
	}
}
