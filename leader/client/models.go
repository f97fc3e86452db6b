package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/models"
)

// Models are the power models in use, and what they come from.
func (c *Client) Models(ctx context.Context) (models.Answer, error) {
	var answer models.Answer
	err := c.get(ctx, "/api/v1/models", nil, &answer)
	return answer, err
}

// Measure is a node's power by the meters over a window.
func (c *Client) Measure(ctx context.Context, node string, w schema.Window) (models.Measured, error) {
	var answer models.Measured
	err := c.get(ctx, "/api/v1/models/measure", url.Values{"node": {node},
		"from": {w.From.UTC().Format(time.RFC3339)}, "to": {w.To.UTC().Format(time.RFC3339)}}, &answer)
	return answer, err
}

// Calibrate records a calibration.
func (c *Client) Calibrate(ctx context.Context, request api.CalibrationRequest) (models.Changed, error) {
	var changed models.Changed
	body, err := json.Marshal(request)
	if err != nil {
		return changed, fmt.Errorf("write calibration: %w", err)
	}
	text, _, err := c.Do(ctx, http.MethodPost, "/api/v1/models/calibrations", nil, body)
	if err != nil {
		return changed, err
	}
	if err := json.Unmarshal(text, &changed); err != nil {
		return changed, fmt.Errorf("read answer of the calibration: %w", err)
	}
	return changed, nil
}
