package kubelet

import (
	"bytes"
	"strconv"
)

// sample is one line of the Prometheus text format. Its slices point into the
// line.
type sample struct {
	name      []byte
	labels    []byte // between the braces
	value     []byte
	timestamp int64 // ms since the Unix epoch
	timed     bool  // the line has a timestamp
}

// parseSample reads one line that is neither empty nor a comment. It checks
// what it returns and leaves the labels to eachLabel.
func parseSample(line []byte) (sample, bool) {
	end := 0
	for end < len(line) && isNameByte(line[end]) {
		end++
	}
	s := sample{name: line[:end]}
	rest := line[end:]
	if len(s.name) == 0 {
		return sample{}, false
	}
	if len(rest) > 0 && rest[0] == '{' {
		length := labelsEnd(rest)
		if length < 0 {
			return sample{}, false
		}
		s.labels, rest = rest[1:length], rest[length+1:]
	}
	fields := bytes.TrimLeft(rest, " \t")
	at := bytes.IndexAny(fields, " \t")
	if at < 0 {
		s.value = fields
		return s, len(fields) > 0
	}
	s.value = fields[:at]
	stamp := bytes.Trim(fields[at:], " \t")
	if len(stamp) == 0 {
		return s, true
	}
	timestamp, ok := parseInt(stamp)
	s.timestamp, s.timed = timestamp, true
	return s, ok
}

func isNameByte(c byte) bool {
	return c == '_' || c == ':' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')
}

// labelsEnd is the index of the brace that closes text, which begins with one.
func labelsEnd(text []byte) int {
	quoted := false
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == '}' && !quoted:
			return i
		}
	}
	return -1
}

func parseInt(text []byte) (int64, bool) {
	if len(text) > 20 {
		return 0, false
	}
	value, err := strconv.ParseInt(string(text), 10, 64)
	return value, err == nil
}

// eachLabel calls each with name and value of every label; values are
// unescaped. It is false when the labels are malformed; what came before the
// fault was seen by then.
func eachLabel(labels []byte, each func(name, value []byte)) bool {
	for {
		labels = bytes.TrimLeft(labels, ", \t")
		if len(labels) == 0 {
			return true
		}
		at := bytes.IndexByte(labels, '=')
		if at < 0 {
			return false
		}
		name := bytes.TrimRight(labels[:at], " \t")
		labels = bytes.TrimLeft(labels[at+1:], " \t")
		if len(name) == 0 || len(labels) == 0 || labels[0] != '"' {
			return false
		}
		value, length, ok := unquote(labels)
		if !ok {
			return false
		}
		each(name, value)
		labels = labels[length:]
	}
}

// unquote reads the quoted string at the start of text: its value and how many
// bytes it took.
func unquote(text []byte) (value []byte, length int, ok bool) {
	escaped := false
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			escaped = true
			i++
		case '"':
			value = text[1:i]
			if escaped {
				value = unescape(value)
			}
			return value, i + 1, true
		}
	}
	return nil, 0, false
}

func unescape(value []byte) []byte {
	plain := make([]byte, 0, len(value))
	for i := 0; i < len(value); i++ {
		c := value[i]
		if c == '\\' && i+1 < len(value) {
			i++
			if c = value[i]; c == 'n' {
				c = '\n'
			}
		}
		plain = append(plain, c)
	}
	return plain
}
