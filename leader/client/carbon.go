package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/accumulus-metering/accumulus/leader/api"
)

// ImportIntensities sends a CSV of grids' intensities.
func (c *Client) ImportIntensities(ctx context.Context, csv []byte) (api.Imported, error) {
	var answer api.Imported
	body, _, err := c.Do(ctx, http.MethodPost, "/api/v1/carbon/intensities", nil, csv)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return answer, fmt.Errorf("read the answer: %w", err)
	}
	return answer, nil
}
