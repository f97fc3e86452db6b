package identity

import (
	"fmt"
	"net/netip"
	"strings"
)

// Proxies are the networks of the reverse proxies that stand before the leader and
// are believed whom they speak for, in CIDR notation; none is nobody.
type Proxies []netip.Prefix

// ParseProxies reads networks. It refuses one that holds all addresses: then every
// caller could choose whom he speaks for.
func ParseProxies(texts []string) (Proxies, error) {
	var all Proxies
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("proxies: %q: give a network such as 10.0.0.0/8, or one address as 10.0.0.7/32", text)
		case prefix.Bits() == 0:
			return nil, fmt.Errorf("proxies: %s is everybody, and who calls could say that he is somebody else: name the proxies' network", text)
		}
		all = append(all, prefix.Masked())
	}
	return all, nil
}

func (p Proxies) has(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	for _, prefix := range p {
		if prefix.Contains(ip) {
			return true
		}
	}
	return false
}

// Source is whom a request comes from: the address that it was sent from or, where
// that is a proxy's, the last one in X-Forwarded-For that is none. What stands before
// that was written by the caller himself. Where a proxy has written something that is
// no address, it is that proxy.
func (p Proxies) Source(remote string, forwarded []string) string {
	at, err := netip.ParseAddr(remote)
	if err != nil || !p.has(at) {
		return remote
	}
	rest := strings.Join(forwarded, ",")
	for rest != "" {
		last := rest
		if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
			rest, last = rest[:comma], rest[comma+1:]
		} else {
			rest = ""
		}
		next, err := hop(strings.TrimSpace(last))
		if err != nil {
			break
		}
		if at = next; !p.has(at) {
			break
		}
	}
	return at.Unmap().WithZone("").String()
}

// hop reads an address as proxies write it, with or without its port.
func hop(text string) (netip.Addr, error) {
	if with, err := netip.ParseAddrPort(text); err == nil {
		return with.Addr(), nil
	}
	return netip.ParseAddr(strings.Trim(text, "[]"))
}
