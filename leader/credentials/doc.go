// Package credentials keeps what the leader needs to reach the clusters that it
// installs into or meters through their API server: a kubeconfig of a narrow
// service account, and the tokens of the follower.
//
// They stand in the registry, sealed with AES-256-GCM by a key that stands in a
// file of its own: a copy of the registry alone gives nothing away. Each record
// is bound to its cluster's name. The key can be replaced: the first line of the
// file seals, the others still open, and what they opened is sealed again at the
// next start. A record that no key opens is left as it is, and neither read nor
// written over.
//
// A token that ends is renewed with itself at two thirds of its life, where the
// cluster lets it; Renewer tells of those that could not be.
//
// Nothing of a record is ever logged or returned by the API. A kubeconfig comes
// in through Check, which refuses all that would make the leader run a program,
// read a file or trust whom it should not.
package credentials
