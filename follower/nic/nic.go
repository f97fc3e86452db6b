// Package nic says which network interfaces of a machine carry its own
// traffic. It reads nothing: names in, a verdict out.
//
// The rule: a byte that enters or leaves the machine is counted once, on the
// device that touches the wire. So what stays inside is left out (lo, the host
// ends of containers' links, bridges), and so is what is counted a second time
// on the device below it (bonds, VLANs, tunnels). The first four prefixes are
// those that the kubelet's cAdvisor leaves out itself; the rest are the names
// that the common network plugins give.
package nic

import "strings"

// internal are prefixes of interfaces that do not touch the wire.
var internal = []string{
	"lo", "veth", "docker", "nerdctl", // cAdvisor's own list
	"cni", "cbr", "br-", "virbr", "podman", "kube-bridge", "kube-ipvs", "nodelocaldns", "dummy", "ifb", // bridges and local ends
	"cali", "cilium", "lxc", "lxd", "weave", "vethwe", "ovs-", "antrea-", "gke", "azv", "eni", // ends of pods' links
	"flannel", "vxlan", "geneve", "genev_sys", "tunl", "tun", "tap", "wg", "gre", "sit", "ip6tnl", "ipip", // over another device
	"bond", "team", // their members are counted
}

// exact are names that are left out whole.
var exact = map[string]bool{"br0": true, "ovs-system": true, "datapath": true}

// Counts says whether the bytes of an interface are the machine's traffic with
// the outside. VLANs (eth0.100, vlan100) are counted on the device below them.
func Counts(name string) bool {
	if name == "" || exact[name] || strings.ContainsAny(name, ".@") || strings.HasPrefix(name, "vlan") {
		return false
	}
	for _, prefix := range internal {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	return true
}
