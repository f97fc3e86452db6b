package client

import (
	"context"
	"net/url"
	"time"

	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/archive"
)

func archiveQuery(scope archive.Scope) url.Values {
	values := url.Values{}
	if scope.Cluster != "" {
		values.Set("cluster", scope.Cluster)
	}
	if !scope.Day.IsZero() {
		values.Set("day", scope.Day.Format(time.DateOnly))
	}
	return values
}

// Archived are the days in the leader's archive.
func (c *Client) Archived(ctx context.Context, scope archive.Scope) (api.ArchiveList, error) {
	var answer api.ArchiveList
	err := c.get(ctx, "/api/v1/archive", archiveQuery(scope), &answer)
	return answer, err
}

// ArchivedDay is the newest manifest of a day.
func (c *Client) ArchivedDay(ctx context.Context, cluster string, day time.Time) (api.ArchivedDay, error) {
	var answer api.ArchivedDay
	err := c.get(ctx, "/api/v1/archive/"+url.PathEscape(cluster)+"/"+day.Format(time.DateOnly), nil, &answer)
	return answer, err
}

// VerifyArchive lets the leader recompute its archive, or the copy in the bucket.
func (c *Client) VerifyArchive(ctx context.Context, scope archive.Scope, bucket bool) (api.ArchiveVerified, error) {
	values := archiveQuery(scope)
	if bucket {
		values.Set("place", "bucket")
	}
	var answer api.ArchiveVerified
	err := c.get(ctx, "/api/v1/archive/verify", values, &answer)
	return answer, err
}
