package main

import (
	"time"

	"github.com/accumulus-metering/accumulus/internal/usage"
)

// Figures for people are written as the status pages write them.

func number(v float64) string                   { return usage.Number(v) }
func humanBytes(v float64) string               { return usage.HumanBytes(v) }
func humanMemory(bytes float64) string          { return usage.HumanMemory(bytes) }
func humanEnergy(joules float64) string         { return usage.HumanEnergy(joules) }
func humanWatts(watts *float64) string          { return usage.HumanWatts(watts) }
func humanMoney(amount, currency string) string { return usage.HumanMoney(amount, currency) }
func humanTime(t time.Time) string              { return usage.HumanTime(t) }
func humanSpan(d time.Duration) string          { return usage.HumanSpan(d) }
func percent(v float64) string                  { return usage.Percent(v) }

// shownTime is an RFC 3339 time of an answer for people; any other text stays as it is.
func shownTime(text string) string {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return text
	}
	return humanTime(t)
}
