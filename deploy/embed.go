// Package deploy holds what an operator starts from: an example of a fleet file.
// It imports nothing of the product.
package deploy

import "embed"

// Examples are the files below examples/.
//
//go:embed examples
var Examples embed.FS
