// Package forecast says how much will be used by a moment ahead, from what was used
// by the hour. It is pure: integers of stored units in, integers out, no clock.
//
// Three baselines always compete: the rate of the last day, and the same hour of
// the day and of the week before. Better models take part in the same rolling-origin
// back-test on that very series, and are taken only where they win it. The errors of
// the back-test are the forecast's own: P10, P50 and P90 are empirical quantiles of
// them with the finite-sample rank of split conformal prediction (Vovk et al. 2005),
// and the coverage is measured with what was known at each origin, never with what
// came later.
package forecast
