package seed

import "crypto/ed25519"

// SignBook signs a message of the leader's books, which begins with what it is, so
// that it can be taken for no seed.
func (k Key) SignBook(message []byte) []byte { return ed25519.Sign(k.private, message) }

// BookKey is the key by which the books' signatures are known: that of Public.
func (k Key) BookKey() ed25519.PublicKey { return k.private.Public().(ed25519.PublicKey) }
