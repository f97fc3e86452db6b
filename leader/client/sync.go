package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/audit"
	"github.com/accumulus-metering/accumulus/leader/quarantine"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// Quarantine asks for a page of the rows that were not taken.
func (c *Client) Quarantine(ctx context.Context, values url.Values) (api.QuarantineList, error) {
	var answer api.QuarantineList
	err := c.get(ctx, "/api/v1/quarantine", values, &answer)
	return answer, err
}

// Replay writes the refused rows that the filter selects again.
func (c *Client) Replay(ctx context.Context, filter registry.QuarantineFilter) (quarantine.Outcome, error) {
	var answer quarantine.Outcome
	err := c.post(ctx, "/api/v1/quarantine/replay", nil, filter, &answer)
	return answer, err
}

// Discard gives up the rows that the request selects, and says how many.
func (c *Client) Discard(ctx context.Context, request api.DiscardRequest) (int64, error) {
	var answer api.Discarded
	err := c.post(ctx, "/api/v1/quarantine/discard", nil, request, &answer)
	return answer.Discarded, err
}

// Audit compares a cluster's rows in the centre with ledger and follower, and
// waits for the end of it.
func (c *Client) Audit(ctx context.Context, cluster string, values url.Values) (audit.Report, error) {
	var answer audit.Report
	path, err := clusterPath(cluster)
	if err != nil {
		return answer, err
	}
	err = c.post(ctx, path+"/audit", values, nil, &answer)
	return answer, err
}

// post sends JSON, or no body for nil, and decodes the answer.
func (c *Client) post(ctx context.Context, path string, query url.Values, body, into any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return fmt.Errorf("write request: %w", err)
		}
	}
	answer, _, err := c.Do(ctx, http.MethodPost, path, query, text)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("read answer of %s: %w", path, err)
	}
	return nil
}
