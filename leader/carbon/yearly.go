package carbon

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

//go:embed ember.csv
var emberCSV string

// Mean is a country's yearly mean.
type Mean struct {
	Zone      string // ISO 3166-1 alpha-2, or EU
	Country   string
	Year      int
	Milligram int64 // CO2e per kWh
}

// String says whose figure it is, with its year.
func (m Mean) String() string { return fmt.Sprintf("Ember yearly mean of %s, %d", m.Zone, m.Year) }

var means = sync.OnceValue(func() map[string]Mean {
	table := make(map[string]Mean)
	r := csv.NewReader(strings.NewReader(emberCSV))
	r.Comment = '#'
	rows, err := r.ReadAll()
	if err != nil {
		panic(err) // the file is part of the program: its test reads it
	}
	for _, row := range rows[1:] {
		year, err := strconv.Atoi(row[2])
		if err != nil {
			panic(err)
		}
		mg, err := milligrams(row[3])
		if err != nil {
			panic(err)
		}
		table[row[0]] = Mean{Zone: row[0], Country: row[1], Year: year, Milligram: mg}
	}
	return table
})

// Yearly is the yearly mean of a zone's country: what stands before the zone's
// first '-'. The table has one year for each country; it is used for all times.
func Yearly(zone string) (Mean, bool) {
	country, _, _ := strings.Cut(zone, "-")
	m, ok := means()[country]
	return m, ok
}
