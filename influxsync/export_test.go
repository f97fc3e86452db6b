package influxsync

import "context"

// SyncWithoutComparing is Sync with the bug that its tests must find: rows and
// digests are not looked at.
func SyncWithoutComparing(ctx context.Context, request SyncRequest) (SyncResult, error) {
	return syncWith(ctx, request, func(tally, tally) bool { return false })
}

// Statement is the InfluxQL of a query.
func (q Query) Statement() (string, error) { return q.build() }

// RaiseReach notes in the sink that the mark is reached, as no caller can: the
// bug of a mark that is given out before its rows are there.
func RaiseReach(ctx context.Context, request SyncRequest, mark Mark) error {
	request.complete()
	s := newSyncer(request, unequal)
	return s.writeReach(ctx, reach{mark.Era, mark.Store, mark.Time, mark.Hash})
}
