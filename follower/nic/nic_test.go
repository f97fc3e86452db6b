package nic

import "testing"

func TestCounts(t *testing.T) {
	for name, want := range map[string]bool{
		"eth0": true, "eth0p": true, "ens3": true, "enp0s31f6": true, "wlan0": true, "wlp2s0": true, "ib0": true, "eno1np0": true, "wwan0": true,
		"lo": false, "veth12ab": false, "docker0": false, "cni0": false, "br-9f": false, "cali12": false, "flannel.1": false,
		"bond0": false, "eth0.100": false, "vlan7": false, "lxc_health": false, "cilium_host": false, "": false, "wg0": false,
		"kube-ipvs0": false, "tunl0": false,
	} {
		if got := Counts(name); got != want {
			t.Errorf("Counts(%q) = %v, want %v", name, got, want)
		}
	}
}
