package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/audit"
	"github.com/gorilla/mux"
)

// Auditor compares the centre with ledger and follower: *audit.Auditor.
type Auditor interface {
	Audit(ctx context.Context, request audit.Request) (audit.Report, error)
}

// audit answers when the audit has ended, which may take minutes. All is said in
// the parameters: a body is refused, for what stands in it would not be obeyed.
func (s *Server) audit(w http.ResponseWriter, r *http.Request) error {
	name := mux.Vars(r)["name"]
	values, err := parameters(r, "window", "table", "repair")
	if err != nil {
		return err
	}
	if err := noBody(r); err != nil {
		return err
	}
	request := audit.Request{Cluster: name, Table: values.Get("table")}
	if request.Repair, err = usage.ParseFlag(values, "repair"); err != nil {
		return err
	}
	text := values.Get("window")
	if text == "" {
		text = "24h"
	}
	if request.Window, err = usage.ParseWindow(text, s.deps.Clock.Now()); err != nil {
		return err
	}
	if known, err := s.knows(r, name); err != nil || !known {
		if err == nil {
			err = NoCluster(name)
		}
		return err
	}
	report, err := s.deps.Auditor.Audit(r.Context(), request)
	if errors.Is(err, audit.ErrTable) {
		return noTable(request.Table)
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}
