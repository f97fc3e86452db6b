package identity

import (
	"cmp"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits are how much of the API one caller may take. 0 is the default, and less
// than 0 is no limit.
type Limits struct {
	Principal      float64 `json:"principal,omitempty"`      // requests a second of one principal; 100
	PrincipalBurst int     `json:"principalBurst,omitempty"` // at once; 1000
	Address        float64 `json:"address,omitempty"`        // requests a second from one address; 200
	AddressBurst   int     `json:"addressBurst,omitempty"`   // at once; 2000
	// FailedSignIns are wrong tokens a minute from one address; 30, and as many at
	// once. Who shows more is not looked up any more, but in the leader's own files.
	FailedSignIns float64 `json:"failedSignIns,omitempty"`
}

// WithDefaults fills what is 0.
func (l Limits) WithDefaults() Limits {
	return Limits{Principal: cmp.Or(l.Principal, 100), PrincipalBurst: cmp.Or(l.PrincipalBurst, 1000), Address: cmp.Or(l.Address, 200),
		AddressBurst: cmp.Or(l.AddressBurst, 2000), FailedSignIns: cmp.Or(l.FailedSignIns, 30)}
}

// mostKeys bounds how many callers are counted apart.
const mostKeys = 20_000

// Limiter lets each key take so much a second. It is safe for concurrent use.
type Limiter struct {
	rate  rate.Limit
	burst int
	most  int

	mu   sync.Mutex
	keys map[string]*bucket
}

// bucket is what one key has left.
type bucket struct {
	*rate.Limiter
	used time.Time
}

// NewLimiter lets each key take so many a second, and burst at once. A rate below 0
// limits nothing.
func NewLimiter(perSecond float64, burst int) *Limiter {
	l := &Limiter{rate: rate.Limit(perSecond), burst: max(1, burst), most: mostKeys, keys: make(map[string]*bucket)}
	if perSecond < 0 {
		l.rate = rate.Inf
	}
	return l
}

// Take takes one for the key, or says how long to wait for it and takes nothing.
func (l *Limiter) Take(key string, now time.Time) (wait time.Duration, ok bool) {
	if l.rate == rate.Inf {
		return 0, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucket(key, now)
	reserved := b.ReserveN(now, 1)
	if wait = reserved.DelayFrom(now); wait > 0 {
		reserved.CancelAt(now)
		return wait, false
	}
	return 0, true
}

// Left says whether the key could take one; it takes nothing.
func (l *Limiter) Left(key string, now time.Time) (wait time.Duration, ok bool) {
	if l.rate == rate.Inf {
		return 0, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.keys[key]
	if !known || b.TokensAt(now) >= 1 {
		return 0, true
	}
	return time.Duration((1 - b.TokensAt(now)) / float64(l.rate) * float64(time.Second)), false
}

func (l *Limiter) bucket(key string, now time.Time) *bucket {
	b, known := l.keys[key]
	if !known {
		if len(l.keys) >= l.most {
			l.forget(now)
		}
		b = &bucket{Limiter: rate.NewLimiter(l.rate, l.burst)}
		l.keys[key] = b
	}
	b.used = now
	return b
}

// forget drops the keys that have all left, as new ones have, and where there are
// none the one that was used first.
func (l *Limiter) forget(now time.Time) {
	oldest := ""
	for key, b := range l.keys {
		if b.TokensAt(now) >= float64(l.burst) {
			delete(l.keys, key)
		} else if oldest == "" || b.used.Before(l.keys[oldest].used) {
			oldest = key
		}
	}
	if len(l.keys) >= l.most {
		delete(l.keys, oldest)
	}
}

// Network is what an address is counted by: itself, and of IPv6 its /64, for whoever
// has one address there has all of them.
func Network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Unmap().Is4() {
		return address
	}
	prefix, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return address
	}
	return prefix.String()
}
