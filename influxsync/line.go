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
	line, err := appendTable(line, p.Table)
	for i, tag := range p.Tags {
		if err != nil {
			return line, err
		}
		if i > 0 && p.Tags[i-1].Key >= tag.Key {
			return line, fmt.Errorf("tags are not sorted, or one is twice: %q", tag.Key)
		}
		line, err = appendTag(line, tag.Key, tag.Value)
	}
	return line, err
}

func appendTable(line []byte, table string) ([]byte, error) {
	if err := checkName("table", table); err != nil {
		return line, err
	}
	if strings.HasPrefix(table, "#") {
		return line, fmt.Errorf("table %q would be a comment", table)
	}
	return append(line, models.EscapeMeasurement([]byte(table))...), nil
}

func appendTag[T string | []byte](line []byte, key, value T) ([]byte, error) {
	if err := checkName("tag", key); err != nil {
		return line, err
	}
	switch string(key) {
	case "time", "_field", "_measurement":
		return line, fmt.Errorf("tag %q is reserved", string(key))
	}
	if err := checkTagValue(value); err != nil {
		return line, fmt.Errorf("tag %s: %w", key, err)
	}
	line = append(line, ',')
	line = appendEscaped(line, key)
	line = append(line, '=')
	return appendEscaped(line, value), nil
}

// ParseLine is the row of a line of line protocol. Errors: what the parser says,
// a text that is not one row.
func ParseLine(line string) (Point, error) {
	parsed, err := models.ParsePointsString(line)
	if err != nil {
		return Point{}, fmt.Errorf("parse line: %w", err)
	}
	if len(parsed) != 1 {
		return Point{}, fmt.Errorf("parse line: %d rows, want one", len(parsed))
	}
	p := Point{Table: string(parsed[0].Name()), Time: parsed[0].Time().UTC()}
	for _, tag := range parsed[0].Tags() {
		p.Tags = append(p.Tags, Tag{string(tag.Key), string(tag.Value)})
	}
	fields, err := parsed[0].Fields()
	if err != nil {
		return Point{}, fmt.Errorf("parse line: %w", err)
	}
	for name, value := range fields {
		field := FieldValue{Name: name}
		switch v := value.(type) {
		case int64:
			field.Value = Int(v)
		case float64:
			field.Value = Float(v)
		case string:
			field.Value = Str(v)
		case bool:
			field.Value = Bool(v)
		default:
			return Point{}, fmt.Errorf("parse line: field %s of type %T", name, value)
		}
		p.Fields = append(p.Fields, field)
	}
	p.Sort()
	return p, nil
}

// appendEscaped escapes what separates in the key of a line.
func appendEscaped[T string | []byte](line []byte, text T) []byte {
	for i := range len(text) {
		if c := text[i]; c == ',' || c == '=' || c == ' ' {
			line = append(line, '\\')
		}
		line = append(line, text[i])
	}
	return line
}

func appendField(line []byte, field FieldValue) ([]byte, error) {
	line, err := appendFieldName(line, field.Name)
	if err != nil {
		return line, err
	}
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
		return appendText(line, value.str), nil
	case schema.Boolean:
		return strconv.AppendBool(line, value.Bool()), nil
	default:
		return line, fmt.Errorf("field %s: unknown type %d", field.Name, value.Type)
	}
}

// appendFieldName appends a field's name and the sign behind it.
func appendFieldName(line []byte, name string) ([]byte, error) {
	if err := checkName("field", name); err != nil {
		return line, err
	}
	if name == "time" {
		return line, fmt.Errorf("field %q is reserved", name)
	}
	if strings.ContainsAny(name, `," =`) {
		line = append(line, escape.String(name)...)
	} else {
		line = append(line, name...)
	}
	return append(line, '='), nil
}

// appendText appends a string field's value in quotes.
func appendText[T string | []byte](line []byte, text T) []byte {
	line = append(line, '"')
	for i := range len(text) {
		if c := text[i]; c == '"' || c == '\\' {
			line = append(line, '\\')
		}
		line = append(line, text[i])
	}
	return append(line, '"')
}

// checkName refuses names of tables, tags and fields that line protocol or
// InfluxQL cannot hold: empty, control characters, backslash, not UTF-8.
func checkName[T string | []byte](what string, name T) error {
	if len(name) == 0 {
		return fmt.Errorf("%s without a name", what)
	}
	ascii := true
	for i := range len(name) {
		c := name[i]
		if c < ' ' || c == '\\' || c == 0x7f {
			return fmt.Errorf("%s name %q holds a control character or a backslash", what, name)
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	if !ascii && !utf8.ValidString(string(name)) {
		return fmt.Errorf("%s name %q is not UTF-8", what, name)
	}
	return nil
}

// checkTagValue refuses what line protocol has no escape for: a backslash
// before a separator or at the end, and what ends a line.
func checkTagValue[T string | []byte](value T) error {
	if len(value) == 0 {
		return fmt.Errorf("an empty value cannot be stored; leave the tag out")
	}
	ascii := true
	for i := range len(value) {
		c := value[i]
		ascii = ascii && c < utf8.RuneSelf
		switch {
		case c < ' ' || c == 0x7f:
			return fmt.Errorf("value %q holds a control character", value)
		case c != '\\':
		case i+1 == len(value):
			return fmt.Errorf("value %q ends with a backslash", value)
		case strings.IndexByte(",= ", value[i+1]) >= 0:
			return fmt.Errorf("value %q holds a backslash before %q", value, value[i+1])
		}
	}
	if !ascii && !utf8.ValidString(string(value)) {
		return fmt.Errorf("value %q is not UTF-8", value)
	}
	return nil
}

// unsendableMark begins what unsendableLine makes: a table's name in quotes.
const unsendableMark = `# "`

// unsendableLine shows a row of which no line can be made, whole, as a comment of
// line protocol: nothing that is sent by mistake.
func unsendableLine(p Point) string {
	var b strings.Builder
	b.WriteString("# " + rowName(p))
	for _, field := range p.Fields {
		switch v := field.Value; v.Type {
		case schema.Integer:
			fmt.Fprintf(&b, " %q=%di", field.Name, v.Int())
		case schema.Float:
			fmt.Fprintf(&b, " %q=%v", field.Name, v.Float())
		case schema.Boolean:
			fmt.Fprintf(&b, " %q=%v", field.Name, v.Bool())
		default:
			fmt.Fprintf(&b, " %q=%q", field.Name, v.Str())
		}
	}
	return b.String()
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
