package focus

import (
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/apd/v3"
)

// Version is a version of the specification.
type Version string

// The versions that are written.
const (
	V12 Version = "1.2"
	V14 Version = "1.4"
)

// ParseVersion reads a version; "" is 1.4.
func ParseVersion(text string) (Version, error) {
	switch v := Version(text); v {
	case "":
		return V14, nil
	case V12, V14:
		return v, nil
	}
	return "", fmt.Errorf("FOCUS version %q: use 1.4 or 1.2", text)
}

// Type is a column's type.
type Type int

// The types.
const (
	String Type = iota
	Moment
	Decimal
	JSON // key-value, or an object
)

// format is what a string has to look like.
type format int

const (
	anyText format = iota
	currency
	unit
)

// column is one column of Cost and Usage.
type column struct {
	Name    string
	Type    Type
	Scale   int    // of a Decimal
	Format  format // of a String
	NotNull bool   // the specification allows no null
	Allowed []string
	Only    Version // "" is every version
	get     func(r *Row) (cell, error)
}

// columns are a version's, the specification's first, Accumulus's own last.
func columns(v Version) []column {
	return slices.DeleteFunc(allColumns(), func(c column) bool { return c.Only != "" && c.Only != v })
}

func allColumns() []column {
	return slices.Concat(mandatoryColumns(), recommendedColumns(), conditionalColumns(), ownColumns())
}

func (c column) notNull() column       { c.NotNull = true; return c }
func (c column) only(v Version) column { c.Only = v; return c }
func (c column) of(f format) column    { c.Format = f; return c }
func (c column) oneOf(allowed ...string) column {
	c.Allowed = allowed
	return c
}

// plain is a string that is never null.
func plain(name string, get func(r *Row) string) column {
	return column{Name: name, NotNull: true, get: func(r *Row) (cell, error) { return cell{text: get(r)}, nil }}
}

func text(name string, get func(r *Row) Text) column {
	return column{Name: name, get: func(r *Row) (cell, error) {
		t := get(r)
		return cell{null: !t.Valid, text: t.Value}, nil
	}}
}

func number(name string, scale int, get func(r *Row) *apd.Decimal) column {
	return column{Name: name, Type: Decimal, Scale: scale, get: func(r *Row) (cell, error) {
		d := get(r)
		return cell{null: d == nil, number: d}, nil
	}}
}

func moment(name string, get func(r *Row) time.Time) column {
	return column{Name: name, Type: Moment, NotNull: true, get: func(r *Row) (cell, error) {
		at := get(r)
		return cell{null: at.IsZero(), at: at}, nil
	}}
}

func pairs(name string, get func(r *Row) KeyValue) column {
	return column{Name: name, Type: JSON, get: func(r *Row) (cell, error) {
		kv := get(r)
		if kv == nil {
			return cell{null: true}, nil
		}
		encoded, err := kv.encode()
		return cell{text: encoded}, err
	}}
}

// unused is a column for what Accumulus does not sell: it is always null.
func unused(name string, t Type) column {
	c := column{Name: name, Type: t, get: func(*Row) (cell, error) { return cell{null: true}, nil }}
	if t == Decimal {
		c.Scale = scaleQuantity
	}
	return c
}

func mandatoryColumns() []column {
	return []column{
		number("BilledCost", scaleCost, func(r *Row) *apd.Decimal { return r.BilledCost }).notNull(),
		plain("BillingAccountId", func(r *Row) string { return r.BillingAccountID }),
		text("BillingAccountName", func(r *Row) Text { return r.BillingAccountName }),
		plain("BillingCurrency", func(r *Row) string { return r.BillingCurrency }).of(currency),
		moment("BillingPeriodEnd", func(r *Row) time.Time { return r.BillingPeriodEnd }),
		moment("BillingPeriodStart", func(r *Row) time.Time { return r.BillingPeriodStart }),
		plain("ChargeCategory", func(r *Row) string { return r.ChargeCategory }).oneOf(categoryUsage, categoryPurchase, categoryTax, categoryCredit, categoryAdjustment),
		text("ChargeClass", func(r *Row) Text { return r.ChargeClass }).oneOf(correction),
		text("ChargeDescription", func(r *Row) Text { return r.ChargeDescription }),
		moment("ChargePeriodEnd", func(r *Row) time.Time { return r.ChargePeriodEnd }),
		moment("ChargePeriodStart", func(r *Row) time.Time { return r.ChargePeriodStart }),
		number("ContractedCost", scaleCost, func(r *Row) *apd.Decimal { return r.ContractedCost }).notNull(),
		number("EffectiveCost", scaleCost, func(r *Row) *apd.Decimal { return r.EffectiveCost }).notNull(),
		plain("HostProviderName", func(r *Row) string { return r.HostProviderName }).only(V14),
		plain("InvoiceIssuerName", func(r *Row) string { return r.InvoiceIssuerName }),
		number("ListCost", scaleCost, func(r *Row) *apd.Decimal { return r.ListCost }).notNull(),
		number("PricingQuantity", scaleQuantity, func(r *Row) *apd.Decimal { return r.PricingQuantity }),
		text("PricingUnit", func(r *Row) Text { return r.PricingUnit }).of(unit),
		// In 1.2 a cost that is billed by another party than the provider must be 0:
		// who sends the invoice is the provider, and who sells the publisher.
		plain("ProviderName", func(r *Row) string { return r.InvoiceIssuerName }).only(V12),
		plain("PublisherName", func(r *Row) string { return r.ServiceProviderName }).only(V12),
		plain("ServiceCategory", func(r *Row) string { return r.ServiceCategory }),
		plain("ServiceName", func(r *Row) string { return r.ServiceName }),
		plain("ServiceProviderName", func(r *Row) string { return r.ServiceProviderName }).only(V14),
	}
}

func recommendedColumns() []column {
	return []column{
		{Name: "AllocatedMethodDetails", Type: JSON, Only: V14, get: func(r *Row) (cell, error) {
			if r.AllocatedMethodDetails == nil {
				return cell{null: true}, nil
			}
			encoded, err := encodeElements(r.AllocatedMethodDetails)
			return cell{text: encoded}, err
		}},
		text("AvailabilityZone", func(r *Row) Text { return r.AvailabilityZone }),
		text("ChargeFrequency", func(r *Row) Text { return r.ChargeFrequency }).oneOf("One-Time", "Recurring", usageBased).notNull(),
		plain("ServiceSubcategory", func(r *Row) string { return r.ServiceSubcategory }),
	}
}

func conditionalColumns() []column {
	pricingCurrency := func(r *Row) string {
		if r.PricingCurrency == "" {
			return r.BillingCurrency
		}
		return r.PricingCurrency
	}
	return []column{
		text("AllocatedMethodId", func(r *Row) Text { return r.AllocatedMethodID }).only(V14),
		text("AllocatedResourceId", func(r *Row) Text { return r.AllocatedResourceID }).only(V14),
		text("AllocatedResourceName", func(r *Row) Text { return r.AllocatedResourceName }).only(V14),
		pairs("AllocatedTags", func(r *Row) KeyValue { return r.AllocatedTags }).only(V14),
		text("BillingAccountType", func(r *Row) Text { return r.BillingAccountType }).notNull(),
		unused("CapacityReservationId", String), unused("CapacityReservationStatus", String),
		unused("CommitmentDiscountCategory", String), unused("CommitmentDiscountId", String), unused("CommitmentDiscountName", String),
		unused("CommitmentDiscountQuantity", Decimal), unused("CommitmentDiscountStatus", String), unused("CommitmentDiscountType", String),
		unused("CommitmentDiscountUnit", String), unused("CommitmentProgramEligibilityDetails", JSON).only(V14),
		number("ConsumedQuantity", scaleQuantity, func(r *Row) *apd.Decimal { return r.ConsumedQuantity }),
		text("ConsumedUnit", func(r *Row) Text { return r.ConsumedUnit }).of(unit),
		unused("ContractApplied", JSON).only(V14),
		number("ContractedUnitPrice", scalePrice, func(r *Row) *apd.Decimal { return r.ContractedUnitPrice }),
		text("InvoiceDetailId", func(r *Row) Text { return r.InvoiceDetailID }).only(V14),
		text("InvoiceId", func(r *Row) Text { return r.InvoiceID }),
		number("ListUnitPrice", scalePrice, func(r *Row) *apd.Decimal { return r.ListUnitPrice }),
		text("PricingCategory", func(r *Row) Text { return r.PricingCategory }).oneOf("Standard", "Dynamic", "Committed", "Other"),
		plain("PricingCurrency", pricingCurrency).of(currency),
		number("PricingCurrencyContractedUnitPrice", scalePrice, func(r *Row) *apd.Decimal { return r.inPricing(r.ContractedUnitPrice, scalePrice) }),
		number("PricingCurrencyEffectiveCost", scaleCost, func(r *Row) *apd.Decimal { return r.inPricing(r.EffectiveCost, scaleCost) }).notNull(),
		number("PricingCurrencyListUnitPrice", scalePrice, func(r *Row) *apd.Decimal { return r.inPricing(r.ListUnitPrice, scalePrice) }),
		text("RegionId", func(r *Row) Text { return r.RegionID }), text("RegionName", func(r *Row) Text { return r.RegionName }),
		text("ResourceId", func(r *Row) Text { return r.ResourceID }), text("ResourceName", func(r *Row) Text { return r.ResourceName }),
		text("ResourceType", func(r *Row) Text { return r.ResourceType }),
		text("SkuId", func(r *Row) Text { return r.SkuID }), text("SkuMeter", func(r *Row) Text { return r.SkuMeter }),
		pairs("SkuPriceDetails", func(r *Row) KeyValue { return r.SkuPriceDetails }), text("SkuPriceId", func(r *Row) Text { return r.SkuPriceID }),
		text("SubAccountId", func(r *Row) Text { return r.SubAccountID }), text("SubAccountName", func(r *Row) Text { return r.SubAccountName }),
		text("SubAccountType", func(r *Row) Text { return r.SubAccountType }),
		pairs("Tags", func(r *Row) KeyValue { return r.Tags }),
	}
}

// inPricing is an amount of BillingCurrency in PricingCurrency.
func (r *Row) inPricing(amount *apd.Decimal, scale int) *apd.Decimal {
	if amount == nil || r.PricingCurrency == "" || r.PricingCurrency == r.BillingCurrency || r.FxRate == nil || r.FxRate.IsZero() {
		return amount
	}
	value, rate := ratOf(amount), ratOf(r.FxRate)
	return fromRat(value.Quo(value, rate), scale)
}

func ownColumns() []column {
	return []column{
		number("x_EnergyKilowattHours", 12, func(r *Row) *apd.Decimal { return r.EnergyKilowattHours }),
		number("x_EnergyActiveKilowattHours", 12, func(r *Row) *apd.Decimal { return r.EnergyActiveKilowattHours }),
		number("x_EnergyIdleKilowattHours", 12, func(r *Row) *apd.Decimal { return r.EnergyIdleKilowattHours }),
		number("x_EnergyCost", scaleCost, func(r *Row) *apd.Decimal { return r.EnergyCost }),
		number("x_Co2eKilograms", 12, func(r *Row) *apd.Decimal { return r.Co2eKilograms }),
		number("x_GridCarbonIntensityGramsPerKilowattHour", 6, func(r *Row) *apd.Decimal { return r.GridCarbonIntensity }),
		number("x_HeatKilowattHours", 12, func(r *Row) *apd.Decimal { return r.HeatKilowattHours }),
		text("x_TariffSlot", func(r *Row) Text { return r.TariffSlot }),
		number("x_DataCoverage", 6, func(r *Row) *apd.Decimal { return r.DataCoverage }),
		text("x_MeasurementKind", func(r *Row) Text { return r.MeasurementKind }).oneOf("Measured", "Modelled", "Estimated"),
		text("x_ClusterId", func(r *Row) Text { return r.ClusterID }), text("x_Namespace", func(r *Row) Text { return r.Namespace }),
		text("x_PodUid", func(r *Row) Text { return r.PodUID }), text("x_NodeUid", func(r *Row) Text { return r.NodeUID }),
		text("x_ControllerKind", func(r *Row) Text { return r.ControllerKind }), text("x_ControllerName", func(r *Row) Text { return r.ControllerName }),
		text("x_RatingRunId", func(r *Row) Text { return r.RatingRunID }), text("x_PriceListVersion", func(r *Row) Text { return r.PriceListVersion }),
		text("x_SplitOriginId", func(r *Row) Text { return r.SplitOriginID }),
		number("x_FxRate", 18, func(r *Row) *apd.Decimal { return r.FxRate }), text("x_FxSource", func(r *Row) Text { return r.FxSource }),
	}
}
