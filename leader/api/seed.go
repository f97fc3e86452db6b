package api

import (
	"context"
	"net/http"

	"github.com/accumulus-metering/accumulus/leader/seed"
	"github.com/gorilla/mux"
)

// Seeds are what the followers may know.
type Seeds interface {
	// SeedKey is the public key by which followers know the leader's seeds.
	SeedKey() string
	// Seed is that of a cluster; ErrNotFound.
	Seed(ctx context.Context, cluster string) (seed.Signed, error)
	// RenewSeed is Seed with a higher generation; ErrNotFound.
	RenewSeed(ctx context.Context, cluster string) (seed.Signed, error)
}

// SeedKey is the answer that names the public key.
type SeedKey struct {
	PublicKey string `json:"publicKey"` // ed25519, base64 of 32 bytes
}

func (s *Server) seedKey(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, SeedKey{s.deps.Seeds.SeedKey()})
}

func (s *Server) seed(w http.ResponseWriter, r *http.Request) error {
	return s.seedBy(w, r, s.deps.Seeds.Seed)
}

func (s *Server) renewSeed(w http.ResponseWriter, r *http.Request) error {
	return s.seedBy(w, r, s.deps.Seeds.RenewSeed)
}

func (s *Server) seedBy(w http.ResponseWriter, r *http.Request, get func(context.Context, string) (seed.Signed, error)) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	signed, err := get(r.Context(), mux.Vars(r)["name"])
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, signed)
}
