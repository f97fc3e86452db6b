// Package helm installs, upgrades and removes one Helm release in one cluster.
// It is the only package that imports Helm's SDK, so that another major version
// of Helm is a change of this package.
//
// What it guarantees:
//
//   - Ensure is idempotent: the same chart and values in a release that stands
//     write nothing, not even a revision. What a killed process left behind
//     (failed, pending, half removed) is taken up again.
//   - A release of somebody else, and objects that no release owns, are left
//     alone unless the caller says to adopt them.
//   - It waits for nothing to become healthy; the caller looks (Helm's own
//     waiting cannot be cancelled and writes its verdict late).
//   - The end of a context ends the requests at once.
//
// Who calls it must see to it that nobody else acts on the same release at the
// same time: Helm's storage does not serialise.
//
// It reads neither environment nor files: what it knows of a cluster is the
// rest.Config that it was given.
package helm
