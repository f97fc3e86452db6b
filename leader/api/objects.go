package api

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/gorilla/mux"
)

// ObjectList is a list of fleet objects.
type ObjectList struct {
	Items []fleet.Object `json:"items"`
}

// Applied is what applying did, or would do.
type Applied struct {
	DryRun  bool       `json:"dryRun"`
	Changes fleet.Diff `json:"changes"`
	Due     int        `json:"due"` // processor units that are computed again
	// Warnings are what does not keep the objects from being applied: files that
	// a cluster names and that cannot be used yet.
	Warnings []string `json:"warnings,omitempty"`
}

// kindOf reads a kind as people write it: cluster, clusters, PriceList,
// price-lists; "all" is every kind.
func kindOf(text string) (fleet.Kind, error) {
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "-", "")) }
	wanted := plain(text)
	if wanted == "all" {
		return "", nil
	}
	names := make([]string, 0, len(fleet.Kinds))
	for _, kind := range fleet.Kinds {
		name := plain(string(kind))
		if wanted == name || wanted == name+"s" || wanted == name+"es" {
			return kind, nil
		}
		names = append(names, name)
	}
	return "", &query.InputError{Parameter: "kind", Value: text, Hint: "use one of " + strings.Join(names, ", ") + ", all"}
}

// selected are the objects of a kind, of all kinds for "", that hold at the
// asked moment, or every version with history=true.
func (s *Server) selected(r *http.Request, kind fleet.Kind, name string) ([]fleet.Object, error) {
	values, err := parameters(r, "at", "history", "format")
	if err != nil {
		return nil, err
	}
	at, err := s.atOf(values)
	if err != nil {
		return nil, err
	}
	history, err := usage.ParseFlag(values, "history")
	if err != nil {
		return nil, err
	}
	if format := values.Get("format"); format != "" && format != "json" && format != "yaml" {
		return nil, &query.InputError{Parameter: "format", Value: format, Hint: "use json or yaml"}
	}
	objects, err := s.deps.Objects.Objects(r.Context())
	if err != nil {
		return nil, err
	}
	found := []fleet.Object{}
	for _, o := range objects {
		if (kind == "" || o.Kind == kind) && (name == "" || o.Name() == name) && (history || o.ValidAt(at)) {
			found = append(found, o)
		}
	}
	return found, nil
}

func (s *Server) objects(w http.ResponseWriter, r *http.Request) error {
	kind, err := kindOf(mux.Vars(r)["kind"])
	if err != nil {
		return err
	}
	found, err := s.selected(r, kind, "")
	if err != nil {
		return err
	}
	return writeObjects(w, r, found)
}

func (s *Server) object(w http.ResponseWriter, r *http.Request) error {
	kind, err := kindOf(mux.Vars(r)["kind"])
	if err != nil {
		return err
	}
	name := mux.Vars(r)["name"]
	found, err := s.selected(r, kind, name)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return &Hinted{Err: fmt.Errorf("%s %q: %w", strings.ToLower(string(kind)), name, ErrNotFound),
			Hint:    "It may hold at another time: add at=TIME or history=true.",
			Command: "It may hold at another time: add --at TIME or --history."}
	}
	return writeObjects(w, r, found)
}

func writeObjects(w http.ResponseWriter, r *http.Request, objects []fleet.Object) error {
	if r.URL.Query().Get("format") != "yaml" {
		return writeJSON(w, http.StatusOK, ObjectList{Items: objects})
	}
	text, err := fleet.Encode(objects)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(text) // the caller is gone: nobody is left to tell
	return nil
}

// warnings are about the files of clusters: they may come later.
func (s *Server) warnings(objects []fleet.Object) []string {
	var warnings []string
	for _, o := range objects {
		cluster, ok := o.Spec.(fleet.Cluster)
		if !ok || !o.ValidTo.IsZero() && !s.deps.Clock.Now().Before(o.ValidTo) {
			continue
		}
		if err := s.deps.Links.Check(cluster); err != nil {
			warnings = append(warnings, fmt.Sprintf("cluster %s: %v", o.Name(), err))
		}
	}
	return warnings
}

// byOperator is who changes the fleet by the API.
const byOperator = "operator"

// maxReason bounds why somebody changes the fleet.
const maxReason = 1000

func (s *Server) apply(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r, "dryRun", "reason", "correct")
	if err != nil {
		return err
	}
	dryRun, err := usage.ParseFlag(values, "dryRun")
	if err != nil {
		return err
	}
	change := registry.Change{By: byOperator, Reason: strings.TrimSpace(values.Get("reason"))}
	if change.Correct, err = usage.ParseFlag(values, "correct"); err != nil {
		return err
	}
	if len(change.Reason) > maxReason {
		return &query.InputError{Parameter: "reason", Value: change.Reason[:20] + "…", Hint: fmt.Sprintf("say it in at most %d bytes", maxReason)}
	}
	objects, err := readObjects(r)
	if err != nil {
		return err
	}
	act := s.deps.Objects.PlanChange
	if !dryRun {
		act = s.deps.Objects.ApplyChange
	}
	applied, err := act(r.Context(), objects, change)
	if err != nil {
		return err
	}
	answer := Applied{DryRun: dryRun, Changes: applied.Diff, Due: len(applied.Due), Warnings: s.warnings(objects)}
	if answer.Changes == nil {
		answer.Changes = fleet.Diff{}
	}
	return writeJSON(w, http.StatusOK, answer)
}
