package deploy_test

import (
	"net/netip"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// end is one of a connection: a pod, or what is none (a node with its kubelet, the
// API server, anything outside), which has no namespace and no labels.
type end struct {
	address   string
	namespace string
	labels    labels.Set
}

// allows is what the API says of NetworkPolicies: who is selected by none is open
// in that direction, the policies of one who is add up, and a connection must be
// allowed at both ends. Labels of namespaces are their names alone.
func allows(t *testing.T, policies []networkingv1.NetworkPolicy, from, to end, protocol corev1.Protocol, port int32) bool {
	t.Helper()
	out, in := true, true
	var egress, ingress []bool
	for _, policy := range policies {
		if selects(t, &policy, from) && slices.Contains(policy.Spec.PolicyTypes, networkingv1.PolicyTypeEgress) {
			out = false
			for _, rule := range policy.Spec.Egress {
				egress = append(egress, peers(t, &policy, rule.To, to) && ports(t, rule.Ports, protocol, port))
			}
		}
		if selects(t, &policy, to) && slices.Contains(policy.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) {
			in = false
			for _, rule := range policy.Spec.Ingress {
				ingress = append(ingress, peers(t, &policy, rule.From, from) && ports(t, rule.Ports, protocol, port))
			}
		}
	}
	return (out || slices.Contains(egress, true)) && (in || slices.Contains(ingress, true))
}

func selects(t *testing.T, policy *networkingv1.NetworkPolicy, e end) bool {
	return e.namespace == policy.Namespace && matches(t, &policy.Spec.PodSelector, e.labels)
}

func matches(t *testing.T, selector *metav1.LabelSelector, set labels.Set) bool {
	t.Helper()
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Matches(set)
}

// peers: none named is everybody.
func peers(t *testing.T, policy *networkingv1.NetworkPolicy, named []networkingv1.NetworkPolicyPeer, e end) bool {
	t.Helper()
	inside := func(cidr string) bool {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			t.Fatal(err)
		}
		return prefix.Contains(netip.MustParseAddr(e.address))
	}
	for _, peer := range named {
		switch {
		case peer.IPBlock != nil:
			if inside(peer.IPBlock.CIDR) && !slices.ContainsFunc(peer.IPBlock.Except, inside) {
				return true
			}
		case e.namespace == "":
		case peer.NamespaceSelector == nil && e.namespace != policy.Namespace:
		case peer.NamespaceSelector != nil && !matches(t, peer.NamespaceSelector, labels.Set{corev1.LabelMetadataName: e.namespace}):
		case peer.PodSelector == nil || matches(t, peer.PodSelector, e.labels):
			return true
		}
	}
	return len(named) == 0
}

// ports: none named is all. The charts name ports by number.
func ports(t *testing.T, named []networkingv1.NetworkPolicyPort, protocol corev1.Protocol, port int32) bool {
	t.Helper()
	for _, p := range named {
		if p.Port != nil && p.Port.StrVal != "" {
			t.Fatalf("port %s has a name", p.Port.StrVal)
		}
		of := corev1.ProtocolTCP
		if p.Protocol != nil {
			of = *p.Protocol
		}
		if of == protocol && (p.Port == nil || p.Port.IntVal == port || p.EndPort != nil && p.Port.IntVal <= port && port <= *p.EndPort) {
			return true
		}
	}
	return len(named) == 0
}

// installed are the policies of a release, and its pod.
func installed(t *testing.T, name string) ([]networkingv1.NetworkPolicy, end) {
	t.Helper()
	var policies []networkingv1.NetworkPolicy
	pod := end{address: "10.244.1.7"}
	for _, r := range releases(t) {
		if r.name != name {
			continue
		}
		all, _ := objects(t, r)
		for _, policy := range each[*networkingv1.NetworkPolicy](all) {
			policies = append(policies, *policy)
		}
		for _, deployment := range each[*appsv1.Deployment](all) {
			pod.namespace, pod.labels = deployment.Namespace, deployment.Spec.Template.Labels
		}
	}
	if len(policies) != 1 || pod.namespace == "" {
		t.Fatalf("%s: %d policies, pod %+v", name, len(policies), pod)
	}
	return policies, pod
}

// TestNetworkPolicies: who reaches the product's pods, and whom they reach, where
// the cluster's network enforces policies.
func TestNetworkPolicies(t *testing.T) {
	var (
		apiServer = end{address: "10.0.0.2"}
		node      = end{address: "10.0.0.3"} // its kubelet, and what else listens there
		far       = end{address: "203.0.113.9"}
		metadata  = end{address: "169.254.169.254"}
		dns       = end{address: "10.244.0.5", namespace: "kube-system", labels: labels.Set{"k8s-app": "kube-dns"}}
		tenant    = end{address: "10.244.2.9", namespace: "shop", labels: labels.Set{"app": "web"}}
		beside    = end{address: "10.244.2.8", namespace: "accumulus", labels: labels.Set{"app": "else"}}
		itself    = end{}
	)
	const tcp, udp = corev1.ProtocolTCP, corev1.ProtocolUDP
	type connection struct {
		what     string
		from, to end
		protocol corev1.Protocol
		port     int32
		want     bool
	}
	for name, connections := range map[string][]connection{
		"follower-default": {
			{"the API server's proxy to the port", apiServer, itself, tcp, 8443, true},
			{"a pod of the cluster to the port, which wants a token", tenant, itself, tcp, 8443, true},
			{"the API server to another port", apiServer, itself, tcp, 8080, false},
			{"a pod to another port", tenant, itself, tcp, 22, false},
			{"a datagram to the port", tenant, itself, udp, 8443, false},
			{"to the API server behind its Service", itself, apiServer, tcp, 6443, true},
			{"to the API server", itself, apiServer, tcp, 443, true},
			{"to a kubelet", itself, node, tcp, 10250, true},
			{"to a kubelet's old port without tokens", itself, node, tcp, 10255, false},
			{"to etcd", itself, apiServer, tcp, 2379, false},
			{"to a node's SSH", itself, node, tcp, 22, false},
			{"to name servers", itself, dns, udp, 53, true},
			{"to a cloud's metadata", itself, metadata, tcp, 80, false},
			{"to a pod of a tenant", itself, tenant, tcp, 80, false},
			{"to plain HTTP far away", itself, far, tcp, 80, false},
			{"between others", tenant, beside, tcp, 80, true},
			{"from a pod beside it to the world", beside, far, tcp, 80, true},
		},
		"follower-gitops": {
			{"from the addresses that may", apiServer, itself, tcp, 9443, true},
			{"from others", far, itself, tcp, 9443, false},
			{"from a pod beside it to any port", beside, itself, tcp, 22, true},
			{"to the API server", itself, apiServer, tcp, 6443, true},
			{"to the API server on a port that was left out", itself, apiServer, tcp, 443, false},
			{"to that port elsewhere", itself, far, tcp, 6443, false},
			{"to a kubelet of another port", itself, node, tcp, 10260, true},
			{"to the InfluxDB", itself, tenant, tcp, 8086, true},
			{"to what was added", itself, far, tcp, 9999, true},
		},
		"leader-default": {
			{"people and the Ingress to the port", tenant, itself, tcp, 8080, true},
			{"a pod to another port", tenant, itself, tcp, 22, false},
			{"to followers, meters and API servers anywhere", itself, far, tcp, 6443, true},
		},
	} {
		policies, pod := installed(t, name)
		for _, c := range connections {
			from, to := c.from, c.to
			if from.address == "" {
				from = pod
			}
			if to.address == "" {
				to = pod
			}
			if got := allows(t, policies, from, to, c.protocol, c.port); got != c.want {
				t.Errorf("%s: %s is allowed: %t, want %t", name, c.what, got, c.want)
			}
		}
	}
}

// TestNetworkPoliciesControl: a policy that lacks a part is found out.
func TestNetworkPoliciesControl(t *testing.T) {
	policies, pod := installed(t, "follower-default")
	far := end{address: "203.0.113.9"}
	for what, spoil := range map[string]func(*networkingv1.NetworkPolicySpec){
		"no egress":      func(s *networkingv1.NetworkPolicySpec) { s.PolicyTypes = s.PolicyTypes[:1] },
		"any port":       func(s *networkingv1.NetworkPolicySpec) { s.Egress[0].Ports = nil },
		"of another pod": func(s *networkingv1.NetworkPolicySpec) { s.PodSelector.MatchLabels["app.kubernetes.io/name"] = "else" },
		"an empty rule": func(s *networkingv1.NetworkPolicySpec) {
			s.Egress = append(s.Egress, networkingv1.NetworkPolicyEgressRule{})
		},
		"nothing is wrong": func(*networkingv1.NetworkPolicySpec) {},
	} {
		spoilt := *policies[0].DeepCopy()
		spoil(&spoilt.Spec)
		if got, want := allows(t, []networkingv1.NetworkPolicy{spoilt}, pod, far, corev1.ProtocolTCP, 80), what != "nothing is wrong"; got != want {
			t.Errorf("%s: to the world: %t, want %t", what, got, want)
		}
	}
}
