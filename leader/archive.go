package leader

import (
	"context"
	"path/filepath"
	"time"

	"github.com/accumulus-metering/accumulus/leader/archive"
	"github.com/prometheus/client_golang/prometheus"
)

// archiveDir is where days are archived.
func (l *Leader) archiveDir() string {
	if l.config.Archive.Dir != "" {
		return l.config.Archive.Dir
	}
	return filepath.Join(l.config.Dir, "archive")
}

// buildArchive makes what archives settled days, after the manager and the key.
func (l *Leader) buildArchive(metrics prometheus.Registerer) error {
	config := l.config.Archive
	config.Dir = l.archiveDir()
	var err error
	l.archive, err = archive.New(config, archive.Source{Registry: l.registry, Store: l.store}, l.seedKey, l.manager, l.clock, l.log, metrics)
	return err
}

// archived is the archive for the worker, which is built before it.
type archived struct{ *Leader }

// Restore brings back the minute rows of a cluster's day.
func (a archived) Restore(ctx context.Context, cluster string, day time.Time) error {
	return a.archive.Restore(ctx, cluster, day)
}
