package usage

import "maps"

// CommonLabels are the labels that two sets have alike. Neither is changed; it may be
// the first itself.
func CommonLabels(one, other map[string]string) map[string]string {
	if maps.Equal(one, other) {
		return one
	}
	common := maps.Clone(one)
	maps.DeleteFunc(common, func(name, value string) bool { own, ok := other[name]; return !ok || own != value })
	return common
}
