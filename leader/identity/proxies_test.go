package identity

import (
	"net/netip"
	"strings"
	"testing"
)

func proxies(t testing.TB, texts ...string) Proxies {
	t.Helper()
	p, err := ParseProxies(texts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSource(t *testing.T) {
	trusted := proxies(t, "10.0.0.0/8", "fd00::/8")
	for name, test := range map[string]struct {
		proxies   Proxies
		remote    string
		forwarded []string
		want      string
	}{
		"nobody is believed":                  {nil, "10.0.0.1", []string{"192.0.2.1"}, "10.0.0.1"},
		"a proxy speaks for a caller":         {trusted, "10.0.0.1", []string{"192.0.2.1"}, "192.0.2.1"},
		"who is no proxy speaks for himself":  {trusted, "192.0.2.9", []string{"198.51.100.1"}, "192.0.2.9"},
		"what the caller wrote does not hold": {trusted, "10.0.0.1", []string{"203.0.113.5, 192.0.2.1"}, "192.0.2.1"},
		"nor in a header of its own":          {trusted, "10.0.0.1", []string{"203.0.113.5", "192.0.2.1"}, "192.0.2.1"},
		"two proxies":                         {trusted, "10.0.0.1", []string{"192.0.2.1, 10.1.1.1"}, "192.0.2.1"},
		"a proxy itself":                      {trusted, "10.0.0.1", nil, "10.0.0.1"},
		"proxies alone":                       {trusted, "10.0.0.1", []string{"10.2.2.2,10.1.1.1"}, "10.2.2.2"},
		"no address":                          {trusted, "10.0.0.1", []string{"192.0.2.1, unknown"}, "10.0.0.1"},
		"with ports":                          {trusted, "fd00::1", []string{"[2001:db8::7]:4711"}, "2001:db8::7"},
		"IPv4 in IPv6":                        {trusted, "::ffff:10.0.0.1", []string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		"no remote address":                   {trusted, "@", []string{"192.0.2.1"}, "@"},
	} {
		if got := test.proxies.Source(test.remote, test.forwarded); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
	for _, bad := range []string{"10.0.0.1", "0.0.0.0/0", "::/0", "proxy"} {
		if _, err := ParseProxies([]string{bad}); err == nil || !strings.Contains(err.Error(), "network") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// FuzzSource: whatever stands in the header, the source is the remote address, or an
// address that some proxy wrote.
func FuzzSource(f *testing.F) {
	for _, seed := range []string{"192.0.2.1", "192.0.2.1, 10.1.1.1", "[::1]:80", ",,,", "fe80::1%eth0"} {
		f.Add(seed)
	}
	trusted := proxies(f, "10.0.0.0/8")
	f.Fuzz(func(t *testing.T, header string) {
		got := trusted.Source("10.0.0.1", []string{header})
		if _, err := netip.ParseAddr(got); err != nil {
			t.Errorf("%q gives %q", header, got)
		}
		if other := trusted.Source("192.0.2.1", []string{header}); other != "192.0.2.1" {
			t.Errorf("%q is believed of who is no proxy: %s", header, other)
		}
	})
}
