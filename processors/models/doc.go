// Package models fits and keeps the models that say how much power a node
// draws: the line of the thesis, a monotone cubic through calibration points, a
// curve learned from the box's meter, and counters or RAPL where a node offers
// them. All are behind one interface (Model), one for each kind of hardware, and
// carry the error that they were seen to have (Evidence); Choose takes the one
// with the least.
//
// A fit is floating point and happens rarely. What it yields is a table of
// integers, which is stored, and which processors evaluates in integers: the
// same on every machine, though Go may fuse multiplications and additions on
// some of them. What a table is off by from the fit is bounded (Tabulate).
//
// It is pure: it reads no store, no clock and no meter. It does not split energy
// (package processors does), and says nothing about pods.
package models
