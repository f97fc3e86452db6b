package pull

import (
	"context"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// Options are what a puller can be given instead of its own. Zero values are
// what a leader uses.
type Options struct {
	// Tables are followed; none is schema.Pulled.
	Tables []schema.Table
	// Sync copies a table; nil is influxsync.Sync. The tests of the whole sync
	// bound what one call does here, and put bugs back.
	Sync func(context.Context, influxsync.SyncRequest) (influxsync.SyncResult, error)
}

// NewWith makes a puller with options.
func NewWith(reg *registry.Registry, centre *influxsync.Server, o Options) *Puller {
	if len(o.Tables) == 0 {
		o.Tables = schema.Pulled
	}
	if o.Sync == nil {
		o.Sync = influxsync.Sync
	}
	return &Puller{registry: reg, centre: centre, options: o}
}
