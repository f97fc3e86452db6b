package watch

import (
	"fmt"
	"maps"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
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
	if strings.HasPrefix(label, schema.AnnotationPrefix) {
		return true // it was picked by the annotations' list
	}
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

// maxAnnotation bounds the value of an annotation that is kept, in bytes: what is
// longer is a document, and nobody's cost centre.
const maxAnnotation = 253

// labelled are a pod's labels with its kept annotations among them, which no label's
// name can be taken for.
func (l *Log) labelled(pod *corev1.Pod) map[string]string {
	kept := l.annotations.pick(pod.Annotations)
	if kept == nil {
		return pod.Labels
	}
	all := maps.Clone(pod.Labels)
	if all == nil {
		all = make(map[string]string)
	}
	for name, value := range kept {
		if len(value) <= maxAnnotation && usage.IsText(value) {
			all[schema.AnnotationPrefix+name] = value
		}
	}
	return all
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
