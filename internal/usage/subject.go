package usage

// Subject is what a question is about.
type Subject string

// The subjects.
const (
	AboutUsage  Subject = "" // with energy and cost
	AboutEnergy Subject = "energy"
	AboutHeat   Subject = "heat"
	AboutCarbon Subject = "carbon"
)

// subjectColumns are what rows of the other subjects can be sorted by, beside key
// and from.
var subjectColumns = map[Subject]map[string]func(Row) Exact{
	AboutEnergy: {
		"energy":   func(r Row) Exact { return r.EnergyJoules },
		"active":   func(r Row) Exact { return r.EnergyActiveJoules },
		"idle":     func(r Row) Exact { return r.EnergyIdleJoules },
		"measured": func(r Row) Exact { return r.EnergyMeasuredJoules },
		"key":      nil,
		"from":     nil,
	},
	AboutHeat: {
		"energy":   func(r Row) Exact { return r.EnergyJoules },
		"produced": func(r Row) Exact { return Joules(r.Sums[Heat]) },
		"useful":   func(r Row) Exact { return Joules(r.Sums[UsefulHeat]) },
		"key":      nil,
		"from":     nil,
	},
	AboutCarbon: {
		"energy":   func(r Row) Exact { return r.EnergyJoules },
		"location": func(r Row) Exact { return Grams(r.Sums[CarbonLocation]) },
		"market":   func(r Row) Exact { return Grams(r.Sums[CarbonMarket]) },
		"embodied": func(r Row) Exact { return Grams(r.Sums[CarbonEmbodied]) },
		"avoided":  func(r Row) Exact { return Grams(r.Sums[CarbonAvoided]) },
		"key":      nil,
		"from":     nil,
	},
}

// columns are what rows can be sorted by.
func (s Subject) columns() map[string]func(Row) Exact {
	if s == AboutUsage {
		return sortColumns
	}
	return subjectColumns[s]
}

// checkSubject says what the subject has no answer to.
func (r Request) checkSubject() error {
	if r.About == AboutUsage {
		return nil
	}
	if r.Uses(Container) {
		return Wrong("key", string(Container), string(r.About)+" is by pod: aggregate by pod")
	}
	for _, k := range []Key{Claim, StorageClass, Storage} {
		if r.Uses(k) {
			return Wrong("key", string(k), string(r.About)+" is of pods and boxes: volumes have none of their own")
		}
	}
	return nil
}

// OfBoxes says whether the question is of whole boxes: by box, filtered by
// nothing else. Only then is there something to tell of what boxes have beside
// that which they carry: what is left over, what heat was of use, what it avoided.
func (r Request) OfBoxes() bool {
	for _, k := range r.Aggregate {
		if k != Box {
			return false
		}
	}
	for _, c := range r.Filter {
		if c.Key != Box {
			return false
		}
	}
	return true
}
