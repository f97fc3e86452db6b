// Package kube tests the product on real Kubernetes clusters with real nodes.
//
// Most of it runs inside a lab (`make e2e`; package kubetest says what that is):
// anywhere else those tests are skipped. Each takes a namespace of its own in a
// standing cluster, alpha or beta, or starts a cluster of its own. The tests of
// the lab itself, that it leaves nothing on the machine, run outside and make
// their own.
package kube
