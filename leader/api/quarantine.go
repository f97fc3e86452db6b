package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/quarantine"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// Kept are the quarantined rows: *registry.Registry. Discard may return
// registry.ErrNoFilter.
type Kept interface {
	Quarantined(ctx context.Context, filter registry.QuarantineFilter, before int64, limit int) ([]registry.Quarantined, error)
	QuarantineCounts(ctx context.Context, filter registry.QuarantineFilter) ([]registry.QuarantineCount, error)
	Discard(ctx context.Context, filter registry.QuarantineFilter, reason, by string) (int64, error)
}

// Replayer writes refused rows again: *quarantine.Replayer.
type Replayer interface {
	Replay(ctx context.Context, filter registry.QuarantineFilter) (quarantine.Outcome, error)
}

// QuarantineList is a page of quarantined rows, newest first.
type QuarantineList struct {
	Counts []registry.QuarantineCount `json:"counts"` // of all that the filter selects
	Rows   []registry.Quarantined     `json:"rows"`
	Next   string                     `json:"next,omitempty"` // of the next page; "" on the last
}

// DiscardRequest says which rows to give up, and why.
type DiscardRequest struct {
	registry.QuarantineFilter
	Reason string `json:"reason"`
}

// Discarded is the answer to a discard.
type Discarded struct {
	Discarded int64 `json:"discarded"`
}

// rowsOfPage is how many rows a page has if nothing else is said; mostRows is
// the most.
const (
	rowsOfPage = 100
	mostRows   = 10_000
)

func (s *Server) quarantined(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r, "cluster", "table", "kind", "class", "limit", "page")
	if err != nil {
		return err
	}
	filter := registry.QuarantineFilter{Cluster: values.Get("cluster"), Table: values.Get("table"), Kind: values.Get("kind"),
		Class: influxsync.Class(values.Get("class"))}
	if err := s.known(r, filter); err != nil {
		return err
	}
	limit, err := number(values, "limit", rowsOfPage, mostRows)
	if err != nil {
		return err
	}
	before, err := number(values, "page", 0, 1<<62)
	if err != nil {
		return err
	}
	list := QuarantineList{}
	if list.Counts, err = s.deps.Kept.QuarantineCounts(r.Context(), filter); err != nil {
		return err
	}
	if list.Rows, err = s.deps.Kept.Quarantined(r.Context(), filter, before, int(limit)+1); err != nil {
		return err
	}
	if int64(len(list.Rows)) > limit {
		list.Rows = list.Rows[:limit]
		list.Next = strconv.FormatInt(list.Rows[limit-1].ID, 10)
	}
	return writeJSON(w, http.StatusOK, list)
}

// number reads a positive number, with a default and a greatest.
func number(values url.Values, name string, otherwise, most int64) (int64, error) {
	text := values.Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > most {
		return 0, &query.InputError{Parameter: name, Value: text, Hint: fmt.Sprintf("use a number from 1 to %d", most)}
	}
	return n, nil
}

func (s *Server) replay(w http.ResponseWriter, r *http.Request) error {
	var filter registry.QuarantineFilter
	if err := s.filter(r, &filter, &filter, nil); err != nil {
		return err
	}
	outcome, err := s.deps.Replayer.Replay(r.Context(), filter)
	if err != nil && (outcome.Accepted > 0 || len(outcome.Refused) > 0) {
		err = fmt.Errorf("%s taken before it failed: %w", plural.Of(outcome.Accepted, "row was", "rows were"), err)
	}
	if err != nil {
		return replayProblem(err)
	}
	return writeJSON(w, http.StatusOK, outcome)
}

// replayProblem says what to do about a replay that failed.
func replayProblem(err error) error {
	class := influxsync.ClassOf(err)
	switch {
	case errors.Is(err, registry.ErrNoFilter):
		return noFilter(err)
	case errors.Is(err, quarantine.ErrGone):
		return gone(err)
	case errors.Is(err, quarantine.ErrForeign):
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	case class.Passes():
		return &Hinted{Err: fmt.Errorf("%w: %w", ErrNotReady, err), Hint: class.Hint()}
	case class != "":
		return &Hinted{Err: fmt.Errorf("%w: %w", ErrConflict, err), Hint: class.Hint()}
	}
	return err
}

func noFilter(err error) error {
	return &Hinted{Err: fmt.Errorf("%w: nothing was changed: %w", ErrInvalid, err),
		Hint:    `Send {"cluster": "NAME"}, {"ids": [1, 2]} or {"all": true}, or the same as parameters: ?cluster=NAME, ?ids=1,2, ?all=true.`,
		Command: "Add --cluster, --table, --class, --id or --all."}
}

func (s *Server) discard(w http.ResponseWriter, r *http.Request) error {
	var request DiscardRequest
	if err := s.filter(r, &request, &request.QuarantineFilter, &request.Reason); err != nil {
		return err
	}
	if strings.TrimSpace(request.Reason) == "" {
		return &Hinted{Err: fmt.Errorf("discard: no reason, nothing was changed: %w", ErrInvalid), Hint: "Say why: the reason is kept with the rows."}
	}
	if err := s.absent(r, request.QuarantineFilter); err != nil {
		return err
	}
	rows, err := s.deps.Kept.Discard(r.Context(), request.QuarantineFilter, request.Reason, caller(r))
	if errors.Is(err, registry.ErrNoFilter) {
		return noFilter(err)
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, Discarded{rows})
}

// absent refuses ids of rows that are not there.
func (s *Server) absent(r *http.Request, filter registry.QuarantineFilter) error {
	if len(filter.IDs) == 0 {
		return nil
	}
	rows, err := s.deps.Kept.Quarantined(r.Context(), filter, 0, len(filter.IDs))
	if err != nil {
		return err
	}
	if missing := filter.Missing(rows); len(missing) > 0 {
		return gone(fmt.Errorf("discard: %s: nothing was changed", quarantine.Absent(missing)))
	}
	return nil
}

func gone(err error) error {
	return &Hinted{Err: fmt.Errorf("%w: %w", ErrNotFound, err), Hint: "GET /api/v1/quarantine lists the rows that are kept.",
		Command: "`accumulus sync quarantine` lists the rows that are kept."}
}

// filter reads which rows are meant, from the body or from the parameters; both
// at once are an error, for one of the two would not be obeyed.
func (s *Server) filter(r *http.Request, body any, filter *registry.QuarantineFilter, reason *string) error {
	known := []string{"cluster", "table", "kind", "class", "ids", "all"}
	if reason != nil {
		known = append(known, "reason")
	}
	values, err := parameters(r, known...)
	if err != nil {
		return err
	}
	switch err := readJSON(r, body); {
	case err != nil && !errors.Is(err, io.EOF):
		return err
	case err == nil && len(values) > 0:
		return &query.InputError{Parameter: "parameters", Value: r.URL.RawQuery, Hint: "say it in the body or in the parameters, not in both"}
	case len(values) > 0:
		if err := filled(values); err != nil {
			return err
		}
		filter.Cluster, filter.Table, filter.Kind = values.Get("cluster"), values.Get("table"), values.Get("kind")
		filter.Class = influxsync.Class(values.Get("class"))
		if filter.All, err = usage.ParseFlag(values, "all"); err != nil {
			return err
		}
		if reason != nil {
			*reason = values.Get("reason")
		}
		if filter.IDs, err = ids(values.Get("ids")); err != nil {
			return err
		}
	}
	switch err := filter.Validate(); {
	case errors.Is(err, registry.ErrNoIDs):
		return noIDs()
	case err != nil:
		return noFilter(err)
	}
	return s.known(r, *filter)
}

func noIDs() error {
	return &query.InputError{Parameter: "ids", Value: "", Hint: "name at least one, or leave ids out: then the rest of the filter says which rows"}
}

// known refuses a filter that can select nothing, for it names what there is
// not: a typing mistake is no row less to look after.
func (s *Server) known(r *http.Request, filter registry.QuarantineFilter) error {
	if kinds := []string{registry.Foreign, registry.Refused}; filter.Kind != "" && !slices.Contains(kinds, filter.Kind) {
		return &query.InputError{Parameter: "kind", Value: filter.Kind, Hint: "use " + strings.Join(kinds, " or ")}
	}
	if filter.Class != "" && !filter.Class.Row() {
		names := make([]string, len(influxsync.RowClasses))
		for i, class := range influxsync.RowClasses {
			names[i] = string(class)
		}
		return &query.InputError{Parameter: "class", Value: string(filter.Class), Hint: "use one of " + strings.Join(names, ", ")}
	}
	if filter.Table != "" && !slices.ContainsFunc(schema.Pulled, func(t schema.Table) bool { return t.Name == filter.Table }) {
		return noTable(filter.Table)
	}
	if filter.Cluster == "" {
		return nil
	}
	if known, err := s.knows(r, filter.Cluster); err != nil || known {
		return err
	}
	return NoCluster(filter.Cluster)
}

func noTable(name string) error {
	names := make([]string, len(schema.Pulled))
	for i, table := range schema.Pulled {
		names[i] = table.Name
	}
	return &query.InputError{Parameter: "table", Value: name, Hint: "use one of " + strings.Join(names, ", ")}
}

// filled refuses a parameter without a value, which would select more rows than
// were meant.
func filled(values url.Values) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch {
		case values.Get(name) != "":
		case name == "ids":
			return noIDs()
		default:
			return &query.InputError{Parameter: name, Value: "", Hint: "give it a value, or leave it out"}
		}
	}
	return nil
}

func ids(text string) ([]int64, error) {
	if text == "" {
		return nil, nil
	}
	var list []int64
	for _, part := range strings.Split(text, ",") {
		id, err := strconv.ParseInt(strings.TrimSpace(part), 10, 64)
		if err != nil {
			return nil, &query.InputError{Parameter: "ids", Value: text, Hint: "use numbers with commas between them"}
		}
		list = append(list, id)
	}
	return list, nil
}
