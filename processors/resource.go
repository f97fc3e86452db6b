package processors

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// extended is the general part of Extended; it has no price by itself.
const extended Resource = "extended"

// Of is the resource for volumes of one storage class, or for network of one
// class; "" is what has no class. A price list without a price for the class takes
// that for all.
func (r Resource) Of(class string) Resource {
	if class == "" {
		return r
	}
	return r + Resource(":"+class)
}

// Extended is what pods request of a resource that Kubernetes knows by its name
// alone: nvidia.com/gpu in pieces, counted in ms of one piece;
// ephemeral-storage and hugepages-* in bytes, counted in KiB·s.
func Extended(name string) Resource { return extended + Resource(":"+name) }

// ExtendedName is the name of an Extended resource.
func (r Resource) ExtendedName() (string, bool) {
	general, name, named := r.parts()
	return name, named && general == extended
}

// InBytes says whether an Extended resource is counted in KiB·s.
func (r Resource) InBytes() bool {
	name, ok := r.ExtendedName()
	return ok && bytesOf(name)
}

// General is the resource without its class or name.
func (r Resource) General() Resource {
	general, _, _ := r.parts()
	return general
}

// PricedAs are the names under which a price list may have the resource's price, the
// one that counts first: its own, then that of all classes. Network without a class
// is of the class schema.Unclassified.
func (r Resource) PricedAs() []Resource {
	general := r.General()
	switch {
	case general != r:
		return []Resource{r, general}
	case r == NetworkReceive || r == NetworkTransmit:
		return []Resource{r.Of(schema.Unclassified), r}
	}
	return []Resource{r}
}

func (r Resource) parts() (general Resource, name string, named bool) {
	before, after, named := strings.Cut(string(r), ":")
	return Resource(before), after, named
}

func bytesOf(name string) bool {
	return name == "ephemeral-storage" || strings.HasPrefix(name, "hugepages-")
}

// Resources is those that have a quantity, in the order of lines: those of
// Resources, each followed by its classes, then the others by their names.
func (q Quantities) Resources() []Resource {
	all := make([]Resource, 0, len(q))
	for r := range q {
		all = append(all, r)
	}
	slices.SortFunc(all, CompareResources)
	return all
}

// CompareResources orders resources as lines are.
func CompareResources(a, b Resource) int {
	return cmp.Or(cmp.Compare(a.order(), b.order()), cmp.Compare(a, b))
}

func (r Resource) order() int {
	if i := slices.Index(resources, r.General()); i >= 0 {
		return i
	}
	return len(resources)
}

// Requested is what a request of so many pieces or bytes of an Extended resource,
// made over the time held, is in a window, in stored units. Windows beside one
// another add up to the whole. It returns ErrOverflow.
func (r Resource) Requested(count int64, held, w schema.Window) (int64, error) {
	unit := int64(time.Millisecond)
	if r.InBytes() {
		unit = 1024 * int64(time.Second)
	}
	until := func(t time.Time) *big.Int {
		length := max(0, min(t.Sub(held.From), held.Length()))
		n := new(big.Int).Mul(big.NewInt(count), big.NewInt(int64(length)))
		return n.Quo(n, big.NewInt(unit))
	}
	sum := until(w.To)
	if sum.Sub(sum, until(w.From)); !sum.IsInt64() {
		return 0, fmt.Errorf("sum of %s: %w", r, ErrOverflow)
	}
	return sum.Int64(), nil
}
