package usage

import (
	"encoding/json"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/processors"
)

// ExtendedMark is in the text of each pod that has extended resources.
const ExtendedMark = `"extended":`

// ExtendedPod is what a pod's text in the table object says of the resources that
// Kubernetes knows by name alone. The newest text of a pod tells its whole life,
// resizes included.
type ExtendedPod struct {
	Node         string              `json:"node"`
	WorkloadKind string              `json:"workloadKind"`
	Workload     string              `json:"workload"`
	Start        time.Time           `json:"start"`
	End          time.Time           `json:"end"`
	Containers   []extendedContainer `json:"containers"`
	Past         []struct {
		Until      time.Time           `json:"until"`
		Containers []extendedContainer `json:"containers"`
	} `json:"past"`
}

type extendedContainer struct {
	Init     bool             `json:"init"`
	Sidecar  bool             `json:"sidecar"`
	Extended map[string]int64 `json:"extended"`
}

// ReadExtendedPod reads a pod's text. It is false for a foreign one that is no
// pod, and for a pod of which no container has started: it requests nothing.
func ReadExtendedPod(text string) (ExtendedPod, bool) {
	var pod ExtendedPod
	ok := json.Unmarshal([]byte(text), &pod) == nil && !pod.Start.IsZero()
	return pod, ok
}

// Each calls fn for each time of the pod's life in which its requests stood, as
// far as that touches w and ends in it: pieces, or bytes of ephemeral-storage and
// hugepages-*, by name.
func (p ExtendedPod) Each(w schema.Window, fn func(held schema.Window, requests map[string]int64) error) error {
	end := p.End
	if end.IsZero() || end.After(w.To) {
		end = w.To
	}
	from := p.Start
	call := func(until time.Time, containers []extendedContainer) error {
		if until.After(end) {
			until = end
		}
		if !until.After(from) {
			return nil
		}
		held, requests := schema.Window{From: from, To: until}, sumExtended(containers)
		from = until
		if len(requests) == 0 || w.Overlap(held.From, held.To) == 0 {
			return nil
		}
		return fn(held, requests)
	}
	for _, past := range p.Past {
		if err := call(past.Until, past.Containers); err != nil {
			return err
		}
	}
	return call(end, p.Containers)
}

// sumExtended adds the containers' requests; those of init containers lie within
// those of the others, or stand at the container __pod__.
func sumExtended(containers []extendedContainer) map[string]int64 {
	sum := make(map[string]int64)
	for _, c := range containers {
		if c.Init && !c.Sidecar {
			continue
		}
		for name, count := range c.Extended {
			sum[name] += count
		}
	}
	return sum
}

// Requested is what was requested of extended resources in w, in stored units,
// by pods that held so many for that time.
func Requested(requests map[string]int64, held, w schema.Window) (processors.Quantities, error) {
	named := make(processors.Quantities, len(requests))
	for name, count := range requests {
		resource := processors.Extended(name)
		quantity, err := resource.Requested(count, held, w)
		if err != nil {
			return nil, err
		}
		named[resource] = quantity
	}
	return named, nil
}

// RequestedBySteps calls add with what was requested in w, by the steps of an
// answer over a window.
func (r Request) RequestedBySteps(answer, w, held schema.Window, requests map[string]int64, add func(schema.Window, processors.Quantities) error) error {
	for at := schema.Later(w.From, held.From); at.Before(schema.Earlier(w.To, held.To)); {
		b := answer
		if r.Step != 0 {
			b = Bucket(answer, r.Step, at)
		}
		cut := schema.Window{From: at, To: schema.Earlier(b.To, w.To)}
		named, err := Requested(requests, held, cut)
		if err != nil {
			return err
		}
		if err := add(b, named); err != nil {
			return err
		}
		at = cut.To
	}
	return nil
}
