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

func (f fakeBooks) Refund(_ context.Context, customer string, request books.RefundRequest) (books.Statement, error) {
	return books.Statement{}, f.did("refund %s %+v", customer, request)
}

func (f fakeBooks) Chain(_ context.Context, customer string) (books.Chain, error) {
	return books.Chain{Customer: customer}, nil
}

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
