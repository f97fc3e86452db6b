package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// Installation is how a cluster's follower is installed.
type Installation = registry.Installation

// Installation asks how a cluster's follower is installed; IsNotFound where the
// leader has nothing to do with that.
func (c *Client) Installation(ctx context.Context, cluster string) (Installation, error) {
	var answer Installation
	path, err := clusterPath(cluster)
	if err != nil {
		return answer, err
	}
	err = c.get(ctx, path+"/installation", nil, &answer)
	return answer, err
}

// Upgrade asks the leader to bring a cluster's follower to the leader's version,
// and to the values that are given, if any are.
func (c *Client) Upgrade(ctx context.Context, cluster string, wanted api.UpgradeRequest) error {
	path, err := clusterPath(cluster)
	if err != nil {
		return err
	}
	body, err := json.Marshal(wanted)
	if err != nil {
		return fmt.Errorf("write what is wanted of %s: %w", cluster, err)
	}
	_, _, err = c.Do(ctx, http.MethodPost, path+"/upgrade", nil, body)
	return err
}

// SetCredentials tells the leader how it reaches a cluster. They are not sent in
// the clear: the leader must be on this machine or speak TLS.
func (c *Client) SetCredentials(ctx context.Context, cluster string, given api.Kubeconfig) error {
	if err := c.Private(); err != nil {
		return err
	}
	path, err := clusterPath(cluster)
	if err != nil {
		return err
	}
	body, err := json.Marshal(given)
	if err != nil {
		return fmt.Errorf("write credentials of %s: %w", cluster, err)
	}
	_, _, err = c.Do(ctx, http.MethodPost, path+"/credentials", nil, body)
	return err
}

// Private is an error where others could read what is sent to the leader.
func (c *Client) Private() error {
	if c.base.Scheme == "https" {
		return nil
	}
	if ip := net.ParseIP(c.base.Hostname()); c.base.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("credentials are not sent to %s, where others could read them: use https, or `kubectl port-forward` and --server http://127.0.0.1:PORT", c.base)
}

// RotateToken gives a cluster's follower a new token, and waits until it is taken.
func (c *Client) RotateToken(ctx context.Context, cluster string) error {
	path, err := clusterPath(cluster)
	if err != nil {
		return err
	}
	_, _, err = c.Do(ctx, http.MethodPost, path+"/rotate-token", nil, nil)
	return err
}

// IsNotFound says whether the leader answered that there is no such thing.
func IsNotFound(err error) bool {
	var answered *Error
	return errors.As(err, &answered) && answered.Problem.Status == http.StatusNotFound
}
