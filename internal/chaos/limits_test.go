package chaos

// What the product does not hold yet; schedules that need it leave it out.
const (
	// conflicts: the centre has another type for a field in some schedules.
	conflicts = false
	// replacesNamesakes: a row that lost a field is replaced also where the
	// table has a tag and a field of one name.
	replacesNamesakes = false
	// knowsReach: it is known which windows a failed pull may have written, when
	// the source goes back to a copy that holds the mark and not their entries.
	knowsReach = false
)
