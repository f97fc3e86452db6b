package schema

// Files of a signed seed: the keys of its ConfigMap, and what a follower reads
// from a directory.
const (
	SeedFile          = "seed.sql.gz"
	SeedSignatureFile = "seed.sql.gz.sig" // 64 bytes, ed25519 over SeedMessage
)

// SeedMessage is what a leader signs of a cluster's packed seed.
func SeedMessage(cluster string, packed []byte) []byte {
	return append([]byte("accumulus seed 1\n"+cluster+"\n"), packed...)
}
