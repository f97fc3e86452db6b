package validate

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
)

// Usager answers questions about usage: a client of the leader's API.
type Usager interface {
	Usage(ctx context.Context, values url.Values) (query.Answer, error)
}

// Leader is the meter as the leader shows it: GET /api/v1/usage.
type Leader struct {
	API     Usager
	Cluster string
}

// Settled implements Meter.
func (l Leader) Settled(ctx context.Context) (time.Time, error) {
	answer, err := l.API.Usage(ctx, url.Values{"window": {"1h"}, "filter": {"cluster=" + l.Cluster}})
	return answer.Settled, err
}

// Usage implements Meter.
func (l Leader) Usage(ctx context.Context, w schema.Window) (Metered, error) {
	var m Metered
	container, err := l.rows(ctx, w, "container", "container="+ContainerName)
	if err != nil {
		return m, err
	}
	for _, r := range container {
		m.CPUCoreSeconds += r.CPUCoreSeconds.Float()
		m.MemoryByteSeconds += r.MemoryByteSeconds.Float()
		if r.FilesystemByteSeconds != nil {
			m.FilesystemByteSeconds += r.FilesystemByteSeconds.Float()
		}
		m.Coverage = max(m.Coverage, r.Coverage)
	}
	pods, err := l.rows(ctx, w, "pod")
	for _, r := range pods {
		m.ReceiveBytes += r.NetworkReceiveBytes.Float()
	}
	return m, err
}

func (l Leader) rows(ctx context.Context, w schema.Window, aggregate string, filters ...string) ([]usage.Row, error) {
	values := url.Values{"window": {w.From.UTC().Format(time.RFC3339) + "," + w.To.UTC().Format(time.RFC3339)}, "aggregate": {aggregate},
		"filter": append([]string{"cluster=" + l.Cluster, "namespace=" + Namespace, "pod=" + LoadPod}, filters...)}
	answer, err := l.API.Usage(ctx, values)
	if err != nil {
		return nil, fmt.Errorf("usage of pod %s: %w", LoadPod, err)
	}
	return answer.Rows, nil
}
