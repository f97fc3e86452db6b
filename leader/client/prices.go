package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/prices"
)

// Change says why the fleet is changed; Correct allows prices that have held to be
// changed.
type Change struct {
	Reason  string
	Correct bool
}

// ApplyChange is Apply with a reason.
func (c *Client) ApplyChange(ctx context.Context, objects []byte, dryRun bool, change Change) (api.Applied, error) {
	values := url.Values{}
	if dryRun {
		values.Set("dryRun", "true")
	}
	if change.Reason != "" {
		values.Set("reason", change.Reason)
	}
	if change.Correct {
		values.Set("correct", "true")
	}
	return read[api.Applied](ctx, c, http.MethodPost, "/api/v1/fleet", values, objects)
}

// PushPrices sends slots of a dynamic price, JSON or CSV.
func (c *Client) PushPrices(ctx context.Context, series string, body []byte) (prices.Pushed, error) {
	return read[prices.Pushed](ctx, c, http.MethodPost, "/api/v1/prices/series/"+url.PathEscape(series), nil, body)
}

// SimulatePrices is what a period would have cost with the lists.
func (c *Client) SimulatePrices(ctx context.Context, period string, lists []byte) (prices.Simulation, error) {
	return read[prices.Simulation](ctx, c, http.MethodPost, "/api/v1/prices/simulate", url.Values{"period": {period}}, lists)
}

// PricesAhead is what is known of the prices of the coming hours, with what a customer
// is charged; "" is none, and of a tenant all of his.
func (c *Client) PricesAhead(ctx context.Context, hours int, customer string) (prices.Ahead, error) {
	values := url.Values{"hours": {fmt.Sprint(hours)}}
	if customer != "" {
		values.Set("customer", customer)
	}
	return read[prices.Ahead](ctx, c, http.MethodGet, "/api/v1/prices/ahead", values, nil)
}

// PriceHistory is who changed a list, when and why.
func (c *Client) PriceHistory(ctx context.Context, list string) (api.PriceHistory, error) {
	return read[api.PriceHistory](ctx, c, http.MethodGet, "/api/v1/prices/lists/"+url.PathEscape(list)+"/history", nil, nil)
}

// read asks and reads the answer's JSON.
func read[T any](ctx context.Context, c *Client, method, path string, values url.Values, body []byte) (T, error) {
	var answer T
	text, _, err := c.Do(ctx, method, path, values, body)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return answer, fmt.Errorf("read the answer of %s: %w", path, err)
	}
	return answer, nil
}
