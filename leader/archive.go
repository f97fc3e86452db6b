package leader

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/leader/archive"
	"github.com/accumulus-metering/accumulus/leader/bucket"
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
	if at := l.config.ArchiveBucket; at.URL != "" {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.ResponseHeaderTimeout = time.Minute
		b, err := bucket.Open(at, transport)
		if err != nil {
			return fmt.Errorf("archive: %w", err)
		}
		config.Bucket = archive.Bucket{Name: strings.TrimRight(at.URL, "/"), Place: b, Shelf: b}
	}
	var err error
	l.archive, err = archive.New(config, archive.Source{Registry: l.registry, Store: l.store}, l.seedKey, l.manager, l.clock, l.log, metrics)
	if err != nil {
		return err
	}
	return metrics.Register(daysWaiting{l.registry, l.archive, l.clock})
}

// archived is the archive for the worker, which is built before it.
type archived struct{ *Leader }

// Restore brings back the minute rows of a cluster's day.
func (a archived) Restore(ctx context.Context, cluster string, day time.Time) error {
	return a.archive.Restore(ctx, cluster, day)
}

func (c Config) validateArchiveBucket() error {
	if c.ArchiveBucket.URL == "" {
		return nil
	}
	if err := c.ArchiveBucket.Validate(); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	if c.ArchiveBucket.URL == c.Exports.Bucket.URL {
		return fmt.Errorf("archive: bucket %s is that of the exports: name another prefix, as https://HOST/BUCKET/archive", c.ArchiveBucket.URL)
	}
	return nil
}
