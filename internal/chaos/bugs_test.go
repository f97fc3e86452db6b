package chaos

import (
	"context"

	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// variant is another way to run a schedule: mostly one with a bug put back, for a
// control.
type variant struct {
	sync func(*world, syncing) syncing // copies in its own way
	link func(*world)                  // stands in the links, each time they are made
	// parallel parts of a table are copied side by side. When one fails, how far
	// the others came is not of the seed.
	parallel int
}

// head is the mark that the end of the source's journal would be.
func head(ctx context.Context, request influxsync.SyncRequest) (influxsync.Mark, error) {
	store, err := influxsync.StoreID(ctx, request.Source)
	if err != nil {
		return request.Mark, err
	}
	entries, err := influxsync.ReadJournal(ctx, request.Source, request.Cluster, request.Table.Name, time.Time{}, 0)
	if err != nil || len(entries) == 0 {
		return request.Mark, err
	}
	last := entries[len(entries)-1]
	return influxsync.Mark{Store: store, Time: last.Time, Hash: last.Hash, Era: request.Mark.Era}, nil
}

// markFirst moves the mark before it copies.
func markFirst(c *centre, sync syncing) syncing {
	return func(ctx context.Context, request influxsync.SyncRequest) (influxsync.SyncResult, error) {
		mark, err := head(ctx, request)
		if err == nil && mark.Store == request.Mark.Store && mark != request.Mark {
			err = c.registry.Received(ctx, request.Cluster, request.Table.Name, registry.Receipt{Mark: mark}, nil)
		}
		if err != nil {
			return influxsync.SyncResult{Mark: request.Mark}, err
		}
		return sync(ctx, request)
	}
}

// ignoreDigests takes rows for the journal's that are not.
func ignoreDigests(_ *world, sync syncing) syncing {
	return func(ctx context.Context, request influxsync.SyncRequest) (influxsync.SyncResult, error) {
		request.Verify = influxsync.VerifyNone
		return sync(ctx, request)
	}
}

// ignoreEras takes every journal for that of the mark: it goes on with what is
// later. What the centre noted of the reach of former copies is made to fit.
func ignoreEras(w *world, sync syncing) syncing {
	return func(ctx context.Context, request influxsync.SyncRequest) (influxsync.SyncResult, error) {
		store, err := influxsync.StoreID(ctx, request.Source)
		if err != nil {
			return influxsync.SyncResult{Mark: request.Mark}, err
		}
		entries, err := influxsync.ReadJournal(ctx, request.Source, request.Cluster, request.Table.Name, time.Time{}, 0)
		if err != nil {
			return influxsync.SyncResult{Mark: request.Mark}, err
		}
		mark := request.Mark
		if mark.Store != "" {
			request.Mark.Store, request.Mark.Hash = store, ""
		}
		for _, e := range entries {
			if mark.Store != "" && !e.Time.After(mark.Time) {
				request.Mark.Store, request.Mark.Time, request.Mark.Hash = store, e.Time, e.Hash
			}
		}
		if mark := request.Mark; mark.Store != "" {
			noted := influxsync.Mark{Era: mark.Era, Store: store, Time: mark.Time, Hash: mark.Hash}
			if err := influxsync.NoteReach(ctx, w.centre.server.Database(request.Table.DB), cluster, request.Table.Name, noted); err != nil {
				return influxsync.SyncResult{Mark: request.Mark}, err
			}
		}
		return sync(ctx, request)
	}
}

// loseQuarantine forgets the rows that are not taken.
func loseQuarantine(_ *world, sync syncing) syncing {
	return func(ctx context.Context, request influxsync.SyncRequest) (influxsync.SyncResult, error) {
		result, err := sync(ctx, request)
		result.Refused, result.Foreign = nil, nil
		return result, err
	}
}

// skipReadBack has the source answer what the sink is asked after a write.
func skipReadBack(w *world) {
	w.links[1].answer = func(request *http.Request, table int) (*http.Response, error, bool) {
		if table < 0 || request.Method != http.MethodGet || !strings.Contains(request.URL.RawQuery, "SELECT") ||
			strings.Contains(request.URL.RawQuery, "reach") {
			return nil, nil, false
		}
		response, err := w.source.engine.Transport().RoundTrip(request)
		return response, err, true
	}
}

// boundOfControls is within how many schedules each bug must be found.
const boundOfControls = 40

// TestBugsAreFound puts bugs back.
func TestBugsAreFound(t *testing.T) {
	for name, v := range map[string]variant{
		"mark before the write":                {sync: func(w *world, sync syncing) syncing { return markFirst(w.centre, sync) }},
		"digests ignored":                      {sync: ignoreDigests},
		"another journal taken for the mark's": {sync: ignoreEras},
		"quarantine lost":                      {sync: loseQuarantine},
		"no read-back":                         {link: skipReadBack},
	} {
		t.Run(name, func(t *testing.T) {
			sums := runAll(t, *firstSeed, boundOfControls, true, v)
			if len(sums.wrong) == 0 {
				t.Fatalf("not found in %d schedules", boundOfControls)
			}
			for seed, err := range sums.wrong {
				t.Logf("found after %d schedules, in %d: %.300v", sums.ran, seed, err)
			}
		})
	}
}
