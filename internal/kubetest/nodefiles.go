package kubetest

import (
	"fmt"
	"os"
	"path/filepath"
)

// NodeConfig is what a node's first process (`cluster node FILE`) is told.
type NodeConfig struct {
	Name, Address, Gateway string
	Dir                    string    // of the node's own
	Cgroup                 string    // of the node, relative to each hierarchy
	Prepare                []Command // run one after the other when Services[0] answers
	Ready                  Command   // ends well when Services[0] answers
	Services               []Command // the first is the container runtime; each is started again when it ends
}

// Command is a program with its arguments, and the name of its log.
type Command struct {
	Name string
	Args []string
}

// socket of the container runtime, below the node's own /run. cAdvisor looks
// for it there and nowhere else.
const socket = "/run/containerd/containerd.sock"

// nodeFiles are the configurations of a node's programs, by file name.
func nodeFiles(n NodeConfig, pki, pods, plugins, snapshotter string, openFiles uint64) map[string]string {
	return map[string]string{
		"containerd.toml": fmt.Sprintf(`version = 2
root = %[1]q
state = "/run/containerd/state"
[grpc]
  address = %[2]q
[plugins."io.containerd.internal.v1.opt"]
  path = %[3]q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %[4]q
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = %[5]q
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %[6]q
    conf_dir = %[7]q
`, filepath.Join(n.Dir, "containerd"), socket, filepath.Join(n.Dir, "opt"), PauseImage, snapshotter, plugins, filepath.Join(n.Dir, "cni")),

		"cni/10-bridge.conflist": fmt.Sprintf(`{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": %q}]], "dataDir": "/run/ipam", "routes": [{"dst": "0.0.0.0/0"}]}}]}
`, pods),

		"kubelet.yaml": fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: %[1]s
tlsCertFile: %[2]s/node.crt
tlsPrivateKeyFile: %[2]s/node.key
authentication: {anonymous: {enabled: false}, webhook: {enabled: true, cacheTTL: 1s}, x509: {clientCAFile: %[3]s/ca.crt}}
authorization: {mode: Webhook, webhook: {cacheAuthorizedTTL: 1s, cacheUnauthorizedTTL: 1s}}
cgroupDriver: cgroupfs
syncFrequency: 10s # so often changed Secrets and ConfigMaps come into pods; 1m is usual
failSwapOn: false
failCgroupV1: false
oomScoreAdj: 0
maxOpenFiles: %[4]d
containerRuntimeEndpoint: unix://%[5]s
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.available: "0%%"}
podLogsDir: %[2]s/pod-logs
volumePluginDir: %[2]s/volume-plugins
nodeStatusUpdateFrequency: 2s
`, n.Address, n.Dir, pki, openFiles, socket),

		"kube-proxy.yaml": fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: %s/kube-proxy.kubeconfig}
hostnameOverride: %s
oomScoreAdj: 0
conntrack: {maxPerCore: 0}
`, pki, n.Name),
	}
}

// nodeServices are the programs of a node. The kubelet's cAdvisor looks at the
// control groups each second, so that tests need not wait for it.
func nodeServices(n NodeConfig, binaries string) []Command {
	return []Command{
		{"containerd", []string{"containerd", "--config=" + filepath.Join(n.Dir, "containerd.toml")}},
		{string(Kubelet), []string{filepath.Join(binaries, string(Kubelet)), "--config=" + filepath.Join(n.Dir, "kubelet.yaml"),
			"--kubeconfig=" + filepath.Join(n.Dir, "node.kubeconfig"), "--hostname-override=" + n.Name, "--node-ip=" + n.Address,
			"--root-dir=" + filepath.Join(n.Dir, "kubelet"), "--housekeeping-interval=1s", "--v=2"}},
		{string(Proxy), []string{filepath.Join(binaries, string(Proxy)), "--config=" + filepath.Join(n.Dir, "kube-proxy.yaml")}},
	}
}

func writeFiles(dir string, files map[string]string) error {
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
