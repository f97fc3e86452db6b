// Package carbon knows how much CO2e a kWh of electricity stands for, by time and
// place: a built-in table of yearly means, an HTTP API in the shape of
// Electricity Maps' v3 that a loop asks, and what people import as CSV.
//
// It guarantees that a value that its source calls an estimate stays marked as
// one, that a value which is revised replaces the one before, and that a source
// which cannot be reached delays values and loses none that it still offers. It
// computes no grams: processors.Carbon does.
package carbon
