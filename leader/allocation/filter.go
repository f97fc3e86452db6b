package allocation

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/usage"
)

// Filter is a question that something passes or not. The language is that of
// Kubecost's filters (v2):
//
//	namespace:"a","b" + (label[app]:"x" | pod<~:"web-")
//
// Values of one comparison are alternatives; + is and, | is or; one level has only
// one of the two, and parentheses make another level. Operators: `:` is, `!:` is
// not, `~:` contains, `!~:` does not contain, `<~:` begins with, `!<~:` does not
// begin with, `~>:` ends with, `!~>:` does not end with. label~:"x" and label:"x"
// without a name in brackets ask whether there is a label of that name.
type Filter interface {
	keeps(a *atom) bool
	keys() []dimension
}

// FilterError is a filter that is not understood, and where.
type FilterError struct {
	Text string
	At   int // bytes from its beginning
	What string
}

func (e *FilterError) Error() string {
	return fmt.Sprintf("filter %q, at character %d: %s", e.Text, len([]rune(e.Text[:e.At]))+1, e.What)
}

// Hint points at the place.
func (e *FilterError) Hint() string {
	return e.Text[:e.At] + " <-- here: " + e.What + `. A filter is such as namespace:"shop"+label[app]:"web","api".`
}

type allOf []Filter

func (f allOf) keeps(a *atom) bool {
	for _, part := range f {
		if !part.keeps(a) {
			return false
		}
	}
	return true
}

type anyOf []Filter

func (f anyOf) keeps(a *atom) bool {
	for _, part := range f {
		if part.keeps(a) {
			return true
		}
	}
	return false
}

func keysOf(parts []Filter) []dimension {
	var all []dimension
	for _, part := range parts {
		all = append(all, part.keys()...)
	}
	return all
}

func (f allOf) keys() []dimension { return keysOf(f) }
func (f anyOf) keys() []dimension { return keysOf(f) }

// comparison is one field's.
type comparison struct {
	of     dimension
	op     string // one of operators, without "!"
	not    bool
	values []string
	named  bool // is there a value at all
}

func (c comparison) keys() []dimension { return []dimension{c.of} }

func (c comparison) keeps(a *atom) bool {
	value := a.value(c.of)
	if c.named {
		return (value != "") != c.not
	}
	if c.of.kind == byController {
		_, value, _ = strings.Cut(a.key[string(usage.Workload)], "/")
	}
	if c.of.kind == byControllerKind {
		value = strings.ToLower(value)
	}
	hit := false
	for _, v := range c.values {
		if c.of.kind == byControllerKind {
			v = strings.ToLower(v)
		}
		switch c.op {
		case ":":
			hit = hit || value == v
		case "~:":
			hit = hit || strings.Contains(value, v)
		case "<~:":
			hit = hit || strings.HasPrefix(value, v)
		case "~>:":
			hit = hit || strings.HasSuffix(value, v)
		}
	}
	return hit != c.not
}

// maxFilter bounds a filter's length and maxDepth its parentheses.
const (
	maxFilter = 8 << 10
	maxDepth  = 50
)

// ParseFilter reads a filter; "" is nil. Errors: *FilterError.
func ParseFilter(text string) (Filter, error) {
	p := &filterParser{text: text}
	if len(text) > maxFilter {
		return nil, &FilterError{text[:60], 60, fmt.Sprintf("it is longer than %d characters", maxFilter)}
	}
	if p.space(); p.at == len(text) {
		return nil, nil
	}
	f, err := p.level(0)
	if err == nil && p.at < len(text) {
		err = p.wrong("expected +, | or the end")
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

type filterParser struct {
	text string
	at   int
}

func (p *filterParser) wrong(what string) error { return &FilterError{p.text, p.at, what} }

func (p *filterParser) space() {
	for p.at < len(p.text) && (p.text[p.at] == ' ' || p.text[p.at] == '\t' || p.text[p.at] == '\n') {
		p.at++
	}
}

// take moves past one of the tokens, the first that is there.
func (p *filterParser) take(tokens ...string) string {
	p.space()
	for _, token := range tokens {
		if strings.HasPrefix(p.text[p.at:], token) {
			p.at += len(token)
			return token
		}
	}
	return ""
}

// level is terms with + or | between them.
func (p *filterParser) level(depth int) (Filter, error) {
	var parts []Filter
	joined := ""
	for {
		part, err := p.term(depth)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
		p.space()
		before := p.at
		op := p.take("+", "|")
		if op == "" {
			break
		}
		if joined != "" && joined != op {
			p.at = before
			return nil, p.wrong("+ and | stand side by side: put one of them in parentheses")
		}
		joined = op
	}
	if joined == "|" {
		return anyOf(parts), nil
	}
	return allOf(parts), nil
}

func (p *filterParser) term(depth int) (Filter, error) {
	if p.take("(") == "" {
		return p.comparison()
	}
	if depth >= maxDepth {
		return nil, p.wrong("too many parentheses")
	}
	f, err := p.level(depth + 1)
	if err != nil {
		return nil, err
	}
	if p.take(")") == "" {
		return nil, p.wrong("expected )")
	}
	return f, nil
}

func (p *filterParser) comparison() (Filter, error) {
	p.space()
	start := p.at
	for p.at < len(p.text) && (p.text[p.at] >= 'a' && p.text[p.at] <= 'z' || p.text[p.at] >= 'A' && p.text[p.at] <= 'Z') {
		p.at++
	}
	field := p.text[start:p.at]
	if field == "" {
		return nil, p.wrong("expected a field such as namespace or label[app]")
	}
	name := ""
	if p.at < len(p.text) && p.text[p.at] == '[' {
		end := strings.IndexByte(p.text[p.at:], ']')
		if end < 0 {
			return nil, p.wrong("expected ] after the label's name")
		}
		if name = p.text[p.at+1 : p.at+end]; name == "" || !usage.IsText(name) {
			return nil, p.wrong("the name in the brackets is empty or no text")
		}
		p.at += end + 1
	}
	end := p.at
	p.at = start
	of, err := filterField(field, name)
	if err != nil {
		return nil, p.wrong(err.Error())
	}
	p.at = end
	c := comparison{of: of}
	op := p.take("!<~:", "!~>:", "!~:", "!:", "<~:", "~>:", "~:", ":")
	if op == "" {
		return nil, p.wrong("expected an operator: : !: ~: !~: <~: !<~: ~>: !~>:")
	}
	c.op, c.not = strings.TrimPrefix(op, "!"), op[0] == '!'
	for {
		value, err := p.value()
		if err != nil {
			return nil, err
		}
		if c.values = append(c.values, value); p.take(",") == "" {
			break
		}
	}
	if field == "label" && name == "" {
		return p.hasLabels(c)
	}
	return c, nil
}

// hasLabels is label:"x","y": whether there is one of these labels.
func (p *filterParser) hasLabels(c comparison) (Filter, error) {
	var parts []Filter
	for _, label := range c.values {
		if label == "" || c.op != ":" && c.op != "~:" {
			return nil, p.wrong(`label without a name asks whether there is such a label: label:"app"; else write label[app]`)
		}
		parts = append(parts, comparison{of: dimension{kind: byLabel, key: usage.Label(label)}, named: true, not: c.not})
	}
	if c.not {
		return allOf(parts), nil
	}
	return anyOf(parts), nil
}

// value is a quoted text.
func (p *filterParser) value() (string, error) {
	p.space()
	start := p.at
	if p.at >= len(p.text) || p.text[p.at] != '"' {
		return "", p.wrong(`expected a value in double quotes`)
	}
	for i := p.at + 1; i < len(p.text); i++ {
		switch p.text[i] {
		case '\\':
			i++
		case '"':
			value, err := strconv.Unquote(p.text[start : i+1])
			if err != nil || !usage.IsText(value) {
				return "", p.wrong("the value is no text")
			}
			p.at = i + 1
			return value, nil
		}
	}
	return "", p.wrong("the value's closing quote is missing")
}
