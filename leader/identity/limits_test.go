package identity

import (
	"fmt"
	"testing"
	"time"
)

func TestALimiterCountsByKey(t *testing.T) {
	l := NewLimiter(2, 3)
	for i := range 3 {
		if _, ok := l.Take("a", noon); !ok {
			t.Fatalf("take %d is refused", i)
		}
	}
	for range 2 { // what is refused costs nothing
		if wait, ok := l.Take("a", noon); ok || wait != 500*time.Millisecond {
			t.Errorf("the fourth: %t, wait %s", ok, wait)
		}
	}
	if wait, ok := l.Left("a", noon); ok || wait != 500*time.Millisecond {
		t.Errorf("left: %t, wait %s", ok, wait)
	}
	if _, ok := l.Take("b", noon); !ok {
		t.Error("another pays for it")
	}
	if _, ok := l.Take("a", noon.Add(500*time.Millisecond)); !ok {
		t.Error("it has waited")
	}
	if _, ok := l.Left("new", noon); !ok {
		t.Error("a new one has nothing left")
	}
	open := NewLimiter(-1, 0)
	for range 10_000 {
		if _, ok := open.Take("a", noon); !ok {
			t.Fatal("no limit is one")
		}
	}
}

func TestALimiterIsBounded(t *testing.T) {
	l := NewLimiter(1, 2)
	l.most = 10
	for i := range 100 {
		l.Take(fmt.Sprint(i), noon.Add(time.Duration(i)*time.Millisecond))
		if len(l.keys) > 10 {
			t.Fatalf("%d keys", len(l.keys))
		}
	}
	if _, known := l.keys["99"]; !known {
		t.Error("the newest was forgotten")
	}
}

func TestNetworks(t *testing.T) {
	for address, want := range map[string]string{"192.0.2.7": "192.0.2.7", "2001:db8::1": "2001:db8::/64", "2001:db8::2%eth0": "2001:db8::/64", "::ffff:192.0.2.7": "::ffff:192.0.2.7", "@": "@"} {
		if got := Network(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
