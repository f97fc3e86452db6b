// Package ahead says what is used and spent by the hour now, what will have been by the
// end of a month or another moment, and what a run of a job costs: rates, forecasts,
// estimates and reports of runs. All of it is asked by the keys and filters of usage.
package ahead
