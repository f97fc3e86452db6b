package influxsync

import "context"

// SyncWithoutComparing is Sync with the bug that its tests must find: rows and
// digests are not looked at.
func SyncWithoutComparing(ctx context.Context, request SyncRequest) (SyncResult, error) {
	return syncWith(ctx, request, func(tally, tally) bool { return false })
}

// Statement is the InfluxQL of a query.
func (q Query) Statement() (string, error) { return q.build() }
