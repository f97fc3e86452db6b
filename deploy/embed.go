// Package deploy holds what an operator starts from: the Helm charts of leader
// and follower, and an example of a fleet file. It imports nothing of the
// product.
package deploy

import "embed"

//go:generate sh -c "cp ../dashboards/*.json charts/leader/dashboards/"

// Examples are the files below examples/.
//
//go:embed examples
var Examples embed.FS

// Charts are charts/follower and charts/leader, whole: without "all:" the
// helpers, whose names begin with an underscore, would be left out.
//
//go:embed all:charts
var Charts embed.FS
