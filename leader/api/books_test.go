package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// fakeBooks knows the period 2026-10 of acme, and what "x" stands for in errors.
type fakeBooks struct{ *leader }

func (f fakeBooks) List(context.Context, string, string) ([]books.Period, error) {
	return []books.Period{}, nil
}

func (f fakeBooks) Draft(_ context.Context, customer, period, by string) (books.Draft, error) {
	if by == "" {
		return books.Draft{}, &books.Error{Kind: books.ErrInput, Text: "nobody is named", Hint: "say who"}
	}
	return books.Draft{}, f.did("draft %s %s by %s", customer, period, by)
}

func (f fakeBooks) Look(context.Context, string, string) (books.Review, error) {
	return books.Review{}, nil
}

func (f fakeBooks) Review(_ context.Context, customer, period, by string) (books.Review, error) {
	return books.Review{}, f.did("review %s %s by %s", customer, period, by)
}

func (f fakeBooks) Approve(_ context.Context, customer, period, by string) (books.Period, error) {
	if by == "dora" {
		return books.Period{}, &books.Error{Kind: books.ErrFourEyes, Text: "dora drafted it", Hint: "ask another"}
	}
	return books.Period{}, f.did("approve %s %s by %s", customer, period, by)
}

func (f fakeBooks) Close(_ context.Context, customer, period string, request books.CloseRequest) (books.Statement, error) {
	if request.By == "early" {
		return books.Statement{}, &books.Error{Kind: books.ErrState, Text: "it is draft"}
	}
	return books.Statement{}, f.did("close %s %s by %s", customer, period, request.By)
}

func (f fakeBooks) Statement(_ context.Context, customer, period string, number int64) (books.Statement, error) {
	if number > 1 {
		return books.Statement{}, fmt.Errorf("statement %d: %w", number, registry.ErrNotFound)
	}
	return books.Statement{Customer: customer, Period: period, ID: customer + "-0001", Zone: "UTC"}, nil
}

func (f fakeBooks) Rerate(context.Context, string, string) (books.Correction, error) {
	return books.Correction{}, nil
}

func (f fakeBooks) Apply(_ context.Context, customer, period, by, reason string) (books.Correction, error) {
	if reason == "stale" {
		return books.Correction{}, registry.ErrStale
	}
	return books.Correction{}, f.did("correct %s %s by %s: %s", customer, period, by, reason)
}

func (f fakeBooks) Refunds(context.Context, string) ([]books.Refund, error) {
	return []books.Refund{}, nil
}

func (f fakeBooks) RequestRefund(_ context.Context, customer string, request books.RefundRequest) (books.Refund, error) {
	return books.Refund{}, f.did("refund %s %+v", customer, request)
}

func (f fakeBooks) ApproveRefund(_ context.Context, customer string, id int64, by string) (books.Statement, error) {
	if id == 9 {
		return books.Statement{}, &books.Error{Kind: books.ErrFourEyes, Text: "it is his own", Hint: "ask another"}
	}
	return books.Statement{}, f.did("approve refund %d of %s by %s", id, customer, by)
}

func (f fakeBooks) DeclineRefund(_ context.Context, customer string, id int64, by, reason string) (books.Refund, error) {
	return books.Refund{}, f.did("decline refund %d of %s by %s: %s", id, customer, by, reason)
}

func (f fakeBooks) Failures(context.Context, string) ([]books.Failure, error) {
	return []books.Failure{}, nil
}

func (f fakeBooks) RecordFailure(_ context.Context, request books.FailureRequest) (books.Failure, error) {
	return books.Failure{Pods: []books.LostPod{}}, f.did("failure %s/%s by %s", request.Cluster, request.Node, request.By)
}

func (f fakeBooks) DismissFailure(_ context.Context, id int64, by, reason string) (books.Failure, error) {
	return books.Failure{Pods: []books.LostPod{}}, f.did("dismiss %d by %s: %s", id, by, reason)
}

func (f fakeBooks) ReinstateFailure(_ context.Context, id int64, by, reason string) (books.Failure, error) {
	return books.Failure{Pods: []books.LostPod{}}, f.did("reinstate %d by %s: %s", id, by, reason)
}

func (f fakeBooks) Chain(_ context.Context, customer string) (books.Chain, error) {
	return books.Chain{Customer: customer}, nil
}

func (f fakeBooks) SealOf(_ context.Context, customer string, number int64) (books.Seal, error) {
	return books.Seal{Customer: customer, Statement: number, Days: []registry.SealedDay{}}, nil
}

func (f fakeBooks) Explain(context.Context, string, int64) ([]byte, error) { return []byte("x"), nil }

func (f fakeBooks) Actions(context.Context, string) ([]registry.BookAction, error) {
	return []registry.BookAction{}, nil
}

func TestBooksSayWhatIsWrong(t *testing.T) {
	s, l := newServer(t, false)
	const period = "/api/v1/books/acme/2026-10/"
	for _, test := range []struct {
		method, path, body string
		status             int
		said               string
	}{
		{"POST", period + "draft", `{}`, 422, "nobody is named"},
		{"POST", period + "draft", ``, 422, `\"by\":\"NAME\"`},
		{"POST", period + "draft", `{"who":"x"}`, 422, "unknown field"},
		{"POST", period + "approve", `{"by":"dora"}`, 403, "ask another"},
		{"POST", period + "close", `{"by":"early"}`, 409, "it is draft"},
		{"POST", period + "rerate", `{"by":"dora","reason":"stale"}`, 409, "try again"},
		{"GET", "/api/v1/books/acme/statements/2", "", 404, "statement 2"},
		{"GET", "/api/v1/books/acme/statements/x", "", 400, "number"},
		{"GET", period + "statement?format=pdf", "", 400, "json or html"},
	} {
		answer := call(s, test.method, test.path, operatorToken, test.body)
		if body := text(t, answer); answer.StatusCode != test.status || !strings.Contains(body, test.said) {
			t.Errorf("%s %s %s: %d %s", test.method, test.path, test.body, answer.StatusCode, body)
		}
	}
	if changes := l.changed(); len(changes) != 0 {
		t.Errorf("changed %v", changes)
	}
	answer := call(s, "GET", period+"statement?format=html", viewerToken, "")
	if body := text(t, answer); answer.StatusCode != http.StatusOK || !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/html") || !strings.Contains(body, "acme-0001") {
		t.Errorf("page: %d %s", answer.StatusCode, body)
	}
}

// TestRefundsNeedNamedCallers: who shares a token can say any name, so that a refund
// is neither asked for nor approved with it; and nobody approves by being named.
func TestRefundsNeedNamedCallers(t *testing.T) {
	s, l := newServer(t, false)
	const refunds = "/api/v1/books/acme/refunds"
	for _, test := range []struct {
		token, path, body string
		status            int
		said              string
	}{
		{operatorToken, refunds, `{"statement":1,"amount":"5.00","reason":"r","by":"dora","approver":"anna"}`, 403, "token of his own"},
		{operatorToken, refunds + "/1/approve", `{"by":"anna"}`, 403, "token of his own"},
		{operatorToken, refunds + "/1/decline", `{"by":"anna","reason":"r"}`, 403, "token of his own"},
		{billingToken, refunds, `{"statement":1,"amount":"5.00","reason":"r","approver":"anna"}`, 403, "cannot approve by being named"},
		{billingToken, refunds, `{"statement":1,"amount":"5.00","reason":"r","by":"dora"}`, 403, "you are bill"},
		{billingToken, refunds + "/1/approve", `{"by":"anna"}`, 403, "you are bill"},
		{billingToken, refunds + "/9/approve", `{}`, 403, "ask another"},
		{billingToken, refunds + "/x/approve", `{}`, 400, "number"},
	} {
		answer := call(s, "POST", test.path, test.token, test.body)
		if body := text(t, answer); answer.StatusCode != test.status || !strings.Contains(body, test.said) {
			t.Errorf("%s %s: %d %s", test.path, test.body, answer.StatusCode, body)
		}
	}
	if changes := l.changed(); len(changes) != 0 {
		t.Errorf("changed %v", changes)
	}
	for _, path := range []string{refunds, refunds + "/1/approve"} {
		if answer := call(s, "POST", path, billingToken, `{}`); answer.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", path, answer.StatusCode, text(t, answer))
		}
	}
	if changes := strings.Join(l.changed(), "; "); !strings.Contains(changes, "By:bill") || !strings.Contains(changes, "approve refund 1 of acme by bill") {
		t.Errorf("changed %s", changes)
	}
}
