package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/gorilla/mux"
)

// Books are the books: *books.Books.
type Books interface {
	List(ctx context.Context, customer, period string) ([]books.Period, error)
	Draft(ctx context.Context, customer, period, by string) (books.Draft, error)
	Look(ctx context.Context, customer, period string) (books.Review, error)
	Review(ctx context.Context, customer, period, by string) (books.Review, error)
	Approve(ctx context.Context, customer, period, by string) (books.Period, error)
	Close(ctx context.Context, customer, period string, request books.CloseRequest) (books.Statement, error)
	Statement(ctx context.Context, customer, period string, number int64) (books.Statement, error)
	Rerate(ctx context.Context, customer, period string) (books.Correction, error)
	Apply(ctx context.Context, customer, period, by, reason string) (books.Correction, error)
	Refunds(ctx context.Context, customer string) ([]books.Refund, error)
	RequestRefund(ctx context.Context, customer string, request books.RefundRequest) (books.Refund, error)
	ApproveRefund(ctx context.Context, customer string, id int64, by string) (books.Statement, error)
	DeclineRefund(ctx context.Context, customer string, id int64, by, reason string) (books.Refund, error)
	Failures(ctx context.Context, cluster string) ([]books.Failure, error)
	RecordFailure(ctx context.Context, request books.FailureRequest) (books.Failure, error)
	DismissFailure(ctx context.Context, id int64, by, reason string) (books.Failure, error)
	ReinstateFailure(ctx context.Context, id int64, by, reason string) (books.Failure, error)
	Chain(ctx context.Context, customer string) (books.Chain, error)
	SealOf(ctx context.Context, customer string, number int64) (books.Seal, error)
	Explain(ctx context.Context, customer string, number int64) ([]byte, error)
	Actions(ctx context.Context, customer string) ([]registry.BookAction, error)
}

// PeriodList is the answer about periods.
type PeriodList struct {
	Items []books.Period `json:"items"`
}

// ActionList is the log of a customer's books.
type ActionList struct {
	Items []registry.BookAction `json:"items"`
}

// BookRequest says who does something in the books, and why.
type BookRequest struct {
	By     string `json:"by"`
	Reason string `json:"reason,omitempty"`
}

// bookPath is where a customer's period is.
const bookPath = "/api/v1/books/{customer}/{period}"

// bookRoutes are the routes of the books.
func (s *Server) bookRoutes() []Route {
	const get, post = http.MethodGet, http.MethodPost
	return strictly(append(s.refundRoutes(), []Route{
		{get, "/api/v1/books", Viewer | Tenant, "Billing periods that were drafted or closed, of a tenant those that were closed; customer, period=2026-11", s.listBooks},
		{get, "/api/v1/books/{customer}/chain", Viewer | Tenant, "A customer's closed lines and statements, with hashes and signatures; `accumulus books verify` recomputes them", s.bookChain},
		{get, "/api/v1/books/{customer}/log", Viewer, "Who did what with a customer's books", s.bookLog},
		{get, "/api/v1/books/{customer}/statements/{number}", Viewer | Tenant, "A statement or credit note by its number; format=json|html", s.bookStatement},
		{get, "/api/v1/books/{customer}/statements/{number}/archive", Viewer | Tenant, "The archived days that a closed period rests on, with the hashes of their manifests, and whether the archive has them so", s.bookSeal},
		{get, "/api/v1/books/{customer}/lines/{number}/explanation", Viewer, "What a closed line comes from, as a signed file (gzip of JSON), which `accumulus verify` recomputes", s.explainLine},
		{post, bookPath + "/draft", Billing, `Rate a period as it is now and keep that as its draft; body {"by":"NAME"}`, s.draftBook},
		{get, bookPath + "/review", Viewer, "A draft against the month before, and days that are not as the others", s.lookAtBook},
		{post, bookPath + "/review", Billing, `Move a draft to review; body {"by":"NAME"}`, s.reviewBook},
		{post, bookPath + "/approve", Billing, "Approve a draft under one's own name, as another person than who drafted it under his; body {}", s.approveBook},
		{post, bookPath + "/close", Billing, `Make an approved period final and issue its statement; body {"by":"NAME"}, and where something is missing {"estimateReason":"…"}`, s.closeBook},
		{get, bookPath + "/statement", Viewer | Tenant, "The statement of a closed period; format=json|html", s.bookStatement},
		{get, bookPath + "/rerate", Viewer, "What a closed period comes to now, less what was billed for it", s.rerateBook},
		{post, bookPath + "/rerate", Billing, `Make that difference a correction, which the next statement bills; body {"by":"NAME","reason":"…"}`, s.correctBook},
	}...))
}

// strictly lets routes refuse parameters that they do not know, but for those that have
// some, and look at these themselves.
func strictly(routes []Route) []Route {
	for i, route := range routes {
		if slices.Contains([]string{"/api/v1/books", "/api/v1/books/failures", bookPath + "/statement", "/api/v1/books/{customer}/statements/{number}"}, route.Path) && route.Method == http.MethodGet {
			continue
		}
		routes[i].handle = func(w http.ResponseWriter, r *http.Request) error {
			if _, err := parameters(r); err != nil {
				return err
			}
			return route.handle(w, r)
		}
	}
	return routes
}

// bookKey is the customer and the period that a path names.
func bookKey(r *http.Request) (customer, period string) {
	vars := mux.Vars(r)
	return vars["customer"], vars["period"]
}

func (s *Server) listBooks(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r, "customer", "period")
	if err != nil {
		return err
	}
	items, err := s.deps.Books.List(r.Context(), values.Get("customer"), values.Get("period"))
	if err != nil {
		return err
	}
	if query.Scoped(r.Context()) {
		items = slices.DeleteFunc(items, func(p books.Period) bool { return p.State != books.StateClosed || ownBooks(r, p.Customer) != nil })
	}
	return writeJSON(w, http.StatusOK, PeriodList{items})
}

// ownBooks refuses a tenant the books of a customer who is not wholly his: a bill is of
// all that a customer used. Whether there is such a customer is not told.
func ownBooks(r *http.Request, customer string) error {
	if query.Covers(r.Context(), customer, "", "") {
		return nil
	}
	return &Hinted{Err: fmt.Errorf("the token is not bound to that customer, or to a part of what he has alone: %w", ErrForbidden), Hint: "GET /api/v1/me says what it is bound to."}
}

func (s *Server) bookChain(w http.ResponseWriter, r *http.Request) error {
	customer, _ := bookKey(r)
	if err := ownBooks(r, customer); err != nil {
		return err
	}
	chain, err := s.deps.Books.Chain(r.Context(), customer)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, chain)
}

func (s *Server) bookLog(w http.ResponseWriter, r *http.Request) error {
	customer, _ := bookKey(r)
	items, err := s.deps.Books.Actions(r.Context(), customer)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, ActionList{items})
}

func (s *Server) bookStatement(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r, "format")
	if err != nil {
		return err
	}
	customer, period := bookKey(r)
	if err := ownBooks(r, customer); err != nil {
		return err
	}
	number, err := bookNumber(r)
	if err != nil {
		return err
	}
	format := values.Get("format")
	if format != "" && format != "json" && format != "html" {
		return usage.Wrong("format", format, "use json or html")
	}
	statement, err := s.deps.Books.Statement(r.Context(), customer, period, number)
	if err != nil {
		return err
	}
	if format != "html" {
		return writeJSON(w, http.StatusOK, statement)
	}
	page, err := statement.HTML()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	_, _ = w.Write(page) // the caller is gone: nobody is left to tell
	return nil
}

func (s *Server) bookSeal(w http.ResponseWriter, r *http.Request) error {
	customer, _ := bookKey(r)
	if err := ownBooks(r, customer); err != nil {
		return err
	}
	number, err := bookNumber(r)
	if err != nil {
		return err
	}
	seal, err := s.deps.Books.SealOf(r.Context(), customer, number)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, seal)
}

// bookNumber is the number that a path names, 0 where it names none.
func bookNumber(r *http.Request) (int64, error) {
	text, named := mux.Vars(r)["number"]
	if !named {
		return 0, nil
	}
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil || number < 1 {
		return 0, usage.Wrong("number", text, "use the number of a statement or line, such as 1")
	}
	return number, nil
}

func (s *Server) explainLine(w http.ResponseWriter, r *http.Request) error {
	customer, _ := bookKey(r)
	number, err := bookNumber(r)
	if err != nil {
		return err
	}
	file, err := s.deps.Books.Explain(r.Context(), customer, number)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/gzip")
	w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s-%d.json.gz"`, fileSafe(customer), number))
	_, _ = w.Write(file) // the caller is gone: nobody is left to tell
	return nil
}

// doBook reads who does something and answers with what came of it.
func doBook[T any](w http.ResponseWriter, r *http.Request, do func(customer, period string, request BookRequest) (T, error)) error {
	var request BookRequest
	if err := readJSON(r, &request); err != nil {
		return bodyError(err)
	}
	if err := signed(r, &request.By); err != nil {
		return err
	}
	customer, period := bookKey(r)
	answer, err := do(customer, period, request)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, answer)
}

// signed is who does something in the books. A caller who is known by a name does it
// under his own, which the four eyes stand on; where only the token of a file is
// shown, which several may have, who it is stands in the body.
func signed(r *http.Request, by *string) error {
	p := identity.Of(r.Context())
	switch {
	case p.Shared():
		return nil
	case *by != "" && *by != p.Name:
		return &Hinted{Err: fmt.Errorf("you are %s, and cannot act as %s: %w; nothing was changed", p.Name, *by, ErrForbidden), Hint: `Leave "by" out.`}
	}
	*by = p.Name
	return nil
}

// bodyError makes a missing body an error that says what belongs there.
func bodyError(err error) error {
	var hinted *Hinted
	if errors.As(err, &hinted) {
		return err
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("the request has no body")
	}
	return &Hinted{Err: fmt.Errorf("%w: %w", ErrInvalid, err), Hint: `Send who does it: {"by":"NAME"}.`}
}

func (s *Server) draftBook(w http.ResponseWriter, r *http.Request) error {
	return doBook(w, r, func(customer, period string, q BookRequest) (books.Draft, error) {
		return s.deps.Books.Draft(r.Context(), customer, period, q.By)
	})
}

func (s *Server) lookAtBook(w http.ResponseWriter, r *http.Request) error {
	customer, period := bookKey(r)
	review, err := s.deps.Books.Look(r.Context(), customer, period)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, review)
}

func (s *Server) reviewBook(w http.ResponseWriter, r *http.Request) error {
	return doBook(w, r, func(customer, period string, q BookRequest) (books.Review, error) {
		return s.deps.Books.Review(r.Context(), customer, period, q.By)
	})
}

func (s *Server) approveBook(w http.ResponseWriter, r *http.Request) error {
	return doBook(w, r, func(customer, period string, q BookRequest) (books.Period, error) {
		return s.deps.Books.Approve(r.Context(), customer, period, q.By)
	})
}

func (s *Server) closeBook(w http.ResponseWriter, r *http.Request) error {
	var request books.CloseRequest
	if err := readJSON(r, &request); err != nil {
		return bodyError(err)
	}
	if err := signed(r, &request.By); err != nil {
		return err
	}
	customer, period := bookKey(r)
	statement, err := s.deps.Books.Close(r.Context(), customer, period, request)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, statement)
}

func (s *Server) rerateBook(w http.ResponseWriter, r *http.Request) error {
	customer, period := bookKey(r)
	correction, err := s.deps.Books.Rerate(r.Context(), customer, period)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, correction)
}

func (s *Server) correctBook(w http.ResponseWriter, r *http.Request) error {
	return doBook(w, r, func(customer, period string, q BookRequest) (books.Correction, error) {
		return s.deps.Books.Apply(r.Context(), customer, period, q.By, q.Reason)
	})
}

// bookProblem is what the caller is told of an error of the books.
func bookProblem(err error, problem *Problem) bool {
	var told *books.Error
	switch {
	case errors.Is(err, registry.ErrStale):
		problem.Status, problem.Hint = http.StatusConflict, "Somebody else has changed the books: look, and try again."
		return true
	case !errors.As(err, &told):
		return false
	}
	problem.Status, problem.Hint, problem.Command = http.StatusUnprocessableEntity, told.Hint, told.Command
	switch {
	case errors.Is(err, books.ErrState):
		problem.Status = http.StatusConflict
	case errors.Is(err, books.ErrFourEyes):
		problem.Status = http.StatusForbidden
	case errors.Is(err, registry.ErrNotFound):
		problem.Status = http.StatusNotFound
	}
	return true
}
