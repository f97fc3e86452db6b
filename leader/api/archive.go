package api

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/archive"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/gorilla/mux"
)

// Archive has the settled days as files: *archive.Keeper.
type Archive interface {
	List(ctx context.Context, cluster string, w schema.Window) ([]registry.ArchivedDay, error)
	Show(cluster string, day time.Time) (archive.Day, error)
	Verify(ctx context.Context, scope archive.Scope) (archive.Checked, error)
	VerifyCopy(ctx context.Context, scope archive.Scope) (archive.Checked, error)
	Copies(ctx context.Context) (*archive.Copies, error)
}

// ArchiveList is the answer about archived days.
type ArchiveList struct {
	Items []registry.ArchivedDay `json:"items"`
	// Copies is how the copying into the bucket stands; absent without a bucket.
	Copies *archive.Copies `json:"copies,omitempty"`
}

// ArchivedDay is the newest revision of a day: its manifest, the hash of that and the
// public key that signed it, in base64.
type ArchivedDay struct {
	Manifest  archive.Manifest `json:"manifest"`
	Hash      string           `json:"hash"`
	PublicKey string           `json:"publicKey"`
}

// ArchiveVerified is what was recomputed of the archive, and the first thing that is
// wrong.
type ArchiveVerified struct {
	archive.Checked
	Holds bool   `json:"holds"`
	Wrong string `json:"wrong,omitempty"`
}

// archiveRoutes are the routes of the archive.
func (s *Server) archiveRoutes() []Route {
	return []Route{
		{http.MethodGet, "/api/v1/archive", Viewer, "Days that are archived, with the hash of the manifest, and whether their minute rows are in the archive alone; cluster, day=2026-11-27", s.listArchive},
		{http.MethodGet, "/api/v1/archive/{cluster}/{day}", Viewer, "The manifest of an archived day: its files with rows, digests and SHA-256", s.showArchive},
		{http.MethodGet, "/api/v1/archive/verify", Viewer, "Recompute hashes, chain, signatures, rows and digests of the archive, and compare it with the ledger; says the first thing that is wrong; cluster, day=2026-11-27, place=bucket for the copy there; one runs at a time", s.verifyArchive},
	}
}

// archiveScope reads cluster and day.
func archiveScope(r *http.Request, more ...string) (archive.Scope, error) {
	values, err := parameters(r, append([]string{"cluster", "day"}, more...)...)
	if err != nil {
		return archive.Scope{}, err
	}
	scope := archive.Scope{Cluster: values.Get("cluster")}
	if text := values.Get("day"); text != "" {
		scope.Day, err = archiveDay(text)
	}
	return scope, err
}

func archiveDay(text string) (time.Time, error) {
	day, err := archive.ParseDay(text)
	if err != nil {
		return day, &query.InputError{Parameter: "day", Value: text, Hint: "name a UTC day such as 2026-11-27"}
	}
	return day, nil
}

func (s *Server) listArchive(w http.ResponseWriter, r *http.Request) error {
	scope, err := archiveScope(r)
	if err != nil {
		return err
	}
	window := schema.Window{From: time.Unix(0, 0), To: s.deps.Clock.Now()}
	if !scope.Day.IsZero() {
		window = schema.WindowAt(scope.Day, 24*time.Hour)
	}
	items, err := s.deps.Archive.List(r.Context(), scope.Cluster, window)
	if err != nil {
		return err
	}
	copies, err := s.deps.Archive.Copies(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, ArchiveList{items, copies})
}

func (s *Server) showArchive(w http.ResponseWriter, r *http.Request) error {
	vars := mux.Vars(r)
	day, err := archiveDay(vars["day"])
	if err != nil {
		return err
	}
	shown, err := s.deps.Archive.Show(vars["cluster"], day)
	if errors.Is(err, archive.ErrAbsent) {
		return notArchived(err)
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, ArchivedDay{shown.Manifest, shown.Hash, base64.StdEncoding.EncodeToString(shown.Key)})
}

// notArchived says what there is in place of what is not.
func notArchived(err error) error {
	return &Hinted{Err: errors.Join(ErrNotFound, err), Hint: "GET /api/v1/archive lists what is archived; a day is three days after it ended.",
		Command: "`accumulus archive list` shows what is archived; a day is three days after it ended."}
}

func (s *Server) verifyArchive(w http.ResponseWriter, r *http.Request) error {
	scope, err := archiveScope(r, "place")
	if err != nil {
		return err
	}
	verify := s.deps.Archive.Verify
	switch place := r.URL.Query().Get("place"); place {
	case "":
	case "bucket":
		verify = s.deps.Archive.VerifyCopy
	default:
		return &query.InputError{Parameter: "place", Value: place, Hint: "use place=bucket, or nothing for the leader's directory"}
	}
	seen, err := verify(r.Context(), scope)
	answer := ArchiveVerified{Checked: seen, Holds: err == nil}
	switch {
	case err == nil:
	case errors.Is(err, archive.ErrBusy):
		return &Hinted{Err: errors.Join(ErrConflict, err), Hint: "Ask again when the other one has ended: one runs at a time, for it reads all of the archive."}
	case errors.Is(err, archive.ErrAbsent) && seen.Manifests == 0:
		return notArchived(err)
	case errors.Is(err, archive.ErrAbsent), errors.Is(err, archive.ErrDamaged), errors.Is(err, archive.ErrSignature):
		answer.Wrong = err.Error()
	default:
		return err
	}
	return writeJSON(w, http.StatusOK, answer)
}
