package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// Upgrades asks for the upgrades of many clusters, the newest first.
func (c *Client) Upgrades(ctx context.Context) ([]registry.Upgrade, error) {
	var answer api.UpgradeList
	err := c.get(ctx, "/api/v1/upgrades", nil, &answer)
	return answer.Upgrades, err
}

// StartUpgrade begins an upgrade of all clusters, in waves.
func (c *Client) StartUpgrade(ctx context.Context, plan registry.UpgradePlan) (registry.Upgrade, error) {
	body, err := json.Marshal(plan)
	if err != nil {
		return registry.Upgrade{}, fmt.Errorf("write plan: %w", err)
	}
	return c.changeUpgrade(ctx, "/api/v1/upgrades", body)
}

// StopUpgrade has an upgrade begin no further cluster.
func (c *Client) StopUpgrade(ctx context.Context, id int64) (registry.Upgrade, error) {
	return c.changeUpgrade(ctx, "/api/v1/upgrades/"+strconv.FormatInt(id, 10)+"/stop", nil)
}

// ResumeUpgrade goes on with an upgrade that was stopped.
func (c *Client) ResumeUpgrade(ctx context.Context, id int64) (registry.Upgrade, error) {
	return c.changeUpgrade(ctx, "/api/v1/upgrades/"+strconv.FormatInt(id, 10)+"/resume", nil)
}

func (c *Client) changeUpgrade(ctx context.Context, path string, body []byte) (registry.Upgrade, error) {
	var u registry.Upgrade
	text, _, err := c.Do(ctx, http.MethodPost, path, nil, body)
	if err != nil {
		return u, err
	}
	if err := json.Unmarshal(text, &u); err != nil {
		return u, fmt.Errorf("read answer of %s: %w", path, err)
	}
	return u, nil
}

// RemoveCluster removes a cluster; its history is kept. With force also where
// its last pull fails, or the cluster cannot be reached.
func (c *Client) RemoveCluster(ctx context.Context, name string, force bool) error {
	path, err := clusterPath(name)
	if err != nil {
		return err
	}
	values := url.Values{}
	if force {
		values.Set("force", "true")
	}
	_, _, err = c.Do(ctx, http.MethodDelete, path, values, nil)
	return err
}
