package influxsync

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/influxdata/influxdb1-client/models"
	"github.com/influxdata/influxdb1-client/pkg/escape"
)

// appendLine appends the row as one line of line protocol with its newline, or
// says why InfluxDB cannot hold it. What it accepts comes back as it was.
func appendLine(line []byte, p Point) ([]byte, error) {
	start := len(line)
	line, err := appendKey(line, p)
	if err != nil {
		return line[:start], fmt.Errorf("row %s: %w", rowName(p), err)
	}
	key := len(line) - start
	separator := byte(' ')
	for i, field := range p.Fields {
		if i > 0 && p.Fields[i-1].Name >= field.Name {
			return line[:start], fmt.Errorf("row %s: fields are not sorted, or one is twice: %q", rowName(p), field.Name)
		}
		line = append(line, separator)
		separator = ','
		if line, err = appendField(line, field); err != nil {
			return line[:start], fmt.Errorf("row %s: %w", rowName(p), err)
		}
		if key+4+len(field.Name) > models.MaxKeyLength {
			return line[:start], fmt.Errorf("row %s: key longer than %d bytes", rowName(p), models.MaxKeyLength)
		}
	}
	if len(p.Fields) == 0 {
		return line[:start], fmt.Errorf("row %s: no fields", rowName(p))
	}
	if err := models.CheckTime(p.Time); err != nil {
		return line[:start], fmt.Errorf("row %s: %w", rowName(p), err)
	}
	line = append(line, ' ')
	line = strconv.AppendInt(line, p.Time.UnixNano(), 10)
	return append(line, '\n'), nil
}

func appendKey(line []byte, p Point) ([]byte, error) {
	if err := checkName("table", p.Table); err != nil {
		return line, err
	}
	if strings.HasPrefix(p.Table, "#") {
		return line, fmt.Errorf("table %q would be a comment", p.Table)
	}
	line = append(line, models.EscapeMeasurement([]byte(p.Table))...)
	for i, tag := range p.Tags {
		if i > 0 && p.Tags[i-1].Key >= tag.Key {
			return line, fmt.Errorf("tags are not sorted, or one is twice: %q", tag.Key)
		}
		if err := checkName("tag", tag.Key); err != nil {
			return line, err
		}
		if tag.Key == "time" || tag.Key == "_field" || tag.Key == "_measurement" {
			return line, fmt.Errorf("tag %q is reserved", tag.Key)
		}
		if err := checkTagValue(tag.Value); err != nil {
			return line, fmt.Errorf("tag %s: %w", tag.Key, err)
		}
		line = append(line, ',')
		line = appendEscaped(line, tag.Key)
		line = append(line, '=')
		line = appendEscaped(line, tag.Value)
	}
	return line, nil
}

// appendEscaped escapes what separates in the key of a line.
func appendEscaped(line []byte, text string) []byte {
	if !strings.ContainsAny(text, ",= ") {
		return append(line, text...)
	}
	for i := range len(text) {
		if c := text[i]; c == ',' || c == '=' || c == ' ' {
			line = append(line, '\\')
		}
		line = append(line, text[i])
	}
	return line
}

func appendField(line []byte, field FieldValue) ([]byte, error) {
	if err := checkName("field", field.Name); err != nil {
		return line, err
	}
	if field.Name == "time" {
		return line, fmt.Errorf("field %q is reserved", field.Name)
	}
	if strings.ContainsAny(field.Name, `," =`) {
		line = append(line, escape.String(field.Name)...)
	} else {
		line = append(line, field.Name...)
	}
	line = append(line, '=')
	switch value := field.Value; value.Type {
	case schema.Integer:
		return append(strconv.AppendInt(line, value.Int(), 10), 'i'), nil
	case schema.Float:
		f := value.Float()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return line, fmt.Errorf("field %s: %v has no representation", field.Name, f)
		}
		return strconv.AppendFloat(line, f, 'g', -1, 64), nil
	case schema.String:
		line = append(line, '"')
		if strings.ContainsAny(value.str, `"\`) {
			line = append(line, models.EscapeStringField(value.str)...)
		} else {
			line = append(line, value.str...)
		}
		return append(line, '"'), nil
	case schema.Boolean:
		return strconv.AppendBool(line, value.Bool()), nil
	default:
		return line, fmt.Errorf("field %s: unknown type %d", field.Name, value.Type)
	}
}

// checkName refuses names of tables, tags and fields that line protocol or
// InfluxQL cannot hold: empty, control characters, backslash, not UTF-8.
func checkName(what, name string) error {
	if name == "" {
		return fmt.Errorf("%s without a name", what)
	}
	for i := range len(name) {
		if c := name[i]; c < ' ' || c == '\\' || c == 0x7f {
			return fmt.Errorf("%s name %q holds a control character or a backslash", what, name)
		}
	}
	if !utf8.ValidString(name) {
		return fmt.Errorf("%s name %q is not UTF-8", what, name)
	}
	return nil
}

// checkTagValue refuses what line protocol has no escape for: a backslash
// before a separator or at the end, and what ends a line.
func checkTagValue(value string) error {
	if value == "" {
		return fmt.Errorf("an empty value cannot be stored; leave the tag out")
	}
	for i := range len(value) {
		switch c := value[i]; {
		case c < ' ' || c == 0x7f:
			return fmt.Errorf("value %q holds a control character", value)
		case c != '\\':
		case i+1 == len(value):
			return fmt.Errorf("value %q ends with a backslash", value)
		case strings.IndexByte(",= ", value[i+1]) >= 0:
			return fmt.Errorf("value %q holds a backslash before %q", value, value[i+1])
		}
	}
	if !utf8.ValidString(value) {
		return fmt.Errorf("value %q is not UTF-8", value)
	}
	return nil
}

// rowName names a row in an error.
func rowName(p Point) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q", p.Table)
	for _, tag := range p.Tags {
		fmt.Fprintf(&b, ",%s=%q", tag.Key, tag.Value)
	}
	return b.String() + " at " + p.Time.UTC().Format("2006-01-02T15:04:05.999999999Z07:00")
}
