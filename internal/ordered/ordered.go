// Package ordered keeps the columns of a Parquet file in a given order: a group of
// the library sorts them by name. It does no I/O.
package ordered

import "github.com/parquet-go/parquet-go"

// Group is a group whose columns stand in the order that they were added in.
type Group struct {
	parquet.Group
	names []string
}

// New is a group without columns, with room for n.
func New(n int) *Group {
	return &Group{Group: make(parquet.Group, n), names: make([]string, 0, n)}
}

// Add puts a column behind the others. Its name must be new.
func (o *Group) Add(name string, node parquet.Node) {
	o.Group[name] = node
	o.names = append(o.names, name)
}

// Fields are the columns in their order.
func (o *Group) Fields() []parquet.Field {
	byName := make(map[string]parquet.Field, len(o.Group))
	for _, field := range o.Group.Fields() {
		byName[field.Name()] = field
	}
	fields := make([]parquet.Field, len(o.names))
	for i, name := range o.names {
		fields[i] = byName[name]
	}
	return fields
}
