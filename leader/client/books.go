package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/books"
)

// bookPath is where a customer's period is, or with a verb what is done with it.
func bookPath(parts ...string) string {
	path := "/api/v1/books"
	for _, part := range parts {
		path += "/" + url.PathEscape(part)
	}
	return path
}

// Books asks for billing periods; of a customer or a month where these are not "".
func (c *Client) Books(ctx context.Context, customer, period string) ([]books.Period, error) {
	values := url.Values{}
	for name, value := range map[string]string{"customer": customer, "period": period} {
		if value != "" {
			values.Set(name, value)
		}
	}
	var answer api.PeriodList
	err := c.get(ctx, bookPath(), values, &answer)
	return answer.Items, err
}

// DraftBook rates a period and keeps that as its draft.
func (c *Client) DraftBook(ctx context.Context, customer, period, by string) (books.Draft, error) {
	var answer books.Draft
	err := c.post(ctx, bookPath(customer, period, "draft"), nil, api.BookRequest{By: by}, &answer)
	return answer, err
}

// LookAtBook asks for a review and changes nothing.
func (c *Client) LookAtBook(ctx context.Context, customer, period string) (books.Review, error) {
	var answer books.Review
	err := c.get(ctx, bookPath(customer, period, "review"), nil, &answer)
	return answer, err
}

// ReviewBook moves a draft to review.
func (c *Client) ReviewBook(ctx context.Context, customer, period, by string) (books.Review, error) {
	var answer books.Review
	err := c.post(ctx, bookPath(customer, period, "review"), nil, api.BookRequest{By: by}, &answer)
	return answer, err
}

// ApproveBook approves a draft.
func (c *Client) ApproveBook(ctx context.Context, customer, period, by string) (books.Period, error) {
	var answer books.Period
	err := c.post(ctx, bookPath(customer, period, "approve"), nil, api.BookRequest{By: by}, &answer)
	return answer, err
}

// CloseBook makes a period final.
func (c *Client) CloseBook(ctx context.Context, customer, period string, request books.CloseRequest) (books.Statement, error) {
	var answer books.Statement
	err := c.post(ctx, bookPath(customer, period, "close"), nil, request, &answer)
	return answer, err
}

// Statement asks for the statement of a period, or of a number where that is not
// "", in a format: json or html.
func (c *Client) Statement(ctx context.Context, customer, period, number, format string) ([]byte, error) {
	path := bookPath(customer, period, "statement")
	if number != "" {
		path = bookPath(customer, "statements", number)
	}
	text, _, err := c.Do(ctx, http.MethodGet, path, url.Values{"format": {format}}, nil)
	return text, err
}

// Rerate asks what a closed period comes to now, less what was billed for it.
func (c *Client) Rerate(ctx context.Context, customer, period string) (books.Correction, error) {
	var answer books.Correction
	err := c.get(ctx, bookPath(customer, period, "rerate"), nil, &answer)
	return answer, err
}

// CorrectBook makes that difference a correction.
func (c *Client) CorrectBook(ctx context.Context, customer, period, by, reason string) (books.Correction, error) {
	var answer books.Correction
	err := c.post(ctx, bookPath(customer, period, "rerate"), nil, api.BookRequest{By: by, Reason: reason}, &answer)
	return answer, err
}

// Refunds asks for the refunds by hand of a customer.
func (c *Client) Refunds(ctx context.Context, customer string) (api.RefundList, error) {
	var answer api.RefundList
	err := c.get(ctx, bookPath(customer, "refunds"), nil, &answer)
	return answer, err
}

// RequestRefund asks for money back.
func (c *Client) RequestRefund(ctx context.Context, customer string, request books.RefundRequest) (books.Refund, error) {
	var answer books.Refund
	err := c.post(ctx, bookPath(customer, "refunds"), nil, request, &answer)
	return answer, err
}

// ApproveRefund issues the credit note of a refund that somebody else asked for.
func (c *Client) ApproveRefund(ctx context.Context, customer string, id int64) (books.Statement, error) {
	var answer books.Statement
	err := c.post(ctx, bookPath(customer, "refunds", strconv.FormatInt(id, 10), "approve"), nil, api.BookRequest{}, &answer)
	return answer, err
}

// DeclineRefund decides that a refund is not given.
func (c *Client) DeclineRefund(ctx context.Context, customer string, id int64, reason string) (books.Refund, error) {
	var answer books.Refund
	err := c.post(ctx, bookPath(customer, "refunds", strconv.FormatInt(id, 10), "decline"), nil, api.BookRequest{Reason: reason}, &answer)
	return answer, err
}

// Failures asks for the nodes that failed; of a cluster where that is not "".
func (c *Client) Failures(ctx context.Context, cluster string) (api.FailureList, error) {
	values := url.Values{}
	if cluster != "" {
		values.Set("cluster", cluster)
	}
	var answer api.FailureList
	err := c.get(ctx, bookPath("failures"), values, &answer)
	return answer, err
}

// RecordFailure records that a node failed.
func (c *Client) RecordFailure(ctx context.Context, request books.FailureRequest) (books.Failure, error) {
	var answer books.Failure
	err := c.post(ctx, bookPath("failures"), nil, request, &answer)
	return answer, err
}

// DismissFailure says that a failure does not count.
func (c *Client) DismissFailure(ctx context.Context, id int64, by, reason string) (books.Failure, error) {
	var answer books.Failure
	err := c.post(ctx, bookPath("failures", strconv.FormatInt(id, 10), "dismiss"), nil, api.BookRequest{By: by, Reason: reason}, &answer)
	return answer, err
}

// ReinstateFailure takes back that a failure was dismissed.
func (c *Client) ReinstateFailure(ctx context.Context, id int64, by, reason string) (books.Failure, error) {
	var answer books.Failure
	err := c.post(ctx, bookPath("failures", strconv.FormatInt(id, 10), "reinstate"), nil, api.BookRequest{By: by, Reason: reason}, &answer)
	return answer, err
}

// Chain asks for all that is final of a customer.
func (c *Client) Chain(ctx context.Context, customer string) (books.Chain, error) {
	var answer books.Chain
	err := c.get(ctx, bookPath(customer, "chain"), nil, &answer)
	return answer, err
}

// BookSeal asks for the archived days that a statement's period rests on.
func (c *Client) BookSeal(ctx context.Context, customer string, number int64) (books.Seal, error) {
	var answer books.Seal
	err := c.get(ctx, bookPath(customer, "statements", strconv.FormatInt(number, 10), "archive"), nil, &answer)
	return answer, err
}

// BookLog asks who did what with a customer's books.
func (c *Client) BookLog(ctx context.Context, customer string) (api.ActionList, error) {
	var answer api.ActionList
	err := c.get(ctx, bookPath(customer, "log"), nil, &answer)
	return answer, err
}

// ExplainLine asks for what a closed line comes from, as a signed file.
func (c *Client) ExplainLine(ctx context.Context, customer string, number int64) ([]byte, error) {
	text, _, err := c.Do(ctx, http.MethodGet, bookPath(customer, "lines", strconv.FormatInt(number, 10), "explanation"), nil, nil)
	return text, err
}
