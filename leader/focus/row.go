package focus

import (
	"time"

	"github.com/cockroachdb/apd/v3"
)

// Row is one charge. A nil number, a zero time, a Text that is not Valid and a
// nil KeyValue are null. Costs are in BillingCurrency; each column's meaning is
// the specification's, and docs/focus.md says what fills it.
type Row struct {
	BillingAccountID   string
	BillingAccountName Text
	BillingAccountType Text
	BillingCurrency    string // ISO 4217
	BillingPeriodStart time.Time
	BillingPeriodEnd   time.Time // exclusive
	ChargePeriodStart  time.Time
	ChargePeriodEnd    time.Time // exclusive

	ChargeCategory    string // Usage, Purchase, Tax, Credit or Adjustment
	ChargeClass       Text   // null or Correction
	ChargeDescription Text
	ChargeFrequency   Text

	BilledCost     *apd.Decimal
	EffectiveCost  *apd.Decimal
	ListCost       *apd.Decimal
	ContractedCost *apd.Decimal

	ListUnitPrice       *apd.Decimal
	ContractedUnitPrice *apd.Decimal
	PricingQuantity     *apd.Decimal
	PricingUnit         Text
	PricingCategory     Text
	PricingCurrency     string // "" is BillingCurrency
	ConsumedQuantity    *apd.Decimal
	ConsumedUnit        Text

	ServiceCategory    string
	ServiceSubcategory string
	ServiceName        string

	InvoiceIssuerName   string
	ServiceProviderName string
	HostProviderName    string
	InvoiceID           Text
	InvoiceDetailID     Text

	AvailabilityZone Text
	RegionID         Text
	RegionName       Text
	ResourceID       Text
	ResourceName     Text
	ResourceType     Text
	SubAccountID     Text
	SubAccountName   Text
	SubAccountType   Text

	SkuID           Text
	SkuMeter        Text
	SkuPriceID      Text
	SkuPriceDetails KeyValue
	Tags            KeyValue

	// Of a charge that was split over several users.
	AllocatedMethodID      Text
	AllocatedMethodDetails []AllocatedElement
	AllocatedResourceID    Text
	AllocatedResourceName  Text
	AllocatedTags          KeyValue
	SplitOriginID          Text // x_SplitOriginId: of the charge and of its parts; the charge alone has no AllocatedMethodID

	// Accumulus's own columns.
	EnergyKilowattHours       *apd.Decimal
	EnergyActiveKilowattHours *apd.Decimal
	EnergyIdleKilowattHours   *apd.Decimal
	EnergyCost                *apd.Decimal
	Co2eKilograms             *apd.Decimal
	GridCarbonIntensity       *apd.Decimal // g/kWh
	HeatKilowattHours         *apd.Decimal
	TariffSlot                Text
	DataCoverage              *apd.Decimal // 0 to 1
	MeasurementKind           Text         // Measured, Modelled or Estimated
	ClusterID                 Text
	Namespace                 Text
	PodUID                    Text
	NodeUID                   Text
	ControllerKind            Text
	ControllerName            Text
	RatingRunID               Text
	PriceListVersion          Text
	FxRate                    *apd.Decimal // BillingCurrency per PricingCurrency
	FxSource                  Text
}

// Price fills the unit prices, the quantity and the four costs of a charge by
// quantity: the list's price, what was agreed, and whether the customer is billed
// for it. Nothing is rounded.
func (r *Row) Price(list, contracted, quantity *apd.Decimal, unit string, billed bool) {
	r.ListUnitPrice, r.ContractedUnitPrice, r.PricingQuantity, r.PricingUnit = list, contracted, quantity, Some(unit)
	r.ListCost, r.ContractedCost = times(list, quantity), times(contracted, quantity)
	r.BilledCost, r.EffectiveCost = zero(), zero()
	if billed {
		r.BilledCost, r.EffectiveCost = r.ContractedCost, r.ContractedCost
	}
}
