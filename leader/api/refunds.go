package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/gorilla/mux"
)

// FailureList are nodes that failed.
type FailureList struct {
	Items []books.Failure `json:"items"`
}

// RefundList are refunds that were asked for.
type RefundList struct {
	Items []books.Refund `json:"items"`
}

// refundRoutes are those of nodes that failed and of refunds by hand.
func (s *Server) refundRoutes() []Route {
	const get, post = http.MethodGet, http.MethodPost
	const refunds = "/api/v1/books/{customer}/refunds"
	return []Route{
		{get, "/api/v1/books/failures", Viewer, "Nodes that failed, with the evidence and the pods that died with them, whose use is refunded; cluster", s.failures},
		{post, "/api/v1/books/failures", Billing, `Record that a node failed; body {"cluster":"NAME","node":"NAME","at":"TIME","reason":"…","by":"NAME"}`, s.recordFailure},
		{post, "/api/v1/books/failures/{id}/dismiss", Billing, `Say that a failure does not count; body {"by":"NAME","reason":"…"}`, s.aboutFailure(Books.DismissFailure)},
		{post, "/api/v1/books/failures/{id}/reinstate", Billing, `Take back that a failure was dismissed: it counts again; body {"by":"NAME","reason":"…"}`, s.aboutFailure(Books.ReinstateFailure)},
		{get, refunds, Viewer, "Refunds by hand that were asked for, and what became of them", s.refunds},
		{post, refunds, Billing, `Ask for a refund, under one's own name; body {"statement":1,"amount":"5.00","reason":"…"}`, s.requestRefund},
		{post, refunds + "/{id}/approve", Billing, "Approve a refund that somebody else asked for, under one's own name, and issue its credit note; body {}", s.approveRefund},
		{post, refunds + "/{id}/decline", Billing, `Decline a refund, under one's own name; body {"reason":"…"}`, s.declineRefund},
	}
}

func (s *Server) failures(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r, "cluster")
	if err != nil {
		return err
	}
	items, err := s.deps.Books.Failures(r.Context(), values.Get("cluster"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, FailureList{items})
}

func (s *Server) recordFailure(w http.ResponseWriter, r *http.Request) error {
	var request books.FailureRequest
	if err := readJSON(r, &request); err != nil {
		return bodyError(err)
	}
	if err := signed(r, &request.By); err != nil {
		return err
	}
	return answered(w)(s.deps.Books.RecordFailure(r.Context(), request))
}

// aboutFailure does something about one failure, by whom and why.
func (s *Server) aboutFailure(do func(b Books, ctx context.Context, id int64, by, reason string) (books.Failure, error)) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		var request BookRequest
		if err := readJSON(r, &request); err != nil {
			return bodyError(err)
		}
		if err := signed(r, &request.By); err != nil {
			return err
		}
		id, err := idOf(r)
		if err != nil {
			return err
		}
		return answered(w)(do(s.deps.Books, r.Context(), id, request.By, request.Reason))
	}
}

// answered writes what came of something, or returns its error.
func answered(w http.ResponseWriter) func(answer any, err error) error {
	return func(answer any, err error) error {
		if err != nil {
			return err
		}
		return writeJSON(w, http.StatusOK, answer)
	}
}

// idOf is the number that a path names.
func idOf(r *http.Request) (int64, error) {
	text := mux.Vars(r)["id"]
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 1 {
		return 0, usage.Wrong("id", text, "use the number that the list of them shows")
	}
	return id, nil
}

// themselves is who calls, by a name that nobody else has: money is given back by
// four eyes, and who shares a token says whatever name he likes.
func themselves(r *http.Request, claimed string) (string, error) {
	p := identity.Of(r.Context())
	switch {
	case p.Shared():
		return "", &Hinted{Err: fmt.Errorf("a refund needs two callers who are known by name, and the token that was shown is one that several may have: %w; nothing was changed", ErrForbidden),
			Hint:    `Give each person a token of his own (POST /api/v1/tokens with {"name":"dora","role":"billing"}), or an issuer: docs/access.md. One asks for the refund, the other one approves it.`,
			Command: "Give each person a token of his own, or an issuer (docs/access.md): `accumulus token create dora --role billing > dora.token`. One asks with --token-file dora.token, the other one approves with his."}
	case claimed != "" && claimed != p.Name:
		return "", &Hinted{Err: fmt.Errorf("you are %s, and cannot act as %s: %w; nothing was changed", p.Name, claimed, ErrForbidden), Hint: `Leave "by" out.`}
	}
	return p.Name, nil
}

func (s *Server) refunds(w http.ResponseWriter, r *http.Request) error {
	customer, _ := bookKey(r)
	items, err := s.deps.Books.Refunds(r.Context(), customer)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, RefundList{items})
}

func (s *Server) requestRefund(w http.ResponseWriter, r *http.Request) error {
	var request books.RefundRequest
	if err := readJSON(r, &request); err != nil {
		return bodyError(err)
	}
	var err error
	if request.By, err = themselves(r, request.By); err != nil {
		return err
	}
	if request.Approver != "" {
		return &Hinted{Err: fmt.Errorf("%s cannot approve by being named: %w; nothing was changed", request.Approver, ErrForbidden),
			Hint:    `Leave "approver" out: the other person approves with a token of his own, by POST …/refunds/ID/approve.`,
			Command: "Leave --approver out: the other person approves with a token of his own (`accumulus token create NAME --role billing`), by `accumulus books approve-refund`."}
	}
	customer, _ := bookKey(r)
	return answered(w)(s.deps.Books.RequestRefund(r.Context(), customer, request))
}

// decide reads who decides about a refund, and which.
func decide(r *http.Request) (id int64, request BookRequest, err error) {
	if err := readJSON(r, &request); err != nil {
		return 0, request, bodyError(err)
	}
	if request.By, err = themselves(r, request.By); err != nil {
		return 0, request, err
	}
	id, err = idOf(r)
	return id, request, err
}

func (s *Server) approveRefund(w http.ResponseWriter, r *http.Request) error {
	id, request, err := decide(r)
	if err != nil {
		return err
	}
	customer, _ := bookKey(r)
	return answered(w)(s.deps.Books.ApproveRefund(r.Context(), customer, id, request.By))
}

func (s *Server) declineRefund(w http.ResponseWriter, r *http.Request) error {
	id, request, err := decide(r)
	if err != nil {
		return err
	}
	customer, _ := bookKey(r)
	return answered(w)(s.deps.Books.DeclineRefund(r.Context(), customer, id, request.By, request.Reason))
}
