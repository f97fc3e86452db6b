// Package e2e tests the product as a whole against the simulator, which knows
// the truth by formulas of its own: followers that scrape simulated kubelets
// over HTTPS, a leader that pulls, computes and pushes, all in simulated time;
// and followers and leaders as processes of their own, which are killed.
//
// It holds tests alone. The time of everything is one clock that a test moves;
// between two moves every loop has come to rest, so nothing depends on how fast
// the machine is.
package e2e
