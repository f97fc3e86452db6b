package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/archive"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

var archivedAt = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// fakeArchive has one day of edge-a, and one of edge-b that is damaged.
type fakeArchive struct{}

func (fakeArchive) List(context.Context, string, schema.Window) ([]registry.ArchivedDay, error) {
	return []registry.ArchivedDay{{Cluster: "edge-a", Day: archivedAt.Truncate(24 * time.Hour), Revision: 1, Sequence: 1, Archived: archivedAt}}, nil
}

func (fakeArchive) Show(cluster string, _ time.Time) (archive.Day, error) {
	if cluster != "edge-a" {
		return archive.Day{}, fmt.Errorf("archive of %s: %w", cluster, archive.ErrAbsent)
	}
	return archive.Day{Manifest: archive.Manifest{Cluster: cluster, Tables: []archive.Table{}, Made: archivedAt}}, nil
}

func (fakeArchive) Verify(_ context.Context, scope archive.Scope) (archive.Checked, error) {
	switch scope.Cluster {
	case "edge-b":
		return archive.Checked{Manifests: 1}, fmt.Errorf("pod-1.parquet: %w", archive.ErrDamaged)
	case "edge-c":
		return archive.Checked{}, fmt.Errorf("edge-c: %w", archive.ErrAbsent)
	}
	return archive.Checked{Clusters: 1, Manifests: 1}, nil
}

func (f fakeArchive) VerifyCopy(ctx context.Context, scope archive.Scope) (archive.Checked, error) {
	if scope.Cluster == "edge-a" {
		return archive.Checked{}, fmt.Errorf("there is no bucket with a copy: %w", archive.ErrAbsent)
	}
	if scope.Cluster == "edge-d" {
		return archive.Checked{}, archive.ErrBusy
	}
	return f.Verify(ctx, scope)
}

func (fakeArchive) Copies(context.Context) (*archive.Copies, error) {
	return &archive.Copies{Bucket: "https://host/bucket", Waiting: 2, Failed: "it does not answer", Since: archivedAt}, nil
}

func TestArchiveSaysWhatIsWrong(t *testing.T) {
	s, _ := newServer(t, false)
	for _, test := range []struct {
		path string
		want int
		says string
	}{
		{"/api/v1/archive?day=27-11-2026", 400, "UTC day such as"},
		{"/api/v1/archive?days=2026-11-27", 400, "days"},
		{"/api/v1/archive/edge-b/2026-11-27", 404, "not in the archive"},
		{"/api/v1/archive/edge-a/yesterday", 400, "UTC day such as"},
		{"/api/v1/archive/verify?cluster=edge-b", 200, `"wrong":"pod-1.parquet: it is not what the manifest says"`},
		{"/api/v1/archive/verify?cluster=edge-c", 404, "a day is three days after it ended"},
		{"/api/v1/archive/edge-b/2026-11-27", 404, "GET /api/v1/archive lists"},
		{"/api/v1/archive/verify", 200, `"holds":true`},
		{"/api/v1/archive/verify?place=bucket", 200, `"holds":true`},
		{"/api/v1/archive/verify?place=bucket&cluster=edge-a", 404, "no bucket with a copy"},
		{"/api/v1/archive/verify?place=bucket&cluster=edge-d", 409, "one runs at a time"},
		{"/api/v1/archive/verify?place=moon", 400, "use place=bucket"},
		{"/api/v1/archive", 200, `"failed":"it does not answer"`},
	} {
		answer := call(s, http.MethodGet, test.path, operatorToken, "")
		if body := text(t, answer); answer.StatusCode != test.want || !strings.Contains(strings.ReplaceAll(body, `": `, `":`), test.says) {
			t.Errorf("%s: %d %s, want %d with %q", test.path, answer.StatusCode, body, test.want, test.says)
		}
	}
}
