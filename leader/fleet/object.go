package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// APIVersion is the only version of the objects.
const APIVersion = "accumulus.dev/v1"

// Kind says what an object describes.
type Kind string

// The kinds, in the order in which they refer to each other.
const (
	KindCustomer   Kind = "Customer"
	KindCluster    Kind = "Cluster"
	KindBox        Kind = "Box"
	KindHardware   Kind = "Hardware"
	KindNode       Kind = "Node"
	KindMeter      Kind = "Meter"
	KindAssignment Kind = "Assignment"
	KindPriceList  Kind = "PriceList"

	KindHeatSource     Kind = "HeatSource"
	KindGrid           Kind = "Grid"
	KindEnergyContract Kind = "EnergyContract"
)

// Kinds are all kinds, each after those that it may refer to.
var Kinds = []Kind{KindCustomer, KindCluster, KindBox, KindHardware, KindNode, KindMeter, KindAssignment, KindPriceList,
	KindHeatSource, KindGrid, KindEnergyContract, KindExchangeRates, KindPriceSeries, KindBudget}

// Metadata names an object. A name is unique within its kind.
type Metadata struct {
	Name string `json:"name"`
}

// Object is one object with the time in which it holds: [ValidFrom, ValidTo),
// UTC. A zero ValidFrom means from the beginning (of a new object) or from now
// on (of a changed one); a zero ValidTo means until the next version of the
// same name, or for ever.
type Object struct {
	APIVersion string    `json:"apiVersion"`
	Kind       Kind      `json:"kind"`
	Metadata   Metadata  `json:"metadata"`
	ValidFrom  time.Time `json:"validFrom,omitzero"`
	ValidTo    time.Time `json:"validTo,omitzero"`
	Spec       Spec      `json:"spec"`
}

// NewObject is an object of the spec's kind that always holds.
func NewObject(name string, spec Spec) Object {
	return Object{APIVersion: APIVersion, Kind: spec.Kind(), Metadata: Metadata{Name: name}, Spec: spec}
}

// Since is the object with the given start of its validity.
func (o Object) Since(from time.Time) Object {
	o.ValidFrom = from.UTC()
	return o
}

// Until is the object with the given end of its validity.
func (o Object) Until(to time.Time) Object {
	o.ValidTo = to.UTC()
	return o
}

// Name is metadata.name.
func (o Object) Name() string { return o.Metadata.Name }

// String is the object's kind and name.
func (o Object) String() string { return string(o.Kind) + "/" + o.Metadata.Name }

// ValidAt says whether the object holds at t.
func (o Object) ValidAt(t time.Time) bool {
	return (o.ValidFrom.IsZero() || !t.Before(o.ValidFrom)) && (o.ValidTo.IsZero() || t.Before(o.ValidTo))
}

// Overlaps says whether the object holds at some moment of [from, to); a zero
// from or to is open.
func (o Object) Overlaps(from, to time.Time) bool {
	return (o.ValidTo.IsZero() || from.IsZero() || from.Before(o.ValidTo)) &&
		(o.ValidFrom.IsZero() || to.IsZero() || o.ValidFrom.Before(to))
}

// Spec is the body of an object: one of Customer, Cluster, Box, Hardware, Node,
// Meter, Assignment, PriceList, HeatSource, Grid, EnergyContract, ExchangeRates, PriceSeries and Budget, by value.
type Spec interface {
	// Kind is the kind of object that has such a body.
	Kind() Kind
	// named is the body with its Name set.
	named(name string) Spec
	// check reports what is wrong with the body alone.
	check(report func(field, format string, args ...any))
	// references are the objects that must exist for the body to mean something.
	references() []reference
}

// reference is one field that names another object.
type reference struct {
	field string
	kind  Kind
	name  string
}

// UnmarshalJSON reads an object strictly: an unknown kind or field is an error
// that names it.
func (o *Object) UnmarshalJSON(data []byte) error {
	var raw struct {
		APIVersion string          `json:"apiVersion"`
		Kind       Kind            `json:"kind"`
		Metadata   Metadata        `json:"metadata"`
		ValidFrom  string          `json:"validFrom"`
		ValidTo    string          `json:"validTo"`
		Spec       json.RawMessage `json:"spec"`
	}
	if err := strict(data, &raw); err != nil {
		return err
	}
	who := string(raw.Kind) + "/" + raw.Metadata.Name
	if raw.APIVersion != APIVersion {
		return fmt.Errorf("%s: apiVersion: %q is not %q", who, raw.APIVersion, APIVersion)
	}
	spec, err := DecodeSpec(raw.Kind, raw.Metadata.Name, raw.Spec)
	if err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	from, err := parseTime(raw.ValidFrom)
	if err != nil {
		return fmt.Errorf("%s: validFrom: %w", who, err)
	}
	to, err := parseTime(raw.ValidTo)
	if err != nil {
		return fmt.Errorf("%s: validTo: %w", who, err)
	}
	*o = Object{APIVersion: raw.APIVersion, Kind: raw.Kind, Metadata: raw.Metadata, ValidFrom: from, ValidTo: to, Spec: spec}
	return nil
}

// DecodeSpec reads the JSON body of an object of the given kind, strictly; an
// empty body is the zero one.
func DecodeSpec(kind Kind, name string, data []byte) (Spec, error) {
	var spec Spec
	var err error
	switch kind {
	case KindCustomer:
		spec, err = decode[Customer](data)
	case KindCluster:
		spec, err = decode[Cluster](data)
	case KindBox:
		spec, err = decode[Box](data)
	case KindHardware:
		spec, err = decode[Hardware](data)
	case KindNode:
		spec, err = decode[Node](data)
	case KindMeter:
		spec, err = decode[Meter](data)
	case KindAssignment:
		spec, err = decode[Assignment](data)
	case KindPriceList:
		spec, err = decode[PriceList](data)
	case KindHeatSource:
		spec, err = decode[HeatSource](data)
	case KindGrid:
		spec, err = decode[Grid](data)
	case KindEnergyContract:
		spec, err = decode[EnergyContract](data)
	case KindExchangeRates:
		spec, err = decode[ExchangeRates](data)
	case KindPriceSeries:
		spec, err = decode[PriceSeries](data)
	case KindBudget:
		spec, err = decode[Budget](data)
	default:
		return nil, fmt.Errorf("kind: %q is none of %v", kind, Kinds)
	}
	if err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	return spec.named(name), nil
}

func decode[T Spec](data []byte) (T, error) {
	var spec T
	if len(data) == 0 {
		return spec, nil
	}
	return spec, strict(data, &spec)
}

// strict decodes exactly one JSON value and refuses unknown fields.
func strict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// parseTime reads RFC 3339 or a date, which is its midnight in UTC; "" is the
// zero time.
func parseTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t.UTC(), nil
	}
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither RFC 3339 (2026-11-01T00:00:00Z) nor a date (2026-11-01)", text)
	}
	return t, nil
}
