package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/meters"
)

// Meters are how each electricity meter is read.
func (c *Client) Meters(ctx context.Context) ([]meters.Status, error) {
	var answer api.MeterList
	err := c.get(ctx, "/api/v1/meters", nil, &answer)
	return answer.Meters, err
}

// PushReadings sends readings of a meter and returns what became of each.
func (c *Client) PushReadings(ctx context.Context, meter string, sent []meters.Sent) ([]meters.Verdict, error) {
	body, err := json.Marshal(map[string]any{"readings": sent})
	if err != nil {
		return nil, fmt.Errorf("write readings of %s: %w", meter, err)
	}
	var answer api.Pushed
	text, _, err := c.Do(ctx, http.MethodPost, "/api/v1/meters/"+url.PathEscape(meter)+"/readings", nil, body)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("read answer of meter %s: %w", meter, err)
	}
	return answer.Readings, nil
}

// IsUnknownMeter says whether the leader refuses readings for what they are: it does
// not know the meter. To send them again now changes nothing.
func IsUnknownMeter(err error) bool {
	var problem *Error
	return errors.As(err, &problem) && (problem.Problem.Status == http.StatusNotFound || problem.Problem.Status == http.StatusUnprocessableEntity)
}
