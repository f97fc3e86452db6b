// Package plural counts things in sentences.
package plural

import "fmt"

// Of is a number with what it counts, in the form that belongs to it:
// Of(1, "row was", "rows were") is "1 row was".
func Of[N int | int64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
