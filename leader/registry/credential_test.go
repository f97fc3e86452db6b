package registry

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

// TestCredentialsOfARevision: a change that was made from an older revision is
// refused, so that two changes at once lose neither.
func TestCredentialsOfARevision(t *testing.T) {
	r, clk := open(t)
	if _, err := r.Credential(t.Context(), "alpha"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("%v, want not found", err)
	}
	first, err := r.PutCredential(t.Context(), Sealed{Cluster: "alpha", KeyID: "k", Sealed: []byte("one")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.PutCredential(t.Context(), Sealed{Cluster: "alpha", KeyID: "k", Sealed: []byte("none")}); !errors.Is(err, ErrChanged) {
		t.Errorf("%v, want refused: others are there", err)
	}
	second, err := r.PutCredential(t.Context(), Sealed{Cluster: "alpha", KeyID: "k2", Sealed: []byte("two"), Revision: first})
	if err != nil || second <= first {
		t.Fatalf("revision %d after %d, %v", second, first, err)
	}
	if _, err := r.PutCredential(t.Context(), Sealed{Cluster: "alpha", KeyID: "k", Sealed: []byte("late"), Revision: first}); !errors.Is(err, ErrChanged) {
		t.Errorf("%v, want refused: of an older revision", err)
	}
	got, err := r.Credential(t.Context(), "alpha")
	if err != nil || got.KeyID != "k2" || !bytes.Equal(got.Sealed, []byte("two")) || got.Revision != second || got.Changed.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
	if all, err := r.Credentials(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
	for range 2 { // the second time there is none
		if err := r.RemoveCredential(t.Context(), "alpha"); err != nil {
			t.Error(err)
		}
	}
	clk.Advance(time.Second)
	if again, err := r.PutCredential(t.Context(), Sealed{Cluster: "alpha", KeyID: "k", Sealed: []byte("new")}); err != nil || again <= second {
		t.Errorf("revision %d, %v: want above that of the removed ones", again, err)
	}
}

func TestLeaderIDIsKept(t *testing.T) {
	r, _ := open(t)
	first, err := r.LeaderID(t.Context())
	if err != nil || len(first) != 16 {
		t.Fatalf("%q, %v", first, err)
	}
	if again, err := r.LeaderID(t.Context()); err != nil || again != first {
		t.Errorf("%q, %v; want %q", again, err, first)
	}
}
