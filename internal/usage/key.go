package usage

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Key is something to aggregate and filter by. Labels are "label:NAME".
type Key string

// The keys.
const (
	Cluster   Key = "cluster"
	Box       Key = "box"
	Node      Key = "node"
	Hardware  Key = "hardware"
	Namespace Key = "namespace"
	Workload  Key = "workload" // "Deployment/web"; "" for pods without a controller
	Pod       Key = "pod"
	Container Key = "container"
	Customer  Key = "customer"
	Project   Key = "project"
	User      Key = "user"
	Provider  Key = "provider"
	Region    Key = "region"

	// Of volumes; "" for everything else.
	Claim        Key = "claim"
	StorageClass Key = "storageClass"
	Storage      Key = "storage" // local, central or unknown

	labelPrefix = "label:"
)

// Keys are all keys but the labels.
var Keys = []Key{Cluster, Box, Node, Hardware, Namespace, Workload, Pod, Container, Customer, Project, User, Provider, Region,
	Claim, StorageClass, Storage}

// Label is the key of a pod label.
func Label(name string) Key { return Key(labelPrefix + name) }

// Annotation is the key of a pod annotation: a label of that name.
func Annotation(name string) Key { return Label(schema.AnnotationPrefix + name) }

// LabelName is the label's name, and whether k is a label.
func (k Key) LabelName() (string, bool) { return strings.CutPrefix(string(k), labelPrefix) }

// ParseKey reads a key; "" and unknown ones are an *InputError.
func ParseKey(text string) (Key, error) {
	k := Key(strings.TrimSpace(text))
	if name, ok := k.LabelName(); ok && name != "" && IsText(name) {
		return k, nil
	}
	if slices.Contains(Keys, k) {
		return k, nil
	}
	return "", Wrong("aggregate", text, "use one or more of "+KeyList(Keys)+", or label:NAME")
}

// ParseKeys reads a comma-separated list; each key once.
func ParseKeys(text string) ([]Key, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var keys []Key
	for _, part := range strings.Split(text, ",") {
		k, err := ParseKey(part)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// IsText says whether text is UTF-8 without the control characters that a name
// cannot have and a query could not be written with.
func IsText(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

// KeyList is the keys with commas between them.
func KeyList(keys []Key) string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = string(k)
	}
	return strings.Join(names, ", ")
}

// Condition keeps the rows whose key has one of the values. A value may hold *
// for any run of characters.
type Condition struct {
	Key    Key
	Values []string
}

// ParseCondition reads "key=value" or "key=value1,value2".
func ParseCondition(text string) (Condition, error) {
	name, values, ok := strings.Cut(text, "=")
	if !ok {
		return Condition{}, Wrong("filter", text, "write it as key=value, for example namespace=shop")
	}
	k, err := ParseKey(name)
	if err != nil {
		return Condition{}, Wrong("filter", text, "the key is not one of "+KeyList(Keys)+", label:NAME")
	}
	return Condition{Key: k, Values: strings.Split(values, ",")}, nil
}

// Keeps says whether value passes.
func (c Condition) Keeps(value string) bool {
	for _, pattern := range c.Values {
		if matches(pattern, value) {
			return true
		}
	}
	return false
}

// matches says whether pattern, in which * is any run of characters, covers
// the whole value.
func matches(pattern, value string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == value
	}
	rest, ok := strings.CutPrefix(value, parts[0])
	if !ok {
		return false
	}
	last := parts[len(parts)-1]
	for _, part := range parts[1 : len(parts)-1] {
		_, after, found := strings.Cut(rest, part)
		if !found {
			return false
		}
		rest = after
	}
	return strings.HasSuffix(rest, last)
}

// KeepsAll says whether the conditions on a key all keep the value.
func KeepsAll(conditions []Condition, k Key, value string) bool {
	for _, c := range conditions {
		if c.Key == k && !c.Keeps(value) {
			return false
		}
	}
	return true
}

// InputError is a question that cannot be answered as it was put.
type InputError struct {
	Parameter, Value, Hint string
}

func (e *InputError) Error() string {
	return fmt.Sprintf("%s %q is not understood", e.Parameter, e.Value)
}

// Wrong is an *InputError.
func Wrong(parameter, value, hint string) error {
	return &InputError{Parameter: parameter, Value: value, Hint: hint}
}
