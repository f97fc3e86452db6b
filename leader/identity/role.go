package identity

import (
	"fmt"
	"strings"
)

// Role is what a caller may do, and of a route whom it lets in: the least role
// that is needed and, beside it, the roles apart.
type Role uint8

// The roles that stand in a line: each may what the one before it may.
const (
	Unstated Role = iota // of a route: it lets nobody in
	Nobody               // not known: health, and the page's empty frame
	Viewer               // reads all
	Billing              // reads all, changes prices and books
	Operator             // changes all

	least Role = 0x0f
)

// The roles apart: they may what a route says that they may, and what Nobody may.
const (
	Tenant Role = 0x10 << iota // reads what lies in his scope
	Meters                     // sends readings of the meters that are sent, and sees those
)

// Named are the roles that a person can be given, as they are written.
var Named = map[string]Role{"viewer": Viewer, "billing": Billing, "operator": Operator, "tenant": Tenant, "meters": Meters}

// ParseRole reads the name of a role.
func ParseRole(text string) (Role, error) {
	if role, ok := Named[text]; ok {
		return role, nil
	}
	return Unstated, fmt.Errorf("role %q is none of viewer, tenant, billing, operator, meters", text)
}

// Least is the role that a route needs of those that stand in a line.
func (r Role) Least() Role { return r & least }

// Admits says whether a route with this role lets the caller's role in.
func (r Role) Admits(caller Role) bool {
	switch {
	case r.Least() == Unstated || caller == Unstated:
		return false
	case caller&^least != 0: // apart
		return r.Least() == Nobody || r&caller == caller
	}
	return caller >= r.Least()
}

// String is the name of a caller's role, and of a route's all that it names.
func (r Role) String() string {
	parts := []string{[...]string{"", "nobody", "viewer", "billing", "operator"}[min(r.Least(), Operator)]}
	if parts[0] == "" {
		parts = nil
	}
	if r&Tenant != 0 {
		parts = append(parts, "tenant")
	}
	if r&Meters != 0 {
		parts = append(parts, "meters")
	}
	if len(parts) == 0 {
		return "unstated"
	}
	return strings.Join(parts, ", ")
}
