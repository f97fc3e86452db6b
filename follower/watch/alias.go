package watch

import "maps"

// Aliaser replaces names before anything keeps them. kind is that of the object
// ("Pod", "Deployment"), "Container" or "Label"; namespace is the object's, or
// for a label its key.
type Aliaser interface {
	Alias(kind, namespace, name string) string
}

const (
	kindContainer = "Container"
	kindLabel     = "Label"
)

// realNames are what the API server calls things that the log calls otherwise.
// They are held in memory alone, to ask the API server by name.
type realNames struct{ namespace, owner, hash string }

// name is what the log calls an object; without an Aliaser, its own name.
func (l *Log) name(kind, namespace, name string) string {
	if l.alias == nil || name == "" {
		return name
	}
	return l.alias.Alias(kind, namespace, name)
}

func (l *Log) namespace(name string) string { return l.name(KindNamespace, "", name) }

// aliases are owners with the names that the log gives them. A node is called
// by its name, which the seed knows.
func (l *Log) aliases(namespace string, owners []Owner) []Owner {
	for i, o := range owners {
		if o.Kind != KindNode {
			owners[i].Name = l.name(o.Kind, namespace, o.Name)
		}
	}
	return owners
}

// pick are the allowed labels, their values as the log calls them.
func (l *Log) pick(labels map[string]string) map[string]string {
	picked := l.labels.pick(labels)
	if l.alias == nil || picked == nil {
		return picked
	}
	picked = maps.Clone(picked)
	for label, value := range picked {
		picked[label] = l.name(kindLabel, label, value)
	}
	return picked
}
