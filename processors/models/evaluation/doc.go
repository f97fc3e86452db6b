// Package evaluation holds models of power against measurements of others: the
// curves of servers (Power), boxes composed of them (Box), and time series of
// counters (Trace). What is fitted from the measurements is scored on those that
// the fit has not seen: folds by group of processors, folds by block of time.
//
// Errors are in per cent of the true power. All of it follows from the file and
// the seed: the same in each run.
package evaluation
