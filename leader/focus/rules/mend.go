package rules

import "maps"

// Mended are rules whose published check says something else than their words: it
// is replaced by what the words say. The ids and the words stay.
func Mended() map[string]string {
	return map[string]string{
		"CommitmentDiscountStatus-C-003-C":  "the words want null where CommitmentDiscountId is null; the check wants a value there",
		"CommitmentDiscountStatus-C-004-C":  "the words name Usage with a CommitmentDiscountId; the check has the opposite condition",
		"CapacityReservationStatus-C-004-C": "the words name Usage with a CapacityReservationId; the check has no condition",
	}
}

// Mend is the model with the checks of Mended.
func (m Model) Mend() Model {
	null := &Literal{Null: true}
	usageWith := func(id string) *Check {
		return &Check{Function: "AND", Items: []Check{{Function: "CheckNotValue", Column: id, Value: null}, {Function: "CheckValue", Column: "ChargeCategory", Value: &Literal{Text: "Usage"}}}}
	}
	m.Rules = maps.Clone(m.Rules)
	change := func(id string, requirement Check, condition *Check) {
		rule := m.Rules[id]
		rule.Requirement, rule.Condition = requirement, condition
		m.Rules[id] = rule
	}
	change("CommitmentDiscountStatus-C-003-C", Check{Function: "CheckValue", Column: "CommitmentDiscountStatus", Value: null},
		&Check{Function: "CheckValue", Column: "CommitmentDiscountId", Value: null})
	change("CommitmentDiscountStatus-C-004-C", Check{Function: "CheckNotValue", Column: "CommitmentDiscountStatus", Value: null}, usageWith("CommitmentDiscountId"))
	change("CapacityReservationStatus-C-004-C", Check{Function: "CheckNotValue", Column: "CapacityReservationStatus", Value: null}, usageWith("CapacityReservationId"))
	return m
}
