package usage

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Number shows about three digits of a figure: 0.042, 1.50, 12.3, 1235.
func Number(v float64) string {
	switch size := math.Abs(v); {
	case v == 0:
		return "0"
	case size < 0.0005:
		return "<0.001"
	case size >= 99.95:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case size >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case size >= 0.9995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// scaled chooses the unit in which the figure is below base.
func scaled(v, base float64, units ...string) string {
	unit := 0
	for math.Abs(v) >= base && unit < len(units)-1 {
		v /= base
		unit++
	}
	return Number(v) + " " + units[unit]
}

// HumanBytes are in powers of 1000, as traffic is counted.
func HumanBytes(v float64) string { return scaled(v, 1000, "B", "kB", "MB", "GB", "TB", "PB") }

// HumanMemory is in powers of 1024, as memory is requested.
func HumanMemory(bytes float64) string {
	return scaled(bytes, 1024, "B", "KiB", "MiB", "GiB", "TiB", "PiB")
}

// HumanEnergy is joules in Wh.
func HumanEnergy(joules float64) string {
	return scaled(joules/3600, 1000, "Wh", "kWh", "MWh", "GWh")
}

// HumanGrams of CO2e.
func HumanGrams(grams float64) string {
	if math.Abs(grams) >= 1e6 {
		return scaled(grams/1e6, 1000, "t", "kt", "Mt")
	}
	return scaled(grams, 1000, "g", "kg")
}

// HumanWatts of a power that may be unknown.
func HumanWatts(watts *float64) string {
	if watts == nil {
		return ""
	}
	return scaled(*watts, 1000, "W", "kW", "MW")
}

// HumanMoney shows an amount with the currency's usual two decimals, and a
// small one with two digits that are not zero.
func HumanMoney(amount, currency string) string {
	value, ok := new(big.Rat).SetString(amount)
	if !ok || amount == "" {
		return ""
	}
	size, _ := new(big.Rat).Abs(value).Float64()
	places := 2
	if size > 0 && size < 1 {
		places = min(9, 1-int(math.Floor(math.Log10(size))))
	}
	text := value.FloatString(max(2, places))
	return strings.TrimSpace(text + " " + currency)
}

// HumanTime is short and in UTC.
func HumanTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04Z") }

// HumanSpan is a length of time in its largest fitting unit.
func HumanSpan(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// Percent is a share, 1 for 100%.
func Percent(v float64) string {
	if v > 0.9995 || v <= 0 {
		return fmt.Sprintf("%.0f%%", v*100)
	}
	return fmt.Sprintf("%.1f%%", v*100)
}
