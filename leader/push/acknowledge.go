package push

import (
	"context"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// acknowledgeEvery is how far a mark moves before the follower is told: it deletes by
// days.
const acknowledgeEvery = time.Hour

// told is what a follower was told of a table.
type told struct{ cluster, table string }

// acknowledge tells a follower how far its tables are in the centre: until then it
// may delete what is old.
func (p *Pusher) acknowledge(ctx context.Context, cluster string, follower *influxsync.Server) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var rows []influxsync.Point
	marks := make(map[told]influxsync.Mark)
	for _, table := range schema.Pulled {
		at, err := p.registry.Mark(ctx, cluster, table.Name)
		if err != nil {
			return err
		}
		of := told{cluster, table.Name}
		before := p.acknowledged[of]
		if at.Hash == "" || before.Store == at.Store && before.Era == at.Era && at.Time.Sub(before.Time) < acknowledgeEvery {
			continue
		}
		marks[of] = at
		rows = append(rows, influxsync.NewPoint(schema.PulledTable, map[string]string{schema.Cluster: cluster, "table": table.Name},
			map[string]influxsync.Value{"at": influxsync.Int(at.Time.UnixNano()), "store": influxsync.Str(at.Store)}, time.Unix(0, 0)))
	}
	if len(rows) == 0 {
		return nil
	}
	if err := follower.Database(schema.ResultsDB).Write(ctx, rows); err != nil {
		return fmt.Errorf("acknowledge rows of %s: %w", cluster, err)
	}
	for of, at := range marks {
		p.acknowledged[of] = at
	}
	return nil
}
