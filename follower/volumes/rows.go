package volumes

import (
	"cmp"
	"context"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// sample is how much of a volume was used at a moment.
type sample struct {
	at   time.Time
	used int64
}

// span is a time in which a pod mounted a claim.
type span struct{ from, to time.Time }

// samples are the readings that tell of w, by claim, in the order of time.
func (v *Writer) samples(ctx context.Context, w schema.Window) (map[[2]string][]sample, error) {
	all := make(map[[2]string][]sample)
	around := schema.Window{From: w.From.Add(-apart), To: w.To.Add(apart)}
	err := v.stores.Raw.TimeQuery(ctx, schema.VolumeReading.Name, around, nil, func(p influxsync.Point) error {
		key := [2]string{p.Tag(schema.Namespace), p.Tag(schema.Claim)}
		all[key] = append(all[key], sample{p.Time, p.Int(schema.VolumeUsed)})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read table %s: %w", schema.VolumeReading.Name, err)
	}
	for _, samples := range all {
		slices.SortStableFunc(samples, func(a, b sample) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.used, b.used)) })
	}
	return all, nil
}

// mounts are the times in which pods that ran in w mounted claims.
func (v *Writer) mounts(w schema.Window) map[[2]string][]span {
	all := make(map[[2]string][]span)
	for _, pod := range v.watch.Pods() {
		if pod.Start.IsZero() || len(pod.Claims) == 0 {
			continue
		}
		end := pod.End
		if end.IsZero() {
			end = w.To
		}
		if w.Overlap(pod.Start, end) == 0 {
			continue
		}
		for _, claim := range pod.Claims {
			key := [2]string{pod.Namespace, claim}
			all[key] = append(all[key], span{pod.Start, end})
		}
	}
	return all
}

// alive is how long of w the claim was bound.
func alive(c watch.ClaimInfo, w schema.Window) time.Duration {
	if c.Bound == nil {
		return 0
	}
	return w.Overlap(*c.Bound, end(c, w))
}

func end(c watch.ClaimInfo, w schema.Window) time.Time {
	if c.End == nil {
		return w.To
	}
	return *c.End
}

// row is the claim's in a minute.
func (v *Writer) row(c watch.ClaimInfo, w schema.Window, samples []sample, mounts []span) influxsync.Point {
	used, covered := integrate(samples, schema.Window{From: schema.Later(w.From, *c.Bound), To: schema.Earlier(w.To, end(c, w))})
	var mounted time.Duration
	for _, m := range mounts {
		mounted += w.Overlap(m.from, m.to)
	}
	storage := c.Storage
	if storage == "" {
		storage = schema.Unknown
	}
	return influxsync.NewPoint(schema.VolumeMinute.Name, map[string]string{schema.Cluster: v.cluster, schema.Namespace: c.Namespace,
		schema.Claim: c.Name, schema.ClaimUID: c.UID, schema.StorageClass: c.Class, schema.Storage: storage},
		map[string]influxsync.Value{
			schema.Claimed: influxsync.Int(claimed(c, w)), schema.Used: influxsync.Int(used), schema.Mounted: influxsync.Int(mounted.Milliseconds()),
			schema.Uptime: influxsync.Int(alive(c, w).Milliseconds()), schema.Coverage: influxsync.Int(int64(covered / time.Second))}, w.From)
}

// claimed is the claim's size times the time it was bound, with each size while
// it held, KiB·s.
func claimed(c watch.ClaimInfo, w schema.Window) int64 {
	from, sum := *c.Bound, new(big.Int)
	add := func(bytes int64, until time.Time) {
		until = schema.Earlier(schema.Later(until, from), end(c, w))
		ns := w.Overlap(from, until)
		sum.Add(sum, new(big.Int).Mul(big.NewInt(bytes), big.NewInt(int64(ns))))
		from = schema.Later(from, until)
	}
	for _, past := range c.Past {
		add(past.ClaimedBytes, past.Until)
	}
	add(c.ClaimedBytes, end(c, w))
	return kibibyteSeconds(sum, 1)
}

// integrate is what was used in w, KiB·s, by trapezoids between readings close
// enough, and how much of w these cover.
func integrate(samples []sample, w schema.Window) (used int64, covered time.Duration) {
	sum := new(big.Int)
	for i := 1; i < len(samples); i++ {
		a, b := samples[i-1], samples[i]
		length := b.at.Sub(a.at)
		if length <= 0 || length > apart {
			continue
		}
		part := w.Overlap(a.at, b.at)
		if part == 0 {
			continue
		}
		covered += part
		from, to := schema.Later(a.at, w.From), schema.Earlier(b.at, w.To)
		ends := new(big.Int).Add(line(a, b, from), line(a, b, to))
		sum.Add(sum, ends.Mul(ends, big.NewInt(int64(part))))
	}
	return kibibyteSeconds(sum, 2), covered
}

// line is the use at a moment between two samples, in whole bytes.
func line(a, b sample, at time.Time) *big.Int {
	grown := new(big.Int).Mul(big.NewInt(b.used-a.used), big.NewInt(int64(at.Sub(a.at))))
	return grown.Quo(grown, big.NewInt(int64(b.at.Sub(a.at)))).Add(grown, big.NewInt(a.used))
}

// kibibyteSeconds is B·ns, divided, floored. It fits: 2^63 KiB·s a minute would
// be 140 ZiB.
func kibibyteSeconds(sum *big.Int, divisor int64) int64 {
	unit := big.NewInt(divisor * 1024 * int64(time.Second))
	return new(big.Int).Quo(sum, unit).Int64()
}
