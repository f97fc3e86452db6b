package books

import (
	"bytes"
	"cmp"
	"compress/zlib"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// place is who used something, where, and at whose prices.
type place struct {
	Namespace string       `json:"n"`
	Project   string       `json:"p,omitempty"`
	User      string       `json:"u,omitempty"`
	Facts     rating.Facts `json:"f,omitzero"`
	List      string       `json:"l,omitempty"` // version of the price list; "" is none
	Excluded  bool         `json:"x,omitempty"` // by the list
	// Origin is the namespace that this is a carried part of, schema.IdleNamespace of
	// idle nodes; "" is what the namespace used itself.
	Origin string      `json:"o,omitempty"`
	Slot   rating.Slot `json:"s,omitzero"`
}

// Figures say how well something was measured, and its CO2e. They have no price.
type Figures struct {
	Uptime     int64 `json:"uptimeMs"` // pods' time alive
	Covered    int64 `json:"coveredMs"`
	Energy     int64 `json:"energyMillijoules"`
	Measured   int64 `json:"measuredMillijoules"`   // of the energy, by closed meter intervals
	Integrated int64 `json:"integratedMillijoules"` // of the energy, by meters' watts
	Carbon     int64 `json:"carbonMicrograms"`      // location-based CO2e
	CarbonOf   int64 `json:"carbonOfMillijoules"`   // of how much energy it is
	// Of the energy; 0 of all of them in days that were summed before there were any.
	Active int64 `json:"activeMillijoules,omitempty"`
	Idle   int64 `json:"idleMillijoules,omitempty"`
	Heat   int64 `json:"heatMillijoules,omitempty"` // that it became; 0 where that is not known
}

func (f *Figures) add(o Figures) error {
	for _, pair := range []struct {
		to   *int64
		more int64
	}{{&f.Uptime, o.Uptime}, {&f.Covered, o.Covered}, {&f.Energy, o.Energy}, {&f.Measured, o.Measured}, {&f.Integrated, o.Integrated},
		{&f.Carbon, o.Carbon}, {&f.CarbonOf, o.CarbonOf},
		{&f.Active, o.Active}, {&f.Idle, o.Idle}, {&f.Heat, o.Heat}} {
		sum, err := usage.Add(*pair.to, pair.more)
		if err != nil {
			return err
		}
		*pair.to = sum
	}
	return nil
}

// group is a place's sums of a day.
type group struct {
	place
	Quantities processors.Quantities `json:"q"`
	Figures    Figures               `json:"g,omitzero"`
}

// sheet is a customer's day in a cluster.
type sheet struct {
	Groups []group `json:"groups"`
	// Held are the parts of the day in which a version of a price list held for the
	// customer in the cluster, as seconds since 1970: from, to, from, to, …
	Held map[string][]int64 `json:"held,omitempty"`
	// Shared are the namespaces of which others carry a part or all, sorted.
	Shared []string `json:"shared,omitempty"`

	index map[place]int
}

func (s *sheet) group(at place) *group {
	if s.index == nil {
		s.index = make(map[place]int)
	}
	i, ok := s.index[at]
	if !ok {
		i = len(s.Groups)
		s.index[at] = i
		s.Groups = append(s.Groups, group{place: at, Quantities: make(processors.Quantities)})
	}
	return &s.Groups[i]
}

// count adds a cell.
func (s *sheet) count(at place, c query.Cell) error {
	g := s.group(at)
	for resource, quantity := range c.Quantities {
		sum, err := usage.Add(g.Quantities[resource], quantity)
		if err != nil {
			return fmt.Errorf("sum of %s: %w", resource, err)
		}
		g.Quantities[resource] = sum
	}
	return g.Figures.add(Figures{Uptime: c.Uptime, Covered: c.Covered, Energy: c.Quantities[processors.Energy], Measured: c.EnergyMeasured,
		Integrated: c.EnergyIntegrated, Carbon: c.CarbonMicrograms, CarbonOf: c.CarbonOf,
		Active: c.EnergyActive, Idle: c.EnergyIdle, Heat: c.Heat})
}

// hold notes that a version held in a window.
func (s *sheet) hold(version string, w schema.Window) {
	if s.Held == nil {
		s.Held = make(map[string][]int64)
	}
	edges := s.Held[version]
	if last := len(edges) - 1; last > 0 && edges[last] == w.From.Unix() {
		edges[last] = w.To.Unix()
		return
	}
	s.Held[version] = append(edges, w.From.Unix(), w.To.Unix())
}

// packVersion begins every packed sheet.
const packVersion = 1

func (s *sheet) pack() ([]byte, error) {
	slices.SortFunc(s.Groups, func(a, b group) int { return a.compare(b.place) })
	s.index = nil
	return packJSON("day", s)
}

func (p place) compare(o place) int {
	excluded := 0
	switch {
	case p.Excluded && !o.Excluded:
		excluded = 1
	case o.Excluded && !p.Excluded:
		excluded = -1
	}
	return cmp.Or(cmp.Compare(p.Namespace, o.Namespace), cmp.Compare(p.Project, o.Project), cmp.Compare(p.User, o.User),
		cmp.Compare(p.Facts.Hardware, o.Facts.Hardware), cmp.Compare(p.Facts.Provider, o.Facts.Provider), cmp.Compare(p.Facts.Region, o.Facts.Region),
		cmp.Compare(p.List, o.List), excluded, cmp.Compare(p.Origin, o.Origin), cmp.Compare(p.Slot.Tariff, o.Slot.Tariff), cmp.Compare(p.Slot.Prices, o.Slot.Prices))
}

func unpackSheet(packed []byte) (sheet, error) {
	return unpackJSON[sheet]("day", packed)
}

// packJSON is a value as JSON in few bytes; what is its name in errors.
func packJSON(what string, v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err == nil {
		text, err = pack(text)
	}
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", what, err)
	}
	return text, nil
}

// unpackJSON is what packJSON has packed.
func unpackJSON[T any](what string, packed []byte) (T, error) {
	var v, none T
	text, err := unpack(packed)
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err != nil {
		return none, fmt.Errorf("unpack %s: %w", what, err)
	}
	return v, nil
}

// pack is text in few bytes.
func pack(text []byte) ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte(packVersion)
	z, err := zlib.NewWriterLevel(&out, zlib.BestSpeed)
	if err == nil {
		_, err = z.Write(text)
		err = errors.Join(err, z.Close())
	}
	return out.Bytes(), err
}

// maxUnpacked bounds what a packed text may become.
const maxUnpacked = 1 << 30

func unpack(packed []byte) ([]byte, error) {
	if len(packed) == 0 || packed[0] != packVersion {
		return nil, errors.New("it is of another version, or damaged")
	}
	z, err := zlib.NewReader(bytes.NewReader(packed[1:]))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(z, maxUnpacked))
}
