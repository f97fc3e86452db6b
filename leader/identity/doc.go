// Package identity says who calls the leader's API, and what he may do.
//
// A caller is a Principal: a name, one Role and, of a tenant, the scope of what he
// may see. He shows a bearer token; who knows it are the named tokens in the
// registry (Tokens), and Sources outside: issuers of OpenID Connect (package
// issuer) and the API server of the leader's own cluster (package kubernetes). The
// three token files are leader/api's own.
//
// It guarantees that the secret of a token is shown once, when it is made: the
// registry holds a SHA-256 of it, which is enough for 256 random bits. No error,
// log or answer holds a secret. Where a Source cannot be asked, that is
// ErrUnavailable and nobody is let in by it.
package identity
