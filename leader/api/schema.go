package api

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/allocation"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// object is a JSON object in the making.
type object = map[string]any

// schemas are the JSON schemas (2020-12) of Go types, as encoding/json writes
// them. Structs become components.
type schemas struct {
	// strict refuses fields that no struct has: for the test that holds answers
	// against it. Clients get the other form, so that a field can be added.
	strict     bool
	components object
}

// written are types that write themselves, and what they write.
var written = map[reflect.Type]object{
	reflect.TypeFor[time.Time]():         {"type": "string", "format": "date-time"},
	reflect.TypeFor[usage.Exact]():       {"type": []string{"number", "null"}, "description": "exact; null where nobody has told it"},
	reflect.TypeFor[allocation.Number](): {"type": "number"},
	reflect.TypeFor[fleet.Duration]():    {"type": "string", "description": "such as 1h30m"},
}

// of is the schema of a type. Bodies are written out where they stand, have no
// field that must be there, and none that is not known.
func (s *schemas) of(t reflect.Type, body bool) object {
	if known, ok := written[t]; ok {
		return known
	}
	if t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface && t != reflect.TypeFor[json.RawMessage]() {
		if t.Implements(reflect.TypeFor[json.Marshaler]()) {
			panic(fmt.Sprintf("%s writes itself as JSON: say what it writes in api.written", t)) // of the table of routes, at the start
		}
		if t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
			return object{"type": "string"}
		}
	}
	switch t.Kind() {
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return object{"type": "integer"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Pointer:
		return orNull(s.of(t.Elem(), body))
	case reflect.Slice, reflect.Array:
		return s.list(t, body)
	case reflect.Map:
		return object{"type": []string{"object", "null"}, "additionalProperties": s.of(t.Elem(), body)}
	case reflect.Struct:
		if body {
			return s.structure(t, true)
		}
		return s.component(t)
	}
	return anything()
}

// anything names all types, null too: validators differ on what an empty schema
// says of null.
func anything() object {
	return object{"type": []string{"null", "boolean", "object", "array", "number", "string"}}
}

func orNull(schema object) object {
	if name, ok := schema["type"].(string); ok {
		copied := object{}
		for key, value := range schema {
			copied[key] = value
		}
		copied["type"] = []string{name, "null"}
		return copied
	}
	if _, ok := schema["$ref"]; ok {
		return object{"anyOf": []object{schema, {"type": "null"}}}
	}
	return schema
}

func (s *schemas) list(t reflect.Type, body bool) object {
	switch {
	case t == reflect.TypeFor[json.RawMessage]():
		return anything()
	case t.Elem().Kind() == reflect.Uint8 && t.Kind() == reflect.Slice:
		return object{"type": []string{"string", "null"}, "contentEncoding": "base64"}
	}
	return object{"type": []string{"array", "null"}, "items": s.of(t.Elem(), body)}
}

var notOfNames = regexp.MustCompile(`[^A-Za-z0-9.]+`)

// nameOf is a type's name as a component: package and type.
func nameOf(t reflect.Type) string {
	name := t.String()
	for _, path := range []string{"github.com/accumulus-metering/accumulus/leader/", "github.com/accumulus-metering/accumulus/internal/"} {
		name = strings.ReplaceAll(name, path, "") // of a generic type's parameters
	}
	return strings.Trim(notOfNames.ReplaceAllString(name, "-"), "-")
}

// component is a reference to a struct's schema.
func (s *schemas) component(t reflect.Type) object {
	if t.Name() == "" {
		return s.structure(t, false)
	}
	name := nameOf(t)
	if _, made := s.components[name]; !made {
		s.components[name] = object{} // while it is made: it may name itself
		s.components[name] = s.structure(t, false)
	}
	return object{"$ref": "#/components/schemas/" + name}
}

// structure is a struct's schema.
func (s *schemas) structure(t reflect.Type, body bool) object {
	properties, required := object{}, []string{}
	s.fields(t, body, properties, &required)
	schema := object{"type": "object", "properties": properties}
	if len(required) > 0 && !body {
		schema["required"] = required
	}
	if s.strict || body {
		schema["additionalProperties"] = false
	}
	return schema
}

// fields adds a struct's fields as encoding/json does: those of a struct that is
// embedded without a name are its own, and what is nearer hides what is further.
func (s *schemas) fields(t reflect.Type, body bool, properties object, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct {
			s.fields(f.Type, body, properties, required)
		}
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() || f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct {
			continue
		}
		if name == "" {
			name = f.Name
		}
		_, hides := properties[name]
		properties[name] = s.of(f.Type, body)
		if strings.Contains(options, "string") {
			properties[name] = object{"type": "string"}
		}
		if !hides && !strings.Contains(options, "omit") {
			*required = append(*required, name)
		}
	}
}
