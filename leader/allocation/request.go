package allocation

import (
	"errors"
	"math/big"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/processors"
)

// Parameters are the names that a question may have.
var Parameters = []string{"window", "aggregate", "step", "accumulate", "resolution", "includeIdle", "idle", "shareIdle", "idleByNode", "splitIdle", "filter",
	"shareNamespaces", "shareLabels", "shareCost", "shareSplit", "offset", "limit", "format", "costMetric", "currency"}

// How idle or shared cost is split.
const (
	weighted = "weighted"
	even     = "even"
)

// Request is a question.
type Request struct {
	Window    schema.Window
	Step      time.Duration
	CSV       bool
	Currency  string // "" = the one that there is
	aggregate []dimension
	filter    Filter
	// includeIdle shows what is idle, shareIdle (weighted or even) puts it on the rest.
	includeIdle bool
	shareIdle   string
	idleByNode  bool
	// What is shared by shareSplit.
	shareNamespaces []string
	shareLabels     []dimension
	shareLabelValue []string
	shareCost       *big.Rat // a month of 730 hours
	shareSplit      string
	offset, limit   int
	metric          time.Duration // costs are per this time; 0 = as they are
	resolution      bool          // was given
}

// Parse reads a URL's query. Relative windows end at settled. Errors:
// *usage.InputError, with *FilterError for a filter.
func Parse(query string, settled time.Time) (Request, error) {
	values, err := usage.ParseParameters(query, Parameters...)
	if err != nil {
		return Request{}, err
	}
	r := Request{}
	if r.Window, err = ParseWindow(values.Get("window"), settled); err != nil {
		return r, err
	}
	if r.aggregate, err = parseAggregate(values.Get("aggregate")); err != nil {
		return r, err
	}
	if r.filter, err = ParseFilter(values.Get("filter")); err != nil {
		var at *FilterError
		errors.As(err, &at)
		return r, usage.Wrong("filter", values.Get("filter"), at.Hint())
	}
	for _, parse := range []func(url.Values) error{r.parseSteps, r.parseIdle, r.parseShares, r.parsePage} {
		if err := parse(values); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (r *Request) parseSteps(values url.Values) (err error) {
	if r.Step, err = parseStep(values.Get("step"), r.Window); err != nil {
		return err
	}
	switch text := values.Get("accumulate"); text {
	case "", "false", "0":
	case "true", "1", "all":
		r.Step = r.Window.Length()
	case "hour":
		r.Step = time.Hour
	case "day":
		r.Step = day
	default:
		return usage.Wrong("accumulate", text, "use true (one set of the whole window), false, hour or day")
	}
	if count := r.Window.Length() / r.Step; count > maxSteps {
		return usage.Wrong("step", values.Get("step"), "the window has more than "+strconv.Itoa(maxSteps)+" of them: take a longer step or a shorter window")
	}
	if text := values.Get("resolution"); text != "" {
		if !lengthForm.MatchString(text) {
			return usage.Wrong("resolution", text, "use a length such as 1m, or leave it out: usage is exact to the minute without it")
		}
		r.resolution = true
	}
	return nil
}

// maxSteps bounds the sets of one answer.
const maxSteps = 1500

func (r *Request) parseIdle(values url.Values) error {
	flags := map[string]*bool{"includeIdle": &r.includeIdle, "idle": &r.includeIdle, "idleByNode": &r.idleByNode, "splitIdle": &r.idleByNode}
	for _, name := range []string{"includeIdle", "idle", "idleByNode", "splitIdle"} {
		flag, err := usage.ParseFlag(values, name)
		if err != nil {
			return err
		}
		*flags[name] = *flags[name] || flag
	}
	switch text := values.Get("shareIdle"); text {
	case "", "false":
	case "true", weighted:
		r.shareIdle = weighted
	case even:
		r.shareIdle = even
	default:
		return usage.Wrong("shareIdle", text, "use true or weighted (by cost), even (by name), or false")
	}
	return nil
}

func (r *Request) parseShares(values url.Values) error {
	if text := values.Get("shareNamespaces"); text != "" {
		r.shareNamespaces = strings.Split(text, ",")
	}
	if text := values.Get("shareLabels"); text != "" {
		for _, pair := range strings.Split(text, ",") {
			name, value, ok := strings.Cut(pair, ":")
			if !ok || name == "" || !usage.IsText(pair) {
				return usage.Wrong("shareLabels", text, "write it as name:value,name:value")
			}
			r.shareLabels = append(r.shareLabels, dimension{kind: byLabel, key: usage.Label(name)})
			r.shareLabelValue = append(r.shareLabelValue, value)
		}
	}
	if text := values.Get("shareCost"); text != "" {
		amount, ok := new(big.Rat).SetString(text)
		if !ok || len(text) > 40 || strings.ContainsAny(text, "eE/xXpP_") || amount.Sign() < 0 {
			return usage.Wrong("shareCost", text, "use a plain decimal, the cost of a month of 730 hours, such as 120.50")
		}
		r.shareCost = amount
	}
	switch r.shareSplit = values.Get("shareSplit"); r.shareSplit {
	case "":
		r.shareSplit = weighted
	case weighted, even:
	default:
		return usage.Wrong("shareSplit", r.shareSplit, "use weighted (by cost) or even (by name)")
	}
	if r.Currency = values.Get("currency"); r.Currency != "" {
		if !processors.KnownCurrency(r.Currency) {
			return usage.Wrong("currency", r.Currency, "use a code of ISO 4217, such as EUR")
		}
	}
	return nil
}

func (r *Request) parsePage(values url.Values) error {
	for name, into := range map[string]*int{"offset": &r.offset, "limit": &r.limit} {
		text := values.Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > 1_000_000 || name == "limit" && n == 0 {
			return usage.Wrong(name, text, "use a whole number; limit is at least 1")
		}
		*into = n
	}
	switch format := values.Get("format"); format {
	case "", "json":
	case "csv":
		r.CSV = true
	default:
		return usage.Wrong("format", format, "use json or csv")
	}
	switch metric := values.Get("costMetric"); metric {
	case "", "cumulative", "cummulative":
	case "hourly":
		r.metric = time.Hour
	case "daily":
		r.metric = day
	case "monthly":
		r.metric = monthHours * time.Hour
	default:
		return usage.Wrong("costMetric", metric, "use cumulative, hourly, daily or monthly (730 hours)")
	}
	return nil
}

// monthHours is a month of shareCost and costMetric, as OpenCost's.
const monthHours = 730

// idle says whether idle capacity has to be known.
func (r Request) idle() bool { return r.includeIdle || r.shareIdle != "" }

// shares says whether the question says how something is shared.
func (r Request) shares() bool {
	return r.shareIdle != "" || len(r.shareNamespaces) > 0 || len(r.shareLabels) > 0 || r.shareCost != nil
}

// keys are what has to be read apart.
func (r Request) keys() []usage.Key {
	keys := []usage.Key{usage.Cluster, usage.Namespace, usage.Claim}
	if r.idle() {
		keys = append(keys, usage.Node)
	}
	dimensions := slices.Concat(r.aggregate, r.shareLabels)
	if r.filter != nil {
		dimensions = append(dimensions, r.filter.keys()...)
	}
	for _, d := range dimensions {
		if !slices.Contains(keys, d.key) {
			keys = append(keys, d.key)
		}
		if d.key == usage.Container && !slices.Contains(keys, usage.Pod) {
			keys = append(keys, usage.Pod)
		}
	}
	return keys
}

// conditions are what of the filter can narrow the reading: clusters always, for
// nothing of one is shared with another but what is shared by name, and namespaces
// where nothing is shared at all.
func (r Request) conditions() []usage.Condition {
	parts, ok := r.filter.(allOf)
	if !ok || len(r.shareNamespaces) > 0 || len(r.shareLabels) > 0 || r.shareCost != nil || r.shareIdle == even {
		return nil
	}
	var all []usage.Condition
	for _, part := range parts {
		c, ok := part.(comparison)
		if !ok || c.not || c.op != ":" || c.of.kind != byKey || c.named {
			continue
		}
		narrow := c.of.key == usage.Cluster || c.of.key == usage.Namespace && !r.idle()
		if plain := !slices.ContainsFunc(c.values, func(v string) bool { return strings.Contains(v, "*") || v == "" }); narrow && plain {
			all = append(all, usage.Condition{Key: c.of.key, Values: c.values})
		}
	}
	return all
}
