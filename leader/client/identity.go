package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

const tokensPath = "/api/v1/tokens"

// CreateToken makes a named token. Its secret does not come in the clear: the
// leader must be on this machine or speak TLS.
func (c *Client) CreateToken(ctx context.Context, wish api.TokenRequest) (api.NewToken, error) {
	var made api.NewToken
	if err := c.Private(); err != nil {
		return made, err
	}
	err := c.post(ctx, tokensPath, nil, wish, &made)
	return made, err
}

// Tokens are the named tokens, with revoked also those that were revoked.
func (c *Client) Tokens(ctx context.Context, revoked bool) ([]registry.Token, error) {
	values := url.Values{}
	if revoked {
		values.Set("revoked", "true")
	}
	var list api.TokenList
	err := c.get(ctx, tokensPath, values, &list)
	return list.Tokens, err
}

// Changes are who changed what, newest first, and the log's hashes where verify
// asks for them.
func (c *Client) Changes(ctx context.Context, values url.Values) (api.ChangeList, error) {
	var list api.ChangeList
	err := c.get(ctx, "/api/v1/audit", values, &list)
	return list, err
}

// RevokeToken ends a named token.
func (c *Client) RevokeToken(ctx context.Context, name string) error {
	_, _, err := c.Do(ctx, http.MethodDelete, tokensPath+"/"+url.PathEscape(name), nil, nil)
	return err
}
