package watch

import (
	"fmt"
	"maps"
	"path"
	"strings"
)

// DefaultLabels are the labels that leave the cluster unless configured
// otherwise.
var DefaultLabels = []string{"app", "team", "app.kubernetes.io/*"}

// allowList are globs (path.Match, where * also matches what stands behind the
// one slash that a label's key may have, if the glob has no slash itself).
type allowList []string

func newAllowList(globs []string) (allowList, error) {
	if globs == nil {
		globs = DefaultLabels
	}
	for _, glob := range globs {
		if _, err := path.Match(glob, ""); err != nil {
			return nil, fmt.Errorf("label allow-list %q: %w", glob, err)
		}
	}
	return globs, nil
}

func (a allowList) allows(label string) bool {
	for _, glob := range a {
		name := label
		if !strings.Contains(glob, "/") {
			name = strings.ReplaceAll(label, "/", "\x00")
		}
		if ok, _ := path.Match(glob, name); ok {
			return true
		}
	}
	return false
}

// pick are the allowed labels, nil if there are none.
func (a allowList) pick(labels map[string]string) map[string]string {
	picked := maps.Clone(labels)
	maps.DeleteFunc(picked, func(label, _ string) bool { return !a.allows(label) })
	if len(picked) == 0 {
		return nil
	}
	return picked
}
