package focus

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// Values that rules name.
const (
	categoryUsage      = "Usage"
	categoryPurchase   = "Purchase"
	categoryTax        = "Tax"
	categoryCredit     = "Credit"
	categoryAdjustment = "Adjustment"
	correction         = "Correction"
	usageBased         = "Usage-Based"
	notApplicable      = "Not Applicable"
)

// rowRule is a rule over several columns of one row. broken says in which way the
// row breaks it, "" where it does not.
type rowRule struct {
	id     string // as published with FOCUS 1.2, where that has it
	column string
	broken func(r *Row) string
}

func (r *Row) corrects() bool { return r.ChargeClass.Value == correction }
func (r *Row) metered() bool {
	return r.ChargeCategory == categoryUsage || r.ChargeCategory == categoryPurchase
}

// when is what where cond holds, and nothing elsewhere.
func when(cond bool, what string) string {
	if cond {
		return what
	}
	return ""
}

// same says whether two numbers are.
func same(a, b *apd.Decimal) bool { return a != nil && b != nil && a.Cmp(b) == 0 }

func negative(d *apd.Decimal) bool { return d != nil && d.Sign() < 0 }

var rowRules = slices.Concat(periodRules, priceRules, costRules, namingRules, splitRules)

var periodRules = []rowRule{
	{"BillingPeriodEnd (exclusive)", "BillingPeriodEnd", func(r *Row) string {
		return when(!r.BillingPeriodStart.Before(r.BillingPeriodEnd), "it does not lie after BillingPeriodStart")
	}},
	{"ChargePeriodEnd (exclusive)", "ChargePeriodEnd", func(r *Row) string {
		return when(!r.ChargePeriodStart.Before(r.ChargePeriodEnd), "it does not lie after ChargePeriodStart")
	}},
	{"ChargePeriod (inside the billing period)", "ChargePeriodStart", func(r *Row) string {
		outside := r.ChargePeriodStart.Before(r.BillingPeriodStart) || r.ChargePeriodEnd.After(r.BillingPeriodEnd)
		return when(outside && !r.corrects(), "the charge period lies outside the billing period, and the row is no Correction")
	}},
}

var priceRules = []rowRule{
	{"PricingQuantity-C-005-C", "PricingQuantity", unpricedRule(func(r *Row) bool { return r.PricingQuantity == nil })},
	{"ListUnitPrice-C-005-C", "ListUnitPrice", unpricedRule(func(r *Row) bool { return r.ListUnitPrice == nil })},
	{"ContractedUnitPrice-C-006-C", "ContractedUnitPrice", unpricedRule(func(r *Row) bool { return r.ContractedUnitPrice == nil })},
	{"SkuId-C-005-C", "SkuId", unpricedRule(func(r *Row) bool { return !r.SkuID.Valid })},
	{"SkuPriceId-C-005-C", "SkuPriceId", unpricedRule(func(r *Row) bool { return !r.SkuPriceID.Valid })},
	{"PricingCategory-C-004-C", "PricingCategory", unpricedRule(func(r *Row) bool { return !r.PricingCategory.Valid })},
	{"ListUnitPrice-C-004-C", "ListUnitPrice", func(r *Row) string {
		priced := r.ListUnitPrice != nil || r.ContractedUnitPrice != nil || r.PricingQuantity != nil || r.PricingUnit.Valid ||
			r.SkuID.Valid || r.SkuPriceID.Valid || r.PricingCategory.Valid
		return when(r.ChargeCategory == categoryTax && priced, "a Tax has no unit price, quantity, unit, SKU nor pricing category")
	}},
	{"PricingUnit-C-004-C", "PricingUnit", func(r *Row) string {
		return when(r.PricingUnit.Valid != (r.PricingQuantity != nil), "it is null where PricingQuantity is, and nowhere else")
	}},
	{"ConsumedQuantity-C-003-C", "ConsumedQuantity", func(r *Row) string {
		return when(r.ChargeCategory != categoryUsage && r.ConsumedQuantity != nil, "only Usage is consumed")
	}},
	{"ConsumedQuantity-C-006-C", "ConsumedQuantity", func(r *Row) string {
		return when(r.ChargeCategory == categoryUsage && !r.corrects() && r.ConsumedQuantity == nil, "Usage has what was consumed")
	}},
	{"ConsumedUnit-C-004-C", "ConsumedUnit", func(r *Row) string {
		return when(r.ConsumedUnit.Valid != (r.ConsumedQuantity != nil), "it is null where ConsumedQuantity is, and nowhere else")
	}},
	{"ListUnitPrice-C-008-M", "ListUnitPrice", func(r *Row) string { return when(negative(r.ListUnitPrice), "it is negative") }},
	{"ContractedUnitPrice-C-009-C", "ContractedUnitPrice", func(r *Row) string {
		return when(negative(r.ContractedUnitPrice), "it is negative")
	}},
	{"PricingQuantity (sign)", "PricingQuantity", func(r *Row) string {
		// Usage may be below 0: what a meter counted less what its nodes used is a rest.
		return when(r.ChargeCategory != categoryUsage && !r.corrects() && negative(r.PricingQuantity), "the quantity is negative: a credit has a negative cost")
	}},
	{"ChargeFrequency-C-004-C", "ChargeFrequency", func(r *Row) string {
		return when(r.ChargeCategory == categoryPurchase && r.ChargeFrequency.Value == usageBased, "a Purchase is not Usage-Based")
	}},
}

// unpricedRule is what Usage and Purchase must have.
func unpricedRule(null func(r *Row) bool) func(r *Row) string {
	return func(r *Row) string {
		return when(r.metered() && !r.corrects() && null(r), "it is null, and the row is Usage or Purchase and no Correction")
	}
}

var costRules = []rowRule{
	{"ListCost-C-009-C", "ListCost", func(r *Row) string {
		if r.corrects() || r.ListUnitPrice == nil || r.PricingQuantity == nil {
			return ""
		}
		return multiplied(r.ListUnitPrice, r.PricingQuantity, r.ListCost)
	}},
	{"ContractedUnitPrice-C-011-C", "ContractedCost", func(r *Row) string {
		if r.corrects() || r.ContractedUnitPrice == nil || r.PricingQuantity == nil {
			return ""
		}
		return multiplied(r.ContractedUnitPrice, r.PricingQuantity, r.ContractedCost)
	}},
	{"EffectiveCost-C-005-C", "EffectiveCost", func(r *Row) string {
		return when(r.ChargeCategory == categoryPurchase && !r.EffectiveCost.IsZero(), "it is 0 of a Purchase: bill a monthly fee as Usage")
	}},
	{"EffectiveCost-C-010-C", "EffectiveCost", func(r *Row) string {
		alone := r.ChargeCategory != categoryPurchase && r.ChargeCategory != categoryTax && !r.SplitOriginID.Valid && !r.AllocatedMethodID.Valid
		return when(alone && !same(r.EffectiveCost, r.BilledCost), "it differs from BilledCost, and the charge neither covers nor is covered by another")
	}},
	{"ListCost-C-008-C", "ListCost", func(r *Row) string {
		if r.ChargeCategory != categoryCredit && r.ChargeCategory != categoryAdjustment {
			return ""
		}
		if r.ListUnitPrice != nil || r.ContractedUnitPrice != nil {
			return "a Credit or Adjustment has no unit price"
		}
		return when(!same(r.ListCost, r.BilledCost) || !same(r.ContractedCost, r.BilledCost), "the costs of a Credit or Adjustment are one")
	}},
	{"PricingCurrency (rate)", "x_FxRate", func(r *Row) string {
		foreign := r.PricingCurrency != "" && r.PricingCurrency != r.BillingCurrency
		told := r.FxRate != nil && r.FxRate.Sign() > 0 && r.FxSource.Valid
		return when(foreign && !told, "PricingCurrency is another than BillingCurrency: tell x_FxRate and x_FxSource")
	}},
}

// multiplied says where a product is not the exact one.
func multiplied(price, quantity, cost *apd.Decimal) string {
	if want := times(price, quantity); !same(want, cost) {
		return fmt.Sprintf("%s times %s is %s, not %s", plainDecimal(price), plainDecimal(quantity), plainDecimal(want), plainDecimal(cost))
	}
	return ""
}

var namingRules = []rowRule{
	{"ResourceType-C-003-C", "ResourceType", func(r *Row) string {
		return when(r.ResourceType.Valid != r.ResourceID.Valid, "it is null where ResourceId is, and nowhere else")
	}},
	{"ResourceName-C-004-C", "ResourceName", func(r *Row) string {
		switch {
		case r.ResourceName.Valid && !r.ResourceID.Valid:
			return "it has a value and ResourceId has none"
		case r.ResourceName.Valid && r.ResourceName.Value == r.ResourceID.Value:
			return "it is a copy of ResourceId: null says that there is no name"
		}
		return ""
	}},
	{"SubAccountName-C-003-C", "SubAccountName", func(r *Row) string {
		return when(r.SubAccountName.Valid != r.SubAccountID.Valid, "it is null where SubAccountId is, and nowhere else")
	}},
	{"SubAccountType-C-003-C", "SubAccountType", func(r *Row) string {
		return when(r.SubAccountType.Valid != r.SubAccountID.Valid, "it is null where SubAccountId is, and nowhere else")
	}},
	{"RegionName-C-003-C", "RegionName", func(r *Row) string {
		return when(r.RegionName.Valid != r.RegionID.Valid, "it is null where RegionId is, and nowhere else")
	}},
	{"SkuMeter-C-004-C", "SkuMeter", func(r *Row) string {
		return when(r.SkuMeter.Valid && !r.SkuID.Valid, "it has a value and SkuId has none")
	}},
	{"SkuPriceDetails-C-004-C", "SkuPriceDetails", func(r *Row) string {
		if r.SkuPriceDetails != nil && !r.SkuPriceID.Valid {
			return "it has a value and SkuPriceId has none"
		}
		for key := range r.SkuPriceDetails {
			if !strings.HasPrefix(key, "x_") && !slices.Contains(priceProperties, key) {
				return fmt.Sprintf("the property %q is none of the specification's and does not begin with x_", key)
			}
		}
		return ""
	}},
	{"Tags (keys)", "Tags", func(r *Row) string {
		for _, tags := range []KeyValue{r.Tags, r.AllocatedTags} {
			for key, value := range tags {
				if value == nil || value == "" || key == "" {
					return fmt.Sprintf("the tag %q has no value: a tag without one is true", key)
				}
			}
		}
		return ""
	}},
	{"ServiceSubcategory-C-004-M", "ServiceSubcategory", func(r *Row) string {
		parent, known := subcategories[r.ServiceSubcategory]
		switch {
		case !known:
			return fmt.Sprintf("%q is no subcategory", r.ServiceSubcategory)
		case parent != r.ServiceCategory:
			return fmt.Sprintf("%q is of %q, not of %q", r.ServiceSubcategory, parent, r.ServiceCategory)
		}
		return ""
	}},
}

// priceProperties are the specification's own properties of SkuPriceDetails.
var priceProperties = []string{"CoreCount", "DiskMaxIops", "DiskSpace", "DiskType", "GpuCount", "InstanceType", "InstanceSeries", "MemorySize",
	"NetworkMaxIops", "NetworkMaxThroughput", "OperatingSystem", "Redundancy", "StorageClass"}

var splitRules = []rowRule{
	{"Allocated (together)", "AllocatedMethodId", func(r *Row) string {
		method := r.AllocatedMethodID.Valid
		return when(method != r.AllocatedResourceID.Valid || method != r.AllocatedResourceName.Valid || !method && (r.AllocatedMethodDetails != nil || r.AllocatedTags != nil),
			"a part of a split charge has method, resource and its name; nothing else has any of them")
	}},
	{"AllocatedMethodDetails (schema)", "AllocatedMethodDetails", func(r *Row) string {
		for _, e := range r.AllocatedMethodDetails {
			switch {
			case e.Ratio == nil || e.Ratio.Sign() < 0 || e.Ratio.Cmp(apd.New(1, 0)) > 0:
				return "a ratio is not between 0 and 1"
			case e.Quantity != nil && e.Unit == "":
				return "a quantity has no unit"
			}
		}
		return when(r.AllocatedMethodDetails != nil && len(r.AllocatedMethodDetails) == 0, "it has no element")
	}},
	{"AllocatedTags (superset)", "AllocatedTags", func(r *Row) string {
		for key, value := range r.Tags {
			if r.AllocatedMethodID.Valid && r.AllocatedTags[key] != value {
				return fmt.Sprintf("the tag %q of the charge is not among them", key)
			}
		}
		return ""
	}},
	{"EffectiveCost (of what is split)", "EffectiveCost", func(r *Row) string {
		origin := r.SplitOriginID.Valid && !r.AllocatedMethodID.Valid
		return when(origin && !r.EffectiveCost.IsZero(), "the parts of a split charge carry it: it is 0 of the charge itself")
	}},
}
