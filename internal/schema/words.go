package schema

// special are the namespaces of what no pod carries, in words.
var special = map[string][2]string{
	SystemNamespace:       {"system", "what the nodes use beside their pods"},
	UnattributedNamespace: {"unattributed", "counted by the nodes, by no pod"},
	IdleNamespace:         {"idle", "idle energy that no pod carries"},
	OverheadNamespace:     {"overhead", "the machines' own: switches, fans, losses"},
}

// NamespaceWords are what people call a namespace of what no pod carries, and what
// it is; both are "" of any other one.
func NamespaceWords(namespace string) (name, meaning string) {
	words := special[namespace]
	return words[0], words[1]
}
