package meter

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Living are the pods that the meter still looks at, by UID, or NAMESPACE/NAME where it
// has none: their identities and lifetimes are needed, however old.
func (m *Meter) Living() map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	living := make(map[string]bool)
	for _, n := range m.nodes {
		for _, p := range n.pods {
			living[p.key()] = true
		}
	}
	return living
}

// OldPods are the tables of the raw database that the meter keeps of each pod, with the
// pods, by their tag pod_uid, that it looks at no more and that had ended, or were told
// of last, before a moment.
func OldPods(ctx context.Context, raw Store, living map[string]bool, before time.Time) (tables, pods []string, err error) {
	newest := make(map[string]int64) // end, or when it was told of last
	note := func(pod string, at int64) {
		if pod != "" && !living[pod] {
			newest[pod] = max(newest[pod], at)
		}
	}
	always := schema.Window{From: time.Unix(0, 0).UTC(), To: at(far)}
	err = raw.Rows(ctx, lifetimeTable, "", always, func(p influxsync.Point) error {
		var info reading.PodInfo
		text, _ := p.Field("info")
		if err := json.Unmarshal([]byte(text.Str()), &info); err != nil {
			return fmt.Errorf("lifetime of pod %s: %w", p.Tag(schema.PodUID), err)
		}
		note(p.Tag(schema.PodUID), max(p.Time.UnixNano(), unixNano(info.End)))
		return nil
	})
	if err == nil {
		err = raw.Rows(ctx, identityTable, "", always, func(p influxsync.Point) error {
			note(p.Tag(schema.PodUID), p.Time.UnixNano())
			return nil
		})
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read pods that ended: %w", err)
	}
	for pod, at := range newest {
		if at < before.UnixNano() {
			pods = append(pods, pod)
		}
	}
	slices.Sort(pods)
	return []string{identityTable, lifetimeTable, unseenTable}, pods, nil
}
