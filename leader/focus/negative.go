package focus

import "maps"

// signed yields a row, or where its unit price is below 0, as a price of a market may
// be, two: the usage at the price 0, which keeps what was consumed, and a Credit of
// what that comes to. A unit price must not be below 0 (ListUnitPrice-C-008-M,
// ContractedUnitPrice-C-009-C), and a credit is a negative cost without one.
func signed(r *Row, yield func(*Row) error) error {
	if r.ChargeCategory != categoryUsage || r.corrects() || !negative(r.ListUnitPrice) && !negative(r.ContractedUnitPrice) {
		return yield(r)
	}
	credit := *r
	credit.ChargeCategory, credit.ChargeDescription = categoryCredit, Some("price below 0: "+r.ChargeDescription.Value)
	credit.ListCost, credit.ContractedCost, credit.EffectiveCost = r.BilledCost, r.BilledCost, r.BilledCost
	credit.ListUnitPrice, credit.ContractedUnitPrice, credit.PricingQuantity, credit.ConsumedQuantity = nil, nil, nil, nil
	credit.PricingUnit, credit.ConsumedUnit = Text{}, Text{}
	credit.EnergyKilowattHours, credit.EnergyActiveKilowattHours, credit.EnergyIdleKilowattHours, credit.EnergyCost = nil, nil, nil, nil
	credit.Co2eKilograms, credit.GridCarbonIntensity, credit.HeatKilowattHours = nil, nil, nil

	details := maps.Clone(r.SkuPriceDetails)
	if details == nil {
		details = make(KeyValue)
	}
	details["x_UnitPrice"], details["x_ListUnitPrice"] = plainDecimal(r.ContractedUnitPrice), plainDecimal(r.ListUnitPrice)
	r.SkuPriceDetails, credit.SkuPriceDetails = details, details
	r.Price(zero(), zero(), r.PricingQuantity, r.PricingUnit.Value, false)
	if err := yield(r); err != nil || credit.BilledCost.IsZero() {
		return err
	}
	return yield(&credit)
}
