package fleet

import (
	"fmt"
	"path"
	"slices"

	"github.com/accumulus-metering/accumulus/processors"
)

// What a price list may share.
const (
	ShareIdle       = "idle"       // what of a cluster's nodes was neither requested nor used
	ShareMetering   = "metering"   // the namespaces in which the metering itself runs
	ShareNamespaces = "namespaces" // named ones, which serve all others
)

// Sharing says that what somebody uses for all is carried by the other namespaces of
// its cluster, by one of the policies that also share energy. The list of the
// cluster's own customer says it for all of the cluster.
type Sharing struct {
	Of         string   `json:"of"`                   // ShareIdle, ShareMetering or ShareNamespaces
	Namespaces []string `json:"namespaces,omitempty"` // patterns (* ? [a-z]), of ShareNamespaces
	// Policy is equal (by time alive), requests (by the larger share of CPU or memory
	// requested; of idle, what is not requested stays with nobody), usage (by CPU time)
	// or none.
	Policy string `json:"policy"`
}

// Shares says whether a namespace is one that the rule shares. metering are those in
// which the metering itself runs.
func (s Sharing) Shares(namespace string, metering []string) bool {
	switch s.Of {
	case ShareMetering:
		return slices.Contains(metering, namespace)
	case ShareNamespaces:
		return slices.ContainsFunc(s.Namespaces, func(pattern string) bool {
			ok, err := path.Match(pattern, namespace)
			return ok && err == nil
		})
	}
	return false
}

func (p PriceList) checkSharing(report reporter) {
	seen := make(map[string]bool)
	for i, s := range p.Share {
		field := fmt.Sprintf("share[%d]", i)
		switch s.Of {
		case ShareIdle, ShareMetering:
			if len(s.Namespaces) > 0 {
				report(field+".namespaces", "is for %s alone: leave it out", ShareNamespaces)
			}
			if seen[s.Of] {
				report(field+".of", "%s is shared twice: keep one", s.Of)
			}
			seen[s.Of] = true
		case ShareNamespaces:
			if len(s.Namespaces) == 0 {
				report(field+".namespaces", "is empty: name the namespaces that serve all others")
			}
		default:
			report(field+".of", "%q is none of %s, %s, %s", s.Of, ShareIdle, ShareMetering, ShareNamespaces)
		}
		for k, pattern := range s.Namespaces {
			if _, err := path.Match(pattern, ""); err != nil || !patternForm.MatchString(pattern) {
				report(fmt.Sprintf("%s.namespaces[%d]", field, k), "%q is no pattern for a namespace", pattern)
			}
		}
		if !slices.Contains([]string{IdleEqual, IdleRequests, IdleUsage, IdleNone}, s.Policy) {
			report(field+".policy", "%q is none of %s, %s, %s, %s", s.Policy, IdleEqual, IdleRequests, IdleUsage, IdleNone)
		}
		if s.Of == ShareIdle && !p.prices(processors.CPUIdle) && !p.prices(processors.MemoryIdle) {
			report(field+".of", "idle has no price: give cpu_idle or memory_idle one")
		}
	}
}

// prices says whether some rate is of a resource.
func (p PriceList) prices(r processors.Resource) bool {
	return slices.ContainsFunc(p.Rates, func(rate Rate) bool { return rate.Resource == string(r) })
}

// CreditsHeat says whether useful heat has a price.
func (p PriceList) CreditsHeat() bool { return p.prices(processors.UsefulHeat) }
