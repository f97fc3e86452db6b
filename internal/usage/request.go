package usage

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Request asks for usage.
type Request struct {
	Window    string        // as ParseWindow reads it; "" = 1h
	Aggregate []Key         // none: one row for everything
	Filter    []Condition   // all must hold
	Step      time.Duration // 0: one row per key for the whole window
	Sort      string        // a column of Row, "-" before it for descending; "" = by key and time
	Limit     int           // rows in the answer; 0 = as many as the answering side puts on a page
	Page      string        // next of the answer before
	// Completeness asks what of the clusters is missing in the window.
	Completeness bool
	// About is what the question is about; usage where it is "".
	About Subject
}

// Check says what of the question cannot be answered, as an *InputError.
func (r Request) Check() error {
	for _, k := range r.Aggregate {
		if _, err := ParseKey(string(k)); err != nil {
			return err
		}
	}
	for _, c := range r.Filter {
		if _, err := ParseKey(string(c.Key)); err != nil {
			return err
		}
		for _, value := range c.Values {
			if !IsText(value) {
				return Wrong(string(c.Key), value, "it has bytes that no name has: send UTF-8 without control characters")
			}
		}
	}
	if r.Limit < 0 {
		return Wrong("limit", fmt.Sprint(r.Limit), "use a positive number")
	}
	if _, ok := r.About.columns()[trimSign(r.Sort)]; !ok && r.Sort != "" {
		return Wrong("sort", r.Sort, "use one of "+r.About.sortNames()+", with - before it for descending")
	}
	return r.checkSubject()
}

// Uses says whether a key is asked for or filtered by.
func (r Request) Uses(keys ...Key) bool {
	for _, k := range keys {
		if slices.Contains(r.Aggregate, k) || slices.ContainsFunc(r.Filter, func(c Condition) bool { return c.Key == k }) {
			return true
		}
	}
	return false
}

// UsesLabels says whether some label is asked for or filtered by.
func (r Request) UsesLabels() bool {
	isLabel := func(k Key) bool { _, ok := k.LabelName(); return ok }
	return slices.ContainsFunc(r.Aggregate, isLabel) ||
		slices.ContainsFunc(r.Filter, func(c Condition) bool { return isLabel(c.Key) })
}

// parameters are what a question may carry beside its filters.
var parameters = []string{"window", "aggregate", "filter", "step", "sort", "limit", "page", "completeness"}

// ParseRequest reads the question from a URL's query. A filter is
// filter=key=value, as often as wanted, or the key itself as a parameter:
// namespace=shop. Parameters named in more are left to the caller. An unknown
// name is an error, for a typing mistake in a filter would silently give more
// than was asked for.
func ParseRequest(query string, more ...string) (Request, error) {
	known := append(slices.Clone(parameters), more...)
	values, err := url.ParseQuery(query)
	if err != nil {
		return Request{}, Wrong("query", query, "it is not URL-encoded")
	}
	if err := Once(values, append([]string{"window", "step", "sort", "limit", "page", "completeness"}, more...)...); err != nil {
		return Request{}, err
	}
	request := Request{Window: values.Get("window"), Sort: values.Get("sort"), Page: values.Get("page")}
	if request.Aggregate, err = ParseKeys(strings.Join(values["aggregate"], ",")); err != nil {
		return Request{}, err
	}
	if request.Step, err = ParseStep(values.Get("step")); err != nil {
		return Request{}, err
	}
	if request.Completeness, err = ParseFlag(values, "completeness"); err != nil {
		return Request{}, err
	}
	if request.Limit, err = ParseLimit(values.Get("limit")); err != nil {
		return Request{}, err
	}
	for _, text := range values["filter"] {
		condition, err := ParseCondition(text)
		if err != nil {
			return Request{}, err
		}
		request.Filter = append(request.Filter, condition)
	}
	for _, name := range sortedNames(values) {
		if slices.Contains(known, name) {
			continue
		}
		key, err := ParseKey(name)
		if err != nil {
			return Request{}, Wrong("parameter", name, "this endpoint knows "+strings.Join(known, ", ")+", and each key as a filter (namespace=shop)")
		}
		request.Filter = append(request.Filter, Condition{Key: key, Values: strings.Split(strings.Join(values[name], ","), ",")})
	}
	return request, nil
}

func sortedNames(values url.Values) []string {
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// ParseLimit reads how many rows are wanted, "" for 0.
func ParseLimit(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > 100_000 {
		return 0, Wrong("limit", text, "use a number from 1 to 100000")
	}
	return limit, nil
}

// ParseFlag reads true or false, "" for false; anything else is an error, for a
// dryRun=yes that is not understood must not change anything.
func ParseFlag(values url.Values, name string) (bool, error) {
	switch text := values.Get(name); text {
	case "true":
		return true, nil
	case "", "false":
		return false, nil
	default:
		return false, Wrong(name, text, "use true or false")
	}
}

// ParseParameters are the values of a query that may hold only the known names.
func ParseParameters(query string, known ...string) (url.Values, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, Wrong("query", query, "it is not URL-encoded")
	}
	for name := range values {
		if !slices.Contains(known, name) {
			return nil, Wrong("parameter", name, "this endpoint knows "+strings.Join(known, ", "))
		}
	}
	return values, Once(values, known...)
}

// Once refuses a parameter that is given twice: which of the two was meant
// nobody knows.
func Once(values url.Values, names ...string) error {
	for _, name := range names {
		if len(values[name]) > 1 {
			return Wrong(name, strings.Join(values[name], " "), "give it once")
		}
	}
	return nil
}
