// Package sealtest is an archive in memory for tests of who closes periods: it has
// names of days and no files.
package sealtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// Archive is a books.Archive. The zero value is one in which nothing is.
type Archive struct {
	// Refuse is why a day cannot be archived; nil and a nil error are that it can.
	Refuse func(cluster, day string) error
	// Lacks is why a day is named as one that is lost; nil and "" are that it is not.
	Lacks func(cluster, day string) string

	mu   sync.Mutex
	days map[string]registry.SealedDay
}

// Seal names the days, and adds those that are not there.
func (a *Archive) Seal(_ context.Context, cluster string, w schema.Window) (days []registry.SealedDay, written int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.days == nil {
		a.days = make(map[string]registry.SealedDay)
	}
	for at := w.From.UTC().Truncate(schema.Day); at.Before(w.To); at = at.Add(schema.Day) {
		name := cluster + " " + at.Format(time.DateOnly)
		d, there := a.days[name]
		if a.Lacks != nil {
			if why := a.Lacks(cluster, at.Format(time.DateOnly)); why != "" {
				days = append(days, registry.SealedDay{Cluster: cluster, Day: at.Format(time.DateOnly), Unsettled: why})
				continue
			}
		}
		if !there {
			if a.Refuse != nil {
				if err := a.Refuse(cluster, at.Format(time.DateOnly)); err != nil {
					return nil, written, err
				}
			}
			sum := sha256.Sum256([]byte(name))
			d = registry.SealedDay{Cluster: cluster, Day: at.Format(time.DateOnly), Revision: 1, Manifest: hex.EncodeToString(sum[:])}
			a.days[name] = d
			written++
		}
		days = append(days, d)
	}
	return days, written, nil
}

// Sealed is an error where a day is not there as it is named.
func (a *Archive) Sealed(day registry.SealedDay) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.days[day.Cluster+" "+day.Day] != day && !day.Lost() {
		return fmt.Errorf("%s on %s is not there so", day.Cluster, day.Day)
	}
	return nil
}

// Lose takes a day out of it.
func (a *Archive) Lose(cluster, day string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.days, cluster+" "+day)
}
